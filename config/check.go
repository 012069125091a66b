package config

import (
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"bindery"
)

// The faces that a listener can serve.
const (
	FaceOSB   = "osb"
	FaceAdmin = "admin"
	FacePKI   = "pki"
)

// A checker collects what is wrong and makes the domain's form of what is right.
type checker struct {
	lines    map[string]int
	problems []Problem
	warnings []string
	dir      string
	kinds    map[string]bindery.Kind
	env      func(string) (string, bool)
}

func (c *checker) config(cfg *Config) {
	c.refs(reflect.ValueOf(cfg).Elem(), "")
	c.store(&cfg.Store)
	c.seal(cfg.Seal)
	c.listeners(cfg)
	c.metrics(cfg.Metrics)
	c.oneOf("log.level", cfg.Log.Level, "debug", "info", "warn", "error")
	c.platforms(cfg.Platforms)
	c.admin(cfg.Admin)
	c.identity(&cfg.Identity)
	c.limits(cfg)
	cfg.servers = c.serverList(cfg.Servers)
	cfg.catalog = c.offerings(cfg.Catalog, cfg.Servers, cfg.Serves(FaceOSB))
}

func (c *checker) store(s *Store) {
	scheme, rest, ok := strings.Cut(s.URL, ":")
	switch {
	case s.URL == "":
		c.addf("store.url", "is missing")
	case ok && scheme == "sqlite":
		name, query, _ := strings.Cut(rest, "?")
		name = strings.TrimPrefix(name, "//")
		if name == "" || name == ":memory:" || query != "" {
			c.addf("store.url", "must be sqlite:FILE, with a file and nothing behind it")
			return
		}
		if s.Password.Set() {
			c.addf("store.password", "is for postgres only")
		}
		s.URL = "sqlite:" + c.abs(name)
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		u, err := url.Parse(s.URL)
		if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
			c.addf("store.url", "must be postgres://USER@HOST:PORT/DATABASE")
			return
		}
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			c.addf("store.url", "has a password in it: put it into store.password, as {file: …} or {env: …}")
		}
		switch u.Query().Get("sslmode") {
		case "verify-full", "verify-ca":
		default:
			if !loopback(u.Host) && !loopback(net.JoinHostPort(u.Hostname(), "5432")) {
				c.warnf("store.url: without sslmode=verify-full nothing proves that the store is the right one")
			}
		}
	default:
		c.addf("store.url", "must begin with sqlite: or postgres://")
	}
}

// StoreURL is the store's URL with its password in it.
func (c *Config) StoreURL() bindery.Secret {
	u, err := url.Parse(c.Store.URL)
	if err != nil || c.Store.Password.Secret().Empty() {
		return bindery.NewSecret(c.Store.URL)
	}
	u.User = url.UserPassword(u.User.Username(), c.Store.Password.Secret().Reveal())
	return bindery.NewSecret(u.String())
}

func (c *checker) seal(s Seal) {
	if !s.Key.Set() {
		c.addf("seal.key", "is missing")
	}
	for i, p := range s.Previous {
		if p.Set() && !p.value.Empty() && p.value.Equal(s.Key.value) {
			c.addf(at("seal.previous", i), "is the same key as seal.key")
		}
	}
}

func (c *checker) listeners(cfg *Config) {
	if len(cfg.Listeners) == 0 {
		c.addf("listeners", "is missing: there must be at least one")
	}
	served := map[string]bool{}
	seen := map[string]bool{}
	for i, l := range cfg.Listeners {
		p := at("listeners", i)
		if c.address(p+".address", l.Address, true) {
			if !strings.HasSuffix(l.Address, ":0") && seen[l.Address] {
				c.addf(p+".address", "is used by another listener")
			}
			seen[l.Address] = true
			switch {
			case l.TLS != nil && l.Insecure:
				c.addf(p+".insecure", "makes no sense beside tls")
			case l.TLS == nil && slices.Equal(l.Faces, []string{FacePKI}):
				// What it says is signed, and verifiers ask for it in clear (RFC 5280, section 8).
			case l.TLS == nil && !loopback(l.Address) && !l.Insecure:
				c.addf(p, "%s is not a loopback address and has no tls; credentials would travel in clear. Give tls, or insecure: true where something in front does TLS", l.Address)
			case l.TLS == nil && !loopback(l.Address):
				c.warnf("listener %s answers without TLS to everybody who can reach it", l.Address)
			}
		}
		if len(l.Faces) == 0 {
			c.addf(p+".faces", "is missing: one or more of osb, authn, admin and pki")
		}
		for j, f := range l.Faces {
			c.oneOf(at(p+".faces", j), f, FaceOSB, FaceAuthn, FaceAdmin, FacePKI)
			if slices.Contains(l.Faces[:j], f) {
				c.addf(at(p+".faces", j), "is given twice")
			}
			served[f] = true
		}
		if l.TLS != nil {
			c.listenerTLS(p+".tls", l.TLS)
		}
		if slices.Contains(l.Faces, FaceAuthn) {
			c.identityListener(p, l)
		}
	}
	if len(cfg.Listeners) > 0 && !served[FaceOSB] && !served[FaceAuthn] {
		c.addf("listeners", "no listener serves the face osb or authn")
	}
	if served[FaceAuthn] && len(cfg.Identity.Keys) == 0 {
		c.addf("identity.keys", "is missing: nobody could administer the face authn")
	}
	if served[FaceOSB] && len(cfg.Platforms) == 0 {
		c.addf("platforms", "is missing: nobody could use the face osb")
	}
	if served[FaceAdmin] && len(cfg.Admin.Tokens) == 0 {
		c.addf("admin.tokens", "is missing: nobody could use the face admin")
	}
}

