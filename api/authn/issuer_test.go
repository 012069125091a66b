package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An issuer is the part of an OpenID provider that Bindery asks (OpenID Connect
// Discovery 1.0, section 4).
type issuer struct {
	testing.TB
	URL, caFile string
	key         *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := &issuer{TB: t, key: key, caFile: filepath.Join(t.TempDir(), "issuer.pem")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: key.Public(), KeyID: "k1", Algorithm: string(jose.ES256), Use: "sig"},
		}})
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	write(t, i.caFile, encode(s.Certificate().Raw))
	i.URL = s.URL
	return i
}

// token is one about a subject that expires so long from now.
func (i *issuer) token(subject, audience string, expires time.Duration, key *ecdsa.PrivateKey) string {
	i.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	must(i, err)
	raw, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: i.URL, Subject: subject, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(time.Now().Add(-time.Hour)), Expiry: jwt.NewNumericDate(time.Now().Add(expires)),
	}).Serialize()
	must(i, err)
	return raw
}
