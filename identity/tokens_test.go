package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/identity"
	"bindery/test/poll"
)

const audience = "https://bindery.example"

// A clock runs with the real one, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time             { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) putForward(d time.Duration) { c.ahead.Add(int64(d)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTokens(t testing.TB, c *clock, issuers ...identity.Issuer) *identity.Tokens {
	t.Helper()
	tokens, err := identity.NewTokens(identity.TokenOptions{Issuers: issuers, Now: c.now, Timeout: 3 * time.Second})
	must(t, err)
	return tokens
}

// run runs the fetching in the background until the test ends.
func run(t *testing.T, tokens *identity.Tokens) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		if err := tokens.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(all.Wait) // the context ends before
}

// trust is an issuer's configuration.
func trust(p *devserver.OIDC, claim string) identity.Issuer {
	return identity.Issuer{URL: p.Issuer, Audiences: []string{audience, p.ClientID}, CAFile: p.CAFile, Claim: claim}
}

func access(t *testing.T, p *devserver.OIDC, o devserver.OIDCToken) string {
	t.Helper()
	if o.Audience == "" {
		o.Audience = audience
	}
	raw, _, err := p.Token(t.Context(), o)
	must(t, err)
	return raw
}

// proves checks that the token proves who is asked for.
func proves(t *testing.T, tokens *identity.Tokens, raw, name string) {
	t.Helper()
	got, err := tokens.Prove(t.Context(), raw)
	if err != nil {
		t.Fatalf("%v (%v)", err, bindery.CodeOf(err))
	}
	keys, err := bindery.IdentifierKeys(bindery.AuthOIDC, name)
	must(t, err)
	if want := (bindery.Identity{AuthType: bindery.AuthOIDC, Name: name, Keys: keys}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// refused checks that the token does not do, for the reason that is given.
func refused(t *testing.T, tokens *identity.Tokens, raw string, code bindery.Code, reason string) {
	t.Helper()
	got, err := tokens.Prove(t.Context(), raw)
	if bindery.CodeOf(err) != code || !strings.Contains(bindery.MessageOf(err), reason) {
		t.Errorf("got %v, %v (%s), want %s: %s", got, err, bindery.CodeOf(err), code, reason)
	}
	if got != (bindery.Identity{}) {
		t.Errorf("refused, and it is %v", got)
	}
}

func TestTokensOfARealProvider(t *testing.T) {
	t.Parallel()
	p := servertest.OIDC(t)
	claims := map[string]any{
		"email": "a@example.org", "email_verified": true, "preferred_username": "alice", "voperson_id": "a#1@vo", "number": 7,
	}
	without := func(name string, value any) map[string]any {
		m := maps.Clone(claims)
		m[name] = value
		return m
	}
	for name, tt := range map[string]struct {
		claim  string
		claims map[string]any
		want   string // the value
		reason string // or why not
	}{
		"subject":             {"", claims, "f00-1", ""},
		"no other claims":     {"sub", nil, "f00-1", ""},
		"e-mail":              {"email", claims, "a@example.org", ""},
		"user name":           {"preferred_username", claims, "alice", ""},
		"with a #":            {"voperson_id", claims, "a#1@vo", ""},
		"e-mail not verified": {"email", without("email_verified", false), "", "verified"},
		"e-mail maybe":        {"email", without("email_verified", "true"), "", "verified"},
		"e-mail not said":     {"email", without("email_verified", nil), "", "verified"},
		"missing":             {"eduperson", claims, "", "eduperson is no text"},
		"empty":               {"preferred_username", without("preferred_username", ""), "", "is no text"},
		"a number":            {"number", claims, "", "is no text"},
		"long":                {"preferred_username", without("preferred_username", strings.Repeat("a", 1025)), "", "too long"},
		"line feed":           {"preferred_username", without("preferred_username", "a\nb"), "", "no clean text"},
		"replaced":            {"preferred_username", without("preferred_username", "a\ufffd"), "", "no clean text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens := newTokens(t, &clock{}, trust(p, tt.claim))
			at, id, err := p.Token(t.Context(), devserver.OIDCToken{Subject: "f00-1", Claims: tt.claims, Audience: audience})
			must(t, err)
			for range 2 { // the second time it is remembered
				for _, raw := range []string{at, id} {
					if tt.reason == "" {
						proves(t, tokens, raw, p.Issuer+"#"+tt.want)
					} else {
						refused(t, tokens, raw, bindery.CodeUnauthorized, tt.reason)
					}
				}
			}
			if got := tokens.Stats().Recalled; got != 2 && tt.reason == "" {
				t.Errorf("%d tokens were remembered", got)
			}
		})
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			raw := access(t, p, devserver.OIDCToken{Subject: "f00-1", Algorithm: alg})
			proves(t, newTokens(t, &clock{}, trust(p, "")), raw, p.Issuer+"#f00-1")
			only := trust(p, "")
			only.Algorithms = []string{alg}
			proves(t, newTokens(t, &clock{}, only), raw, p.Issuer+"#f00-1")
			only.Algorithms = []string{"RS256"}
			if alg == "RS256" {
				only.Algorithms = []string{"PS256"}
			}
			refused(t, newTokens(t, &clock{}, only), raw, bindery.CodeUnauthorized, "algorithm")
		})
	}
}

