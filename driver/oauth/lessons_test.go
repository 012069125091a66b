package oauth_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// A lab is a server, and a driver of an installation of its own.
type lab struct {
	testing.TB
	bindery.Driver
	server       *devserver.OIDC
	installation string
	spec         bindery.InstanceSpec
	rows         int64
}

func newLab(t testing.TB, p *devserver.OIDC, settings string, adjust ...func(*bindery.Server)) *lab {
	t.Helper()
	l := &lab{TB: t, server: p, installation: strings.ToLower(fmt.Sprintf("%06x", labs.Add(1)))}
	s := configured(p, l.installation)
	for _, a := range adjust {
		a(&s)
	}
	l.Driver = openDriver(t, s)
	l.spec = bindery.InstanceSpec{Name: l.name(), Settings: json.RawMessage(settings)}
	return l
}

var labs atomic.Int64

// next is the next process of the same installation.
func (l *lab) next() *lab {
	l.Helper()
	next := *l
	next.Driver = openDriver(l.TB, configured(l.server, l.installation))
	return &next
}

func (l *lab) name() string {
	l.rows++
	return bindery.Name(l.installation, l.rows)
}

func (l *lab) prepare(parameters string) bindery.Account {
	l.Helper()
	a := bindery.Account{Name: l.name()}
	var err error
	a.Material, err = l.Prepare(l.spec, bindery.AccountRequest{Name: a.Name, Parameters: json.RawMessage(parameters)})
	must(l, err)
	return a
}

// made is the account with what an ensure told.
func (l *lab) made(a bindery.Account) bindery.Account {
	l.Helper()
	made, err := l.Ensure(l.Context(), l.spec, a)
	must(l, err)
	a.Details, a.Material = made.Details, made.Material
	if !made.Expires.IsZero() {
		a.Expires = made.Expires
	}
	return a
}

func (l *lab) object(a bindery.Account) map[string]any {
	l.Helper()
	c, err := l.Render(l.spec, a)
	must(l, err)
	return c.Object
}

func (l *lab) login(a bindery.Account) (*session, error) {
	l.Helper()
	return login(l.Context(), l.server, bindery.Credential{Object: l.object(a)})
}

func (l *lab) prove(a bindery.Account) (string, error) {
	return l.Driver.(bindery.Prover).Prove(l.Context(), l.spec, a)
}

func (l *lab) orphan(a bindery.Account) string { return l.Driver.(bindery.Orphaner).Orphan(a) }

// clients are the ids of the clients that the server has for an account: what it
// keeps in its directory, since the protocol has no way to ask.
func (l *lab) clients(a bindery.Account) []string {
	l.Helper()
	raw, err := os.ReadFile(filepath.Join(l.server.Dir(), "records.jsonl"))
	must(l, err)
	live := map[string]bool{}
	for line := range bytes.Lines(raw) {
		var record struct {
			Key     string
			Payload *struct {
				ID   string `json:"client_id"`
				Name string `json:"client_name"`
			}
		}
		if json.Unmarshal(line, &record) != nil || !strings.HasPrefix(record.Key, "Client:") {
			continue
		}
		if record.Payload == nil {
			delete(live, strings.TrimPrefix(record.Key, "Client:"))
		} else if record.Payload.Name == a.Name {
			live[record.Payload.ID] = true
		}
	}
	var ids []string
	for id := range live {
		ids = append(ids, id)
	}
	return ids
}

func (l *lab) wantClients(a bindery.Account, n int) {
	l.Helper()
	if got := l.clients(a); len(got) != n {
		l.Errorf("the server has the clients %q of the account, want %d", got, n)
	}
}

func wantCode(t testing.TB, err error, want bindery.Code) {
	t.Helper()
	if bindery.CodeOf(err) != want {
		t.Fatalf("got %v, want code %s", err, want)
	}
}

func TestNoInventory(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedOIDC(t), `{}`)
	if err := l.Inventory(t.Context(), func(bindery.Found) error { return nil }); !errors.Is(err, bindery.ErrNoInventory) {
		t.Errorf("got %v", err)
	}
}

func TestWithoutMaterial(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedOIDC(t), `{}`)
	a := l.made(l.prepare(``))
	err := l.Revoke(t.Context(), bindery.InstanceSpec{}, bindery.Account{Name: a.Name})
	wantCode(t, err, bindery.CodeUnsupported)
	if !strings.Contains(bindery.MessageOf(err), a.Name) {
		t.Errorf("the error does not say what to look for: %v", err)
	}
	l.wantClients(a, 1)
}

