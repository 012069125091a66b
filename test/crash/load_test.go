package crash_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"bindery/client"
)

// A fate is what a client was told of a binding.
type fate string

const (
	unknown fate = "unknown" // the client gave up
	bound   fate = "bound"   // acknowledged
	unbound fate = "unbound" // acknowledged
)

// A record is what a client knows of a binding.
type record struct {
	service, instance, id string
	credentials           client.Credentials
	fate                  fate
}

// A load is what clients do to a world, and what they were told.
type load struct {
	*world
	clients, goal int
	// steady says that the servers stay up, so that a credential can be tried as
	// soon as it was given or taken.
	steady bool
	// busy keeps the clients going beyond the goal.
	busy atomic.Bool

	ops     atomic.Int64 // begun
	repeats atomic.Int64 // calls repeated after no answer
	counts  sync.Map     // of operation and outcome: *atomic.Int64

	mu      sync.Mutex
	records []*record
}

// run provisions an instance of each service for all clients, and returns when
// the clients have reached the goal.
func (l *load) run(rng *rand.Rand) {
	l.Helper()
	for _, s := range l.services {
		l.provision(s, "shared-"+s)
	}
	var all sync.WaitGroup
	for n := range l.clients {
		c := &loader{load: l, n: n, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		c.caller = caller{world: l.world, syncOnly: n%4 == 3}
		for _, s := range l.services {
			c.instances = append(c.instances, &instance{service: s, id: "shared-" + s, shared: true})
		}
		all.Go(func() { c.run(l.Context()) })
	}
	all.Wait()
	for _, s := range []string{"provision", "bind", "rotate", "unbind", "deprovision"} {
		for _, o := range []outcome{done, gone, refused, failed, lost, stuck} {
			if v, ok := l.counts.Load(s + " " + string(o)); ok {
				l.Logf("%s %s: %d", s, o, v.(*atomic.Int64).Load())
			}
		}
	}
	l.Logf("%d operations, %d of them repeated after no answer", l.ops.Load(), l.repeats.Load())
}

// An instance is what one client knows of an instance.
type instance struct {
	service, id string
	shared      bool
	bindings    []*record
}

// A loader is one client.
type loader struct {
	*load
	caller
	n, made   int
	rng       *rand.Rand
	instances []*instance
}

func (c *loader) run(ctx context.Context) {
	for ctx.Err() == nil && !c.load.Failed() {
		if c.ops.Add(1) > int64(c.goal) && !c.busy.Load() {
			c.ops.Add(-1)
			return
		}
		c.step(ctx)
	}
}

// step does one thing.
func (c *loader) step(ctx context.Context) {
	// Who gets no answer mostly asks again, and sometimes never wants to know.
	c.giveUp = func() bool { return c.rng.IntN(12) == 0 }
	i := c.instances[c.rng.IntN(len(c.instances))]
	n := c.rng.IntN(100)
	switch {
	case n < 7 && len(c.instances) < len(c.load.services)+4:
		c.newInstance(ctx)
	case n < 12 && !i.shared:
		c.dropInstance(ctx, i)
	case n < 50 || len(i.bindings) == 0 || n < 65 && !rotates(i.service):
		c.newBinding(ctx, i, nil)
	case n < 65:
		c.newBinding(ctx, i, i.bindings[c.rng.IntN(len(i.bindings))])
	default:
		c.dropBinding(ctx, i, c.rng.IntN(len(i.bindings)))
	}
}

// ended counts an operation and complains of an outcome that should not be.
func (c *loader) ended(what string, o outcome, good ...outcome) {
	v, _ := c.counts.LoadOrStore(what+" "+string(o), new(atomic.Int64))
	v.(*atomic.Int64).Add(1)
	if c.unsure {
		c.repeats.Add(1)
	}
	for _, g := range good {
		if o == g {
			return
		}
	}
	c.load.Errorf("%s is %s: %v", what, o, c.last)
}

func (c *loader) name(kind string) string {
	c.made++
	return fmt.Sprintf("%s-%d-%d", kind, c.n, c.made)
}

func (c *loader) newInstance(ctx context.Context) {
	i := &instance{service: c.load.services[c.rng.IntN(len(c.load.services))], id: c.name("i")}
	o := c.provision(ctx, i.service, i.id)
	c.ended("provision", o, done, lost)
	switch {
	case o == done:
		c.instances = append(c.instances, i)
	case c.rng.IntN(2) == 0: // orphan mitigation
		c.giveUp = nil
		c.ended("deprovision", c.deprovision(ctx, i.service, i.id), done, gone)
	}
}

func (c *loader) dropInstance(ctx context.Context, i *instance) {
	o := c.deprovision(ctx, i.service, i.id)
	c.ended("deprovision", o, done, lost, c.ifUnsure(gone))
	for n, x := range c.instances {
		if x == i {
			c.instances = append(c.instances[:n:n], c.instances[n+1:]...)
			break
		}
	}
	for _, r := range i.bindings {
		c.learn(ctx, r, o)
	}
}

// ifUnsure is an outcome that is right only for a call that was repeated.
func (c *loader) ifUnsure(o outcome) outcome {
	if c.unsure {
		return o
	}
	return done
}

// learn keeps what the outcome of a removal says of a binding.
func (c *loader) learn(ctx context.Context, r *record, o outcome) {
	if o != done && o != gone {
		c.set(r, unknown)
		return
	}
	c.set(r, unbound)
	if c.steady && !c.load.lives(r.service) && c.rng.IntN(4) == 0 {
		refused := func(ctx context.Context) error {
			if err := c.load.login(ctx, r.service, r.credentials); !errors.Is(err, errRefused) {
				return fmt.Errorf("%s %s was unbound and is not refused: %w", r.service, r.id, cmp.Or(err, errAccepted))
			}
			return nil
		}
		var err error
		if r.service == "mtls" {
			err = eventually(ctx, listLag, refused)
		} else {
			err = refused(ctx)
		}
		if err != nil {
			c.load.Error(err)
		}
	}
}

// listLag is how old a revocation list may be that is given out.
const listLag = time.Second

var errAccepted = errors.New("it is accepted")

func (c *loader) set(r *record, f fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.fate = f
}

func (c *loader) newBinding(ctx context.Context, i *instance, old *record) {
	r := &record{service: i.service, instance: i.id, id: c.name("b"), fate: unknown}
	c.mu.Lock()
	c.records = append(c.records, r)
	c.mu.Unlock()
	what, predecessor := "bind", ""
	if old != nil {
		what, predecessor = "rotate", old.id
	}
	o, credentials := c.bind(ctx, i.service, i.id, r.id, predecessor)
	c.ended(what, o, done, lost)
	if o == done {
		r.credentials = credentials
		c.set(r, bound)
		i.bindings = append(i.bindings, r)
		if c.steady && c.rng.IntN(4) == 0 {
			if err := c.load.login(ctx, r.service, credentials); err != nil {
				c.load.Errorf("%s %s was bound and does not log in: %v", r.service, r.id, err)
			}
		}
		return
	}
	if c.rng.IntN(2) == 0 { // orphan mitigation
		c.giveUp = nil
		o := c.unbind(ctx, i.service, i.id, r.id)
		c.ended("unbind", o, done, gone)
		if o == done || o == gone {
			c.set(r, unbound)
		}
	}
}

func (c *loader) dropBinding(ctx context.Context, i *instance, n int) {
	r := i.bindings[n]
	i.bindings = append(i.bindings[:n:n], i.bindings[n+1:]...)
	o := c.unbind(ctx, i.service, i.id, r.id)
	c.ended("unbind", o, done, lost, c.ifUnsure(gone))
	c.learn(ctx, r, o)
}