func TestRefusedTokensOfARealProvider(t *testing.T) {
	t.Parallel()
	p, other := servertest.OIDC(t), servertest.OIDC(t)
	c := &clock{}
	tokens := newTokens(t, c, trust(p, ""))
	good := access(t, p, devserver.OIDCToken{Subject: "alice"})
	proves(t, tokens, good, p.Issuer+"#alice")

	refused(t, tokens, access(t, p, devserver.OIDCToken{Subject: "alice", Audience: "https://elsewhere.example"}), bindery.CodeUnauthorized, "not meant for")
	refused(t, tokens, access(t, other, devserver.OIDCToken{Subject: "alice"}), bindery.CodeUnauthorized, "issuer is not known")
	_, logout, err := p.Token(t.Context(), devserver.OIDCToken{Subject: "alice", Logout: true})
	must(t, err)
	refused(t, tokens, logout, bindery.CodeUnauthorized, "of a kind")
	refused(t, tokens, access(t, p, devserver.OIDCToken{Subject: "alice", Claims: map[string]any{"cnf": map[string]any{"jkt": "x"}}}), bindery.CodeUnauthorized, "bound to a key")
	refused(t, tokens, access(t, p, devserver.OIDCToken{Subject: "alice", Claims: map[string]any{"events": map[string]any{}}}), bindery.CodeUnauthorized, "of a kind")
	refused(t, tokens, "", bindery.CodeUnauthorized, "no token")
	refused(t, tokens, strings.Repeat("a", 16<<10+1), bindery.CodeUnauthorized, "longer than")
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for _, raw := range []string{
		"x", "..", header, header + "." + payload, header + "." + payload + ".", good + ".", good + ".x.y", " " + good, good + "\n",
		header + "." + payload + "." + base64.RawURLEncoding.EncodeToString([]byte("not it")),
		header + "." + strings.Replace(payload, payload[10:12], "AA", 1) + "." + signature, "Bearer " + good, `{"payload":"` + payload + `"}`,
	} {
		if _, err := tokens.Prove(t.Context(), raw); bindery.CodeOf(err) != bindery.CodeUnauthorized {
			t.Errorf("%q: got %v", raw, err)
		}
	}

	// A token lasts an hour, and the skew, whether it was proven before or not.
	fresh := access(t, p, devserver.OIDCToken{Subject: "bob"})
	c.putForward(time.Hour + 25*time.Second)
	proves(t, tokens, good, p.Issuer+"#alice")
	proves(t, tokens, fresh, p.Issuer+"#bob")
	c.putForward(10 * time.Second)
	refused(t, tokens, good, bindery.CodeUnauthorized, "expired")
	refused(t, tokens, fresh, bindery.CodeUnauthorized, "expired")
	c.putForward(-2 * time.Hour)
	refused(t, tokens, fresh, bindery.CodeUnauthorized, "not valid yet") // issued in the future
}