// slow is a lab whose way to the server is a proxy.
func slow(t testing.TB) (*lab, *devserver.Proxy) {
	t.Helper()
	p := servertest.SharedOIDC(t)
	proxy := servertest.Proxy(t, p.Addr)
	l := newLab(t, p, `{}`, func(s *bindery.Server) { s.Address, s.Timeout = proxy.Addr(), time.Second })
	must(t, l.Provision(t.Context(), l.spec)) // it knows the metadata then
	return l, proxy
}

func TestAnswersThatComeLate(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*lab, bindery.Account){
		"are taken by the next ensure": func(l *lab, a bindery.Account) {
			b := l.made(a)
			l.wantClients(a, 1)
			_, err := l.login(b)
			must(l, err)
		},
		"are removed by the next revoke": func(l *lab, a bindery.Account) {
			must(l, l.Revoke(l.Context(), l.spec, a))
			l.wantClients(a, 0)
			_, err := l.prove(a)
			must(l, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, proxy := slow(t)
			a := l.prepare(``)
			proxy.HoldReplies()
			_, err := l.Ensure(t.Context(), l.spec, a)
			wantCode(t, err, bindery.CodeUnavailable)
			wantCode(t, l.Revoke(t.Context(), l.spec, a), bindery.CodeUnavailable) // nobody knows yet
			proxy.Release()
			next(l, a)
			if got := l.orphan(a); got != "" {
				t.Errorf("no answer was lost, and it says: %s", got)
			}
		})
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	l, proxy := slow(t)
	a := l.prepare(``)
	if got := l.orphan(a); !strings.Contains(got, a.Name) {
		t.Errorf("this process has not heard of the account, and it says: %q", got)
	}
	must(t, proxy.Refuse(true))
	proxy.Cut()
	wantCode(t, l.Provision(t.Context(), l.spec), bindery.CodeUnavailable) // the connection of before is no more
	_, err := l.Ensure(t.Context(), l.spec, a)
	wantCode(t, err, bindery.CodeUnavailable)
	if got := l.orphan(a); got != "" {
		t.Errorf("nothing was sent, and it says: %s", got)
	}

	must(t, proxy.Refuse(false))
	must(t, l.Provision(t.Context(), l.spec)) // there is a connection then
	proxy.HoldReplies()
	_, err = l.Ensure(t.Context(), l.spec, a)
	wantCode(t, err, bindery.CodeUnavailable)
	for len(l.clients(a)) == 0 { // the server has done its part
		must(t, t.Context().Err())
		runtime.Gosched()
	}
	proxy.Cut()
	proxy.Release()
	_, err = l.Ensure(t.Context(), l.spec, a) // may still wait for the answer that was cut off
	for err != nil {
		wantCode(t, err, bindery.CodeUnavailable)
		_, err = l.Ensure(t.Context(), l.spec, a)
	}
	b := l.made(a)
	l.wantClients(a, 2)
	if got := l.orphan(a); !strings.Contains(got, a.Name) {
		t.Errorf("an answer was lost, and it says: %q", got)
	}
	must(t, l.Revoke(t.Context(), l.spec, b))
	l.wantClients(a, 1) // the one that nobody has the secret of
	if got := l.orphan(a); !strings.Contains(got, a.Name) {
		t.Errorf("after the revocation it says: %q", got)
	}

	// Another process may have tried. It is the engine that knows.
	for tries, want := range []bool{false, true} {
		c := l.prepare(``)
		c.Tries = tries
		c = l.made(c)
		if got := l.orphan(c); (got != "") != want {
			t.Errorf("after %d tries of others it says: %q", tries, got)
		}
		c.Tries = tries + 1 // this process's own
		l.made(c)
		if got := l.orphan(c); (got != "") != want {
			t.Errorf("after %d tries of others and one of its own it says: %q", tries, got)
		}
	}
}

// TestLostCommit: the answer came, and the store did not hear of it.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedOIDC(t), `{}`)
	a := l.prepare(``)
	first, again := l.made(a), l.made(a)
	if l.object(first)["client_id"] != l.object(again)["client_id"] {
		t.Error("a repeat has made another client")
	}
	must(t, l.Revoke(t.Context(), l.spec, a))
	l.wantClients(a, 0)
	if got := l.orphan(a); got != "" {
		t.Errorf("no answer was lost, and it says: %s", got)
	}
}

