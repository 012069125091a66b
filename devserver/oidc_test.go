package devserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bindery/devserver"
	"bindery/devserver/servertest"
)

// An oidcClient speaks to a provider as any client would.
type oidcClient struct {
	t    *testing.T
	p    *devserver.OIDC
	http *http.Client
}

func newOIDCClient(t *testing.T, p *devserver.OIDC) *oidcClient {
	t.Helper()
	transport := &http.Transport{}
	if p.CAFile != "" {
		transport.TLSClientConfig = &tls.Config{RootCAs: pool(t, p.CAFile)}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &oidcClient{t: t, p: p, http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
}

// call sends a form, or JSON, or nothing, and returns the answer's object.
func (c *oidcClient) call(method, target, bearer string, basic *url.Userinfo, body any) (int, map[string]any) {
	c.t.Helper()
	var in io.Reader = http.NoBody
	kind := ""
	switch b := body.(type) {
	case url.Values:
		in, kind = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	case map[string]any:
		j, err := json.Marshal(b)
		must(c.t, err)
		in, kind = bytes.NewReader(j), "application/json"
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, target, in)
	must(c.t, err)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if basic != nil {
		password, _ := basic.Password()
		req.SetBasicAuth(basic.Username(), password)
	}
	res, err := c.http.Do(req)
	must(c.t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	must(c.t, err)
	var got map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &got); err != nil {
			c.t.Fatalf("%s: %s", res.Status, b)
		}
	}
	return res.StatusCode, got
}

func (c *oidcClient) metadata() map[string]any {
	c.t.Helper()
	status, meta := c.call(http.MethodGet, c.p.Issuer+"/.well-known/openid-configuration", "", nil, nil)
	if status != http.StatusOK || meta["issuer"] != c.p.Issuer {
		c.t.Fatalf("got %d, %v", status, meta)
	}
	return meta
}

func (c *oidcClient) keys() jose.JSONWebKeySet {
	c.t.Helper()
	_, got := c.call(http.MethodGet, c.metadata()["jwks_uri"].(string), "", nil, nil)
	b, err := json.Marshal(got)
	must(c.t, err)
	var set jose.JSONWebKeySet
	must(c.t, json.Unmarshal(b, &set))
	return set
}

// claims verifies a token with the keys that the provider publishes.
func (c *oidcClient) claims(raw string, alg jose.SignatureAlgorithm) map[string]any {
	c.t.Helper()
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{alg})
	must(c.t, err)
	var got map[string]any
	must(c.t, token.Claims(c.keys(), &got))
	return got
}

func TestOIDCClientsOutliveARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*devserver.OIDC) error{
		"stopped": func(p *devserver.OIDC) error { return p.Stop(context.Background()) },
		"killed":  func(p *devserver.OIDC) error { return p.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := servertest.OIDC(t)
			c := newOIDCClient(t, p)
			meta := c.metadata()
			register := meta["registration_endpoint"].(string)
			wanted := map[string]any{
				"client_name": "one", "grant_types": []string{"client_credentials"}, "redirect_uris": []string{}, "response_types": []string{},
			}
			if status, got := c.call(http.MethodPost, register, "wrong", nil, wanted); status != http.StatusUnauthorized {
				t.Fatalf("anybody may register: %d, %v", status, got)
			}
			status, made := c.call(http.MethodPost, register, p.InitialToken.Reveal(), nil, wanted)
			if status != http.StatusCreated {
				t.Fatalf("got %d, %v", status, made)
			}
			basic := url.UserPassword(made["client_id"].(string), made["client_secret"].(string))
			form := url.Values{"grant_type": {"client_credentials"}}
			status, token := c.call(http.MethodPost, meta["token_endpoint"].(string), "", basic, form)
			if status != http.StatusOK {
				t.Fatalf("got %d, %v", status, token)
			}

			must(t, end(p))
			must(t, p.Start(t.Context()))

			active := func() any {
				_, got := c.call(http.MethodPost, meta["introspection_endpoint"].(string), "", basic, url.Values{"token": {token["access_token"].(string)}})
				return got["active"]
			}
			if got := active(); got != true {
				t.Errorf("the token is active: %v", got)
			}
			status, _ = c.call(http.MethodPost, meta["revocation_endpoint"].(string), "", basic, url.Values{"token": {token["access_token"].(string)}})
			if got := active(); status != http.StatusOK || got != false {
				t.Errorf("the revoked token is active: %v (%d)", got, status)
			}

			client := made["registration_client_uri"].(string)
			access := made["registration_access_token"].(string)
			if status, got := c.call(http.MethodGet, client, access, nil, nil); status != http.StatusOK || got["client_name"] != "one" {
				t.Errorf("got %d, %v", status, got)
			}
			if status, got := c.call(http.MethodDelete, client, access, nil, nil); status != http.StatusNoContent {
				t.Errorf("got %d, %v", status, got)
			}
			must(t, end(p))
			must(t, p.Start(t.Context()))
			if status, got := c.call(http.MethodPost, meta["token_endpoint"].(string), "", basic, form); status != http.StatusUnauthorized {
				t.Errorf("the removed client is back: %d, %v", status, got)
			}
		})
	}
}