func TestKeysAreRotatedWhileRunning(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"old keys are kept": true, "old keys are dropped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := servertest.OIDC(t), &clock{}
			tokens := newTokens(t, c, trust(p, ""))
			run(t, tokens)
			before := access(t, p, devserver.OIDCToken{Subject: "before"})
			unseen := access(t, p, devserver.OIDCToken{Subject: "unseen"})
			proves(t, tokens, before, p.Issuer+"#before")
			must(t, p.Rotate(t.Context(), keep))
			c.putForward(3 * time.Second)
			proves(t, tokens, access(t, p, devserver.OIDCToken{Subject: "after"}), p.Issuer+"#after")
			if keep {
				proves(t, tokens, before, p.Issuer+"#before")
				proves(t, tokens, unseen, p.Issuer+"#unseen")
			} else {
				refused(t, tokens, before, bindery.CodeUnauthorized, "not signed by its issuer")
				refused(t, tokens, unseen, bindery.CodeUnauthorized, "not signed by its issuer")
			}
			// Twice, and by a restart.
			must(t, p.Kill())
			must(t, p.Rotate(t.Context(), false))
			must(t, p.Start(t.Context()))
			c.putForward(3 * time.Second)
			proves(t, tokens, access(t, p, devserver.OIDCToken{Subject: "restarted"}), p.Issuer+"#restarted")
		})
	}
}

func TestIssuerIsDownAtStart(t *testing.T) {
	t.Parallel()
	var proxy *devserver.Proxy
	down := servertest.OIDC(t, func(o *devserver.OIDCOptions) {
		o.Front = func(addr string) (string, error) {
			proxy = servertest.Proxy(t, addr)
			return proxy.Addr(), nil
		}
	})
	up := servertest.OIDC(t)
	for name, break_ := range map[string]func(){
		"refusing": func() { must(t, proxy.Refuse(true)) },
		"hanging":  func() { proxy.Hold() },
	} {
		t.Run(name, func(t *testing.T) {
			break_()
			c := &clock{}
			tokens := newTokens(t, c, trust(down, ""), trust(up, ""))
			run(t, tokens)
			raw := access(t, down, devserver.OIDCToken{Subject: "alice"})
			proves(t, tokens, access(t, up, devserver.OIDCToken{Subject: "alice"}), up.Issuer+"#alice")
			refused(t, tokens, raw, bindery.CodeUnavailable, "cannot be asked")
			if s := tokens.Stats().Issuers[0]; !s.Failing || s.Keys != 0 || s.URL != down.Issuer {
				t.Errorf("got %+v", s)
			}
			must(t, proxy.Refuse(false))
			proxy.Release()
			poll.Until(t, "the keys are fetched, with nobody asking for them", func() bool { return tokens.Stats().Issuers[0].Keys > 0 })
			proves(t, tokens, raw, down.Issuer+"#alice")
		})
	}
}

func TestIssuerGoesDown(t *testing.T) {
	t.Parallel()
	p, up, c := servertest.OIDC(t), servertest.OIDC(t), &clock{}
	tokens := newTokens(t, c, trust(p, ""), trust(up, ""))
	long := devserver.OIDCToken{Subject: "alice", Lifetime: 72 * time.Hour}
	first := access(t, p, long)
	proves(t, tokens, first, p.Issuer+"#alice")
	long.Subject = "bob"
	second := access(t, p, long)
	must(t, p.Rotate(t.Context(), true))
	unknown := access(t, p, long)

	for name, fail := range map[string]func() error{"killed": p.Kill, "paused": p.Pause} {
		must(t, p.Start(t.Context()))
		must(t, fail())
		c.putForward(time.Minute)
		proves(t, tokens, first, p.Issuer+"#alice")
		proves(t, tokens, second, p.Issuer+"#bob")
		var all sync.WaitGroup
		all.Go(func() { refused(t, tokens, unknown, bindery.CodeUnavailable, "cannot be asked") })
		proves(t, tokens, access(t, up, devserver.OIDCToken{Subject: name}), up.Issuer+"#"+name)
		all.Wait()
		must(t, p.Kill())
	}

	c.putForward(24 * time.Hour)
	refused(t, tokens, first, bindery.CodeUnavailable, "cannot be asked")
	must(t, p.Start(t.Context()))
	c.putForward(3 * time.Second)
	proves(t, tokens, unknown, p.Issuer+"#bob")
	proves(t, tokens, first, p.Issuer+"#alice")
}

// A staticIssuer is a provider whose documents and tokens are the test's.
type staticIssuer struct {
	*httptest.Server
	key      *ecdsa.PrivateKey
	keyID    string
	metadata map[string]any
	set      any
	asked    atomic.Int64 // how often for the keys
	strays   atomic.Int64 // how often for anything else
}

