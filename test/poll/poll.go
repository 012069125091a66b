// Package poll lets a test wait for what nobody tells it: the state of another
// program, a log, a file. What is told, by a channel or by a call that returns, is
// waited for there.
package poll

import (
	"testing"
	"time"
)

const (
	limit = time.Minute // long for anything on a machine with nothing else to do
	pause = 5 * time.Millisecond
)

// Until asks until it is so. After a minute the test has failed.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, limit, what, ok)
}

// Within is [Until] with another limit, where the test is about that.
func Within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(pause), time.After(limit)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
