package postgres

import (
	"runtime"

	"bindery"
)

// Gather lets revocations wait until there are n of them, and then sends them as
// one batch. Whoever calls it starts them before it calls what it returns.
func Gather(d bindery.Driver) (send func(n int)) {
	r := &d.(*driver).removals
	lock := func(f func() bool) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return f()
	}
	for !lock(func() bool { idle := !r.running; r.running = true; return idle }) {
		runtime.Gosched()
	}
	return func(n int) {
		for !lock(func() bool { return len(r.waiting) >= n }) {
			runtime.Gosched()
		}
		go r.run()
	}
}
