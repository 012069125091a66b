package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"bindery"
	"bindery/api"
	"bindery/api/authn"
	"bindery/api/openapi"
	"bindery/api/pki"
	"bindery/config"
	"bindery/driver"
	"bindery/store"
	"bindery/telemetry"
)

func serveCommand(st streams) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Answer requests, as a configuration file says",
		Long: "Answer requests, as a configuration file says (docs/configuration.md), until SIGTERM or SIGINT,\n" +
			"which let requests and operations end first. SIGHUP reads the file again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilStopped(cmd.Context())
			defer stop()
			s, err := newService(ctx, st, file)
			if err != nil {
				return err
			}
			return s.Run(ctx)
		},
	}
	fileFlag(c, &file)
	return c
}

// untilStopped returns a context that ends with the first SIGTERM or SIGINT.
// The second ends the process at once.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// A service is everything that one process of `bindery serve` consists of.
type service struct {
	st      streams
	file    string
	level   slog.LevelVar
	lines   *telemetry.Lines // where the log goes
	log     *slog.Logger
	metrics *telemetry.Metrics

	store    *store.Store
	backends *backends
	engine   *engine
	identity *identityFace // nil: no listener serves it

	// What a reload replaces.
	reloading sync.Mutex
	cfg       *config.Config
	began     *config.Config // what this process started with
	catalog   atomic.Pointer[bindery.Catalog]
	platforms api.Platforms
	tokens    api.Tokens
	keys      authn.Keys

	health    *api.Health
	listeners []*listener // as in the configuration
	extra     *listener   // metrics; may be nil
	// ready is called once everything answers.
	ready func() error
}

// loadConfig reads and checks a configuration as a start does: drivers and keys included.
func loadConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file, driver.Kinds)
	if err != nil {
		return nil, err
	}
	if _, err := openKeys(cfg); err != nil {
		return nil, err
	}
	for _, s := range cfg.BackendServers("check0") {
		d, err := driver.Kinds[s.Kind].Open(s)
		if err != nil {
			return nil, fmt.Errorf("%s: server %s: %w", file, s.Name, err)
		}
		if err := d.Close(); err != nil {
			return nil, fmt.Errorf("%s: server %s: %w", file, s.Name, err)
		}
	}
	return cfg, nil
}

// newService opens everything that a configuration names, in the order in which
// it is needed, and answers nothing yet. No backend has to be up.
func newService(ctx context.Context, st streams, file string) (_ *service, err error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	s := &service{st: st, file: file, cfg: cfg, began: cfg, metrics: telemetry.NewMetrics(buildVersion())}
	s.level.Set(telemetry.ParseLevel(cfg.Log.Level))
	s.lines = telemetry.NewLines(st.Err)
	s.log = telemetry.NewLog(s.lines, &s.level)
	slog.SetDefault(s.log) // for libraries
	redis.SetLogger(redisLog{s.log})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.store, err = openStore(ctx, cfg); err != nil {
		return nil, err
	}
	if err := s.keeps(ctx, cfg); err != nil {
		return nil, err
	}
	s.backends = &backends{kinds: driver.Kinds, metrics: s.metrics, log: s.log}
	change, err := s.backends.prepare(s.servers(cfg))
	if err != nil {
		return nil, err
	}
	s.backends.apply(change)
	s.catalog.Store(cfg.BackendCatalog())
	if err := s.platforms.Set(platformsOf(cfg)); err != nil {
		return nil, err
	}
	if err := s.tokens.Set(tokensOf(cfg)); err != nil {
		return nil, err
	}
	if err := s.keys.Set(keysOf(cfg)); err != nil {
		return nil, err
	}
	s.health = &api.Health{Checks: s.checks, Now: time.Now}
	if s.engine, err = newEngine(ctx, s); err != nil {
		return nil, err
	}
	if cfg.Serves(config.FaceAuthn) {
		if s.identity, err = newIdentity(s); err != nil {
			return nil, err
		}
	}
	return s, s.listen()
}

// servers are those of a configuration, as their drivers are opened.
func (s *service) servers(cfg *config.Config) []bindery.Server {
	out := cfg.BackendServers(s.store.Installation())
	for i := range out {
		out[i].Store = s.store
	}
	return out
}

