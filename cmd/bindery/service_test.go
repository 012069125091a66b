package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/client"
	"bindery/devserver"
	"bindery/seal"
	"bindery/telemetry"
	"bindery/test/poll"
)

const serviceFile = `store: {url: sqlite:data.db}
seal: {key: {file: key}}
listeners:
  - {address: '127.0.0.1:0', faces: [osb, admin]}
  - {address: '127.0.0.1:0', faces: [osb], tls: {cert_file: tls/server.crt, key_file: tls/server.key}}
metrics: {address: '127.0.0.1:0'}
platforms: [{name: p, credentials: [{username: u, password: {file: pw}}]}]
admin: {tokens: [{name: t, token: {file: token}}]}
servers:
  - {name: r1, kind: redis, address: '127.0.0.1:1', password: {file: pw}}
  - {name: r2, kind: redis, address: '127.0.0.1:2', password: {file: pw}}
catalog:
  - id: o-1
    name: redis
    description: d
    plans:
      - {id: p-1, name: one, description: d, servers: [r1]}
      - {id: p-2, name: two, description: d, servers: [r2]}
`

// start runs a service on servers that are not there. The pairs are texts of its
// configuration and what stands in their place.
func start(t *testing.T, pairs ...string) (*service, serviceLog, func() error) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "c.yaml", strings.NewReplacer(pairs...).Replace(serviceFile))
	write(t, dir, "key", seal.NewKey().Reveal())
	write(t, dir, "pw", "password-1")
	write(t, dir, "token", "token-token-token-1")
	makeCertificates(t, dir)
	log := &poll.Buffer{}
	ctx, stop := context.WithCancel(t.Context())
	s, err := newService(ctx, streams{Err: log, Env: func(string) string { return "" }}, filepath.Join(dir, "c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan error, 1)
	s.ready = func() error { close(up); return nil }
	go func() { done <- s.Run(ctx) }()
	<-up
	end := sync.OnceValue(func() error { stop(); return <-done })
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, serviceLog{log, s}, end
}

// A serviceLog is what a service has logged, with what is on its way.
type serviceLog struct {
	log *poll.Buffer
	of  *service
}

func (l serviceLog) String() string {
	l.of.lines.Flush()
	return l.log.String()
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	pki, err := devserver.OpenPKI(filepath.Join(dir, "tls"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Server(); err != nil {
		t.Fatal(err)
	}
}

// edit replaces text in the service's configuration.
func edit(t *testing.T, s *service, pairs ...string) {
	t.Helper()
	b, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(b), pairs[i]) {
			t.Fatalf("no %q in the configuration", pairs[i])
		}
	}
	write(t, filepath.Dir(s.file), filepath.Base(s.file), strings.NewReplacer(pairs...).Replace(string(b)))
}

func status(t *testing.T, url, username, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(username, password)
	req.Header.Set("X-Broker-API-Version", "2.17")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func addInstance(t *testing.T, s *service, plan, server string) {
	t.Helper()
	id, err := s.store.NewID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	err = s.store.Update(t.Context(), func(tx bindery.Tx) error {
		return tx.Instances().Add(t.Context(), bindery.Instance{
			Row: id, Platform: "p", ID: fmt.Sprint("i", id), Name: bindery.Name(s.store.Installation(), id),
			OfferingID: "o-1", PlanID: plan, Kind: "redis", Server: server, State: bindery.StateReady, Created: now, Updated: now,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServeNeedsNoBackend(t *testing.T) {
	t.Parallel()
	s, log, end := start(t)
	if got := status(t, s.listeners[0].url()+"/v2/catalog", "u", "password-1"); got != 200 {
		t.Errorf("catalog: got %d", got)
	}
	if got := status(t, s.listeners[0].url()+"/v2/catalog", "u", "password-2"); got != 401 {
		t.Errorf("wrong password: got %d", got)
	}
	if got := status(t, s.extra.url()+"/metrics", "", ""); got != 200 {
		t.Errorf("metrics: got %d", got)
	}
	if got := status(t, s.extra.url()+"/v2/catalog", "u", "password-1"); got != 404 {
		t.Errorf("the metrics listener serves the catalog: %d", got)
	}
	if err := end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if !strings.Contains(log.String(), `"msg":"stopped"`) || strings.Contains(log.String(), "password-1") {
		t.Errorf("log: %s", log)
	}
}

func TestReloadChangesCredentials(t *testing.T) {
	t.Parallel()
	s, log, _ := start(t)
	write(t, filepath.Dir(s.file), "pw2", "password-2")
	edit(t, s, "{username: u, password: {file: pw}}", "{username: u, password: {file: pw}}, {username: u, password: {file: pw2}}")
	s.reload(t.Context())
	for _, pw := range []string{"password-1", "password-2"} {
		if got := status(t, s.listeners[0].url()+"/v2/catalog", "u", pw); got != 200 {
			t.Errorf("%s: got %d\n%s", pw, got, log)
		}
	}
	edit(t, s, "{username: u, password: {file: pw}}, ", "")
	s.reload(t.Context())
	if got := status(t, s.listeners[0].url()+"/v2/catalog", "u", "password-1"); got != 401 {
		t.Errorf("the old password: got %d", got)
	}
}

func TestReloadChangesCertificate(t *testing.T) {
	t.Parallel()
	s, _, _ := start(t)
	before := s.listeners[1].tls.now.Load().Certificates[0].Leaf.SerialNumber
	if err := os.RemoveAll(filepath.Join(filepath.Dir(s.file), "tls")); err != nil {
		t.Fatal(err)
	}
	makeCertificates(t, filepath.Dir(s.file))
	s.reload(t.Context())
	if after := s.listeners[1].tls.now.Load().Certificates[0].Leaf.SerialNumber; after.Cmp(before) == 0 {
		t.Error("the certificate is still the old one")
	}
}

func TestReloadRefusesToLosePlansWithInstances(t *testing.T) {
	t.Parallel()
	const plan = "      - {id: p-2, name: two, description: d, servers: [r2]}\n"
	const server = "  - {name: r2, kind: redis, address: '127.0.0.1:2', password: {file: pw}}\n"
	tests := map[string]struct {
		edit []string
		want string // in the log; empty: applied
	}{
		"the plan":             {[]string{plan, ""}, "plan p-2 of offering o-1 has instances"},
		"the server":           {[]string{server, "", "servers: [r2]", "servers: [r1]"}, "server r2 has instances and is not configured"},
		"the plan, retired":    {[]string{"servers: [r2]", "servers: [r2], retired: true"}, ""},
		"the server's address": {[]string{"127.0.0.1:2", "127.0.0.1:3"}, ""},
		"a broken file":        {[]string{"kind: redis", "kind: rodis"}, `rodis`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, log, _ := start(t)
			addInstance(t, s, "p-2", "r2")
			catalog := s.catalog.Load()
			edit(t, s, tt.edit...)
			s.reload(t.Context())
			refused := strings.Contains(log.String(), "reload refused")
			if refused != (tt.want != "") || !strings.Contains(log.String(), tt.want) {
				t.Errorf("want %q in\n%s", tt.want, log)
			}
			if refused != (s.catalog.Load() == catalog) {
				t.Errorf("refused is %v, and the catalog did the opposite", refused)
			}
		})
	}
}

// TestAScrappedServerCanLeaveTheConfiguration, once its instances were forgotten.
func TestAScrappedServerCanLeaveTheConfiguration(t *testing.T) {
	t.Parallel()
	s, log, _ := start(t, "metrics:", "limits: {sync_budget: 100ms}\nmetrics:")
	addInstance(t, s, "p-2", "r2")
	c := &client.Admin{URL: s.listeners[0].url(), Token: bindery.NewSecret("token-token-token-1")}
	var i client.AdminInstance
	for found, err := range c.Instances(t.Context(), client.InstanceFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		i = found
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete,
		s.listeners[0].url()+"/v2/service_instances/"+i.ID+"?service_id=o-1&plan_id=p-2&accepts_incomplete=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("u", "password-1")
	req.Header.Set("X-Broker-API-Version", "2.17")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("the removal got %d", res.StatusCode)
	}
	edit(t, s, "  - {name: r2, kind: redis, address: '127.0.0.1:2', password: {file: pw}}\n", "",
		"      - {id: p-2, name: two, description: d, servers: [r2]}\n", "")
	s.reload(t.Context())
	if !strings.Contains(log.String(), "server r2 has instances and is not configured") {
		t.Fatalf("the reload was to be refused: %s", log)
	}
	if forgotten, err := c.ForgetInstance(t.Context(), i.Row, "scrapped"); err != nil || forgotten.State != bindery.StateRemoved {
		t.Fatalf("got %+v, %v", forgotten, err)
	}
	s.reload(t.Context())
	if _, there := s.backends.Driver("r2"); there || !strings.Contains(log.String(), "configuration reloaded") {
		t.Errorf("the reload was to be applied: %s", log)
	}
}

func TestStartRefusesToLosePlansWithInstances(t *testing.T) {
	t.Parallel()
	s, _, end := start(t)
	addInstance(t, s, "p-2", "r2")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	edit(t, s, "      - {id: p-2, name: two, description: d, servers: [r2]}\n", "")
	_, err := newService(t.Context(), streams{Err: io.Discard, Env: os.Getenv}, s.file)
	if err == nil || !strings.Contains(err.Error(), "plan p-2 of offering o-1 has instances") {
		t.Errorf("got %v", err)
	}
}

func TestReloadSaysWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	s, log, _ := start(t)
	edit(t, s, "metrics:", "limits: {workers_per_server: 3}\nlog: {level: warn}\nmetrics:")
	s.reload(t.Context())
	if !strings.Contains(log.String(), `"key":"limits"`) || strings.Contains(log.String(), `"key":"log"`) {
		t.Errorf("log: %s", log)
	}
}

// A request that waits for an operation, and the operation, which waits for a
// server that never answers, get half of limits.drain each, one after the other.
func TestRequestsAndOperationsShareTheDrainLimit(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Second
	var c net.ListenConfig
	silent, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s, log, end := start(t, "127.0.0.1:1'", silent.Addr().String()+"', timeout: 1m", "metrics:", "limits: {drain: "+limit.String()+"}\nmetrics:")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.listeners[0].url()+"/v2/service_instances/i",
		strings.NewReader(`{"service_id":"o-1","plan_id":"p-1","organization_guid":"o","space_guid":"s"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("u", "password-1")
	req.Header.Set("X-Broker-API-Version", "2.17")
	cut := make(chan time.Time, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("the request was answered with %d", res.StatusCode)
		}
		cut <- time.Now()
	}()
	poll.Until(t, "an operation is recorded", func() bool { return inProgress(t, s) })
	began := time.Now()
	if err := end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	whole := time.Since(began)
	first := (<-cut).Sub(began)
	if first < limit/2 || first >= limit {
		t.Errorf("the request was cut after %v, want half of %v", first, limit)
	}
	if whole < first+limit/2-time.Second || whole >= limit+limit/2 {
		t.Errorf("it ended after %v, the request after %v, want %v in all", whole, first, limit)
	}
	if !strings.Contains(log.String(), "requests did not end in time") || strings.Contains(log.String(), "operations did not end in time") {
		t.Errorf("log: %s", log)
	}
}

// inProgress says whether an operation was recorded.
func inProgress(t *testing.T, s *service) bool {
	t.Helper()
	var all []bindery.Operation
	if err := s.store.View(t.Context(), func(tx bindery.Tx) (err error) {
		all, err = tx.Operations().List(t.Context(), bindery.OperationFilter{State: bindery.OpInProgress}, bindery.Page{Limit: 1})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return len(all) > 0
}

// fake counts what is done with it; Ensure takes until release is closed.
type fake struct {
	bindery.Driver
	begun, release chan struct{}
	closed         chan struct{}
}

func newFake() *fake {
	return &fake{begun: make(chan struct{}, 1), release: make(chan struct{}), closed: make(chan struct{})}
}

func (f *fake) Ensure(context.Context, bindery.InstanceSpec, bindery.Account) (bindery.Ensured, error) {
	f.begun <- struct{}{}
	<-f.release
	select {
	case <-f.closed:
		return bindery.Ensured{}, errors.New("closed under a call")
	default:
		return bindery.Ensured{}, nil
	}
}

func (f *fake) Close() error { close(f.closed); return nil }

// A driver that is replaced ends its calls before it is closed, and whoever held
// it uses the new one from then on.
func TestBackendsAreSwappedUnderCalls(t *testing.T) {
	t.Parallel()
	drivers := map[string]*fake{"a": newFake(), "b": newFake()}
	log := &poll.Buffer{}
	b := &backends{
		kinds: map[string]bindery.Kind{"fake": {Open: func(s bindery.Server) (bindery.Driver, error) {
			if s.Address == "bad" {
				return nil, errors.New("no")
			}
			return drivers[s.Address], nil
		}}},
		metrics: telemetry.NewMetrics("test"), log: telemetry.NewLog(log, new(slog.LevelVar)),
	}
	use := func(address string) error {
		c, err := b.prepare([]bindery.Server{{Name: "s", Kind: "fake", Address: address}})
		if err == nil {
			b.apply(c)
		}
		return err
	}
	if err := use("a"); err != nil {
		t.Fatal(err)
	}
	held, _ := b.Driver("s")
	result := make(chan error, 1)
	go func() {
		_, err := held.Ensure(t.Context(), bindery.InstanceSpec{}, bindery.Account{})
		result <- err
	}()
	<-drivers["a"].begun
	if err := use("bad"); err == nil {
		t.Fatal("a server that cannot be opened was used")
	}
	if err := use("b"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-drivers["a"].closed:
		t.Fatal("closed under a call")
	default:
	}
	close(drivers["a"].release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	<-drivers["a"].closed
	close(drivers["b"].release)
	if _, err := held.Ensure(t.Context(), bindery.InstanceSpec{}, bindery.Account{}); err != nil {
		t.Error(err)
	}
	if len(drivers["b"].begun) != 1 {
		t.Error("the call did not go to the new driver")
	}
	b.close()
	<-drivers["b"].closed
	if _, err := held.Ensure(t.Context(), bindery.InstanceSpec{}, bindery.Account{}); bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("after the end: got %v", err)
	}
}

func TestGroupEndsWithTheFirstFailure(t *testing.T) {
	t.Parallel()
	g := newGroup()
	g.run(t.Context(), "one", func(context.Context) error { panic("boom") })
	<-g.failed
	if err := g.failure(); err == nil || !strings.Contains(err.Error(), "one: panic: boom") {
		t.Errorf("got %v", err)
	}
	g.run(t.Context(), "two", func(context.Context) error { return errors.New("later") })
	if !g.wait(time.Minute) || !strings.Contains(g.failure().Error(), "boom") {
		t.Errorf("got %v", g.failure())
	}
}

func TestServiceEndsWhenAPartFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "c.yaml", serviceFile)
	write(t, dir, "key", seal.NewKey().Reveal())
	write(t, dir, "pw", "password-1")
	write(t, dir, "token", "token-token-token-1")
	makeCertificates(t, dir)
	s, err := newService(t.Context(), streams{Err: io.Discard, Env: func(string) string { return "" }}, filepath.Join(dir, "c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.engine.runs["broken"] = func(context.Context) error { return errors.New("out of luck") }
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "broken: out of luck") {
		t.Errorf("got %v", err)
	}
}

// The template of dev and the reader of serve agree, whatever was asked for.
func TestDevWritesWhatServeReads(t *testing.T) {
	t.Parallel()
	tests := map[string]devOptions{
		"defaults":             {http: "127.0.0.1:8080", https: "127.0.0.1:8443"},
		"beyond this machine":  {http: "0.0.0.0:8080", https: "[::]:8443"},
		"PostgreSQL, password": {http: "localhost:0", https: "127.0.0.1:0", store: "postgres://u:p%40ss@127.0.0.1:5432/d?sslmode=disable"},
		"another SQLite file":  {http: "[::1]:0", https: "127.0.0.1:0", store: "sqlite:other.db"},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := openDevDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.unlock()
			err = d.writeConfig(o, devBackends(t, d, o))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig(d.file("bindery.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if len(cfg.Catalog) != len(devKinds) {
				t.Errorf("%d offerings, and there are %d kinds", len(cfg.Catalog), len(devKinds))
			}
			if o.store != "" && strings.HasPrefix(o.store, "postgres") && cfg.StoreURL().Reveal() != o.store {
				t.Errorf("store: got %s", cfg.StoreURL().Reveal())
			}
			text, err := os.ReadFile(d.file("bindery.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "p%40ss") {
				t.Error("the store's password is in the configuration")
			}
		})
	}
}

// devBackends are servers for all plans. Those that need no program are started.
func devBackends(t *testing.T, d *devDir, o devOptions) (all []devBackend) {
	t.Helper()
	for i, k := range devKinds {
		if k.needs == "" {
			started, err := k.start(t.Context(), d, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := stopBackends(started); err != nil {
					t.Error(err)
				}
			})
			all = append(all, started...)
			continue
		}
		for j, p := range k.Plans {
			b := devBackend{Name: p.Server, Kind: k.Name, Address: fmt.Sprintf("127.0.0.1:%d", 100*(i+1)+j)}
			if k.Name == "oauth" {
				b.Settings = "{issuer: 'http://" + b.Address + "'}"
			} else {
				b.Username, b.Password = "bindery", bindery.NewSecret("x")
			}
			if !slices.ContainsFunc(all, func(other devBackend) bool { return other.Name == b.Name }) {
				all = append(all, b)
			}
		}
	}
	return all
}