// manage sends a request about the client that an account is, as whoever has its registration token can.
func (l *lab) manage(a bindery.Account, method string, body map[string]any) map[string]any {
	l.Helper()
	var m struct {
		Client struct {
			Token string `json:"registration_access_token"`
			URI   string `json:"registration_client_uri"`
		} `json:"client"`
	}
	must(l, json.Unmarshal([]byte(a.Material.Reveal()), &m))
	raw, err := json.Marshal(body)
	must(l, err)
	req, err := http.NewRequestWithContext(l.Context(), method, m.Client.URI, bytes.NewReader(raw))
	must(l, err)
	req.Header.Set("Authorization", "Bearer "+m.Client.Token)
	req.Header.Set("Content-Type", "application/json")
	config, err := (&bindery.ServerTLS{CAFile: l.server.CAFile}).Config("127.0.0.1")
	must(l, err)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}).Do(req)
	must(l, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	must(l, err)
	if res.StatusCode/100 != 2 {
		l.Fatalf("%s: %s", res.Status, got)
	}
	object := map[string]any{}
	if len(got) > 0 {
		must(l, json.Unmarshal(got, &object))
	}
	return object
}

func TestEnsureAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedOIDC(t), scoped)
	a := l.made(l.prepare(`{"scopes":["read"]}`))
	same := l.made(a)
	if fmt.Sprint(l.object(a)) != fmt.Sprint(l.object(same)) {
		t.Error("a client that is as it should be was changed")
	}

	// Somebody gave it another scope. The server gives out a new registration
	// token with every change, and Ensure and Revoke know the newest.
	changed := l.manage(a, http.MethodGet, nil)
	for _, k := range []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"} {
		delete(changed, k)
	}
	changed["scope"] = "read write"
	token, _ := l.manage(a, http.MethodPut, changed)["registration_access_token"].(string)
	b := a
	b.Material = replaced(t, a.Material, token)
	l = l.next()
	b = l.made(b)
	if got := l.manage(b, http.MethodGet, nil)["scope"]; got != "read" {
		t.Errorf("the scope is %v", got)
	}
	must(t, l.Revoke(t.Context(), l.spec, b))

	// It is gone, so there is a new one; the dead one stays dead.
	c := l.made(b)
	if l.object(b)["client_id"] == l.object(c)["client_id"] {
		t.Error("the client that is gone was given out again")
	}
	_, err := l.login(c)
	must(t, err)
	if _, err := l.login(b); !isAuthFailure(err) {
		t.Errorf("login of the dead client: %v", err)
	}
	l.wantClients(a, 1)
}

// replaced is the material with another registration token.
func replaced(t testing.TB, m bindery.Secret, token string) bindery.Secret {
	t.Helper()
	var object map[string]any
	must(t, json.Unmarshal([]byte(m.Reveal()), &object))
	object["client"].(map[string]any)["registration_access_token"] = token
	raw, err := json.Marshal(object)
	must(t, err)
	return bindery.NewSecret(string(raw))
}

// TestUnmanageable: a registration token that the server refuses does not say that the client is gone.
func TestUnmanageable(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedOIDC(t), `{}`)
	a := l.made(l.prepare(``))
	l = l.next()
	a.Material = replaced(t, a.Material, "not-this-one")
	wantCode(t, l.Revoke(t.Context(), l.spec, a), bindery.CodeUnavailable)
	_, err := l.Ensure(t.Context(), l.spec, a)
	wantCode(t, err, bindery.CodeUnavailable)
	if _, err := l.prove(a); !errors.Is(err, bindery.ErrAlive) {
		t.Errorf("got %v, want %v", err, bindery.ErrAlive)
	}
}

func TestTokensThatAServerCanEnd(t *testing.T) {
	t.Parallel()
	const settings = `{"mode":"token","scopes":["read"]}`
	l := newLab(t, servertest.SharedOIDC(t), settings)
	a := l.made(l.prepare(``))
	first, err := l.login(a)
	must(t, err)
	b := l.made(a)
	if first.Alive(t.Context()) == nil {
		t.Error("the token before is alive")
	}
	second, err := l.login(b)
	must(t, err)
	if o := l.object(b); o["client_secret"] != nil || o["token_type"] != "Bearer" {
		t.Errorf("the credential has the type %v, or a client's secret", o["token_type"])
	}
	must(t, l.Revoke(t.Context(), l.spec, b))
	if err := second.Alive(t.Context()); !isAuthFailure(err) {
		t.Errorf("the revoked token: %v", err)
	}
}

