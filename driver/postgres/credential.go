package postgres

import (
	"encoding/json"
	"slices"

	"bindery"
)

// credentialSchema describes what Render makes.
func credentialSchema(_ json.RawMessage, aliases []string) json.RawMessage {
	keys := []bindery.CredentialKey{
		{Name: "uri", Doc: "The address with everything in it: postgresql://…"},
		{Name: "jdbc-url", Doc: "The same for JDBC, user and password included."},
		{Name: "r2dbc-url", Doc: "The same for R2DBC."},
		{Name: "host", Doc: "The server's host."},
		{Name: "hostname", Doc: "The server's host."},
		{Name: "port", Doc: "The server's port.", Type: "integer"},
		{Name: "database", Doc: "The database."},
		{Name: "db", Doc: "The database."},
		{Name: "username", Doc: "The login role."},
		{Name: "user", Doc: "The login role."},
		{Name: "password", Doc: "Its password: at least 32 of A-Z a-z 0-9 _ -"},
		{Name: "sslmode", Doc: "disable, require or verify-full, as libpq means them."},
		{Name: "sslrootcert", Doc: "The CA of the server's certificate, PEM.", Optional: true},
	}
	if slices.Contains(aliases, aliasJDBC) || slices.Contains(aliases, aliasSpring) {
		keys = append(keys, bindery.CredentialKey{Name: "jdbcUrl", Doc: "As jdbc-url."})
	}
	if slices.Contains(aliases, aliasMinibroker) {
		keys = append(keys, bindery.CredentialKey{Name: "Protocol", Doc: "postgresql"})
	}
	if slices.Contains(aliases, aliasSteeltoe) {
		keys = append(keys, bindery.CredentialKey{Name: "name", Doc: "As database."})
	}
	return bindery.CredentialSchema(keys...)
}
