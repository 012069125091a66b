// Package queue runs operations that the store has recorded, each to its end.
//
// An operation comes in two ways: the process that recorded it submits it at
// once (no polling on the hot path), or the scheduler claims it from the store,
// because its retry is due or because the process that owned it died.
//
//	recorded ──▶ waiting for a worker of its server ──▶ running ──▶ finished
//	                    ▲                                  │
//	                    └───── due again, with backoff ◀───┘
//
// Each server has workers of its own, so that one that hangs delays nobody
// else. Within an instance, operations on different bindings run beside each
// other; one on the instance itself runs alone.
//
// A process proves that it lives with a lease that it renews; its operations
// carry its id and a fence. When it dies the lease ends, and others may claim.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"bindery"
)

const (
	// lease is how long a process is believed to live after its last beat.
	lease = 15 * time.Second
	// idle bounds the pause of the scheduler, which also looks for dead processes' work.
	idle = 5 * time.Second
	// maxWaiting bounds the operations that wait in memory for one server's workers.
	maxWaiting = 4096
	// crowd is how many of them leave no more room for what can wait in the store:
	// the rest is for requests.
	crowd = maxWaiting / 16
	// crowdedPause is the scheduler's where a server has that many.
	crowdedPause = 100 * time.Millisecond
	// lookShare is how much longer than its look that pause is, and longestPause its bound.
	lookShare    = 20
	longestPause = 2 * time.Second
	// claimAtOnce bounds one claim.
	claimAtOnce = 256

	firstPause = 200 * time.Millisecond
	maxPause   = 2 * time.Minute
	// farAhead is when nothing is due: the clock was ahead when it was set.
	farAhead = 2 * maxPause
)

// A Queue runs operations. Its fields are set before [Queue.Start].
type Queue struct {
	Store bindery.Store
	// Work does what an operation says and records its end, or returns an error,
	// after which it is run again. It returns nil also for one that somebody else ended.
	Work func(context.Context, bindery.Operation) error
	// Workers is how many operations run on one server at a time.
	Workers int
	// Drain is how long Run lets operations that have begun go on when it must end.
	Drain time.Duration
	Now   func() time.Time
	Log   *slog.Logger
	// Retried is told of every run that will be repeated; may be nil.
	Retried func(bindery.Operation)

	mu       sync.Mutex
	owner    int64
	lanes    map[string]*lane
	tenants  map[int64]*tenant // by instance
	running  map[int64]context.CancelFunc
	watchers map[int64][]chan bindery.Operation
	draining bool
	work     context.Context // of everything that runs
	cut      context.CancelFunc
	active   sync.WaitGroup
	wake     chan struct{}
	seen     time.Time // when the lease was renewed last
}

// A lane is the work of one server.
type lane struct {
	running int
	ended   time.Time // when an operation ended last
	waiting []bindery.Operation
}

// A tenant is what runs on one instance, and what waits for that.
type tenant struct {
	whole    bool
	bindings map[int64]bool
	parked   []bindery.Operation
}

// Start takes a lease, after which operations can be submitted.
func (q *Queue) Start(ctx context.Context) error {
	q.lanes, q.tenants = map[string]*lane{}, map[int64]*tenant{}
	q.running, q.watchers = map[int64]context.CancelFunc{}, map[int64][]chan bindery.Operation{}
	q.wake = make(chan struct{}, 1)
	q.work, q.cut = context.WithCancel(context.Background())
	return q.join(ctx)
}

// join takes a lease under a new id.
func (q *Queue) join(ctx context.Context) error {
	id, err := q.Store.NewID(ctx)
	if err != nil {
		return fmt.Errorf("join the queue: %w", err)
	}
	if err := q.beat(ctx, id); err != nil {
		return fmt.Errorf("join the queue: %w", err)
	}
	q.mu.Lock()
	q.owner = id
	q.mu.Unlock()
	return nil
}

func (q *Queue) beat(ctx context.Context, id int64) error {
	now := q.Now()
	err := q.Store.Update(ctx, func(tx bindery.Tx) error { return tx.Processes().Beat(ctx, id, now.Add(lease)) })
	if err == nil {
		q.mu.Lock()
		q.seen = now
		q.mu.Unlock()
	}
	return err
}

// Owner is this process, for operations that it will submit.
func (q *Queue) Owner() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.owner
}

// Full reports whether so much waits for a server that no more should be recorded.
func (q *Queue) Full(server string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[server]
	return l != nil && len(l.waiting) >= maxWaiting
}

// Crowded reports whether a server has so much to do that only what somebody waits
// for should still be submitted. What else there is can be recorded for nobody, and
// is claimed later.
func (q *Queue) Crowded(server string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[server]
	return l != nil && len(l.waiting) >= crowd
}

// breath is how long a server without operations counts as busy after the last one:
// a caller that asks for one after the other leaves gaps between them.
const breath = 300 * time.Millisecond

// Busy reports whether a server has operations to work on, or had a moment ago.
func (q *Queue) Busy(server string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[server]
	return l != nil && (l.running > 0 || q.Now().Sub(l.ended) < breath)
}

// Submit runs an operation that this process owns and has committed.
func (q *Queue) Submit(o bindery.Operation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.Owner == 0 || o.Owner != q.owner {
		q.Wake() // recorded under no lease, or under one that was lost: it will be claimed
		return
	}
	q.place(o)
}