// keeps refuses a configuration that lacks what live instances need.
func (s *service) keeps(ctx context.Context, cfg *config.Config) error {
	var uses []bindery.PlanUse
	err := s.store.View(ctx, func(tx bindery.Tx) (err error) {
		uses, err = tx.Instances().InUse(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("look up the plans in use: %w", err)
	}
	return cfg.Keeps(uses)
}

func platformsOf(cfg *config.Config) []api.Platform {
	out := make([]api.Platform, 0, len(cfg.Platforms))
	for _, p := range cfg.Platforms {
		a := api.Platform{Name: p.Name}
		for _, c := range p.Credentials {
			a.Credentials = append(a.Credentials, api.Credential{Username: c.Username, Password: c.Password.Secret()})
		}
		out = append(out, a)
	}
	return out
}

func tokensOf(cfg *config.Config) []bindery.Secret {
	out := make([]bindery.Secret, 0, len(cfg.Admin.Tokens))
	for _, t := range cfg.Admin.Tokens {
		out = append(out, t.Token.Secret())
	}
	return out
}

// checks are what /readyz reports: the store, without which nothing works, and
// every server, each of which concerns its own instances only, and accounts that
// were to be dead and are not.
func (s *service) checks() []api.Check {
	checks := []api.Check{{Name: "store", Essential: true, Ping: s.store.Ping}}
	for _, b := range s.backends.all() {
		ping := func(ctx context.Context) error { return s.backends.ping(ctx, b) }
		checks = append(checks, api.Check{Name: "server " + b.server.Name, Ping: ping})
	}
	return append(checks, api.Check{Name: "revocations", Ping: func(context.Context) error { return s.engine.stuck() }})
}

// listen binds every address, so that a start fails before it says that it is ready.
func (s *service) listen() error {
	document, err := openapi.Document()
	if err != nil {
		return err
	}
	for _, l := range s.cfg.Listeners {
		faces := append(s.health.Faces(), api.DocumentFace(document))
		for _, f := range l.Faces {
			switch f {
			case config.FaceOSB:
				faces = append(faces, s.engine.osb)
			case config.FaceAuthn:
				faces = append(faces, s.identity.face)
			case config.FaceAdmin:
				faces = append(faces, s.engine.admin)
			case config.FacePKI:
				faces = append(faces, (&pki.Handler{Publisher: s.backends.publisher}).Face())
			}
		}
		h := &api.Handler{
			Faces: faces, Log: s.log, Now: time.Now, MaxBody: s.cfg.Limits.MaxBodyBytes,
			Observe: func(c *api.Call) {
				s.metrics.Request(c.Face, c.Method, c.Route, c.Status, time.Since(c.Started))
			},
		}
		bound, err := listen(l, h, s.log)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Address, err)
		}
		s.listeners = append(s.listeners, bound)
	}
	if a := s.cfg.Metrics.Address; a != "" {
		if s.extra, err = listenMetrics(a, s.metrics.Handler(s.cfg.PprofEnabled()), s.log); err != nil {
			return fmt.Errorf("metrics listener %s: %w", a, err)
		}
	}
	return nil
}

// Run answers requests until ctx ends or something fails, then drains: /readyz
// says so, no new request is accepted, those under way end, then operations that
// have begun, and then everything is closed.
func (s *service) Run(ctx context.Context) error {
	for _, w := range s.cfg.Warnings() {
		s.log.Warn(w)
	}
	if !s.cfg.Serves(config.FacePKI) {
		for _, name := range s.backends.publishers() {
			s.log.Warn("server " + name + ": no listener serves the face pki: nobody learns from this process which certificates were revoked")
		}
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	front, back := newGroup(), newGroup()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for name, run := range s.engine.runs {
		back.run(work, name, run)
	}
	if s.identity != nil {
		for name, run := range s.identity.runs {
			back.run(work, name, run)
		}
	}
	back.run(work, "health", s.health.Run)
	back.run(work, "memory", trimMemory)
	paceCollector()
	for _, l := range s.all() {
		front.run(work, "listener "+l.url(), l.serve)
		s.log.Info("listening", "serves", l.name, "url", l.url())
	}
	if s.ready != nil {
		first, cancel := context.WithTimeout(ctx, s.cfg.Limits.Drain)
		_ = s.health.Await(first) // what is wrong stands in /readyz, and answers are given all the same
		cancel()
		if err := s.ready(); err != nil {
			return errors.Join(err, s.drain(front, back, stop))
		}
	}
	s.log.Info("started", "version", buildVersion(), "config", s.file, "installation", s.store.Installation())
	notifySystemd(s.st, "READY=1")
	for {
		select {
		case <-hup:
			notifySystemd(s.st, "RELOADING=1")
			s.reload(work)
			notifySystemd(s.st, "READY=1")
			continue
		case <-ctx.Done():
			s.log.Info("stopping")
		case <-front.failed:
			s.log.Error("stopping after a failure", "error", front.failure().Error())
		case <-back.failed:
			s.log.Error("stopping after a failure", "error", back.failure().Error())
		}
		return s.drain(front, back, stop)
	}
}

func (s *service) all() []*listener {
	if s.extra == nil {
		return s.listeners
	}
	return append(s.listeners[:len(s.listeners):len(s.listeners)], s.extra)
}

// drain ends everything in order. What it returns is the failure that made it
// necessary, or what went wrong in ending.
func (s *service) drain(front, back *group, stop context.CancelFunc) error {
	notifySystemd(s.st, "STOPPING=1")
	limit := s.cfg.Limits.Drain / 2 // for the requests, and again for the operations
	s.health.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	closing := newGroup()
	for _, l := range s.listeners {
		closing.run(ctx, "listener "+l.url(), l.shutdown)
	}
	closing.wait(limit + time.Second)
	if err := closing.failure(); err != nil {
		s.log.Warn("requests did not end in time and were cut", "error", err.Error())
	}
	stop()
	if !back.wait(limit + time.Second) {
		s.log.Warn("operations did not end in time; the next start carries them on")
	}
	if s.extra != nil {
		_ = s.extra.server.Close() // whoever scrapes tries again
	}
	front.wait(time.Second)
	err := errors.Join(front.failure(), back.failure(), s.close())
	s.log.Info("stopped")
	return err
}

// close closes what was opened; listeners too, where Run was never called.
func (s *service) close() error {
	defer s.lines.Flush()
	for _, l := range s.all() {
		if l != nil && l.socket != nil {
			_ = l.socket.Close() // closed already after Run
		}
	}
	if s.backends != nil {
		s.backends.close()
	}
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}
