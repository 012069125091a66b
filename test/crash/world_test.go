package crash_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"bindery"
	"bindery/client"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/seal"
)

// startLimit is long for a start on a busy machine.
const startLimit = 60 * time.Second

// The services of every test: the ids in the catalog are the names.
const (
	redisService    = "redis"
	postgresService = "postgresql"
)

func planOf(service string) string { return service + "-shared" }

// instanceOf is the instance of tests that need one of each service.
func instanceOf(service string) string { return "of-" + service }

// A world is one Bindery between its own servers, and what it takes to ask it.
type world struct {
	*testing.T
	dir      string
	program  string
	redis    *devserver.Redis
	postgres *devserver.Postgres
	settings settings
	services []string            // all of this world
	further  map[string]*further // those that not every world has
	proxies  map[string]*devserver.Proxy
	password bindery.Secret // of the platform
	token    bindery.Secret // of the administrator
	http     *http.Client
	out      *output

	mu  sync.Mutex
	now *child
}

// settings are what tests configure differently.
type settings struct {
	Store      string // a file
	Interval   string // of the reconcile
	SyncBudget string
	Timeout    string // of a call of a backend
	Level      string // of the log
	// Key and Previous are names of files.
	Key      string
	Previous []string

	Redis, Postgres string // addresses
	PostgresUser    string
	// Pool is a file with a stock; empty: there is none.
	Pool string

	Further          []string // services
	Servers, Catalog string   // theirs, YAML
	// Plans is what else the configuration says of every plan, YAML.
	Plans string
	// Proxied puts a proxy between Bindery and each server.
	Proxied bool
}

var configuration = template.Must(template.New("").Parse(`store: {url: 'sqlite:{{.Store}}'}
seal:
  key: {file: {{.Key}}}
{{- if .Previous}}
  previous:
  {{- range .Previous}}
    - {file: {{.}}}
  {{- end}}
{{- end}}
listeners:
  - {address: '127.0.0.1:0', faces: [osb, admin, pki]}
metrics: {address: '127.0.0.1:0'}
log: {level: {{.Level}}}
platforms:
  - {name: crash, credentials: [{username: crash, password: {file: platform}}]}
admin: {tokens: [{name: crash, token: {file: token}}]}
limits: {sync_budget: {{.SyncBudget}}, drain: 10s}
reconcile: {interval: {{.Interval}}}
servers:
  - {name: redis, kind: redis, address: '{{.Redis}}', username: default, password: {file: redis}, timeout: {{.Timeout}}}
  - {name: postgresql, kind: postgresql, address: '{{.Postgres}}', username: {{.PostgresUser}}, password: {file: postgresql}, timeout: {{.Timeout}}}
{{- if .Pool}}
  - {name: pool, kind: pool, secrets: [{name: stock, value: {file: {{.Pool}}}}]}
{{- end}}
{{.Servers -}}
catalog:
  - id: redis
    name: redis
    description: Redis
    plans:
      - {id: redis-shared, name: shared, description: A key prefix, servers: [redis]{{.Plans}}}
  - id: postgresql
    name: postgresql
    description: PostgreSQL
    plans:
      - {id: postgresql-shared, name: shared, description: A database, servers: [postgresql]{{.Plans}}}
{{- if .Pool}}
  - id: pool
    name: pool
    description: Keys that somebody else made
    plans:
      - {id: pool-shared, name: shared, description: One of the keys, servers: [pool]}
{{- end}}
{{.Catalog}}`))

// newWorld starts the servers, and not yet Bindery.
func newWorld(t *testing.T, program func() (string, error), adjust func(*settings), postgres ...func(*devserver.PostgresOptions)) *world {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, dir: t.TempDir(), program: file, out: &output{},
		redis: servertest.Redis(t),
		postgres: servertest.Postgres(t, servertest.Oldest, append(postgres, func(o *devserver.PostgresOptions) {
			if o.Settings == nil {
				o.Settings = map[string]string{}
			}
			o.Settings["max_connections"] = "200"
		})...),
		password: bindery.NewSecret(rand.Text()), token: bindery.NewSecret(rand.Text()),
	}
	if w.http, err = client.NewHTTP(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.http.CloseIdleConnections)
	w.settings = settings{
		Store: "bindery.db", Interval: "2s", SyncBudget: "5s", Timeout: "5s", Level: "info", Key: "key",
		Redis: w.redis.Addr, Postgres: w.postgres.Addr, PostgresUser: w.postgres.User,
	}
	if adjust != nil {
		adjust(&w.settings)
	}
	w.addFurther()
	if w.settings.Proxied {
		w.addProxies()
	}
	w.keep("key", seal.NewKey().Reveal())
	w.keep("platform", w.password.Reveal())
	w.keep("token", w.token.Reveal())
	w.keep("redis", w.redis.Password.Reveal())
	w.keep("postgresql", w.postgres.Password.Reveal())
	w.configure()
	t.Cleanup(func() {
		if c := w.child(); c != nil {
			if err := c.failure(); err != nil {
				t.Error(err)
			}
			c.kill()
		}
		if t.Failed() {
			t.Logf("the last of the log:\n%s", w.out.tail(8<<10))
		}
		if strings.Contains(w.out.String(), "DATA RACE") {
			t.Errorf("the race detector found something:\n%s", around(w.out.String(), "DATA RACE", 6000))
		}
		if strings.Contains(w.out.String(), "panic: ") {
			t.Errorf("something panicked:\n%s", around(w.out.String(), "panic: ", 4000))
		}
	})
	return w
}

