package queue_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bindery"
	"bindery/queue"
	"bindery/store"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is long for anything that a test waits for.
const patience = 30 * time.Second

// A clock is the time, and what a test has added to it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// A world is a store and the queues that share it.
type world struct {
	*testing.T
	store bindery.Store
	clock clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "b.db"), Keys: storetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{T: t, store: s}
}

// A runner is a queue that runs.
type runner struct {
	*queue.Queue
	w    *world
	stop func() // ends Run, and waits for that
	// dead makes every call of the store an error, as for a process that is killed.
	dead atomic.Bool
	// fault may be set before the queue starts.
	fault func(table, method string) error
}

var errDead = bindery.Errorf(bindery.CodeUnavailable, "the process is dead")

// start starts a queue; work gets the runner, to end operations with.
func (w *world) start(work func(context.Context, *runner, bindery.Operation) error, set ...func(*runner)) *runner {
	w.Helper()
	r := &runner{w: w}
	r.Queue = &queue.Queue{
		Workers: 4, Drain: patience, Now: w.clock.Now, Log: slog.New(slog.NewTextHandler(w.Output(), nil)),
		Work: func(ctx context.Context, o bindery.Operation) error { return work(ctx, r, o) },
	}
	for _, f := range set {
		f(r)
	}
	r.Store = storetest.Faulty(w.store, func(table, method string) error {
		switch {
		case r.dead.Load():
			return errDead
		case r.fault != nil:
			return r.fault(table, method)
		}
		return nil
	})
	if err := r.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Run(ctx); err != nil {
			w.Errorf("run: %v", err)
		}
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-ended })
	w.Cleanup(r.stop)
	return r
}

// crash ends a queue like a kill: nothing is recorded any more, and the lease stays.
func (r *runner) crash() {
	r.dead.Store(true)
	r.stop()
}

// end records success, as the broker does.
func (r *runner) end(ctx context.Context, o bindery.Operation) error {
	o.State, o.Finished = bindery.OpSucceeded, r.w.clock.Now()
	if err := r.w.store.Update(ctx, func(tx bindery.Tx) error { return tx.Operations().Save(ctx, o) }); err != nil {
		return err
	}
	r.Ended(o)
	return nil
}

func (w *world) id() int64 {
	w.Helper()
	id, err := w.store.NewID(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// record writes an operation down, for an owner or for nobody.
func (w *world) record(owner, instance, binding int64, server string, set ...func(*bindery.Operation)) bindery.Operation {
	w.Helper()
	now := w.clock.Now()
	o := bindery.Operation{
		Row: w.id(), Kind: bindery.OpBind, Platform: "p", InstanceRow: instance, BindingRow: binding, Server: server,
		State: bindery.OpInProgress, Owner: owner, Fence: 1, Due: now, Created: now,
	}
	for _, f := range set {
		f(&o)
	}
	w.update(func(tx bindery.Tx) error { return tx.Operations().Add(w.Context(), o) })
	return o
}

func (w *world) update(f func(bindery.Tx) error) {
	w.Helper()
	if err := w.store.Update(w.Context(), f); err != nil {
		w.Fatal(err)
	}
}

// get reads an operation back.
func (w *world) get(row int64) (o bindery.Operation) {
	w.Helper()
	err := w.store.View(w.Context(), func(tx bindery.Tx) (err error) {
		o, err = tx.Operations().Get(w.Context(), row)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return o
}

// within receives, or ends the test.
func within[T any](w *world, c <-chan T, what string) T {
	w.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		w.Fatalf("waited too long: %s", what)
		panic("unreachable")
	}
}

// nothing checks that the channel has nothing at the moment.
func nothing[T any](w *world, c <-chan T, what string) {
	w.Helper()
	select {
	case v := <-c:
		w.Fatalf("%s: %v", what, v)
	default:
	}
}
