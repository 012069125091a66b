package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
)

func TestFailedWorkIsRunAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const failures = 3
	runs := make(chan bindery.Operation, 10)
	retried := make(chan bindery.Operation, 10)
	var saves atomic.Int32
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		runs <- o
		if o.Attempts < failures {
			return bindery.Errorf(bindery.CodeUnavailable, "the server is away").Because(errors.New("10.0.0.1 refused"))
		}
		return r.end(ctx, o)
	}, func(r *runner) {
		r.Retried = func(o bindery.Operation) { retried <- o }
		r.fault = func(table, method string) error {
			if table == "operations" && method == "Save" && saves.Add(1) == 1 {
				return errDead // saving when it runs again is repeated too
			}
			return nil
		}
	})
	o := w.record(r.Owner(), w.id(), w.id(), "s")
	ended, stop := r.Watch(o.Row)
	defer stop()
	r.Submit(o)
	end := within(w, ended, "the end")
	if end.Attempts != failures || end.State != bindery.OpSucceeded {
		t.Errorf("got %d attempts and %q, want %d and success", end.Attempts, end.State, failures)
	}
	last := time.Duration(0)
	for n := range failures {
		again := within(w, retried, "a repetition")
		if again.Problem != "the server is away" {
			t.Errorf("the problem is %q, want the public message alone", again.Problem)
		}
		if again.Attempts != n+1 || again.Owner != 0 {
			t.Errorf("got attempt %d owned by %d, want %d by nobody", again.Attempts, again.Owner, n+1)
		}
	}
	for n := range failures + 1 {
		run := within(w, runs, "a run")
		if run.Fence != int64(n+1) {
			t.Errorf("run %d has fence %d", n, run.Fence)
		}
		if n > 1 && run.Due.Sub(o.Created) <= last {
			t.Errorf("run %d was due %v after the start, the one before %v", n, run.Due.Sub(o.Created), last)
		}
		last = run.Due.Sub(o.Created)
	}
}

func TestAClockThatWasAheadDelaysNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.advance(24 * time.Hour)
	retried, ended := make(chan bindery.Operation, 1), make(chan bindery.Operation, 1)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		if o.Attempts == 0 {
			return errDead
		}
		err := r.end(ctx, o)
		ended <- o
		return err
	}, func(r *runner) {
		r.Retried = func(o bindery.Operation) {
			w.clock.advance(-24 * time.Hour) // before it is due
			retried <- o
		}
	})
	o := w.record(r.Owner(), w.id(), w.id(), "s")
	r.Submit(o)
	within(w, retried, "the first attempt")
	if got := within(w, ended, "the second"); got.Row != o.Row {
		t.Errorf("%d ended, want %d", got.Row, o.Row)
	}
}

func TestTheLastAttemptIsAtTheDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	retried := make(chan bindery.Operation, 1)
	r := w.start(func(context.Context, *runner, bindery.Operation) error { return errDead },
		func(r *runner) { r.Retried = func(o bindery.Operation) { retried <- o } })
	o := w.record(r.Owner(), w.id(), w.id(), "s", func(o *bindery.Operation) {
		o.Attempts, o.Deadline = 12, o.Created.Add(10*time.Second)
	})
	r.Submit(o)
	if got := within(w, retried, "a repetition"); !got.Due.Equal(o.Deadline) {
		t.Errorf("due %v, want the deadline %v", got.Due, o.Deadline)
	}
}

func TestDueRowsAreClaimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	runs := make(chan bindery.Operation, 10)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		runs <- o
		return r.end(ctx, o)
	})
	due := w.record(0, w.id(), w.id(), "s")
	later := w.record(0, w.id(), w.id(), "s", func(o *bindery.Operation) { o.Due = o.Due.Add(10 * time.Second) })
	r.Wake()
	if got := within(w, runs, "what is due"); got.Row != due.Row || got.Owner != r.Owner() || got.Fence != 2 {
		t.Errorf("ran %+v, want operation %d claimed once", got, due.Row)
	}
	w.clock.advance(10 * time.Second)
	r.Wake()
	if got := within(w, runs, "what is due later"); got.Row != later.Row {
		t.Errorf("ran %d, want %d", got.Row, later.Row)
	}
}

func TestAHangingServerDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	ended := make(chan string, 10)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		if o.Server == "slow" {
			<-release
		}
		err := r.end(ctx, o)
		ended <- o.Server
		return err
	}, func(r *runner) { r.Workers = 1 })
	for range 3 {
		r.Submit(w.record(r.Owner(), w.id(), w.id(), "slow"))
	}
	for range 3 {
		r.Submit(w.record(r.Owner(), w.id(), w.id(), "fast"))
		if got := within(w, ended, "the fast server"); got != "fast" {
			t.Fatalf("%s ended first", got)
		}
	}
	close(release)
	for range 3 {
		within(w, ended, "the slow server")
	}
}

