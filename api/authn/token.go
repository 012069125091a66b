package authn

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"

	"bindery"
	"bindery/api"
)

var (
	errNoCertificate = refuse("No certificate provided")
	errNoAuthority   = bindery.Errorf(bindery.CodeForbidden, "Your certificate is signed by an unknown authority")
	errNoToken       = bindery.Errorf(bindery.CodeUnauthorized, "No token provided")
	errNoIssuer      = bindery.Errorf(bindery.CodeUnauthorized, "Your token is of an unknown issuer")
)

// certificates are what the client sent in the handshake, unverified.
func certificates(c *api.Call) []*x509.Certificate {
	if c.R.TLS == nil {
		return nil
	}
	return c.R.TLS.PeerCertificates
}

func (h *Handler) authX509(c *api.Call) error {
	chain := certificates(c)
	if len(chain) == 0 {
		return errNoCertificate
	}
	if h.Certificates == nil {
		return h.failed(c, errNoAuthority)
	}
	id, err := h.Certificates.Prove(c.R.Context(), chain, remote(c))
	if err != nil {
		return h.failed(c, challenge(c, err))
	}
	return h.token(c, id)
}

func (h *Handler) authOIDC(c *api.Call) error {
	scheme, raw, _ := strings.Cut(c.R.Header.Get("Authorization"), " ")
	raw = strings.TrimSpace(raw)
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return challenge(c, errNoToken)
	}
	if h.Tokens == nil {
		return h.failed(c, challenge(c, errNoIssuer))
	}
	id, err := h.Tokens.Prove(c.R.Context(), raw)
	if err != nil {
		return h.failed(c, challenge(c, err))
	}
	return h.token(c, id)
}

// token answers with what is bound to somebody who was proven.
func (h *Handler) token(c *api.Call, id bindery.Identity) error {
	c.Caller = id.Name
	value, err := h.Service.Token(c.R.Context(), id, sought(c, "name"), sought(c, "host"))
	if err != nil {
		return err
	}
	body, err := tokenBody(value)
	if err != nil {
		return err
	}
	c.Raw(http.StatusOK, contentType, body)
	return nil
}

// tokenBody is {"token": value}. Nearly every value is a plain string, which
// needs no look from encoding/json.
func tokenBody(value json.RawMessage) ([]byte, error) {
	if plainString(value) {
		const before, after = "{\n \"token\": ", "\n}"
		b := make([]byte, 0, len(before)+len(value)+len(after))
		return append(append(append(b, before...), value...), after...), nil
	}
	b, err := json.MarshalIndent(struct {
		Token json.RawMessage `json:"token"`
	}{value}, "", " ")
	if err != nil {
		// Its text may quote the token.
		return nil, bindery.Errorf(bindery.CodeInternal, "the token is not JSON")
	}
	return b, nil
}

// plainString reports whether value is a JSON string of which the encoder would
// change nothing.
func plainString(value []byte) bool {
	n := len(value)
	if n < 2 || value[0] != '"' || value[n-1] != '"' {
		return false
	}
	for _, b := range value[1 : n-1] {
		if b < ' ' || b > '~' || b == '"' || b == '\\' || b == '<' || b == '>' || b == '&' {
			return false
		}
	}
	return true
}
