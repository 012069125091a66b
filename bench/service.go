package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"

	"bindery"
	"bindery/seal"
)

// build builds the program as `make build` does, unless one was named.
func (b *bench) build(ctx context.Context) (string, error) {
	if b.binary != "" {
		return filepath.Abs(b.binary)
	}
	out := filepath.Join(b.dir, "bindery")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "bindery/cmd/bindery")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build bindery: %w\n%s", err, said)
	}
	return out, nil
}

// A service is one running bindery process with a store of its own.
type service struct {
	name     string
	dir      string
	address  string // of its listener
	metrics  string // its URL
	password string // of the platform
	cmd      *exec.Cmd
	exited   chan struct{}
	stopped  bool
	kinds    map[string]*overHTTP
}

var configuration = template.Must(template.New("").Parse(`store:
  url: sqlite:bindery.db
seal:
  key: {file: seal-key}
listeners:
  - address: 127.0.0.1:0
    faces: [osb]
metrics:
  address: 127.0.0.1:0
platforms:
  - name: {{.Platform}}
    credentials:
      - username: {{.Platform}}
        password: {file: platform-password}
reconcile:
  interval: 168h
{{- if .Workers}}
limits:
  workers_per_server: {{.Workers}}
{{- end}}
servers:
{{- range .Servers}}
  - name: {{.Name}}
    kind: {{.Kind}}
    {{- if .Address}}
    address: {{.Address}}
    {{- end}}
    {{- if .Username}}
    username: {{.Username}}
    password: {file: {{.Name}}-password}
    {{- end}}
    {{- if .Public}}
    public: {{.PublicYAML}}
    {{- end}}
    {{- if .Settings}}
    settings: {{.SettingsYAML}}
    {{- end}}
    {{- if .Secrets}}
    secrets:
    {{- $name := .Name}}
    {{- range $secret, $value := .Secrets}}
      - {name: {{$secret}}, value: {file: {{$name}}-{{$secret}}}}
    {{- end}}
    {{- end}}
{{- end}}
catalog:
{{- range .Offerings}}
  - id: {{.ID}}
    name: {{.Kind}}
    description: What is measured
    plans:
    {{- range .Plans}}
      - id: {{.ID}}
        name: {{.Name}}
        description: {{.Description}}
        binding_rotatable: {{.Rotatable}}
        servers: [{{.Servers}}]
    {{- end}}
{{- end}}
`))

type (
	configuredOffering struct {
		ID, Kind string
		Plans    []configuredPlan
	}
	configuredPlan struct {
		ID, Name, Description, Servers string
		Rotatable                      bool
	}
)