// Serves reports whether some listener serves the face.
func (c *Config) Serves(face string) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return slices.Contains(l.Faces, face) })
}

func (c *checker) listenerTLS(p string, t *TLS) {
	t.CertFile, t.KeyFile, t.ClientCAFile = c.abs(t.CertFile), c.abs(t.KeyFile), c.abs(t.ClientCAFile)
	c.keyPair(p, t.CertFile, t.KeyFile, true)
	c.caFile(p+".client_ca_file", t.ClientCAFile)
}

func (c *checker) metrics(m Metrics) {
	if m.Address == "" {
		if m.Pprof != nil {
			c.addf("metrics.address", "is missing")
		}
		return
	}
	if c.address("metrics.address", m.Address, true) && m.Pprof != nil && *m.Pprof && !loopback(m.Address) {
		c.warnf("metrics: profiles are served on %s to everybody who can reach it", m.Address)
	}
}

func (c *checker) platforms(ps []Platform) {
	names, users := map[string]bool{}, map[string]int{}
	for i, pl := range ps {
		p := at("platforms", i)
		c.own(p+".name", pl.Name, names)
		if len(pl.Credentials) == 0 {
			c.addf(p+".credentials", "is missing: there must be at least one")
		}
		for j, cr := range pl.Credentials {
			cp := at(p+".credentials", j)
			owner, taken := users[cr.Username]
			switch {
			case cr.Username == "":
				c.addf(cp+".username", "is missing")
			case strings.ContainsRune(cr.Username, ':') || hasControl(cr.Username):
				c.addf(cp+".username", "has a colon or a control character in it, which basic authentication cannot carry")
			case taken && owner != i:
				c.addf(cp+".username", "is a username of another platform too")
			default:
				users[cr.Username] = i
			}
			if !cr.Password.Set() {
				c.addf(cp+".password", "is missing")
			} else if hasControl(cr.Password.value.Reveal()) {
				c.addf(cp+".password", "has a control character in it, which basic authentication cannot carry")
			}
		}
	}
}

func (c *checker) admin(a Admin) {
	names := map[string]bool{}
	for i, t := range a.Tokens {
		p := at("admin.tokens", i)
		c.own(p+".name", t.Name, names)
		c.token(p+".token", t.Token)
	}
}

func (c *checker) limits(cfg *Config) {
	l := cfg.Limits
	c.within("limits.max_body_bytes", l.MaxBodyBytes, 1<<10, 64<<20)
	c.within("limits.workers_per_server", int64(l.WorkersPerServer), 1, 256)
	c.between("limits.sync_budget", l.SyncBudget, time.Millisecond, 10*time.Minute)
	c.between("limits.request_wait", l.RequestWait, time.Millisecond, 10*time.Minute)
	if l.SyncBudget > l.RequestWait {
		c.addf("limits.sync_budget", "is longer than limits.request_wait")
	}
	c.between("limits.create_deadline", l.CreateDeadline, time.Second, 7*24*time.Hour)
	c.between("limits.drain", l.Drain, time.Second, time.Hour)
	c.between("retention.operations", cfg.Retention.Operations, time.Hour, 100*365*24*time.Hour)
	c.between("retention.events", cfg.Retention.Events, time.Hour, 100*365*24*time.Hour)
	c.between("retention.authentications", cfg.Retention.Authentications, time.Hour, 100*365*24*time.Hour)
	c.between("reconcile.interval", cfg.Reconcile.Interval, time.Second, 7*24*time.Hour)
	if s := cfg.Options.MissingVersionStatus; s != 400 && s != 412 {
		c.addf("options.missing_version_status", "must be 400 or 412")
	}
	c.oneOf("options.deprovision_with_bindings", cfg.Options.DeprovisionWithBindings, "cascade", "refuse")
}
