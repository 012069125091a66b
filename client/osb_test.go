package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/client"
)

// A foreign is a broker of somebody else: it answers what a person wrote down.
type foreign struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // method, path and query of each request
	last http.Header
	body []byte
}

// broker answers every request with the next of the answers, the last one for ever.
func broker(t *testing.T, answers ...answer) (*foreign, *client.OSB) {
	t.Helper()
	f := &foreign{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.URL.RequestURI())
		f.last, f.body = r.Header.Clone(), body
		a := answers[min(len(f.seen), len(answers))-1]
		f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		for k, v := range a.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(f.Close)
	return f, &client.OSB{URL: f.URL, Username: "platform", Password: bindery.NewSecret("hunter2hunter2")}
}

type answer struct {
	status int
	body   string
	header map[string]string
}

func TestRequestsAreAsTheSpecificationSays(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tests := map[string]struct {
		call   func(*client.OSB) error
		status int
		seen   string
		body   string
	}{
		"catalog": {func(c *client.OSB) error { _, err := c.Catalog(ctx); return err }, 200, "GET /v2/catalog", ""},
		"provision": {
			func(c *client.OSB) error {
				_, err := c.Provision(ctx, "a/b c~1", client.ProvisionRequest{
					ServiceID: "s", PlanID: "p", OrganizationGUID: "o", SpaceGUID: "sp", Parameters: json.RawMessage(`{"a":1}`),
				})
				return err
			}, 201, "PUT /v2/service_instances/a%2Fb%20c~1?accepts_incomplete=true",
			`{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp","parameters":{"a":1}}`,
		},
		"update leaves out what must not change": {
			func(c *client.OSB) error {
				_, err := c.Update(ctx, "i", client.UpdateRequest{ServiceID: "s"})
				return err
			}, 200, "PATCH /v2/service_instances/i?accepts_incomplete=true", `{"service_id":"s"}`,
		},
		"fetch": {func(c *client.OSB) error { _, err := c.Instance(ctx, "i"); return err }, 200, "GET /v2/service_instances/i", ""},
		"deprovision": {
			func(c *client.OSB) error { _, err := c.Deprovision(ctx, "i", "s", "p"); return err },
			200, "DELETE /v2/service_instances/i?accepts_incomplete=true&plan_id=p&service_id=s", "",
		},
		"rotation names its predecessor only": {
			func(c *client.OSB) error {
				_, err := c.Bind(ctx, "i", "b2", client.BindRequest{PredecessorBindingID: "b"})
				return err
			}, 201, "PUT /v2/service_instances/i/service_bindings/b2?accepts_incomplete=true", `{"predecessor_binding_id":"b"}`,
		},
		"unbind": {
			func(c *client.OSB) error { _, err := c.Unbind(ctx, "i", "b", "s", "p"); return err },
			200, "DELETE /v2/service_instances/i/service_bindings/b?accepts_incomplete=true&plan_id=p&service_id=s", "",
		},
		"fetch a binding": {
			func(c *client.OSB) error { _, err := c.Binding(ctx, "i", "b"); return err },
			200, "GET /v2/service_instances/i/service_bindings/b", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := broker(t, answer{status: tt.status, body: `{}`})
			if err := tt.call(c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.seen}, f.seen); diff != "" {
				t.Error(diff)
			}
			if got := string(f.body); got != tt.body {
				t.Errorf("sent %s, want %s", got, tt.body)
			}
			if v := f.last.Get("X-Broker-API-Version"); v != "2.17" {
				t.Errorf("sent version %q", v)
			}
			r := http.Request{Header: f.last}
			if u, p, ok := r.BasicAuth(); !ok || u != "platform" || p != "hunter2hunter2" {
				t.Errorf("sent user %q, authenticated: %v", u, ok)
			}
		})
	}
}