func TestSelfContainedTokens(t *testing.T) {
	t.Parallel()
	const settings = `{"mode":"token","scopes":["read"],"resource":"https://api.example"}`
	l := newLab(t, servertest.SharedOIDC(t), settings)
	a := l.prepare(``)
	a.Expires = time.Now().Add(time.Minute)
	_, err := l.Ensure(t.Context(), l.spec, a)
	wantCode(t, err, bindery.CodeUnsupported) // it would live for an hour
	must(t, l.Revoke(t.Context(), l.spec, a))
	l.wantClients(a, 0)

	b := l.prepare(``)
	b.Expires = time.Now().Add(2 * time.Hour)
	b = l.made(b)
	o := l.object(b)
	token, err := jwt.ParseSigned(o["access_token"].(string), []jose.SignatureAlgorithm{jose.RS256})
	must(t, err)
	var claims jwt.Claims
	must(t, token.UnsafeClaimsWithoutVerification(&claims))
	expires, err := time.Parse(time.RFC3339, o["expires_at"].(string))
	must(t, err)
	if d := claims.Expiry.Time().Sub(expires).Abs(); d > 5*time.Second || !claims.Audience.Contains("https://api.example") {
		t.Errorf("the token expires %s, for %v; the credential says %s", claims.Expiry.Time(), claims.Audience, expires)
	}
	if !b.Expires.Equal(expires) {
		t.Errorf("the account expires %s", b.Expires)
	}
	if again := l.object(l.made(b))["access_token"]; again != o["access_token"] {
		t.Error("there is a second token that nothing can end")
	}
	must(t, l.Revoke(t.Context(), l.spec, b))
	l.wantClients(b, 0)
}

func TestWorstParameters(t *testing.T) {
	t.Parallel()
	const settings = `{"scopes":["openid","offline_access","read","write"],"grant_types":["authorization_code","refresh_token","client_credentials"]}`
	l := newLab(t, servertest.SharedOIDC(t), settings)
	uris := make([]string, 10)
	for i := range uris {
		uri := fmt.Sprintf("https://app%d.example/%%20?q=\"'<é&state=;", i)
		uris[i] = uri + strings.Repeat("x", 1000-len(uri))
	}
	raw, err := json.Marshal(map[string]any{"redirect_uris": uris, "scopes": []string{"write", "openid", "read"}})
	must(t, err)
	l.spec.Name = bindery.Name(l.installation, math.MaxInt64)
	l.rows = math.MaxInt64 - 2
	a := l.prepare(string(raw))
	a = l.made(l.made(a))
	if got := fmt.Sprint(l.manage(a, http.MethodGet, nil)["redirect_uris"]); got != fmt.Sprint(uris) {
		t.Errorf("the server has %s", got)
	}
	if o := l.object(a); o["authorization-uri"] != l.server.Issuer+"/auth" || o["scope"] != "write openid read" {
		t.Errorf("got %v, %v", o["authorization-uri"], o["scope"])
	}
	must(t, l.Revoke(t.Context(), l.spec, a))
	_, err = l.prove(a)
	must(t, err)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	p := servertest.SharedOIDC(t)
	refused := func(l *lab, want bindery.Code) {
		t.Helper()
		a := l.prepare(``)
		_, err := l.Ensure(t.Context(), l.spec, a)
		wantCode(t, err, want)
		must(t, l.Revoke(t.Context(), l.spec, a))
		if got := l.orphan(a); got != "" {
			t.Errorf("the server refused, and it says: %s", got)
		}
	}
	refused(newLab(t, p, `{"scopes":["no-such-scope"]}`), bindery.CodeInvalid)
	refused(newLab(t, p, `{}`, func(s *bindery.Server) { s.Secrets = nil }), bindery.CodeUnavailable)

	for name, adjust := range map[string]func(*bindery.Server){
		"another issuer": func(s *bindery.Server) {
			s.Settings = json.RawMessage(fmt.Sprintf(`{"issuer":%q}`, p.Issuer+"/"))
		},
		"an issuer with a path": func(s *bindery.Server) {
			s.Settings = json.RawMessage(fmt.Sprintf(`{"issuer":%q}`, p.Issuer+"/tenant"))
		},
	} {
		wantCode(t, newLab(t, p, `{}`, adjust).Driver.(bindery.Pinger).Ping(t.Context()), bindery.CodeUnavailable)
		t.Log(name)
	}
	err := newLab(t, p, `{}`, func(s *bindery.Server) { s.TLS = nil }).Driver.(bindery.Pinger).Ping(t.Context())
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("with the system's CAs: got %v, want a certificate error", err)
	}
	must(t, newLab(t, p, `{}`).Driver.(bindery.Pinger).Ping(t.Context()))
}

