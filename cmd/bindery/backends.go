package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"

	"bindery"
	"bindery/telemetry"
)

// backends holds the driver of every configured server. A reload replaces
// drivers while calls are under way: each call ends on the driver that it began
// with, and a driver is closed when its last call has ended.
type backends struct {
	kinds   map[string]bindery.Kind
	metrics *telemetry.Metrics
	log     *slog.Logger

	mu      sync.RWMutex
	servers map[string]*backend
	closing sync.WaitGroup // drivers that were replaced
}

// A backend is one server under its name, whatever its driver is at the moment.
type backend struct {
	server bindery.Server
	files  [sha256.Size]byte // what its TLS files contained
	slot   *slot
	driver bindery.Driver // slot, measured
}

// A slot holds the driver that calls go to.
type slot struct {
	mu  sync.RWMutex
	now *opened
}

type opened struct {
	driver bindery.Driver
	calls  sync.WaitGroup
}

// A change is a set of servers that was opened and not yet put to use.
type change struct {
	next  map[string]*backend
	fresh map[string]bindery.Driver // opened for this change
	log   []string
	gone  []bindery.Server
}

// prepare opens what is new or differs. It has no effect on what is in use.
func (b *backends) prepare(servers []bindery.Server) (*change, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	c := &change{next: map[string]*backend{}, fresh: map[string]bindery.Driver{}}
	for _, s := range servers {
		files, err := tlsFiles(s)
		if err != nil {
			c.discard()
			return nil, err
		}
		old := b.servers[s.Name]
		if old != nil && reflect.DeepEqual(old.server, s) && old.files == files {
			c.next[s.Name] = old
			continue
		}
		d, err := b.kinds[s.Kind].Open(s)
		if err != nil {
			c.discard()
			return nil, fmt.Errorf("open server %s: %w", s.Name, err)
		}
		c.fresh[s.Name] = d
		n := &backend{server: s, files: files}
		if old != nil && old.server.Kind == s.Kind {
			// The same name keeps its slot: whoever holds its driver follows.
			n.slot, n.driver = old.slot, old.driver
			c.log = append(c.log, "changed "+s.Name)
		} else {
			n.slot = &slot{}
			n.driver = b.metrics.Driver(s.Kind, s.Name, n.slot)
			c.log = append(c.log, "added "+s.Name)
		}
		c.next[s.Name] = n
	}
	for name, old := range b.servers {
		if c.next[name] == nil {
			c.gone = append(c.gone, old.server)
			c.log = append(c.log, "removed "+name)
		}
	}
	slices.Sort(c.log)
	return c, nil
}

// discard closes what was opened for a change that does not come.
func (c *change) discard() {
	for _, d := range c.fresh {
		_ = d.Close()
	}
}

// apply puts a change to use. It cannot fail.
func (b *backends) apply(c *change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, d := range c.fresh {
		b.retire(name, c.next[name].slot.set(&opened{driver: d}))
		if old := b.servers[name]; old != nil && old.slot != c.next[name].slot {
			b.retire(name, old.slot.set(nil))
		}
	}
	for _, s := range c.gone {
		b.retire(s.Name, b.servers[s.Name].slot.set(nil))
		b.metrics.Forget(s.Kind, s.Name)
	}
	b.servers = c.next
}

// retire closes a driver when its last call has ended.
func (b *backends) retire(name string, o *opened) {
	if o == nil {
		return
	}
	b.closing.Go(func() {
		o.calls.Wait()
		if err := o.driver.Close(); err != nil {
			b.log.Warn("close a server's driver", "server", name, "error", err.Error())
		}
	})
}

// Driver returns the driver of a configured server. What it returns follows
// later changes of that server.
func (b *backends) Driver(server string) (bindery.Driver, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.servers[server]
	if !ok {
		return nil, false
	}
	return s.driver, true
}

// all returns every server, by name.
func (b *backends) all() []*backend {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*backend, 0, len(b.servers))
	for _, s := range b.servers {
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y *backend) int { return cmp.Compare(x.server.Name, y.server.Name) })
	return out
}