func newStaticIssuer(t testing.TB, useTLS bool) *staticIssuer {
	t.Helper()
	s := &staticIssuer{keyID: "one"}
	var err error
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	s.set = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.public()}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.metadata)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		if text, ok := s.set.(string); ok {
			_, _ = io.WriteString(w, text)
			return
		}
		_ = json.NewEncoder(w).Encode(s.set)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) { s.strays.Add(1) })
	if useTLS {
		s.Server = httptest.NewTLSServer(mux)
	} else {
		s.Server = httptest.NewServer(mux)
	}
	t.Cleanup(s.Close)
	s.metadata = map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys"}
	return s
}

func (s *staticIssuer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.keyID, Use: "sig", Algorithm: "ES256"}
}

func (s *staticIssuer) issuer() identity.Issuer {
	return identity.Issuer{URL: s.URL, Audiences: []string{audience}}
}

func (s *staticIssuer) claims() map[string]any {
	return map[string]any{"iss": s.URL, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
}

// with returns the good claims with one changed; nil removes it.
func (s *staticIssuer) with(name string, value any) map[string]any {
	claims := s.claims()
	claims[name] = value
	if value == nil {
		delete(claims, name)
	}
	return claims
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[string]any, claims any) string {
	t.Helper()
	o := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		o.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	must(t, err)
	payload, ok := claims.(string)
	if !ok {
		b, err := json.Marshal(claims)
		must(t, err)
		payload = string(b)
	}
	signed, err := signer.Sign([]byte(payload))
	must(t, err)
	raw, err := signed.CompactSerialize()
	must(t, err)
	return raw
}

func (s *staticIssuer) sign(t testing.TB, claims any) string {
	t.Helper()
	return sign(t, jose.ES256, s.key, map[string]any{"kid": s.keyID}, claims)
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	s, own := newStaticIssuer(t, false), newStaticIssuer(t, false)
	tokens := newTokens(t, &clock{}, s.issuer())
	proves(t, tokens, s.sign(t, s.claims()), s.URL+"#alice")
	proves(t, tokens, sign(t, jose.ES256, s.key, nil, s.claims()), s.URL+"#alice") // kid is optional

	kid := map[string]any{"kid": "one"}
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	must(t, err)
	jwk, err := json.Marshal(s.public())
	must(t, err)
	x, err := s.key.PublicKey.Bytes()
	must(t, err)
	for name, secret := range map[string][]byte{
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "DER": der, "JWK": jwk, "point": x,
	} {
		for _, alg := range []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512} {
			t.Run(name+" as a secret of "+string(alg), func(t *testing.T) {
				padded := append(secret, make([]byte, max(0, 64-len(secret)))...) // what go-jose asks for; HMAC pads alike
				refused(t, tokens, sign(t, alg, padded, kid, s.claims()), bindery.CodeUnauthorized, "asymmetric")
			})
		}
	}
	good := s.sign(t, s.claims())
	_, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	for _, alg := range []string{"none", "None", "NONE", "", "HS256", "dir", "ES256K"} {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg + `","kid":"one"}`))
		refused(t, tokens, header+"."+payload+".", bindery.CodeUnauthorized, "asymmetric")
		refused(t, tokens, header+"."+rest, bindery.CodeUnauthorized, "asymmetric")
	}

	strays := own.strays.Load()
	for name, header := range map[string]map[string]any{
		"kid":                    {"kid": "one"},
		"no kid":                 {},
		"unknown kid":            {"kid": "two"},
		"a key in the header":    {"kid": "one", "jwk": own.public()},
		"a URL of a key set":     {"kid": "one", "jku": own.URL + "/jku"},
		"a URL of a certificate": {"kid": "one", "x5u": own.URL + "/x5u"},
	} {
		t.Run("another's key, with "+name, func(t *testing.T) {
			refused(t, tokens, sign(t, jose.ES256, own.key, header, s.claims()), bindery.CodeUnauthorized, "not signed by its issuer")
		})
	}
	if own.strays.Load() != strays || own.asked.Load() != 0 {
		t.Error("somebody was sent to a place that a token names")
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	refused(t, tokens, sign(t, jose.RS256, big, kid, s.claims()), bindery.CodeUnauthorized, "not signed by its issuer")

	for name, tt := range map[string]struct {
		header map[string]any
		claims any
		reason string // empty: it does
	}{
		"critical extension":   {map[string]any{"crit": []string{"exp"}, "exp": 1}, s.claims(), "extension"},
		"b64":                  {map[string]any{"b64": true}, s.claims(), "extension"},
		"nested":               {map[string]any{"cty": "JWT"}, s.claims(), "of a kind"},
		"type at+jwt":          {map[string]any{"typ": "application/AT+JWT"}, s.claims(), ""},
		"type logout":          {map[string]any{"typ": "logout+jwt"}, s.claims(), "of a kind"},
		"type is a number":     {map[string]any{"typ": 1}, s.claims(), "of a kind"},
		"one of the audiences": {nil, s.with("aud", []string{"other", audience}), ""},
		"no audience":          {nil, s.with("aud", nil), "not meant for"},
		"empty audience":       {nil, s.with("aud", []string{}), "not meant for"},
		"part of the audience": {nil, s.with("aud", audience+"/"), "not meant for"},
		"no issuer":            {nil, s.with("iss", nil), "issuer is not known"},
		"issuer with a slash":  {nil, s.with("iss", s.URL+"/"), "issuer is not known"},
		"other case":           {nil, s.with("iss", strings.ToUpper(s.URL)), "issuer is not known"},
		"no expiry":            {nil, s.with("exp", nil), "no expiry"},
		"expiry null":          {nil, `{"iss":"` + s.URL + `","aud":"` + audience + `","sub":"alice","exp":null}`, "no expiry"},
		"expiry is a text":     {nil, s.with("exp", "tomorrow"), "not a JWT"},
		"expiry out of range":  {nil, `{"iss":"` + s.URL + `","aud":"` + audience + `","sub":"alice","exp":1e300}`, "not a JWT"},
		"not before, soon":     {nil, s.with("nbf", time.Now().Add(20*time.Second).Unix()), ""},
		"not before, later":    {nil, s.with("nbf", time.Now().Add(40*time.Second).Unix()), "not valid yet"},
		"issued later":         {nil, s.with("iat", time.Now().Add(40*time.Second).Unix()), "not valid yet"},
		"no subject":           {nil, s.with("sub", nil), "is no text"},
		"claim in other case":  {nil, `{"iss":"` + s.URL + `","aud":"` + audience + `","SUB":"alice","exp":99999999999}`, "is no text"},
		"subject twice":        {nil, `{"iss":"` + s.URL + `","aud":"` + audience + `","sub":"alice","sub":"bob","exp":99999999999}`, "not a JWT"},
		"half a character":     {nil, `{"iss":"` + s.URL + `","aud":"` + audience + `","sub":"a\ud800","exp":99999999999}`, "no clean text"},
		"no object":            {nil, `[]`, "not a JWT"},
		"null":                 {nil, `null`, "issuer is not known"},
		"nothing":              {nil, ``, "not a JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]any{"kid": "one"}
			maps.Copy(header, tt.header)
			raw := sign(t, jose.ES256, s.key, header, tt.claims)
			if tt.reason == "" {
				proves(t, tokens, raw, s.URL+"#alice")
			} else {
				refused(t, tokens, raw, bindery.CodeUnauthorized, tt.reason)
			}
		})
	}

	// Encrypted: to a key of ours if we had one, and with the content signed as it should be.
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: s.key.Public()}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	must(t, err)
	sealed, err := encrypter.Encrypt([]byte(good))
	must(t, err)
	raw, err := sealed.CompactSerialize()
	must(t, err)
	refused(t, tokens, raw, bindery.CodeUnauthorized, "asymmetric")
}

