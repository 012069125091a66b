package redis

import (
	"encoding/json"
	"slices"

	"bindery"
)

// credentialSchema describes what Render makes.
func credentialSchema(settings json.RawMessage, aliases []string) json.RawMessage {
	keys := []bindery.CredentialKey{
		{Name: "uri", Doc: "The address with everything in it: redis://… or rediss://…"},
		{Name: "url", Doc: "The same."},
		{Name: "host", Doc: "The server's host."},
		{Name: "port", Doc: "The server's port.", Type: "integer"},
		{Name: "username", Doc: "The ACL user."},
		{Name: "password", Doc: "Its password: at least 32 of A-Z a-z 0-9 _ -"},
		{Name: "database", Doc: "The number of the database.", Type: "integer"},
		{Name: "tls_port", Doc: "The port, where it wants TLS.", Type: "integer", Optional: true},
		{Name: "ca.crt", Doc: "The CA of the server's certificate, PEM.", Optional: true},
	}
	if plan, err := parsePlan(settings); err == nil && !plan.whole() {
		keys = append(keys, bindery.CredentialKey{Name: "prefix", Doc: "What every key and channel must begin with."})
	}
	if slices.Contains(aliases, aliasMinibroker) {
		keys = append(keys,
			bindery.CredentialKey{Name: "Protocol", Doc: "redis or rediss"},
			bindery.CredentialKey{Name: "redis-password", Doc: "As password."},
			bindery.CredentialKey{Name: "redis-uri", Doc: "As uri."})
	}
	if slices.Contains(aliases, aliasSpring) {
		keys = append(keys, bindery.CredentialKey{Name: "ssl", Doc: "Whether it wants TLS.", Type: "boolean"})
	}
	if slices.Contains(aliases, aliasSteeltoe) {
		keys = append(keys, bindery.CredentialKey{Name: "hostname", Doc: "As host."})
	}
	return bindery.CredentialSchema(keys...)
}
