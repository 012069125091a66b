package store

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
)

const (
	// maxBatch bounds how many transactions share a commit: all of them wait for the last one.
	maxBatch = 256
	// maxQueue bounds how many wait; more wait outside, each with its context.
	maxQueue = 1024
	// lookEvery is how many transactions pass between two looks at the log's size.
	lookEvery = 16
)

// A writer runs all transactions that change an SQLite file, in one goroutine.
//
// It begins a transaction when the first caller comes, runs the function of each
// that is waiting within a savepoint of its own, and commits when nobody waits
// any more. While the disk confirms that commit the next callers gather, so that
// batches grow with the load and nobody ever waits for company. Callers are
// answered after the commit: also those whose function returned an error, which
// may come from what another function of the batch did.
type writer struct {
	c       *conn
	store   *Store
	check   *checkpointer
	queue   chan *request
	chores  chan func() // run between two transactions
	quit    chan struct{}
	stopped chan struct{}

	// Of the goroutine alone.
	open   bool // between BEGIN and COMMIT
	batch  []*request
	inside *request // whose function is running
	broken error    // why this batch cannot be committed
	served int      // since the last checkpoint
	unseen int      // served since the last look at the log's size
	logged int64    // the log file's size at the last checkpoint
}

// The states of a request.
const (
	waiting int32 = iota
	running
	abandoned // its context ended before its turn
)

type request struct {
	ctx      context.Context
	f        func(*tx) error
	state    atomic.Int32
	done     chan struct{}
	err      error
	panicked any
	exited   bool // f ended its goroutine, as t.FailNow does
}

func newWriter(c *conn, s *Store, check *checkpointer) *writer {
	return &writer{
		c: c, store: s, check: check,
		queue: make(chan *request, maxQueue), chores: make(chan func()),
		quit: make(chan struct{}), stopped: make(chan struct{}),
	}
}

func (w *writer) update(ctx context.Context, f func(*tx) error) error {
	r := &request{ctx: ctx, f: f, done: make(chan struct{})}
	select {
	case <-w.quit:
		return errClosed
	case <-ctx.Done():
		return ended(ctx)
	case w.queue <- r:
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, abandoned) {
			return ended(ctx)
		}
		<-r.done // it has begun, and only the writer knows how it ends
	case <-w.stopped:
		select {
		case <-r.done:
		default:
			return errClosed // it was queued after the last look
		}
	}
	switch {
	case r.panicked != nil:
		panic(r.panicked)
	case r.exited:
		runtime.Goexit() // in the goroutine that f thought it was in
	}
	return r.err
}

// stop ends the writer when those that wait are served.
func (w *writer) stop() {
	close(w.quit)
	<-w.stopped
}

func (w *writer) run() {
	defer func() {
		if w.inside == nil {
			w.c.close()
			close(w.stopped)
			return
		}
		// The function has ended this goroutine. Another one takes over where it was.
		r := w.inside
		r.exited = true
		w.leave(r, errPanicked)
		go w.run()
	}()
	for {
		if !w.open && !w.wait() {
			return
		}
		w.gather()
		w.commit()
	}
}

// wait serves the first caller of a batch; false means that the store closes.
func (w *writer) wait() bool {
	// A queue that is never empty must not keep a chore out.
	select {
	case r := <-w.queue:
		w.serve(r)
	case chore := <-w.chores:
		chore()
	case <-w.quit:
		select {
		case r := <-w.queue:
			w.serve(r)
		default:
			return false
		}
	}
	return true
}

// gather serves whoever else is waiting.
func (w *writer) gather() {
	// The batch ends early where ids run short; the next one begins with more.
	for yielded := false; w.open && w.broken == nil && len(w.batch) < maxBatch && !w.store.ids.low(); {
		select {
		case r := <-w.queue:
			w.serve(r)
			continue
		default:
		}
		if yielded {
			return
		}
		// Those who are ready to ask do so now, and share this commit.
		yielded = true
		runtime.Gosched()
	}
}

func (w *writer) serve(r *request) {
	if r.ctx.Err() != nil || !r.state.CompareAndSwap(waiting, running) {
		r.err = ended(r.ctx)
		close(r.done)
		return
	}
	if !w.open {
		if w.store.ids.low() {
			w.reserve()
		}
		if err := w.c.do("BEGIN IMMEDIATE"); err != nil {
			r.err = unavailable(err)
			close(r.done)
			return
		}
		w.open = true
	}
	w.batch = append(w.batch, r)
	if err := w.c.do("SAVEPOINT caller"); err != nil {
		w.broken = err
		return
	}
	t := &tx{store: w.store, s: w.c}
	w.inside = r
	err := r.call(t)
	t.over = true
	if t.spoiled != 0 {
		// SQLite may have undone the whole transaction already.
		w.broken = t.cause
	}
	w.leave(r, err)
}

// reserve gets ids in a transaction of its own. Where it fails, so will what follows.
func (w *writer) reserve() {
	if w.c.do("BEGIN IMMEDIATE") != nil {
		return
	}
	t := &tx{store: w.store, s: w.c}
	first, err := t.reserve(context.Background())
	if err == nil {
		err = w.c.do("COMMIT")
	}
	if err != nil {
		_ = w.c.do("ROLLBACK") // what follows begins anew, and meets the same trouble
		return
	}
	w.store.ids.put(first)
}

// call turns a panic into a value for the caller's goroutine.
func (r *request) call(t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked = p
			err = errPanicked
		}
	}()
	return r.f(t)
}

// leave ends the savepoint of the function that ran.
func (w *writer) leave(r *request, err error) {
	w.inside = nil
	r.err = err
	if w.broken != nil {
		return
	}
	if err != nil {
		if undo := w.c.do("ROLLBACK TO caller"); undo != nil {
			w.broken = fmt.Errorf("undo: %w", undo)
			return
		}
	}
	if release := w.c.do("RELEASE caller"); release != nil {
		w.broken = release
	}
}

func (w *writer) commit() {
	if !w.open {
		return
	}
	err := w.broken
	if err == nil {
		err = w.c.do("COMMIT")
	}
	if err != nil {
		// Perhaps SQLite has rolled back itself; then this fails, and says nothing new.
		_ = w.c.do("ROLLBACK")
	}
	for i, r := range w.batch {
		if err != nil && r.panicked == nil {
			r.err = unavailable(err)
		}
		close(r.done)
		w.batch[i] = nil
	}
	n := len(w.batch)
	w.batch, w.open, w.broken = w.batch[:0], false, nil
	if err != nil {
		// Perhaps the disk is full, and the log is what fills it.
		w.check.failed.Store(true)
		w.check.nudge()
	}
	w.account(n)
}

// account asks for a checkpoint where n more transactions call for one.
func (w *writer) account(n int) {
	w.served += n
	w.unseen += n
	due := w.served >= checkpointEvery
	size := w.logged
	if due || w.unseen >= lookEvery {
		w.unseen = 0
		size = w.check.size()
		w.logged = min(w.logged, size) // it has been cut
		due = due || size-w.logged >= checkpointGrowth
	}
	if due && w.check.nudge() {
		w.served, w.logged = 0, size
	}
}

// chore runs f between two transactions, where the writer still runs.
func (w *writer) chore(f func()) {
	done := make(chan struct{})
	select {
	case w.chores <- func() { defer close(done); f() }:
		<-done
	case <-w.quit:
	}
}