func TestUnknownKeysDoNotHammerTheIssuer(t *testing.T) {
	t.Parallel()
	s, c := newStaticIssuer(t, false), &clock{}
	frozen := time.Now()
	now := func() time.Time { return frozen.Add(time.Duration(c.ahead.Load())) }
	tokens, err := identity.NewTokens(identity.TokenOptions{Issuers: []identity.Issuer{s.issuer()}, Now: now})
	must(t, err)
	flood := func(n int) {
		var all sync.WaitGroup
		for k := range n {
			raw := sign(t, jose.ES256, s.key, map[string]any{"kid": fmt.Sprint("invented", k)}, s.claims())
			all.Go(func() { refused(t, tokens, raw, bindery.CodeUnauthorized, "not signed by its issuer") })
		}
		all.Wait()
	}
	flood(200)
	if got := s.asked.Load(); got != 1 {
		t.Errorf("the issuer was asked %d times", got)
	}
	c.putForward(3 * time.Second)
	flood(200)
	if got := s.asked.Load(); got != 2 {
		t.Errorf("the issuer was asked %d times", got)
	}
	// Not even once for tokens that would be refused anyway, or for a signature that a known key did not make.
	c.putForward(3 * time.Second)
	header := map[string]any{"kid": "invented"}
	refused(t, tokens, sign(t, jose.ES256, s.key, header, s.with("aud", "x")), bindery.CodeUnauthorized, "not meant for")
	refused(t, tokens, sign(t, jose.ES256, s.key, header, s.with("exp", 1)), bindery.CodeUnauthorized, "expired")
	refused(t, tokens, sign(t, jose.ES256, newStaticIssuer(t, false).key, map[string]any{"kid": "one"}, s.claims()), bindery.CodeUnauthorized, "not signed")
	if got := s.asked.Load(); got != 2 {
		t.Errorf("the issuer was asked %d times", got)
	}
	if got := tokens.Stats(); got.Issuers[0].Fetches != 2 || got.Issuers[0].Keys != 1 || got.Remembered != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestDocumentsOfAnIssuer(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	private := func(s *staticIssuer) jose.JSONWebKey { return jose.JSONWebKey{Key: s.key, KeyID: "one"} }
	for name, tt := range map[string]struct {
		tls    bool
		change func(s *staticIssuer)
		good   bool
	}{
		"as they should be": {false, func(*staticIssuer) {}, true},
		"over TLS":          {true, func(*staticIssuer) {}, true},
		"another issuer":    {false, func(s *staticIssuer) { s.metadata["issuer"] = s.URL + "/" }, false},
		"no issuer":         {false, func(s *staticIssuer) { delete(s.metadata, "issuer") }, false},
		"no keys":           {false, func(s *staticIssuer) { delete(s.metadata, "jwks_uri") }, false},
		"keys are redirected": {
			false, func(s *staticIssuer) { s.metadata["jwks_uri"] = s.URL + "/moved" }, false,
		},
		"keys not over TLS":  {true, func(s *staticIssuer) { s.metadata["jwks_uri"] = strings.Replace(s.URL, "https", "http", 1) + "/keys" }, false},
		"keys far, no TLS":   {false, func(s *staticIssuer) { s.metadata["jwks_uri"] = "http://192.0.2.1/keys" }, false},
		"keys in a file":     {false, func(s *staticIssuer) { s.metadata["jwks_uri"] = "file:///etc/passwd" }, false},
		"metadata very long": {false, func(s *staticIssuer) { s.metadata["x"] = strings.Repeat("x", 2<<20) }, false},
		"keys very long": {
			false, func(s *staticIssuer) {
				s.set = map[string]any{"keys": []any{s.public()}, "x": strings.Repeat("x", 2<<20)}
			}, false,
		},
		"an array":        {false, func(s *staticIssuer) { s.set = "[]" }, false},
		"no key":          {false, func(s *staticIssuer) { s.set = `{"keys":[]}` }, false},
		"no JSON":         {false, func(s *staticIssuer) { s.set = `<html>` }, false},
		"the private key": {false, func(s *staticIssuer) { s.set = map[string]any{"keys": []any{private(s)}} }, false},
		"for encryption": {false, func(s *staticIssuer) {
			k := s.public()
			k.Use = "enc"
			s.set = map[string]any{"keys": []any{k}}
		}, false},
		"for another algorithm": {false, func(s *staticIssuer) {
			k := s.public()
			k.Algorithm = "ES384"
			s.set = map[string]any{"keys": []any{k}}
		}, false},
		"unusable keys beside it": {false, func(s *staticIssuer) {
			s.set = map[string]any{"keys": []any{
				7,
				map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
				map[string]any{"kty": "AKP", "kid": "one"},
				map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "one"},
				jose.JSONWebKey{Key: small.Public(), KeyID: "one"},
				s.public(),
			}}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStaticIssuer(t, tt.tls)
			tt.change(s)
			i := s.issuer()
			if tt.tls {
				i.CAFile = filepath.Join(t.TempDir(), "ca.pem")
				must(t, os.WriteFile(i.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
			}
			tokens := newTokens(t, &clock{}, i)
			raw := s.sign(t, s.claims())
			if tt.good {
				proves(t, tokens, raw, s.URL+"#alice")
				return
			}
			_, err := tokens.Prove(t.Context(), raw)
			if code := bindery.CodeOf(err); code != bindery.CodeUnavailable && code != bindery.CodeUnauthorized {
				t.Errorf("got %v", err)
			}
			if strings.Contains(bindery.MessageOf(err), s.URL) || len(fmt.Sprint(err)) > 600 {
				t.Errorf("the error says too much: %v", err)
			}
		})
	}
	t.Run("a 1024 bit key", func(t *testing.T) {
		t.Parallel()
		s := newStaticIssuer(t, false)
		s.set = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: small.Public(), KeyID: "one"}}}
		refused(t, newTokens(t, &clock{}, s.issuer()), s.sign(t, s.claims()), bindery.CodeUnavailable, "cannot be asked")
	})
	t.Run("a certificate of nobody's", func(t *testing.T) {
		t.Parallel()
		s := newStaticIssuer(t, true)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		refused(t, newTokens(t, &clock{}, s.issuer()), s.sign(t, s.claims()), bindery.CodeUnavailable, "cannot be asked")
	})
}