func TestLastOperationSendsTheOperationPercentEncoded(t *testing.T) {
	t.Parallel()
	f, c := broker(t, answer{status: 200, body: `{"state":"in progress","description":"60%"}`, header: map[string]string{"Retry-After": "7"}})
	last, err := c.LastOperation(t.Context(), client.Pending{InstanceID: "i", BindingID: "b", Operation: "a b&c=ü"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "GET /v2/service_instances/i/service_bindings/b/last_operation?operation=a+b%26c%3D%C3%BC"; f.seen[0] != want {
		t.Errorf("asked %s, want %s", f.seen[0], want)
	}
	if last.State != bindery.OpInProgress || last.Description != "60%" || last.RetryAfter.Seconds() != 7 {
		t.Errorf("read %+v", last)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	provision := func(ctx context.Context, c *client.OSB) error {
		_, err := c.Provision(ctx, "i", client.ProvisionRequest{})
		return err
	}
	catalog := func(ctx context.Context, c *client.OSB) error { _, err := c.Catalog(ctx); return err }
	unbind := func(ctx context.Context, c *client.OSB) error {
		_, err := c.Unbind(ctx, "i", "b", "s", "p")
		return err
	}
	tests := map[string]struct {
		call      func(context.Context, *client.OSB) error
		answer    answer
		code      bindery.Code
		uncertain bool
		text      string
	}{
		"a reserved word decides": {
			provision,
			answer{status: 422, body: `{"error":"ConcurrencyError","description":"busy here"}`},
			bindery.CodeBusy, false, "ConcurrencyError: busy here (PUT /v2/service_instances/i answered 422)",
		},
		"async required":                   {provision, answer{status: 422, body: `{"error":"AsyncRequired"}`}, bindery.CodeAsyncRequired, false, "AsyncRequired"},
		"maintenance":                      {provision, answer{status: 422, body: `{"error":"MaintenanceInfoConflict"}`}, bindery.CodeMaintenanceConflict, false, ""},
		"requires app":                     {provision, answer{status: 422, body: `{"error":"RequiresApp"}`}, bindery.CodeRequiresApp, false, ""},
		"a word of the broker's own":       {provision, answer{status: 422, body: `{"error":"TooSmall","description":"no"}`}, bindery.CodeUnsupported, false, "TooSmall: no"},
		"conflict":                         {provision, answer{status: 409, body: `{}`}, bindery.CodeConflict, false, "conflict (PUT"},
		"unauthorized in plain text":       {catalog, answer{status: 401, body: `Not Authorized`}, bindery.CodeUnauthorized, false, "unauthorized"},
		"gone":                             {unbind, answer{status: 410, body: `{}`}, bindery.CodeGone, false, "gone"},
		"old version":                      {catalog, answer{status: 412, body: `{"Description":"use 2.13"}`}, bindery.CodeInvalid, false, "use 2.13"},
		"a broken create may have created": {provision, answer{status: 500, body: `<html>oops</html>`}, bindery.CodeInternal, true, "internal server error"},
		"another success is not one":       {provision, answer{status: 204}, bindery.CodeInternal, true, "no content"},
		"201 and half an object":           {provision, answer{status: 201, body: `{"dashboard_url":`}, bindery.CodeInternal, true, "not the JSON"},
		"200 and half an object":           {provision, answer{status: 200, body: `{"dashboard_url":`}, bindery.CodeInternal, false, "not the JSON"},
		"201 and null":                     {provision, answer{status: 201, body: `null`}, bindery.CodeInternal, true, "not a JSON object"},
		"201 and nothing":                  {provision, answer{status: 201}, bindery.CodeInternal, true, "not a JSON object"},
		"a body without end":               {catalog, answer{status: 200, body: `{"services":"` + strings.Repeat("x", 5<<20)}, bindery.CodeInternal, false, "longer than 4 MiB"},
		"an error without end":             {catalog, answer{status: 400, body: `{"description":"` + strings.Repeat("x", 5<<20)}, bindery.CodeInvalid, false, "bad request"},
		"too many requests":                {catalog, answer{status: 429}, bindery.CodeUnavailable, false, "too many requests"},
		"commands for a terminal are taken out": {
			catalog, answer{status: 400, body: `{"description":"a\u001b[2Jb\nc"}`}, bindery.CodeInvalid, false, "a[2Jb c (GET",
		},
		"a redirect is not followed": {
			catalog,
			answer{status: 302, header: map[string]string{"Location": "https://elsewhere.example/v2/catalog"}},
			bindery.CodeInvalid, false, "it points at https://elsewhere.example/v2/catalog",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := broker(t, tt.answer)
			err := tt.call(t.Context(), c)
			e, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("got %v, want a client.Error", err)
			}
			if bindery.CodeOf(err) != tt.code || e.Status != tt.answer.status || e.Uncertain != tt.uncertain {
				t.Errorf("got %s, %d, uncertain %v; want %s, %d, %v", bindery.CodeOf(err), e.Status, e.Uncertain, tt.code, tt.answer.status, tt.uncertain)
			}
			if !strings.Contains(err.Error(), tt.text) || len(err.Error()) > 1000 {
				t.Errorf("says %.2000s, want %s", err, tt.text)
			}
			if len(f.seen) != 1 {
				t.Errorf("asked %d times", len(f.seen))
			}
		})
	}
}

func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	_, c := broker(t, answer{status: 307, header: map[string]string{"Location": elsewhere.URL}})
	c.HTTP = &http.Client{} // a caller's own client, which would follow
	if _, err := c.Bind(t.Context(), "i", "b", client.BindRequest{}); err == nil || asked.Load() != 0 {
		t.Errorf("err %v, %d requests arrived elsewhere", err, asked.Load())
	}
}