// place lets o wait for its instance, for its server, or for nothing.
func (q *Queue) place(o bindery.Operation) {
	if q.draining {
		return // the next start carries it on
	}
	t := q.tenants[o.InstanceRow]
	if t == nil {
		t = &tenant{bindings: map[int64]bool{}}
		q.tenants[o.InstanceRow] = t
	}
	if t.whole || t.bindings[o.BindingRow] || o.BindingRow == 0 && len(t.bindings) > 0 {
		t.parked = append(t.parked, o)
		return
	}
	if o.BindingRow == 0 {
		t.whole = true
	} else {
		t.bindings[o.BindingRow] = true
	}
	l := q.lanes[o.Server]
	if l == nil {
		l = &lane{}
		q.lanes[o.Server] = l
	}
	if l.running >= q.Workers {
		l.waiting = append(l.waiting, o)
		return
	}
	l.running++
	q.begin(o)
}

func (q *Queue) begin(o bindery.Operation) {
	ctx, cancel := context.WithCancel(q.work)
	q.running[o.Row] = cancel
	q.active.Add(1)
	go q.run(ctx, cancel, o)
}

func (q *Queue) run(ctx context.Context, cancel context.CancelFunc, o bindery.Operation) {
	defer q.active.Done()
	err := q.guarded(ctx, o)
	if err != nil && ctx.Err() == nil {
		q.again(ctx, o, err)
	}
	cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, o.Row)
	q.leave(o)
	l := q.lanes[o.Server]
	l.running--
	l.ended = q.Now()
	if len(l.waiting) > 0 && l.running < q.Workers && !q.draining {
		next := l.waiting[0]
		l.waiting[0] = bindery.Operation{}
		l.waiting = l.waiting[1:]
		if len(l.waiting) == 0 {
			l.waiting = nil
		}
		l.running++
		q.begin(next)
	}
}

// leave frees o's instance, and places what waited for it.
func (q *Queue) leave(o bindery.Operation) {
	t := q.tenants[o.InstanceRow]
	if o.BindingRow == 0 {
		t.whole = false
	} else {
		delete(t.bindings, o.BindingRow)
	}
	parked := t.parked
	t.parked = nil
	if len(parked) == 0 && len(t.bindings) == 0 && !t.whole {
		delete(q.tenants, o.InstanceRow)
	}
	for _, p := range parked {
		q.place(p)
	}
}

// guarded turns a panic of Work into an error: one broken operation must not
// take the others with it.
func (q *Queue) guarded(ctx context.Context, o bindery.Operation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			q.Log.ErrorContext(ctx, "operation panicked", "operation", o.Token(), "kind", string(o.Kind),
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("panic")
		}
	}()
	return q.Work(ctx, o)
}

// again records when o runs next. Nobody owns it until then.
func (q *Queue) again(ctx context.Context, o bindery.Operation, cause error) {
	o.Attempts++
	o.Problem = bindery.MessageOf(cause)
	o.Owner = 0
	now := q.Now()
	o.Due = now.Add(pause(o.Attempts))
	if now.Before(o.Deadline) && o.Due.After(o.Deadline) {
		o.Due = o.Deadline // the last attempt, whose failure ends it
	}
	q.Log.WarnContext(ctx, "operation will be run again", "operation", o.Token(), "kind", string(o.Kind),
		"server", o.Server, "attempts", o.Attempts, "due", o.Due, "error", cause.Error())
	if q.Retried != nil {
		q.Retried(o)
	}
	for wait := firstPause; ; wait = min(2*wait, idle) {
		err := q.Store.Update(ctx, func(tx bindery.Tx) error { return tx.Operations().Save(ctx, o) })
		switch {
		case err == nil:
			q.Wake()
			return
		case bindery.CodeOf(err) == bindery.CodeBusy:
			return // somebody else ended it
		}
		q.Log.WarnContext(ctx, "operation could not be saved", "operation", o.Token(), "error", err.Error())
		select {
		case <-ctx.Done():
			return // its owner is gone, which is as good
		case <-time.After(wait):
		}
	}
}

// pause is the time before the next attempt: doubling, with jitter, bounded.
func pause(attempts int) time.Duration {
	d := min(firstPause<<min(attempts-1, 20), maxPause)
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter is no secret
}

// Interrupt ends the context of an operation that runs here, because somebody
// else has ended it in the store.
func (q *Queue) Interrupt(row int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cancel := q.running[row]; cancel != nil {
		cancel()
	}
}

// Watch returns a channel that gets the operation when this process ends it,
// and a function that must be called when nobody waits any more.
func (q *Queue) Watch(row int64) (<-chan bindery.Operation, func()) {
	c := make(chan bindery.Operation, 1)
	q.mu.Lock()
	q.watchers[row] = append(q.watchers[row], c)
	q.mu.Unlock()
	return c, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		list := q.watchers[row]
		for i := range list {
			if list[i] == c {
				q.watchers[row] = append(list[:i:i], list[i+1:]...)
				break
			}
		}
		if len(q.watchers[row]) == 0 {
			delete(q.watchers, row)
		}
	}
}

// Ended tells those who watch that o has ended, in the store.
func (q *Queue) Ended(o bindery.Operation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.watchers[o.Row] {
		select {
		case c <- o:
		default: // told already
		}
	}
	delete(q.watchers, o.Row)
}

// Wake makes the scheduler look at once.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