func TestWorkOnAnInstanceExcludesItsBindings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began, release := make(chan int64, 10), make(chan struct{})
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		began <- o.BindingRow
		<-release
		return r.end(ctx, o)
	})
	instance, first, second, third := w.id(), w.id(), w.id(), w.id()
	r.Submit(w.record(r.Owner(), instance, first, "s"))
	r.Submit(w.record(r.Owner(), instance, second, "s"))
	for range 2 { // beside each other
		if got := within(w, began, "the bindings"); got != first && got != second {
			t.Fatalf("%d began", got)
		}
	}
	r.Submit(w.record(r.Owner(), instance, 0, "s"))
	r.Submit(w.record(r.Owner(), w.id(), w.id(), "s"))
	if got := within(w, began, "the other instance"); got == 0 {
		t.Fatal("the work on the instance did not wait")
	}
	for range 3 {
		release <- struct{}{}
	}
	if got := within(w, began, "the instance"); got != 0 {
		t.Fatalf("%d began, want the instance", got)
	}
	r.Submit(w.record(r.Owner(), instance, third, "s"))
	nothing(w, began, "it ran beside the work on its instance")
	release <- struct{}{}
	if got := within(w, began, "the last binding"); got != third {
		t.Fatalf("%d began, want %d", got, third)
	}
	close(release)
}

func TestInterruptedWorkIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := make(chan bindery.Operation, 10)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		began <- o
		if o.Kind == bindery.OpUnbind {
			return r.end(ctx, o)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	o := w.record(r.Owner(), w.id(), w.id(), "s")
	r.Submit(o)
	within(w, began, "the bind")
	failed := o
	failed.State, failed.Finished = bindery.OpFailed, w.clock.Now()
	w.update(func(tx bindery.Tx) error { return tx.Operations().Save(t.Context(), failed) })
	next := w.record(r.Owner(), o.InstanceRow, o.BindingRow, "s", func(o *bindery.Operation) { o.Kind = bindery.OpUnbind })
	r.Submit(next)
	nothing(w, began, "it did not wait for the one before")
	r.Interrupt(o.Row)
	if got := within(w, began, "the unbind"); got.Row != next.Row {
		t.Fatalf("%d began, want %d", got.Row, next.Row)
	}
	if got := w.get(o.Row); got.State != bindery.OpFailed || got.Attempts != 0 {
		t.Errorf("got %+v, want it failed as it was", got)
	}
}

func TestAPanicIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ended := make(chan bindery.Operation, 10)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		if o.Attempts == 0 && o.Server == "bad" {
			panic("broken")
		}
		err := r.end(ctx, o)
		ended <- o
		return err
	})
	r.Submit(w.record(r.Owner(), w.id(), w.id(), "bad"))
	r.Submit(w.record(r.Owner(), w.id(), w.id(), "good"))
	within(w, ended, "the good one")
	if got := within(w, ended, "the bad one"); got.Attempts != 1 || got.Problem != "internal error" {
		t.Errorf("got %d attempts, problem %q", got.Attempts, got.Problem)
	}
}

func TestSoMuchWaitsThatNoMoreIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.start(func(ctx context.Context, _ *runner, _ bindery.Operation) error {
		<-ctx.Done()
		return ctx.Err()
	}, func(r *runner) { r.Workers, r.Drain = 1, 0 })
	for n := range int64(4097) {
		if r.Full("s") {
			t.Fatalf("full after %d", n)
		}
		r.Submit(bindery.Operation{Row: n + 1, InstanceRow: n + 1, Server: "s", Owner: r.Owner()})
	}
	if !r.Full("s") || r.Full("other") {
		t.Error("want this server full and the other not")
	}
}

// A server that hangs while thousands of operations on it are due delays no other's,
// and what is claimed for it leaves room for requests.
func TestABacklogOnAHangingServerDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ended := make(chan int64, 1)
	r := w.start(func(ctx context.Context, r *runner, o bindery.Operation) error {
		if o.Server == "hung" {
			<-ctx.Done()
			return ctx.Err()
		}
		err := r.end(ctx, o)
		ended <- o.Row
		return err
	}, func(r *runner) { r.Drain = 0 })
	const backlog = 5000
	due := w.clock.Now()
	for n := 0; n < backlog; n += 1000 {
		operations := make([]bindery.Operation, 1000)
		for i := range operations {
			operations[i] = bindery.Operation{
				Row: w.id(), Kind: bindery.OpUnbind, InstanceRow: 1, BindingRow: w.id(), Server: "hung",
				State: bindery.OpInProgress, Due: due, Created: due,
			}
		}
		w.update(func(tx bindery.Tx) error {
			for _, o := range operations {
				if err := tx.Operations().Add(t.Context(), o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	last := w.record(0, w.id(), w.id(), "other") // due last
	for range 100 {
		r.Wake()
	}
	if got := within(w, ended, "the other server's"); got != last.Row {
		t.Errorf("%d ended, want %d", got, last.Row)
	}
	if r.Full("hung") {
		t.Error("the backlog leaves no room for requests")
	}
}

func TestWatchersThatLeaveAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.start(func(context.Context, *runner, bindery.Operation) error { return nil })
	first, stopFirst := r.Watch(7)
	second, stopSecond := r.Watch(7)
	stopFirst()
	stopFirst()
	r.Ended(bindery.Operation{Row: 7})
	r.Ended(bindery.Operation{Row: 7})
	nothing(w, first, "told after it left")
	within(w, second, "the one that stayed")
	stopSecond()
	nothing(w, second, "told twice")
}
