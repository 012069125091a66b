package oauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"bindery"
)

// registrations is what this process knows of the clients that it asked for, by
// the account's name. It saves what the store has not heard of: an answer whose
// caller had given up, or whose commit failed. It is lost with the process; then
// Orphan tells.
type registrations struct {
	ctx    context.Context // of requests: they outlive their callers
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	byName map[string]*attempt
}

// An attempt is a registration under way, or how it ended.
type attempt struct {
	over chan struct{} // closed at the end; what follows is written before that
	made *registration // nil: no client that is there
	err  error
	at   time.Time
	// lost says that an answer was lost, to this attempt or to one before it.
	lost bool
}

const (
	// mostKept bounds what is kept in memory, and keptFor what is kept when there is more.
	mostKept = 4096
	keptFor  = 10 * time.Minute
)

func (r *registrations) open() {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.byName = map[string]*attempt{}
}

func (r *registrations) close() {
	r.cancel()
	r.wg.Wait()
}

func (a *attempt) ended() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

// get returns the attempt at an account; nil if this process knows of none.
func (r *registrations) get(name string) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName[name]
}

// wait returns the attempt at an account when it is over; nil if there is none.
func (r *registrations) wait(ctx context.Context, name string) (*attempt, error) {
	a := r.get(name)
	if a == nil {
		return nil, nil
	}
	select {
	case <-a.over:
		return a, nil
	case <-ctx.Done():
		return nil, silent(context.Cause(ctx))
	}
}

// begin returns the attempt that is under way or has succeeded, and else starts one.
func (r *registrations) begin(name string, limit time.Duration, register func(context.Context) (*registration, error)) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &attempt{over: make(chan struct{})}
	if before := r.byName[name]; before != nil {
		if !before.ended() || before.made != nil {
			return before
		}
		a.lost = before.lost
	}
	r.put(name, a)
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, limit)
		defer cancel()
		defer close(a.over)
		a.made, a.err = register(ctx)
		a.at = time.Now()
		a.lost = a.lost || errors.Is(a.err, errLost)
	})
	return a
}

// record replaces what is known of an account; nil: there is no client.
func (r *registrations) record(name string, made *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &attempt{over: make(chan struct{}), made: made, err: errRemoved, at: time.Now()}
	if before := r.byName[name]; before != nil && before.ended() {
		a.lost = before.lost
	}
	close(a.over)
	r.put(name, a)
}

var (
	errRemoved = errors.New("the client was removed")
	// errLost marks a registration that may have been made though no answer came.
	errLost = errors.New("what the server made of it is not known")
)

// put keeps an attempt. The caller holds the lock.
func (r *registrations) put(name string, a *attempt) {
	r.byName[name] = a
	for _, age := range []time.Duration{keptFor, 0} {
		if len(r.byName) <= mostKept {
			return
		}
		for n, old := range r.byName {
			if old != a && old.ended() && time.Since(old.at) >= age {
				delete(r.byName, n)
			}
		}
	}
}

// Orphan implements [bindery.Orphaner].
func (d *driver) Orphan(account bindery.Account, tried bool) string {
	lost := tried
	if a := d.registrations.get(account.Name); a != nil {
		lost = !a.ended() || a.lost
	}
	if !lost {
		return ""
	}
	return "the answer to a registration was lost: the authorization server may have a client with client_name " +
		account.Name + " that Bindery cannot remove"
}
