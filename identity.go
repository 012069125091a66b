package bindery

// An AuthType is a way for somebody to prove who they are.
type AuthType string

// The ways of proof.
const (
	AuthX509 AuthType = "x509" // a certificate, by mutual TLS
	AuthOIDC AuthType = "oidc" // an OpenID Connect token
)

// An Identity is somebody who was proven, in the terms in which identity
// bindings are found. See [IdentityKeys] for what the keys are.
type Identity struct {
	AuthType AuthType
	// Name is for people: an RFC 4514 distinguished name, or issuer#value.
	Name string
	Keys IdentityKeys
	// IssuerKey is the exact key of the name of the authority that issued the certificate.
	IssuerKey string
	// IssuedHere: Bindery itself issued the certificate. It proves only
	// bindings that are pinned to its issuer.
	IssuedHere bool
}

// IdentityKeys are what identities are compared by: fixed-length texts, each
// made from a meaning and never from a spelling.
type IdentityKeys struct {
	// Exact: two identities are the same if and only if theirs are equal.
	Exact string
	// Old is the key of the old form of a distinguished name (see [DN.OldForm]).
	// Empty: it has none, or the old form would drop some of its values.
	Old string
}