// A front stands before a real server and answers some requests itself.
func front(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *devserver.OIDC {
	t.Helper()
	return servertest.OIDC(t, func(o *devserver.OIDCOptions) {
		o.TLS = nil
		o.Front = func(addr string) (string, error) {
			to := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: addr})
				r.Out.Host = r.In.Host
			}}
			return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !answer(w, r) {
					to.ServeHTTP(w, r)
				}
			})), nil
		}
	})
}

// through makes the driver go through the front.
func through(p *devserver.OIDC) func(*bindery.Server) {
	return func(s *bindery.Server) { s.Address = strings.TrimPrefix(p.Issuer, "http://") }
}

// TestServerThatLies: the proof does not believe the server's word.
func TestServerThatLies(t *testing.T) {
	t.Parallel()
	p := front(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
		}
		return r.Method == http.MethodDelete
	})
	l := newLab(t, p, `{}`, through(p))
	a := l.made(l.prepare(``))
	must(t, l.Revoke(t.Context(), l.spec, a))
	if _, err := l.prove(a); !errors.Is(err, bindery.ErrAlive) {
		t.Errorf("got %v, want %v", err, bindery.ErrAlive)
	}
}

func TestServersThatAnswerOddly(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://elsewhere.example"
	metadata := func(w http.ResponseWriter, r *http.Request, registration string) {
		origin := "http://" + r.Host
		_ = json.NewEncoder(w).Encode(map[string]string{
			"issuer": origin, "registration_endpoint": registration, "token_endpoint": origin + "/token",
		})
	}
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   bindery.Code
		orphan bool
	}{
		"its metadata is where RFC 8414 has it": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				switch r.URL.Path {
				case "/.well-known/oauth-authorization-server":
					metadata(w, r, "http://"+r.Host+"/reg")
				case "/.well-known/openid-configuration":
					w.WriteHeader(http.StatusNotFound)
				default:
					return false
				}
				return true
			},
		},
		"it sends clients elsewhere": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				metadata(w, r, elsewhere+"/reg")
				return true
			},
			want: bindery.CodeUnavailable,
		},
		"it redirects": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnavailable, orphan: true,
		},
		"a gateway gives up": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					w.WriteHeader(http.StatusBadGateway)
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnavailable, orphan: true,
		},
		"its clients cannot be managed": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					w.WriteHeader(http.StatusCreated)
					_, _ = io.WriteString(w, `{"client_id":"c","client_secret":"s"}`)
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnsupported, orphan: true,
		},
		"its clients are managed elsewhere": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					w.WriteHeader(http.StatusCreated)
					_, _ = io.WriteString(w, `{"client_id":"c","client_secret":"s","registration_access_token":"t","registration_client_uri":"`+elsewhere+`"}`)
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnsupported, orphan: true, // asking again would make one more
		},
		"its clients have no secret": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					w.WriteHeader(http.StatusCreated)
					_, _ = io.WriteString(w, `{"client_id":"c","registration_access_token":"t","registration_client_uri":"http://`+r.Host+`/reg/c"}`)
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnsupported, orphan: true,
		},
		"an answer has no end": {
			answer: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/reg" {
					w.WriteHeader(http.StatusCreated)
					_, _ = io.WriteString(w, strings.Repeat(" ", 1<<20))
				}
				return r.URL.Path == "/reg"
			},
			want: bindery.CodeUnavailable, orphan: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The provider looks at itself when it starts, not through the front.
			p := front(t, tt.answer)
			l := newLab(t, p, `{}`, through(p))
			a := l.prepare(``)
			_, err := l.Ensure(t.Context(), l.spec, a)
			wantCode(t, err, tt.want)
			if got := l.orphan(a); got != "" != tt.orphan {
				t.Errorf("a possible orphan: %q, want %v", got, tt.orphan)
			}
			if err != nil && strings.Contains(err.Error(), p.InitialToken.Reveal()) {
				t.Error("the error has a secret in it")
			}
		})
	}
}