// close closes every driver and returns when all are closed. Nothing may be
// under way any more that is worth waiting for.
func (b *backends) close() {
	b.apply(&change{gone: serversOf(b.all())})
	b.closing.Wait()
}

func serversOf(list []*backend) []bindery.Server {
	out := make([]bindery.Server, len(list))
	for i, s := range list {
		out[i] = s.server
	}
	return out
}

// tlsFiles is the hash of what a server's TLS files contain, so that a renewed
// certificate under the old name is a change.
func tlsFiles(s bindery.Server) (sum [sha256.Size]byte, err error) {
	if s.TLS == nil {
		return sum, nil
	}
	h := sha256.New()
	for _, name := range []string{s.TLS.CAFile, s.TLS.CertFile, s.TLS.KeyFile} {
		if name == "" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return sum, fmt.Errorf("server %s: %w", s.Name, err)
		}
		_, _ = fmt.Fprintf(h, "%d\n", len(b))
		_, _ = h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// set replaces the driver and returns the one before.
func (s *slot) set(o *opened) *opened {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now
	s.now = o
	return old
}

var errClosed = bindery.Errorf(bindery.CodeUnavailable, "the server is no longer configured")

func (s *slot) use() (*opened, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.now == nil {
		return nil, errClosed
	}
	s.now.calls.Add(1)
	return s.now, nil
}

// call runs f with the current driver, which is not closed meanwhile.
func call[T any](s *slot, f func(bindery.Driver) (T, error)) (T, error) {
	o, err := s.use()
	if err != nil {
		var none T
		return none, err
	}
	defer o.calls.Done()
	return f(o.driver)
}

func do(s *slot, f func(bindery.Driver) error) error {
	_, err := call(s, func(d bindery.Driver) (struct{}, error) { return struct{}{}, f(d) })
	return err
}

// ping asks the server whether it answers, and has the answer counted. A driver
// that cannot ask has nothing to reach.
func (b *backends) ping(ctx context.Context, o *backend) error {
	err := do(o.slot, func(d bindery.Driver) error {
		if p, ok := bindery.Capability[bindery.Pinger](d); ok {
			return p.Ping(ctx)
		}
		return nil
	})
	b.metrics.Server(o.server.Kind, o.server.Name, err)
	return err
}

// The slot is a driver: every method goes to the current one.

func (s *slot) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	return do(s, func(d bindery.Driver) error { return d.Provision(ctx, spec) })
}

func (s *slot) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	return do(s, func(d bindery.Driver) error { return d.Deprovision(ctx, spec) })
}

func (s *slot) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	return call(s, func(d bindery.Driver) (bindery.Secret, error) { return d.Prepare(spec, req) })
}

func (s *slot) Ensure(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (bindery.Ensured, error) {
	return call(s, func(d bindery.Driver) (bindery.Ensured, error) { return d.Ensure(ctx, spec, a) })
}

func (s *slot) Revoke(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) error {
	return do(s, func(d bindery.Driver) error { return d.Revoke(ctx, spec, a) })
}

func (s *slot) Render(spec bindery.InstanceSpec, a bindery.Account) (bindery.Credential, error) {
	return call(s, func(d bindery.Driver) (bindery.Credential, error) { return d.Render(spec, a) })
}

func (s *slot) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	return do(s, func(d bindery.Driver) error { return d.Inventory(ctx, yield) })
}

// Unwrap is for [bindery.Capability]. A call on what it returns may fail where a
// reload replaces the driver meanwhile.
func (s *slot) Unwrap() bindery.Driver {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.now == nil {
		return nil
	}
	return s.now.driver
}

// Close does nothing: backends closes drivers.
func (*slot) Close() error { return nil }

// A redisLog sends what go-redis says by itself, without an error of any call,
// to the log. It would print to stderr otherwise.
type redisLog struct{ log *slog.Logger }

// Printf implements go-redis's logger.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "text", fmt.Sprintf(format, v...))
}
