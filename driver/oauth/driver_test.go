package oauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/oauth"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// callTimeout is long for a call and short for a test of a hung server.
const callTimeout = 2 * time.Second

// configured is what the configuration says of a test's server.
func configured(p *devserver.OIDC, installation string) bindery.Server {
	s := bindery.Server{
		Name: "o", Kind: "oauth", Installation: installation, Address: p.Addr, Timeout: callTimeout,
		Settings: json.RawMessage(fmt.Sprintf(`{"issuer":%q}`, p.Issuer)),
		Secrets:  map[string]bindery.Secret{"initial_access_token": p.InitialToken},
	}
	if p.CAFile != "" {
		s.TLS, s.Public.TLS = &bindery.ServerTLS{CAFile: p.CAFile}, true
	}
	return s
}

func openDriver(t testing.TB, s bindery.Server) bindery.Driver {
	t.Helper()
	return drivertest.Open(t, oauth.Kind, s)
}

// Reasons why this protocol cannot keep a case.
const (
	noSessions = "tokens that a client got by itself are known to it and to the server alone, so only its removal ends them"
	noNames    = "RFC 7592 knows a client by its own registration token, not by a name of ours; see TestWithoutMaterial"
	noListing  = "RFC 7591 has no listing; see TestNoInventory"
	noRenewal  = "material that is prepared anew knows nothing of the client before; see TestEnsureAgain"
	lateClient = "the server names the client: a late call makes one whose secret nobody is told; see TestOrphans"
)

// promise describes a server to the suite.
func promise(p *devserver.OIDC, settings string) drivertest.Server {
	openAt := func(t testing.TB, installation, address string) bindery.Driver {
		s := configured(p, installation)
		s.Address = address
		return openDriver(t, s)
	}
	s := drivertest.Server{
		Address: p.Addr, OpenAt: openAt,
		Open:          func(t testing.TB, installation string) bindery.Driver { return openAt(t, installation, p.Addr) },
		Kind:          oauth.Kind,
		Timeout:       callTimeout,
		Settings:      json.RawMessage(settings),
		Aliases:       oauth.Kind.Aliases,
		Login:         func(ctx context.Context, c bindery.Credential) (drivertest.Session, error) { return login(ctx, p, c) },
		IsAuthFailure: isAuthFailure,
		Except: map[string]string{
			"an account is revoked by its name alone":                noNames,
			"what is missing is removed already":                     noNames,
			"an inventory is exact and others are unharmed":          noListing,
			"a dead process's call to a hung server has no effect":   lateClient,
			"a call that the network delays has no effect":           lateClient,
			"a dead process's call that the network delays has none": lateClient,
			"ensure again resets password, rights and sessions":      noRenewal,
		},
		Kill: p.Kill, Restart: p.Restart, Pause: p.Pause, Resume: p.Resume,
	}
	if !strings.Contains(settings, `"token"`) {
		s.Except["the longest names and the worst parameters work"] = noSessions + "; see TestWorstParameters"
	}
	return s
}

const scoped = `{"scopes":["read","write"]}`

func TestDriver(t *testing.T) {
	t.Parallel()
	start := func(p func(t testing.TB) *devserver.OIDC, settings string) func(t *testing.T) drivertest.Server {
		return func(t *testing.T) drivertest.Server {
			s := promise(p(t), settings)
			s.BindingParameters = json.RawMessage(`{"scopes":["write"]}`)
			return s
		}
	}
	own := func(t testing.TB) *devserver.OIDC { return servertest.OIDC(t) }
	for name, settings := range map[string]string{
		"client": scoped,
		"token":  `{"mode":"token","scopes":["read","write"],"token_endpoint_auth_method":"client_secret_post"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drivertest.RunDataless(t, start(servertest.SharedOIDC, settings), start(own, settings))
		})
	}
}

// A session is an access token, shown to a resource server that asks about it.
type session struct {
	drivertest.NoData
	p     *devserver.OIDC
	http  *http.Client
	token string
}

type refusal struct {
	status int
	code   string
}

func (r *refusal) Error() string { return fmt.Sprint("refused: ", r.status, " ", r.code) }

// isAuthFailure: the client is not right, or its token is not active (RFC 7662).
func isAuthFailure(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && (r.code == "invalid_client" || r.code == "inactive")
}

// login gets a token with nothing but the credential, or takes the one that is in it.
func login(ctx context.Context, p *devserver.OIDC, c bindery.Credential) (*session, error) {
	text := func(key string) string { s, _ := c.Object[key].(string); return s }
	ca, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	s := &session{p: p, token: text("access_token"), http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}}
	if s.token == "" {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {text("scope")}}
		var got struct {
			Token string `json:"access_token"`
		}
		if err := s.post(ctx, text("token_endpoint"), text("client_id"), text("client_secret"), form, &got); err != nil {
			return nil, err
		}
		s.token = got.Token
	}
	return s, s.Alive(ctx)
}

func (s *session) post(ctx context.Context, target, id, secret string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var said struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &said) // else empty, which is no authentication failure
		return &refusal{res.StatusCode, said.Error}
	}
	return json.Unmarshal(body, into)
}

// Alive asks about the token as a resource server does, which is a client of its own.
func (s *session) Alive(ctx context.Context) error {
	var got struct {
		Active bool `json:"active"`
	}
	err := s.post(ctx, s.p.Issuer+"/token/introspection", s.p.ClientID, s.p.ClientSecret.Reveal(), url.Values{"token": {s.token}}, &got)
	if err == nil && !got.Active {
		err = &refusal{http.StatusOK, "inactive"}
	}
	return err
}

func (*session) Close() error { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve serves HTTP on this machine until the test ends, and returns where.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
