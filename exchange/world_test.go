package exchange_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/exchange"
	"bindery/store"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// patience is long for anything that a test waits for.
const patience = 30 * time.Second

// What no text that anybody can see may have in it.
const (
	accessKey    = "s3cr3t-access-key"
	headerSecret = "s3cr3t-header"
	uniqueKey    = "uid-1"
)

var admin = exchange.Caller{Name: "ops", RequestID: "request-1"}

// A world is a service on a real store.
type world struct {
	testing.TB
	*exchange.Service
	store bindery.Store
	log   *logged
	seen  *outcomes
}

// logged keeps what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type outcomes struct {
	mu  sync.Mutex
	all []exchange.Outcome
}

func (o *outcomes) add(one exchange.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, one)
}

func (o *outcomes) list() []exchange.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]exchange.Outcome(nil), o.all...)
}

// options are what the worlds have in common.
func options(t testing.TB) exchange.Options {
	return exchange.Options{
		Now: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		AuthTypes: []bindery.AuthType{bindery.AuthX509, bindery.AuthOIDC},
		Types:     types(t),
	}
}

// types are the default ones, which trust the upstreams of the tests, and one more.
func types(t testing.TB) []exchange.Type {
	all := append(exchange.DefaultTypes(), exchange.Type{Name: "custom", Path: "/tokens/{{identifier}}?a={{access_key}}&u={{identifier}}", Field: "t"})
	for i := range all {
		all[i].CAFile = caFile(t)
	}
	return all
}

var sqliteFile = func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "b.db") }

func openStore(t testing.TB, url string, keys bindery.Keyring) bindery.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url, Keys: keys, Connections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newWorld(t testing.TB, set ...func(*exchange.Options)) world {
	t.Helper()
	return worldOn(t, openStore(t, sqliteFile(t), storetest.Keys(t)), set...)
}

func worldOn(t testing.TB, s bindery.Store, set ...func(*exchange.Options)) world {
	t.Helper()
	w := world{TB: t, store: s, log: new(logged), seen: new(outcomes)}
	o := options(t)
	o.Log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Observe = w.seen.add
	for _, f := range set {
		f(&o)
	}
	var err error
	if w.Service, err = exchange.New(s, o); err != nil {
		t.Fatal(err)
	}
	return w
}

// run lets the service run until the returned function is called, or the test ends.
func (w world) run() (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				w.Error(err)
			}
		case <-time.After(patience):
			w.Error("the service does not end")
		}
	})
	w.Cleanup(stop)
	return stop
}

// database makes one in the PostgreSQL that the tests share, and returns its URL.
func database(t testing.TB, v servertest.Version) string {
	t.Helper()
	p := servertest.SharedPostgres(t, v)
	name := "exchange_" + strings.ToLower(rand.Text())
	do := func(statement string) {
		c, err := pgx.Connect(context.Background(), p.SuperURL("postgres").Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close(context.Background()) }() // nothing was kept open
		if _, err := c.Exec(context.Background(), statement); err != nil {
			t.Error(err)
		}
	}
	do("CREATE DATABASE " + name)
	t.Cleanup(func() { // FORCE, which would do both, is new in 13
		do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'")
		do("DROP DATABASE " + name)
	})
	return p.SuperURL(name).Reveal()
}

// each runs a test on both engines; open gives a store of the same database each time.
func each(t *testing.T, test func(t *testing.T, open func() bindery.Store)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		s := openStore(t, sqliteFile(t), storetest.Keys(t))
		test(t, func() bindery.Store { return s })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
			url, keys := database(t, v), storetest.Keys(t)
			test(t, func() bindery.Store { return openStore(t, url, keys) })
		})
	})
}

func ptr[T any](v T) *T { return &v }

// must fails the test where there is an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks an error's code and its whole message.
func refused(t testing.TB, err error, code bindery.Code, message string) {
	t.Helper()
	if bindery.CodeOf(err) != code || bindery.MessageOf(err) != message {
		t.Errorf("got %q %q, want %q %q", bindery.CodeOf(err), bindery.MessageOf(err), code, message)
	}
}

func serviceInput(name string, hosts ...string) exchange.ServiceTypeInput {
	return exchange.ServiceTypeInput{
		Name: &name, Hosts: &hosts, AuthTypes: &[]string{"x509", "oidc"}, AuthMethod: ptr("api-key"), Type: ptr("ams"),
	}
}

func (w world) service(name string, hosts ...string) bindery.ServiceType {
	w.Helper()
	return must(w.CreateServiceType(w.Context(), admin, serviceInput(name, hosts...)))(w)
}

func (w world) method(service, host string, port int) bindery.AuthMethod {
	w.Helper()
	return must(w.CreateAuthMethod(w.Context(), admin, service, exchange.AuthMethodInput{Host: &host, Port: &port, AccessKey: ptr(accessKey)}))(w)
}

func bindingInput(s bindery.ServiceType, host, identifier string) exchange.BindingInput {
	return exchange.BindingInput{ServiceUUID: &s.UUID, Host: &host, AuthType: ptr("x509"), Identifier: &identifier, UniqueKey: ptr(uniqueKey)}
}

func (w world) binding(name string, s bindery.ServiceType, host, identifier string) bindery.IdentityBinding {
	w.Helper()
	return must(w.CreateBinding(w.Context(), admin, name, bindingInput(s, host, identifier), nil))(w)
}

// who is somebody with a certificate of this name.
func who(t testing.TB, dn string) bindery.Identity {
	t.Helper()
	d, err := bindery.ParseDN(dn)
	if err != nil {
		t.Fatal(err)
	}
	return bindery.Identity{AuthType: bindery.AuthX509, Name: d.String(), Keys: d.Keys(), IssuerKey: issuerKey(t, "CN=Grid CA")}
}

func issuerKey(t testing.TB, dn string) string {
	t.Helper()
	d, err := bindery.ParseDN(dn)
	if err != nil {
		t.Fatal(err)
	}
	return d.Key()
}

// An upstream is a real service, by TLS.
type upstream struct {
	host string
	port int
	mu   sync.Mutex
	got  []*http.Request
	open map[net.Conn]bool
	all  int // connections ever
}

func (u *upstream) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*http.Request(nil), u.got...)
}

func (u *upstream) connections() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all
}

func newUpstream(t testing.TB, h http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{open: map[net.Conn]bool{}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		if len(u.got) < 1<<10 {
			u.got = append(u.got, r)
		}
		u.mu.Unlock()
		h(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			u.mu.Lock()
			u.all++
			u.mu.Unlock()
		}
	}
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	u.host = host
	if u.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return u
}

// giveToken answers with a token that names the user of the path.
func giveToken(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(map[string]string{"name": "x", "token": "token-of-" + filepath.Base(r.URL.Path)})
}

var wantToken = `"token-of-` + uniqueKey + `"`

// caFile holds the certificate of all upstreams.
func caFile(t testing.TB) string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// bound is a world where alice has a binding at an upstream.
func bound(t testing.TB, h http.HandlerFunc, set ...func(*exchange.Options)) (world, *upstream, bindery.Identity) {
	t.Helper()
	w, u := newWorld(t, set...), newUpstream(t, h)
	return w, u, w.bind("ams1", u, "alice")
}

// bind makes a service type with a binding for somebody.
func (w world) bind(service string, u *upstream, name string) bindery.Identity {
	w.Helper()
	s := w.service(service, u.host)
	w.method(service, u.host, u.port)
	dn := fmt.Sprintf("CN=%s,O=Example,C=GR", name)
	w.binding(service+"-"+name, s, u.host, dn)
	return who(w, dn)
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