func TestIdentifier(t *testing.T) {
	t.Parallel()
	one, two := identity.Issuer{URL: "https://one.example/x", Audiences: []string{"a"}}, identity.Issuer{URL: "https://two.example", Audiences: []string{"a"}}
	single, several, none := newTokens(t, &clock{}, one), newTokens(t, &clock{}, one, two), newTokens(t, &clock{})
	for _, tt := range []struct {
		tokens     *identity.Tokens
		text, want string // empty: refused
	}{
		{single, "alice", "https://one.example/x#alice"},
		{single, "alice#1", "https://one.example/x#alice#1"},
		{single, "#", "https://one.example/x##"},
		{single, "https://orcid.example/0000-1", "https://one.example/x#https://orcid.example/0000-1"},
		{single, "https://one.example/x#alice", "https://one.example/x#alice"},
		{single, "https://one.example/x#a#b", "https://one.example/x#a#b"},
		{single, "https://gone.example#alice", "https://gone.example#alice"},
		{single, "https://one.example/x#", ""},
		{single, "", ""},
		{single, " ", ""},
		{several, "https://two.example#alice", "https://two.example#alice"},
		{several, "alice", ""},
		{none, "alice", ""},
		{none, "https://two.example#alice", "https://two.example#alice"},
	} {
		got, err := tt.tokens.Identifier(tt.text)
		if got != tt.want || (tt.want == "") != (bindery.CodeOf(err) == bindery.CodeInvalid) {
			t.Errorf("%q: got %q, %v", tt.text, got, err)
		}
	}
}

