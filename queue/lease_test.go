package queue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
)

func TestADrainEndsWhatBeganAndLeavesTheRestToTheNextStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began, release := make(chan int64, 10), make(chan struct{})
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		began <- o.Row
		<-release
		return r.end(ctx, o)
	}, func(r *runner) { r.Workers = 1 })
	first, second := w.record(r.Owner(), w.id(), w.id(), "s"), w.record(r.Owner(), w.id(), w.id(), "s")
	r.Submit(first)
	r.Submit(second)
	within(w, began, "the first")
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	nothing(w, stopped, "it did not wait for what had begun")
	close(release)
	within(w, stopped, "the drain")
	// Whichever came first, the drain or the end of the first, nothing is lost.
	late := w.record(r.Owner(), w.id(), w.id(), "s")
	r.Submit(late)
	if got := w.get(first.Row); got.State != bindery.OpSucceeded {
		t.Errorf("what had begun is %q", got.State)
	}
	ended := make(chan int64, 10)
	w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		err := r.end(ctx, o)
		ended <- o.Row
		return err
	}, func(r *runner) { r.Workers = 1 }) // the oldest first
	for last := int64(0); last != late.Row; {
		last = within(w, ended, "the next start")
	}
	if got := w.get(second.Row); got.State != bindery.OpSucceeded {
		t.Errorf("what waited is %q", got.State)
	}
}

func TestADrainInterruptsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := make(chan struct{}, 1)
	r := w.start(func(ctx context.Context, _ *runner, _ bindery.Operation) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}, func(r *runner) { r.Drain = time.Millisecond })
	o := w.record(r.Owner(), w.id(), w.id(), "s")
	r.Submit(o)
	within(w, began, "it")
	r.stop()
	ended := make(chan bindery.Operation, 1)
	w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		err := r.end(ctx, o)
		ended <- o
		return err
	})
	if got := within(w, ended, "the next start"); got.Row != o.Row || got.Attempts != 0 || got.Fence != 2 {
		t.Errorf("got %+v, want the same operation, claimed, with no attempt counted", got)
	}
}

func TestWhatADeadProcessOwnedIsCarriedOnAfterItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := make(chan struct{}, 10)
	r := w.start(func(ctx context.Context, _ *runner, _ bindery.Operation) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}, func(r *runner) { r.Workers, r.Drain = 1, 0 })
	rows := map[int64]bool{}
	instance := w.id()
	for range 3 { // one runs, one waits for the server, one for its instance
		o := w.record(r.Owner(), instance, w.id(), "s")
		rows[o.Row] = true
		r.Submit(o)
	}
	whole := w.record(r.Owner(), instance, 0, "s")
	rows[whole.Row] = true
	r.Submit(whole)
	within(w, began, "the first")
	r.crash()

	ended := make(chan bindery.Operation, 10)
	next := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		err := r.end(ctx, o)
		ended <- o
		return err
	})
	mark := w.record(0, w.id(), w.id(), "s")
	next.Wake()
	if got := within(w, ended, "what nobody owns"); got.Row != mark.Row {
		t.Fatalf("%d was claimed before the lease of its owner had ended", got.Row)
	}
	nothing(w, ended, "claimed before the lease of its owner had ended")
	w.clock.advance(16 * time.Second) // the living one ends as well, and is taken anew
	for len(rows) > 0 {
		got := within(w, ended, "what the dead process owned")
		if !rows[got.Row] || got.Fence != 2 {
			t.Fatalf("ran %+v twice, or with the wrong fence", got)
		}
		delete(rows, got.Row)
	}
}

func TestALostLeaseIsTakenAnew(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world, away *atomic.Bool){
		"because the store is away":       func(w *world, away *atomic.Bool) { away.Store(true); w.clock.advance(13 * time.Second) },
		"because the process stood still": func(w *world, _ *atomic.Bool) { w.clock.advance(20 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var away atomic.Bool
			began, cut, ended := make(chan struct{}, 10), make(chan struct{}, 10), make(chan bindery.Operation, 20)
			r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
				if o.Fence == 1 {
					began <- struct{}{}
					<-ctx.Done()
					cut <- struct{}{}
					return ctx.Err()
				}
				err := r.end(ctx, o)
				ended <- o
				return err
			}, func(r *runner) {
				r.Workers = 1
				r.fault = func(table, method string) error {
					if away.Load() && table == "processes" {
						return errDead
					}
					return nil
				}
			})
			old := r.Owner()
			rows := map[int64]bool{}
			instance := w.id()
			for range 3 {
				o := w.record(old, instance, w.id(), "s")
				rows[o.Row] = true
				r.Submit(o)
			}
			whole := w.record(old, instance, 0, "s")
			rows[whole.Row] = true
			r.Submit(whole)
			within(w, began, "the first")
			lose(w, &away)
			within(w, cut, "the interruption")
			unowned := w.record(0, w.id(), w.id(), "s")
			rows[unowned.Row] = true
			r.Submit(unowned) // recorded while there was no lease
			stale := w.record(old, w.id(), w.id(), "s")
			rows[stale.Row] = true
			r.Submit(stale) // recorded before it was lost
			for range 50 {
				r.Wake() // without a lease nothing is claimed
			}
			away.Store(false)
			w.clock.advance(5 * time.Second) // the old lease ends
			for len(rows) > 0 {
				got := within(w, ended, "what the lost lease held")
				if !rows[got.Row] || got.Fence != 2 || got.Owner == old || got.Owner == 0 {
					t.Fatalf("ran %+v again, or with the wrong fence", got)
				}
				delete(rows, got.Row)
			}
			nothing(w, began, "something ran under the lost lease")
		})
	}
}
