package bindery

import (
	"context"
	"sync"
)

// NameLocks keep a driver's calls for one name apart: what one finds, or makes in
// several steps, another would change meanwhile. The zero value is ready. Other
// processes do not work on the same name: the engine sees to that.
type NameLocks struct {
	mu   sync.Mutex
	held map[string]*nameLock
}

type nameLock struct {
	taken chan struct{} // holds a token while it is taken
	users int           // who have it or wait for it
}

// Lock waits for the lock of a name, and returns what gives it back. The error is
// the context's, where that ends first.
func (l *NameLocks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*nameLock{}
	}
	k := l.held[name]
	if k == nil {
		k = &nameLock{taken: make(chan struct{}, 1)}
		l.held[name] = k
	}
	k.users++
	l.mu.Unlock()

	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, name)
		}
	}
	select {
	case k.taken <- struct{}{}:
		return func() { <-k.taken; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}
