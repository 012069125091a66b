package postgres

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// removals lets revocations at the same time share what they send: one
// transaction that drops their roles, and after it one look at the sessions, in
// one round trip. Nobody waits for company: while one batch is under way the
// next one gathers.
//
// A batch is a shortcut, and never the answer to what goes wrong. It happens for
// all of its members or for none; where it fails for any reason, or a member gives
// up meanwhile, each of the others goes on by itself, with its own errors.
type removals struct {
	send    func(context.Context, []*removal) error
	timeout time.Duration

	mu      sync.Mutex
	running bool
	waiting []*removal
}

const (
	// mostTogether bounds a batch: a failure costs each member a round trip.
	mostTogether = 64
	// heldLimit is how long a batch waits for a lock. A role that somebody's
	// transaction holds delays the others for no longer than that.
	heldLimit = 50 * time.Millisecond
)

// A removal is one member's part of a batch.
type removal struct {
	name    string   // the role to drop; empty: it was dropped before
	targets []target // whose sessions end, where there are any

	ctx  context.Context
	done chan struct{}
	err  error

	oid  uint32 // that the role had; 0: there was none
	seen *seen
}

// do returns when a batch with m is over, which it is before long when ctx ends:
// nothing of m is on its way to the server then.
func (r *removals) do(ctx context.Context, m *removal) error {
	m.ctx, m.done = ctx, make(chan struct{})
	r.mu.Lock()
	r.waiting = append(r.waiting, m)
	if !r.running {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	select {
	case <-m.done:
	case <-ctx.Done():
		if r.withdraw(m) {
			return ctx.Err()
		}
		<-m.done
	}
	return m.err
}

// withdraw takes back a member whose batch has not begun.
func (r *removals) withdraw(m *removal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.waiting {
		if r.waiting[i] == m {
			r.waiting = append(r.waiting[:i:i], r.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// run sends batches until nobody waits.
func (r *removals) run() {
	for {
		// Whoever is ready to come along does so now: what one commit of the store
		// released comes at once.
		runtime.Gosched()
		r.mu.Lock()
		batch := r.waiting
		if len(batch) == 0 {
			r.running, r.waiting = false, nil
			r.mu.Unlock()
			return
		}
		r.waiting = nil
		if len(batch) > mostTogether {
			r.waiting, batch = batch[mostTogether:], batch[:mostTogether:mostTogether]
		}
		r.mu.Unlock()
		r.together(batch)
	}
}

// together sends one batch. It ends with the first member that gives up, as a
// statement that went on could undo what a later call for that name confirms.
func (r *removals) together(batch []*removal) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	for _, m := range batch {
		defer context.AfterFunc(m.ctx, cancel)()
	}
	err := r.send(ctx, batch)
	for _, m := range batch {
		m.err = err
		close(m.done)
	}
}

// remove drops the roles of a batch, and looks at the sessions after that. A look
// that ends none is cheaper, and is enough for most of those whose role was there.
func (d *driver) remove(ctx context.Context, batch []*removal) error {
	var drops []*removal
	var names []string
	var targets []target
	for _, m := range batch {
		if m.name != "" {
			drops, names = append(drops, m), append(names, m.name)
		}
		targets = append(targets, m.targets...)
	}
	if len(drops) == len(batch) {
		targets = nil
	}
	sql := endSessions(d.prefix, targets)
	if len(targets) == 0 {
		sql = preparedLook
	}
	if len(drops) > 0 {
		sql = dropRoles(names) + sql
	}
	results, err := d.pool.exec(ctx, sql)
	if err != nil {
		return err
	}
	for i, m := range drops {
		m.oid = uint32(number(results[dropRolesOIDs].Rows[0][i])) //nolint:gosec // an oid has 32 bits
	}
	s := readSessions(results)
	for _, m := range batch {
		m.seen = s
	}
	return nil
}

// lookTogether looks once, in a batch with others, or by itself where that fails.
func (d *driver) lookTogether(ctx context.Context, targets []target) (*seen, error) {
	m := &removal{targets: targets}
	if err := d.removals.do(ctx, m); err != nil {
		return d.look(ctx, targets)
	}
	return m.seen, nil
}
