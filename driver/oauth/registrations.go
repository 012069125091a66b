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
	byName map[string]*known
}

// known is what is known of one account. The lock guards it.
type known struct {
	latest *attempt // nil before the first
	calls  int      // of Ensure, by this process
	lost   bool     // an answer was lost, or another process may have lost one
	at     time.Time
}

// An attempt is a registration under way, or how it ended.
type attempt struct {
	over chan struct{} // closed at the end; what follows is written before that
	made *registration // nil: no client that is there
	err  error
}

const (
	// mostKept bounds what is kept in memory, and keptFor what is kept when there is more.
	mostKept = 4096
	keptFor  = 10 * time.Minute
)

func (r *registrations) open() {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.byName = map[string]*known{}
}

func (r *registrations) close() {
	r.cancel()
	r.wg.Wait()
}

func (a *attempt) ended() bool {
	if a == nil {
		return true
	}
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

// called counts a call of Ensure, before which there may have been that many.
func (r *registrations) called(name string, before int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keep(name)
	k.lost = k.lost || before > k.calls
	k.calls++
}

// client is the client that is known of an account; nil if there is none.
func (r *registrations) client(name string) *registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.byName[name]; k != nil && k.latest != nil && k.latest.ended() {
		return k.latest.made
	}
	return nil
}

// wait is client, when nothing is under way any more.
func (r *registrations) wait(ctx context.Context, name string) (*registration, error) {
	r.mu.Lock()
	k := r.byName[name]
	var a *attempt
	if k != nil {
		a = k.latest
	}
	r.mu.Unlock()
	if a == nil {
		return nil, nil
	}
	select {
	case <-a.over:
		return a.made, nil
	case <-ctx.Done():
		return nil, silent(context.Cause(ctx))
	}
}

// begin returns the attempt that is under way or has succeeded, and else starts one.
func (r *registrations) begin(name string, limit time.Duration, register func(context.Context) (*registration, error)) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keep(name)
	if before := k.latest; before != nil && (!before.ended() || before.made != nil) {
		return before
	}
	a := &attempt{over: make(chan struct{})}
	k.latest = a
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, limit)
		defer cancel()
		a.made, a.err = register(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		k.lost = k.lost || errors.Is(a.err, errLost)
		k.at = time.Now()
		close(a.over)
	})
	return a
}

// record replaces the client that is known of an account; nil: there is none.
func (r *registrations) record(name string, made *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keep(name)
	k.latest = &attempt{over: make(chan struct{}), made: made, err: errRemoved}
	close(k.latest.over)
}

// orphan reports whether an answer may have been lost. Of an account that this
// process has not heard of, anything may be true.
func (r *registrations) orphan(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.byName[name]
	return k == nil || k.lost || !k.latest.ended()
}

var (
	errRemoved = errors.New("the client was removed")
	// errLost marks a registration that may have been made though no answer came.
	errLost = errors.New("what the server made of it is not known")
)

// keep returns what is known of an account, and makes room. The caller holds the lock.
func (r *registrations) keep(name string) *known {
	k := r.byName[name]
	if k == nil {
		k = &known{}
		r.byName[name] = k
	}
	k.at = time.Now()
	for _, age := range []time.Duration{keptFor, 0} {
		if len(r.byName) <= mostKept {
			break
		}
		for n, old := range r.byName {
			if old != k && old.latest.ended() && time.Since(old.at) >= age {
				delete(r.byName, n)
			}
		}
	}
	return k
}

// Orphan implements [bindery.Orphaner].
func (d *driver) Orphan(account bindery.Account) string {
	if !d.registrations.orphan(account.Name) {
		return ""
	}
	return "the answer to a registration may be lost: the authorization server may have a client with client_name " +
		account.Name + " that Bindery cannot remove"
}