func TestTokenOptions(t *testing.T) {
	t.Parallel()
	good := identity.Issuer{URL: "https://one.example", Audiences: []string{"a"}}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	change := func(f func(*identity.Issuer)) identity.TokenOptions {
		i := good
		f(&i)
		return identity.TokenOptions{Issuers: []identity.Issuer{i}}
	}
	for name, tt := range map[string]struct {
		o    identity.TokenOptions
		good bool
	}{
		"none":           {identity.TokenOptions{}, true},
		"one":            {identity.TokenOptions{Issuers: []identity.Issuer{good}, Skew: 5 * time.Minute}, true},
		"loopback":       {change(func(i *identity.Issuer) { i.URL = "http://127.0.0.1:80/x" }), true},
		"loopback, IPv6": {change(func(i *identity.Issuer) { i.URL = "http://[::1]:80" }), true},
		"localhost":      {change(func(i *identity.Issuer) { i.URL = "http://localhost:80" }), true},
		"twice":          {identity.TokenOptions{Issuers: []identity.Issuer{good, good}}, false},
		"much skew":      {identity.TokenOptions{Skew: 5*time.Minute + 1}, false},
		"negative skew":  {identity.TokenOptions{Skew: -1}, false},
		"negative time":  {identity.TokenOptions{Timeout: -1}, false},
		"http":           {change(func(i *identity.Issuer) { i.URL = "http://one.example" }), false},
		"http, tricky":   {change(func(i *identity.Issuer) { i.URL = "http://127.0.0.1.one.example" }), false},
		"no URL":         {change(func(i *identity.Issuer) { i.URL = "one.example" }), false},
		"empty URL":      {change(func(i *identity.Issuer) { i.URL = "" }), false},
		"query":          {change(func(i *identity.Issuer) { i.URL += "?x" }), false},
		"empty query":    {change(func(i *identity.Issuer) { i.URL += "?" }), false},
		"fragment":       {change(func(i *identity.Issuer) { i.URL += "#x" }), false},
		"user":           {change(func(i *identity.Issuer) { i.URL = "https://a:b@one.example" }), false},
		"no audience":    {change(func(i *identity.Issuer) { i.Audiences = nil }), false},
		"empty audience": {change(func(i *identity.Issuer) { i.Audiences = []string{"a", ""} }), false},
		"HS256":          {change(func(i *identity.Issuer) { i.Algorithms = []string{"RS256", "HS256"} }), false},
		"none alg":       {change(func(i *identity.Issuer) { i.Algorithms = []string{"none"} }), false},
		"no CA file":     {change(func(i *identity.Issuer) { i.CAFile = "/no/such/file" }), false},
		"empty CA file":  {change(func(i *identity.Issuer) { i.CAFile = empty }), false},
	} {
		if _, err := identity.NewTokens(tt.o); (err == nil) != tt.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzProveToken: whatever comes is refused or proven without a panic, and what is proven
// was signed by the issuer, for us, and has not expired, as the standard library sees it.
func FuzzProveToken(f *testing.F) {
	s := newStaticIssuer(f, false)
	tokens := newTokens(f, &clock{}, s.issuer())
	good := s.sign(f, s.claims())
	part := func(n int) []byte {
		b, err := base64.RawURLEncoding.DecodeString(strings.Split(good, ".")[n])
		must(f, err)
		return b
	}
	f.Add(part(0), part(1), part(2), true)
	f.Add(part(0), part(1), part(2), false)
	f.Add([]byte(`{"alg":"none"}`), part(1), []byte{}, false)
	f.Add([]byte(`{"alg":"ES256","crit":["b64"],"b64":false,"kid":"one"}`), part(1), []byte{}, true)
	f.Add([]byte(`{"alg":"ES256","jwk":{"kty":"EC"},"x5c":["AA"]}`), []byte(`{"iss":"`+s.URL+`","aud":["`+audience+`"],"exp":1e11,"sub":"\ud800"}`), []byte{}, true)
	f.Fuzz(func(t *testing.T, header, payload, signature []byte, signed bool) {
		head, body := base64.RawURLEncoding.EncodeToString(header), base64.RawURLEncoding.EncodeToString(payload)
		sum := sha256.Sum256([]byte(head + "." + body))
		if signed { // so that what comes after the signature is reached
			r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
			must(t, err)
			signature = append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
		}
		raw := head + "." + body + "." + base64.RawURLEncoding.EncodeToString(signature)
		got, err := tokens.Prove(t.Context(), raw)
		if _, direct := tokens.Prove(t.Context(), string(payload)); bindery.CodeOf(direct) != bindery.CodeUnauthorized && string(payload) != good {
			t.Fatalf("%q: %v", payload, direct)
		}
		if err != nil {
			if bindery.CodeOf(err) != bindery.CodeUnauthorized {
				t.Fatalf("%s: %v", raw, err)
			}
			return
		}
		var claims struct {
			Issuer   string       `json:"iss"`
			Audience jwt.Audience `json:"aud"`
			Expiry   float64      `json:"exp"`
			Subject  string       `json:"sub"`
		}
		must(t, json.Unmarshal(payload, &claims))
		if !verifies(&s.key.PublicKey, sum[:], signature) || claims.Issuer != s.URL || !claims.Audience.Contains(audience) ||
			claims.Expiry < float64(time.Now().Add(-31*time.Second).Unix()) || got.Name != s.URL+"#"+claims.Subject || claims.Subject == "" {
			t.Fatalf("proven as %v: %s", got, raw)
		}
	})
}

// verifies checks a signature of RFC 7518, section 3.4.
func verifies(key *ecdsa.PublicKey, sum, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key, sum, r, s)
}

func BenchmarkProveToken(b *testing.B) {
	s := newStaticIssuer(b, false)
	tokens := newTokens(b, &clock{}, s.issuer())
	for name, again := range map[string]bool{"new": false, "again": true} {
		b.Run(name, func(b *testing.B) {
			raws := make([]string, 1)
			if !again {
				raws = make([]string, b.N)
			}
			for n := range raws {
				raws[n] = s.sign(b, s.with("jti", fmt.Sprint(name, n)))
			}
			b.ResetTimer()
			for n := range b.N {
				if _, err := tokens.Prove(b.Context(), raws[n%len(raws)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