func TestOIDCTokens(t *testing.T) {
	t.Parallel()
	p := servertest.OIDC(t, func(o *devserver.OIDCOptions) { o.TLS = nil })
	c := newOIDCClient(t, p)
	basic := url.UserPassword(p.ClientID, p.ClientSecret.Reveal())
	status, got := c.call(http.MethodPost, p.Issuer+"/token", "", basic, url.Values{"grant_type": {"client_credentials"}, "resource": {"https://api.example"}})
	if status != http.StatusOK {
		t.Fatalf("got %d, %v", status, got)
	}
	if claims := c.claims(got["access_token"].(string), jose.RS256); claims["aud"] != "https://api.example" || claims["sub"] != p.ClientID {
		t.Errorf("client credentials: %v", claims)
	}
	if status, got := c.call(http.MethodPost, p.Issuer+"/token", "", url.UserPassword(p.ClientID, "wrong"), url.Values{"grant_type": {"client_credentials"}}); status != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d, %v", status, got)
	}

	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA} {
		access, id, err := p.Token(t.Context(), devserver.OIDCToken{
			Subject: "alice", Claims: map[string]any{"email": "a@example.org", "email_verified": true}, Audience: "here", Algorithm: string(alg),
			Lifetime: 90 * time.Second,
		})
		must(t, err)
		for raw, want := range map[string]struct {
			alg      jose.SignatureAlgorithm
			audience string
		}{access: {alg, "here"}, id: {jose.RS256, p.ClientID}} {
			got := c.claims(raw, want.alg)
			if got["iss"] != p.Issuer || got["sub"] != "alice" || got["aud"] != want.audience || got["email"] != "a@example.org" ||
				got["email_verified"] != true || got["exp"].(float64)-got["iat"].(float64) != 90 {
				t.Errorf("%s: got %v, want the audience %s", alg, got, want.audience)
			}
		}
	}
}

func TestOIDCKeysAreRotated(t *testing.T) {
	t.Parallel()
	p := servertest.OIDC(t)
	c := newOIDCClient(t, p)
	first := c.keys()
	must(t, p.Rotate(t.Context(), true))
	second := c.keys()
	if len(second.Keys) != 2*len(first.Keys) || len(second.Key(first.Keys[0].KeyID)) != 1 {
		t.Errorf("%d keys became %d", len(first.Keys), len(second.Keys))
	}
	_, id, err := p.Token(t.Context(), devserver.OIDCToken{Subject: "alice"})
	must(t, err)
	token, err := jwt.ParseSigned(id, []jose.SignatureAlgorithm{jose.RS256})
	must(t, err)
	if len(first.Key(token.Headers[0].KeyID)) != 0 {
		t.Error("the old key signs")
	}
	must(t, p.Kill())
	must(t, p.Rotate(t.Context(), false))
	must(t, p.Start(t.Context()))
	third := c.keys()
	if len(third.Keys) != len(first.Keys) || len(second.Key(third.Keys[0].KeyID)) != 0 {
		t.Error("an old key is still there")
	}
}

func TestOIDCBehindAProxy(t *testing.T) {
	t.Parallel()
	var proxy *devserver.Proxy
	p := servertest.OIDC(t, func(o *devserver.OIDCOptions) {
		o.Front = func(addr string) (string, error) {
			proxy = servertest.Proxy(t, addr)
			return proxy.Addr(), nil
		}
	})
	if p.Issuer != "https://"+proxy.Addr() {
		t.Errorf("got the issuer %s", p.Issuer)
	}
	newOIDCClient(t, p).metadata()
	must(t, proxy.Refuse(true))
	proxy.Cut()
	must(t, p.Restart(t.Context()))
	if _, _, err := p.Token(t.Context(), devserver.OIDCToken{Subject: "alice"}); err != nil {
		t.Errorf("the helper goes through the proxy: %v", err)
	}
	// Another start in the same directory has the same secrets.
	dir, secret := p.Dir(), p.ClientSecret
	must(t, p.Stop(t.Context()))
	again, err := devserver.StartOIDC(t.Context(), devserver.OIDCOptions{Dir: dir, Modules: filepath.Dir(must1(t)(filepath.EvalSymlinks(filepath.Join(dir, "node_modules"))))})
	must(t, err)
	if again.Port != p.Port || !again.ClientSecret.Equal(secret) {
		t.Error("the provider is another one")
	}
	must(t, again.Stop(t.Context()))
}

func must1(t *testing.T) func(string, error) string {
	return func(s string, err error) string {
		t.Helper()
		must(t, err)
		return s
	}
}

func TestMissingOIDC(t *testing.T) {
	t.Parallel()
	_, err := devserver.StartOIDC(t.Context(), devserver.OIDCOptions{Dir: t.TempDir(), Modules: t.TempDir()})
	if !errors.Is(err, devserver.ErrMissing) {
		t.Errorf("got %v", err)
	}
}