// configure writes the configuration and the secrets that it refers to.
func (b *bench) configure(s *service, key seal.Key, backends []*backend) error {
	data := struct {
		Platform  string
		Workers   int
		Servers   []configuredServer
		Offerings []configuredOffering
	}{Platform: platform, Workers: b.workers}
	for _, k := range kinds {
		o := configuredOffering{ID: k.offering(), Kind: k.name}
		for _, running := range backends {
			if running.kind != k {
				continue
			}
			var names []string
			for _, server := range running.servers {
				names = append(names, server.Name)
			}
			data.Servers = append(data.Servers, running.servers...)
			o.Plans = append(o.Plans, configuredPlan{k.plan(), "shared", "On a shared server", strings.Join(names, ", "), k.name != kindStatic})
		}
		if slices.Contains(parkedKinds, k.name) {
			data.Servers = append(data.Servers, configuredServer{
				Name: k.parked(), Kind: k.name, Address: "127.0.0.1:1", Username: "parked", Password: bindery.NewSecret(newPassword()),
			})
			o.Plans = append(o.Plans, configuredPlan{k.parkedPlan(), "parked", "What is in the store only", k.parked(), true})
		}
		if o.Plans != nil {
			data.Offerings = append(data.Offerings, o)
		}
	}
	var text bytes.Buffer
	if err := configuration.Execute(&text, data); err != nil {
		return err
	}
	files := map[string]string{"bindery.yaml": text.String(), "seal-key": key.Reveal(), "platform-password": s.password}
	for _, server := range data.Servers {
		if server.Username != "" {
			files[server.Name+"-password"] = server.Password.Reveal()
		}
		for name, secret := range server.Secrets {
			files[server.Name+"-"+name] = secret.Reveal()
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// serve starts Bindery on a new store that has this many bindings already.
func (b *bench) serve(ctx context.Context, name string, rows int, backends ...*backend) (*service, error) {
	s := &service{name: name, dir: filepath.Join(b.dir, name), password: newPassword(), kinds: map[string]*overHTTP{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	key := seal.NewKey()
	if err := b.configure(s, key, backends); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := seed(ctx, filepath.Join(s.dir, "bindery.db"), key, rows); err != nil {
		return nil, fmt.Errorf("fill the store: %w", err)
	}
	b.say("%d bindings put into the store %q in %s", rows, name, time.Since(began).Round(time.Millisecond))
	if err := s.start(ctx, b.program); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.lastOutput())
	}
	b.closers = append(b.closers, s.stop)
	for _, running := range backends {
		h := &overHTTP{service: s, kind: running.kind}
		if err := h.provision(ctx); err != nil {
			return nil, fmt.Errorf("provision: %w\n%s", err, s.lastOutput())
		}
		s.kinds[running.name] = h
	}
	return s, nil
}

func (s *service) contender(kind string) *overHTTP { return s.kinds[kind] }

func (s *service) logFile() string { return filepath.Join(s.dir, "bindery.log") }

// startLimit bounds the wait until Bindery answers.
const startLimit = time.Minute

func (s *service) start(ctx context.Context, program string) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	s.cmd = exec.Command(program, "serve", "-c", filepath.Join(s.dir, "bindery.yaml"))
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() { defer close(s.exited); _ = s.cmd.Wait() }() // lastOutput says why

	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		started, err := s.started()
		if err != nil || started {
			return err
		}
		select {
		case <-s.exited:
			return errors.New("bindery stopped while starting")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// started reads from the log where Bindery listens, and whether it has started.
func (s *service) started() (bool, error) {
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(log) {
		var l struct {
			Message string `json:"msg"`
			Serves  string `json:"serves"`
			URL     string `json:"url"`
		}
		if json.Unmarshal(line, &l) != nil {
			continue // half a line, so far
		}
		switch {
		case l.Message == "listening" && l.Serves == "metrics":
			s.metrics = l.URL
		case l.Message == "listening":
			u, err := url.Parse(l.URL)
			if err != nil {
				return false, err
			}
			s.address = net.JoinHostPort(u.Hostname(), u.Port())
		case l.Message == "started":
			return true, nil
		}
	}
	return false, nil
}

// lastOutput is what Bindery said last.
func (s *service) lastOutput() string {
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	const enough = 4 << 10
	return strings.TrimSpace(string(log[max(0, len(log)-enough):]))
}

// stop lets Bindery drain, and kills it where it does not.
func (s *service) stop() error {
	if s.stopped || s.cmd.Process == nil {
		return nil
	}
	s.stopped = true
	select {
	case <-s.exited:
		return fmt.Errorf("bindery %q stopped by itself:\n%s", s.name, s.lastOutput())
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(startLimit):
		return errors.Join(fmt.Errorf("bindery %q did not stop", s.name), s.cmd.Process.Kill())
	}
}

// profileSeconds is how long a CPU profile of binds, or of the unbinds after them, is.
var profileSeconds = map[string]int{"bind": 12, "unbind": 2}

// profile takes CPU profiles of Bindery during more binds and unbinds, which are
// not measured. There are fewer seconds of unbinds: they need what was bound before.
func (b *bench) profile(ctx context.Context, s *service, kind string, clients int) error {
	if b.cpuprofile == "" {
		return nil
	}
	if err := os.MkdirAll(b.cpuprofile, 0o750); err != nil {
		return err
	}
	c := s.contender(kind)
	if err := c.connect(ctx, clients); err != nil {
		return err
	}
	defer c.disconnect()
	var made, removed atomic.Int64
	first := serials.Load() + 1
	bind := func(client int) (bool, error) {
		return true, c.create(ctx, client, serials.Add(1))
	}
	unbind := func(client int) (bool, error) {
		n := removed.Add(1)
		if n > made.Load() {
			return false, nil
		}
		return true, c.remove(ctx, client, first+n-1)
	}
	take := func(what string, next func(int) (bool, error)) error {
		b.say("profile %s", what)
		seconds := profileSeconds[what]
		taken := make(chan error, 1)
		go func() {
			file := filepath.Join(b.cpuprofile, fmt.Sprintf("%s-%s-%d.pprof", kind, what, clients))
			taken <- download(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.metrics, seconds), file)
		}()
		_, err := load(clients, time.Duration(seconds)*time.Second, next)
		return errors.Join(err, <-taken)
	}
	if err := take("bind", bind); err != nil {
		return err
	}
	made.Store(serials.Load() - first + 1)
	if err := take("unbind", unbind); err != nil {
		return err
	}
	_, err := load(clients, time.Hour, unbind) // what is left
	if removed.Load() > made.Load() {
		err = nil // nothing was
	}
	return err
}

func download(ctx context.Context, from, to string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", from, answer.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, body, 0o600)
}
