package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// A group runs what belongs together: the first that fails fails all, and a
// panic is an error like any other.
type group struct {
	running sync.WaitGroup
	once    sync.Once
	failed  chan struct{} // closed at the first failure
	err     error
}

func newGroup() *group { return &group{failed: make(chan struct{})} }

// run starts f. name says what f is, for the error.
func (g *group) run(ctx context.Context, name string, f func(context.Context) error) {
	g.running.Go(func() {
		if err := guard(ctx, name, f); err != nil {
			g.once.Do(func() {
				g.err = err
				close(g.failed)
			})
		}
	})
}

func guard(ctx context.Context, name string, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", name, p, debug.Stack())
		}
	}()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// wait returns true when everything has returned, and false when that takes longer than limit.
func (g *group) wait(limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		g.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// failure is the first error, or nil.
func (g *group) failure() error {
	select {
	case <-g.failed:
		return g.err
	default:
		return nil
	}
}
