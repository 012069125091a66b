package oauth

import (
	"encoding/json"
	"slices"

	"bindery"
)

// credentialSchema describes what Render makes.
func credentialSchema(settings json.RawMessage, aliases []string) json.RawMessage {
	p, err := parsePlan(settings)
	if err != nil {
		return nil
	}
	keys := []bindery.CredentialKey{
		{Name: "issuer-uri", Doc: "The authorization server's issuer identifier; its metadata is found by it."},
		{Name: "ca.crt", Doc: "The CA of the server's certificate, PEM.", Optional: true},
	}
	add := func(k ...bindery.CredentialKey) { keys = append(keys, k...) }
	if len(p.Scopes) > 0 {
		add(bindery.CredentialKey{Name: "scope", Doc: "The scopes, with a space between them."})
	}
	if p.Resource != "" {
		add(bindery.CredentialKey{Name: "resource", Doc: "The resource that tokens are for (RFC 8707)."})
	}
	if p.Mode == modeToken {
		add(bindery.CredentialKey{Name: "access_token", Doc: "The access token."},
			bindery.CredentialKey{Name: "token_type", Doc: "Its type, Bearer as a rule."},
			bindery.CredentialKey{Name: "expires_at", Doc: "When it expires (RFC 3339)."})
	} else {
		add(bindery.CredentialKey{Name: "client-id", Doc: "The client."},
			bindery.CredentialKey{Name: "client_id", Doc: "The same."},
			bindery.CredentialKey{Name: "client-secret", Doc: "Its secret."},
			bindery.CredentialKey{Name: "client_secret", Doc: "The same."},
			bindery.CredentialKey{Name: "expires_at", Doc: "When the secret expires (RFC 3339).", Optional: true},
			bindery.CredentialKey{Name: "token-uri", Doc: "Where tokens are got."},
			bindery.CredentialKey{Name: "token_endpoint", Doc: "The same."})
		if p.redirects() {
			add(bindery.CredentialKey{Name: "authorization-uri", Doc: "Where users are sent to.", Optional: true})
		}
		if slices.Contains(aliases, aliasSpring) {
			add(bindery.CredentialKey{Name: "authorization-grant-type", Doc: "The first of the grant types."},
				bindery.CredentialKey{Name: "client-authentication-method", Doc: "How the client authenticates."})
		}
	}
	if slices.Contains(aliases, aliasSteeltoe) {
		add(bindery.CredentialKey{Name: "auth_domain", Doc: "As issuer-uri."})
	}
	return bindery.CredentialSchema(keys...)
}
