package store

import (
	"fmt"
	"testing"
	"time"

	"bindery"
)

// A lookup that panics costs those who asked with it an error, and nobody who comes
// later anything.
func TestLookupThatPanics(t *testing.T) {
	t.Parallel()
	asking, fail := make(chan struct{}), make(chan struct{})
	l := &lookups{known: map[version]bindery.Resolution{}}
	l.ask = func([]*lookup) error {
		close(asking)
		<-fail
		panic("as a driver might")
	}
	look := func(done chan<- error) {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- l.look(t.Context(), &lookup{service: "s"})
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go look(first)
	<-asking
	l.ask = func([]*lookup) error { return nil } // the first one has asked already
	go look(second)
	for waits := false; !waits; {
		l.mu.Lock()
		waits = len(l.waiting) == 1
		l.mu.Unlock()
	}
	close(fail)
	if err := <-first; err == nil || err.Error() != "panic: as a driver might" {
		t.Errorf("who asked got %v", err)
	}
	third := make(chan error, 1)
	go look(third)
	for name, done := range map[string]chan error{"who waited": second, "who came later": third} {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s got %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits still", name)
		}
	}
}
