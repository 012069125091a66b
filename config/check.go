package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
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

// maxName is what the strictest known platform takes for names and ids.
const maxName = 63

var (
	catalogName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
	catalogID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	ownName     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
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

// keyPair checks that a certificate and its key can be read and belong together.
func (c *checker) keyPair(p, cert, key string, needed bool) {
	if cert == "" && key == "" && !needed {
		return
	}
	if cert == "" {
		c.addf(p+".cert_file", "is missing")
	}
	if key == "" {
		c.addf(p+".key_file", "is missing")
	}
	if cert == "" || key == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		c.addf(p, "file %s: %v", pe.Path, pe.Err)
		return
	}
	if err != nil {
		c.addf(p, "certificate %s and key %s: %v", cert, key, err)
		return
	}
	if now := time.Now(); pair.Leaf != nil && (now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore)) {
		c.warnf("%s: the certificate is valid from %s to %s, which is not now", cert,
			pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339))
	}
}

// caFile returns the contents of a file of certificates.
func (c *checker) caFile(p, name string) string {
	if name == "" {
		return ""
	}
	b, err := os.ReadFile(name)
	if err != nil {
		c.addf(p, "file %s: %v", name, reason(err))
		return ""
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		c.addf(p, "file %s: has no PEM certificate", name)
	}
	return string(b)
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

// token checks a secret that a caller sends in a header.
func (c *checker) token(p string, r Ref) {
	switch v := r.value.Reveal(); {
	case !r.Set():
		c.addf(p, "is missing")
	case v == "": // said already
	case len(v) < 16:
		c.addf(p, "is shorter than 16 characters")
	case strings.ContainsAny(v, " \t\r\n") || hasControl(v):
		c.addf(p, "has white space or a control character in it, which a header cannot carry")
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

func (c *checker) serverList(list []Server) []bindery.Server {
	names, addresses := map[string]bool{}, map[string]string{}
	out := make([]bindery.Server, 0, len(list))
	for i := range list {
		s, p := &list[i], at("servers", i)
		c.own(p+".name", s.Name, names)
		kind, known := c.kinds[s.Kind]
		switch {
		case s.Kind == "":
			c.addf(p+".kind", "is missing: one of %s", c.kindNames())
		case !known:
			c.addf(p+".kind", "%.63q is none of %s", s.Kind, c.kindNames())
		case kind.CheckServer != nil:
			if err := kind.CheckServer(s.Settings.Raw()); err != nil {
				c.addf(p+".settings", "%v", err)
			}
		}
		secrets := c.secrets(p, s, kind)
		d := bindery.Server{
			Name: s.Name, Kind: s.Kind, Address: s.Address, Username: s.Username,
			Password: s.Password.Secret(), Timeout: s.Timeout, Settings: s.Settings.Raw(), Secrets: secrets,
		}
		switch {
		case kind.Local:
			if s.Address != "" || s.Username != "" || s.TLS != nil {
				c.addf(p, "kind %s is its own server: address, username and tls make no sense", s.Kind)
			}
		case c.address(p+".address", s.Address, false):
			// Two names for one server would each take the other's accounts for strays.
			key := s.Kind + " " + strings.ToLower(s.Address)
			if other, taken := addresses[key]; taken {
				c.addf(p+".address", "is the address of server %s too", other)
			}
			addresses[key] = s.Name
			host, port, _ := net.SplitHostPort(s.Address)
			d.Public.Host = host
			d.Public.Port, _ = strconv.Atoi(port)
			if s.TLS == nil && !loopback(s.Address) {
				c.warnf("server %s is administered without TLS", s.Name)
			}
		}
		c.between(p+".timeout", s.Timeout, 100*time.Millisecond, time.Hour)
		d.TLS = c.serverTLS(p+".tls", s.Name, s.TLS)
		c.public(p+".public", s.Public, &d)
		out = append(out, d)
	}
	return out
}

// secrets returns a server's secrets by name.
func (c *checker) secrets(p string, s *Server, kind bindery.Kind) map[string]bindery.Secret {
	out := make(map[string]bindery.Secret, len(s.Secrets))
	for i, n := range s.Secrets {
		at := at(p+".secrets", i)
		switch _, twice := out[n.Name]; {
		case n.Name == "":
			c.addf(at+".name", "is missing")
		case twice:
			c.addf(at+".name", "%.63q is given twice", n.Name)
		case !n.Value.Set():
			c.addf(at+".value", "is missing")
		}
		out[n.Name] = n.Value.Secret()
	}
	switch {
	case kind.CheckSecrets != nil:
		if err := kind.CheckSecrets(s.Password.Secret(), out); err != nil {
			c.addf(p, "%v", err)
		}
	case len(out) > 0 && s.Kind != "":
		c.addf(p+".secrets", "kind %s takes none", s.Kind)
	}
	return out
}

func (c *checker) serverTLS(p, name string, t *ServerTLS) *bindery.ServerTLS {
	if t == nil {
		return nil
	}
	t.CAFile, t.CertFile, t.KeyFile = c.abs(t.CAFile), c.abs(t.CertFile), c.abs(t.KeyFile)
	c.caFile(p+".ca_file", t.CAFile)
	c.keyPair(p, t.CertFile, t.KeyFile, false)
	if t.InsecureSkipVerify {
		c.warnf("server %s: its certificate is not verified (insecure_skip_verify)", name)
	}
	out := bindery.ServerTLS(*t)
	return &out
}

func (c *checker) public(p string, pub Public, d *bindery.Server) {
	if pub.Host != "" {
		d.Public.Host = pub.Host
		if strings.ContainsAny(pub.Host, "/@ ") || hasControl(pub.Host) {
			c.addf(p+".host", "must be a host name or an address, without a port")
		}
	}
	if pub.Port != 0 {
		d.Public.Port = pub.Port
		c.within(p+".port", int64(pub.Port), 1, 65535)
	}
	d.Public.TLS = d.TLS != nil
	if pub.TLS != nil {
		d.Public.TLS = *pub.TLS
	}
	if pub.CAFile != "" && !d.Public.TLS {
		c.addf(p+".ca_file", "makes no sense without tls")
	}
	d.Public.CA = c.caFile(p+".ca_file", c.abs(pub.CAFile))
}

func (c *checker) kindNames() string {
	names := make([]string, 0, len(c.kinds))
	for k := range c.kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// own checks a name that is kept in the store, and that it is the only one.
func (c *checker) own(p, name string, seen map[string]bool) {
	switch {
	case name == "":
		c.addf(p, "is missing")
	case len(name) > maxName || !ownName.MatchString(name):
		c.addf(p, "must be at most %d of a-z 0-9 . _ -, beginning with a letter or digit", maxName)
	case seen[name]:
		c.addf(p, "%q is given twice", name)
	}
	seen[name] = true
}

func (c *checker) oneOf(p, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		c.addf(p, "%.63q is none of %s", v, strings.Join(allowed, ", "))
	}
}

func (c *checker) within(p string, v, low, high int64) {
	if v < low || v > high {
		c.addf(p, "must be from %d to %d", low, high)
	}
}

func (c *checker) between(p string, v, low, high time.Duration) {
	if v < low || v > high {
		c.addf(p, "must be from %v to %v", low, high)
	}
}

// address checks host:port. zero allows port 0.
func (c *checker) address(p, a string, zero bool) bool {
	if a == "" {
		c.addf(p, "is missing")
		return false
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" && !zero || strings.ContainsAny(host, "/@ ") || hasControl(host) {
		c.addf(p, "must be host:port")
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !zero {
		c.addf(p, "has no port from 1 to 65535")
		return false
	}
	return true
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// loopback reports whether only this machine can reach the address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// InsideDir returns name as it is written in a configuration file in dir:
// relative where it is inside.
func InsideDir(dir, name string) string {
	if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return name
}