// addProxies puts a proxy between Bindery and each server that is there.
func (w *world) addProxies() {
	w.Helper()
	w.proxies = map[string]*devserver.Proxy{}
	before := func(service string, address *string) {
		w.proxies[service] = servertest.Proxy(w.T, *address)
		*address = w.proxies[service].Addr()
	}
	before(redisService, &w.settings.Redis)
	before(postgresService, &w.settings.Postgres)
	for name, f := range w.further {
		if f.reach.Address != "" {
			before(name, &f.reach.Address)
		}
	}
}

// around returns the text from a bit before the word on.
func around(text, word string, n int) string {
	at := max(0, strings.Index(text, word)-200)
	return text[at:min(len(text), at+n)]
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) keep(name, content string) {
	w.Helper()
	if err := os.WriteFile(w.file(name), []byte(content+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
}

// configure writes the configuration as the settings now say.
func (w *world) configure() {
	w.Helper()
	w.settings.Servers, w.settings.Catalog = w.furtherConfig()
	var b strings.Builder
	if err := configuration.Execute(&b, w.settings); err != nil {
		w.Fatal(err)
	}
	w.keep("bindery.yaml", b.String())
}

func (w *world) child() *child {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// begin starts Bindery without waiting for it.
func (w *world) begin() (*child, error) {
	c, err := spawn(w.program, w.file("bindery.yaml"), w.out)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.now = c
	w.mu.Unlock()
	return c, nil
}

// start starts Bindery and returns when it answers.
func (w *world) start() *child {
	w.Helper()
	c, err := w.begin()
	if err == nil {
		err = c.waitReady(startLimit)
	}
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// stop ends Bindery in good order.
func (w *world) stop() {
	w.Helper()
	if err := w.child().term(startLimit); err != nil {
		w.Fatalf("stop: %v", err)
	}
	w.mu.Lock()
	w.now = nil
	w.mu.Unlock()
}

// url is where Bindery listens, or listened last.
func (w *world) url() string {
	u, _ := w.child().urls()
	if u == "" {
		return "http://127.0.0.1:1" // it is on its way up
	}
	return u
}

func (w *world) osb() *client.OSB {
	return &client.OSB{URL: w.url(), Username: "crash", Password: w.password, HTTP: w.http}
}

func (w *world) admin() *client.Admin {
	return &client.Admin{URL: w.url(), Token: w.token, HTTP: w.http, PageSize: 1000}
}

// command runs the program to its end, and returns what it printed on both ways.
func (w *world) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.Context(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.program, args...)
	b, err := cmd.CombinedOutput()
	w.out.write(b)
	return string(b), err
}

// metrics returns what is measured.
func (w *world) metrics(ctx context.Context) (string, error) {
	_, at := w.child().urls()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/metrics", nil)
	if err != nil {
		return "", err
	}
	res, err := w.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("/metrics answered %d", res.StatusCode)
	}
	return string(b), err
}

// metric returns the sum of a metric's series that have all these labels.
func (w *world) metric(ctx context.Context, name string, labels ...string) (float64, error) {
	text, err := w.metrics(ctx)
	if err != nil {
		return 0, err
	}
	var sum float64
line:
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue line
			}
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// A backend is a server as both kinds have it.
type backend interface {
	Kill() error
	Start(context.Context) error
	Stop(context.Context) error
	Pause() error
	Resume() error
}

func (w *world) backend(service string) backend {
	switch service {
	case redisService:
		return w.redis
	case postgresService:
		return w.postgres
	}
	if f := w.further[service]; f != nil {
		return f.backend
	}
	panic("no such service: " + service)
}

// services are those of every world.
var services = []string{redisService, postgresService}

// provision makes an instance, and waits for it.
func (w *world) provision(service, id string) {
	w.Helper()
	k := &caller{world: w}
	if got := k.provision(w.Context(), service, id); got != done {
		w.Fatalf("provision %s: %v %v", id, got, k.last)
	}
}

// bind makes a binding, and waits for it.
func (w *world) bind(service, instance, id string) client.Credentials {
	w.Helper()
	k := &caller{world: w}
	got, credentials := k.bind(w.Context(), service, instance, id, "")
	if got != done {
		w.Fatalf("bind %s: %v %v", id, got, k.last)
	}
	return credentials
}

// unbind removes a binding, and waits for the end.
func (w *world) unbind(service, instance, id string) {
	w.Helper()
	k := &caller{world: w}
	if got := k.unbind(w.Context(), service, instance, id); got != done {
		w.Fatalf("unbind %s: %v %v", id, got, k.last)
	}
}

// mustLogin fails the test where the credential is of no use.
func (w *world) mustLogin(service string, c client.Credentials) {
	w.Helper()
	if err := w.login(w.Context(), service, c); err != nil {
		w.Errorf("%s: an acknowledged credential does not log in: %v", c.Text("username"), err)
	}
}

// mustRefuse fails the test where the credential still lets somebody in.
func (w *world) mustRefuse(service string, c client.Credentials) {
	w.Helper()
	if err := w.login(w.Context(), service, c); !errors.Is(err, errRefused) {
		w.Errorf("%s: a removed credential is not refused: %v", c.Text("username"), err)
	}
}
