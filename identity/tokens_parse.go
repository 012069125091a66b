package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // unlike the standard library's: exact names, no name twice
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxClaimValue is the longest name of a user, in bytes. OpenID Connect Core, section 2,
// allows 255 for sub; addresses can be longer.
const maxClaimValue = 1024

// A parsedToken is what a token says. Nothing of it is true until its signature was verified.
type parsedToken struct {
	signed    *jose.JSONWebSignature
	keyID     string
	algorithm jose.SignatureAlgorithm
	claims    jwt.Claims
	all       map[string]any
}

// parseToken reads a JWT in the compact serialization of a JWS (RFC 7515, section 7.1).
// Where its header names a key (jwk, jku, x5c, x5u) nobody looks there.
func parseToken(raw string) (*parsedToken, error) {
	if strings.ContainsAny(raw, "\r\n") {
		return nil, errTokenMalformed // the decoder of base64 would pass over them
	}
	signed, err := jose.ParseSignedCompact(raw, tokenAlgorithms)
	if err != nil {
		return nil, errTokenMalformed.Because(err)
	}
	header := signed.Signatures[0].Protected
	for name := range header.ExtraHeaders {
		// RFC 7515, section 4.1.11: what is critical must be understood, and no extension is.
		// b64 changes what is signed (RFC 7797), and has no place in a JWT.
		if name == "crit" || name == "b64" {
			return nil, refuseToken("the token needs an extension that is not supported: %s", name)
		}
	}
	// Tokens for other purposes have the same issuer, the same audience and the same keys: logout
	// tokens, proofs of possession, answers of introspection. Explicit types tell (RFC 8725, sections
	// 3.11 and 3.12). A content type says that something is nested (RFC 7519, section 5.2).
	if typ, ok := header.ExtraHeaders[jose.HeaderType]; ok && !isTokenType(typ) {
		return nil, errTokenKind
	}
	if _, nested := header.ExtraHeaders[jose.HeaderContentType]; nested {
		return nil, errTokenKind
	}
	token := &parsedToken{signed: signed, keyID: header.KeyID, algorithm: jose.SignatureAlgorithm(header.Algorithm)}
	payload := signed.UnsafePayloadWithoutVerification()
	if err := json.Unmarshal(payload, &token.claims); err != nil {
		return nil, errTokenMalformed.Because(err)
	}
	if err := json.Unmarshal(payload, &token.all); err != nil {
		return nil, errTokenMalformed.Because(err)
	}
	if token.all["events"] != nil {
		return nil, errTokenKind // OpenID Connect Back-Channel Logout, section 2.4; its type is optional
	}
	if token.all["cnf"] != nil {
		// RFC 7800, section 3.1: only together with a proof of the key is it worth something.
		return nil, refuseToken("the token is bound to a key, and does not do as a bearer token")
	}
	return token, nil
}

// isTokenType tells the types of ID tokens and of access tokens (RFC 9068, section 2.1) from others.
func isTokenType(typ any) bool {
	s, _ := typ.(string) // anything else is no type
	switch strings.TrimPrefix(strings.ToLower(s), "application/") {
	case "jwt", "at+jwt":
		return true
	}
	return false
}

// value returns the claim that names the user.
func (p *parsedToken) value(claim string) (string, error) {
	value, ok := p.all[claim].(string)
	if !ok || value == "" {
		return "", refuseToken("the token does not say whose it is: its claim %s is no text", claim)
	}
	if claim == "email" && p.all["email_verified"] != true {
		return "", refuseToken("the token does not say that its e-mail address is verified")
	}
	unusable := func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) } // what JSON cannot say well becomes RuneError
	if len(value) > maxClaimValue || strings.ContainsFunc(value, unusable) {
		return "", refuseToken("the token does not say whose it is: its claim %s is too long, or no clean text", claim)
	}
	return value, nil
}
