package nats

import (
	"encoding/json"

	"bindery"
)

// credentialSchema describes what Render makes.
func credentialSchema(json.RawMessage, []string) json.RawMessage {
	return bindery.CredentialSchema(
		bindery.CredentialKey{Name: "uri", Doc: "The server: nats://… or tls://…, without credentials."},
		bindery.CredentialKey{Name: "servers", Doc: "A list of that.", Type: "array"},
		bindery.CredentialKey{Name: "host", Doc: "The server's host."},
		bindery.CredentialKey{Name: "port", Doc: "The server's port.", Type: "integer"},
		bindery.CredentialKey{Name: "creds", Doc: "The credentials file that clients take: JWT and seed."},
		bindery.CredentialKey{Name: "jwt", Doc: "The user JWT alone."},
		bindery.CredentialKey{Name: "nkey_seed", Doc: "The user's seed alone (SU…)."},
		bindery.CredentialKey{Name: "ca.crt", Doc: "The CA of the server's certificate, PEM.", Optional: true},
	)
}