func TestCredentialsAreShownOnlyWhenRevealed(t *testing.T) {
	t.Parallel()
	_, c := broker(t, answer{status: 201, body: `{"credentials":{"password":"sesame-42","port":6379},
		"endpoints":[{"host":"h","ports":[443,"9000-9010"]}],"metadata":{"expires_at":"2030-01-01T00:00:00.0Z"}}`})
	b, err := c.Bind(t.Context(), "i", "b", client.BindRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "binding", b, "c", b.Credentials)
	_, _ = fmt.Fprintf(&out, "%v %+v %#v %s %q %d", b, b, b, []any{b}, b.Credentials, []any{b})
	raw, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(raw)
	if strings.Contains(out.String(), "sesame") {
		t.Errorf("leaks: %s", out.String())
	}
	if b.Credentials.Text("password") != "sesame-42" || b.Credentials.Text("port") != "6379" || b.Status != 201 {
		t.Errorf("read %d, %s", b.Status, b.Credentials.Reveal())
	}
	if diff := cmp.Diff(client.Ports{"443", "9000-9010"}, b.Endpoints[0].Ports); diff != "" {
		t.Error(diff)
	}
	// A body that does not parse must not be quoted either.
	_, c = broker(t, answer{status: 201, body: `{"credentials":"sesame-42"}`})
	if _, err := c.Bind(t.Context(), "i", "b", client.BindRequest{}); err == nil || strings.Contains(fmt.Sprintf("%+v", err), "sesame") {
		t.Errorf("got %v", err)
	}
}

func TestABrokerThatIsNotThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c := &client.OSB{URL: "http://" + l.Addr().String()}
	_, err = c.Provision(t.Context(), "i", client.ProvisionRequest{})
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Uncertain || bindery.CodeOf(err) != bindery.CodeUnavailable || !strings.Contains(err.Error(), "cannot reach 127.0.0.1:") {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the caller left
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	c = &client.OSB{URL: hang.URL}
	_, err = c.Bind(ctx, "i", "b", client.BindRequest{})
	if e, ok = errors.AsType[*client.Error](err); !ok || !e.Uncertain || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	f, c := broker(t, answer{status: 200, body: `{}`})
	for _, id := range []string{"", ".", ".."} {
		if _, err := c.Instance(t.Context(), id); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("id %q: %v", id, err)
		}
	}
	for _, u := range []string{"", "127.0.0.1:80", "ftp://h", "http://user:pass@h", "http://h?x=1", "http://"} {
		c := &client.OSB{URL: u}
		_, err := c.Catalog(t.Context())
		if bindery.CodeOf(err) != bindery.CodeInvalid || strings.Contains(err.Error(), "pass@") {
			t.Errorf("URL %q: %v", u, err)
		}
	}
	if len(f.seen) != 0 {
		t.Errorf("sent %v", f.seen)
	}
}

func TestTLSIsVerified(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"services":[]}`)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	c := &client.OSB{URL: s.URL}
	if _, err := c.Catalog(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate is not signed by a CA") {
		t.Errorf("a strange certificate: %v", err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	h, err := client.NewHTTP(ca)
	if err != nil {
		t.Fatal(err)
	}
	c = &client.OSB{URL: s.URL, HTTP: h}
	if _, err := c.Catalog(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := client.NewHTTP([]byte("nothing")); bindery.CodeOf(err) != bindery.CodeInvalid {
		t.Errorf("no certificate: %v", err)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{}`)
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := &client.OSB{URL: s.URL + "/"}
	const callers = 64
	for range 5 {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() { _, _ = c.Bind(t.Context(), "i", "b", client.BindRequest{}) })
		}
		wg.Wait()
	}
	// A dial that lost a race for an idle connection leaves one more.
	if n := opened.Load(); n > 2*callers {
		t.Errorf("%d connections for %d callers", n, callers)
	}
}
