package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"bindery"
	"bindery/seal"
)

// openFile opens a fresh SQLite store, and its engine.
func openFile(t *testing.T) (*Store, *sqliteStore) {
	t.Helper()
	keys, err := seal.NewKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{URL: filepath.Join(t.TempDir(), "bindery.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, s.engine.(*sqliteStore)
}

func addEvent1(ctx context.Context, message string) func(bindery.Tx) error {
	return func(tx bindery.Tx) error {
		return tx.Events().Add(ctx, bindery.Event{Action: "test", Message: message})
	}
}

// TestFullDisk fills the database: everybody whose commit was lost must hear of
// it, and the store must work again once there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s, e := openFile(t)
	ctx := t.Context()
	limit := func(pages string) {
		e.writer.chore(func() {
			if err := e.writer.c.do("PRAGMA max_page_count = " + pages); err != nil {
				t.Error(err)
			}
		})
	}
	limit("1") // it stays at what is there
	big := strings.Repeat("x", 1<<20)
	// Both run in one batch: the second waits while the first is inside.
	inside, queued := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	errs := make([]error, 2)
	all.Go(func() {
		errs[0] = s.Update(ctx, func(bindery.Tx) error {
			close(inside)
			<-queued
			return nil
		})
	})
	<-inside
	all.Go(func() { errs[1] = s.Update(ctx, addEvent1(ctx, big)) })
	for len(e.writer.queue) == 0 {
		runtime.Gosched() // until it is queued
	}
	close(queued)
	all.Wait()
	for n, err := range errs {
		if bindery.CodeOf(err) != bindery.CodeUnavailable {
			t.Errorf("caller %d: got %v, want unavailable", n, err)
		}
	}
	limit("1000000")
	if err := s.Update(ctx, addEvent1(ctx, big)); err != nil {
		t.Fatalf("with room: %v", err)
	}
}

// TestQueuedCallerGivesUp ends the context of a caller whose turn has not come.
func TestQueuedCallerGivesUp(t *testing.T) {
	t.Parallel()
	s, e := openFile(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	var first error
	var all sync.WaitGroup
	all.Go(func() {
		first = s.Update(t.Context(), func(bindery.Tx) error {
			close(inside)
			<-leave
			return nil
		})
	})
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	var second error
	all.Go(func() {
		defer close(leave) // the first one is held until the second has its answer
		second = s.Update(ctx, func(bindery.Tx) error {
			t.Error("it ran")
			return nil
		})
	})
	for len(e.writer.queue) == 0 {
		runtime.Gosched() // until it is queued
	}
	cancel()
	all.Wait()
	if first != nil || !errors.Is(second, context.Canceled) {
		t.Fatalf("got %v and %v", first, second)
	}
}

// TestNewIDInside asks for ids inside a transaction, during which none can be
// reserved.
func TestNewIDInside(t *testing.T) {
	t.Parallel()
	s, _ := openFile(t)
	for range 20 {
		err := s.Update(t.Context(), func(bindery.Tx) error {
			for range idBlock / 5 {
				if _, err := s.NewID(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) { //nolint:paralleltest // others' goroutines would be counted
	before := goleak.IgnoreCurrent()
	t.Run("store", func(t *testing.T) { //nolint:paralleltest // as above
		s, _ := openFile(t)
		if err := s.Update(t.Context(), addEvent1(t.Context(), "")); err != nil {
			t.Fatal(err)
		}
		if err := s.View(t.Context(), func(bindery.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	goleak.VerifyNone(t, before)
}

// TestNoScans asks SQLite how it runs every statement that is not a page of a
// list or a count over everything: none may visit all rows of a table.
func TestNoScans(t *testing.T) {
	t.Parallel()
	s, e := openFile(t)
	ctx := t.Context()
	if err := s.Update(ctx, everyCall(ctx)); err != nil {
		t.Fatal(err)
	}
	plans := 0
	e.writer.chore(func() {
		for text := range e.writer.c.stmts {
			if strings.Contains(text, "data_keys") || strings.Contains(text, "SAVEPOINT") || !strings.Contains(text, " ") {
				continue
			}
			rows, err := e.writer.c.c.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))...)
			if err != nil {
				continue // not a statement that has a plan
			}
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Error(err)
				}
				plans++
				if strings.HasPrefix(detail, "SCAN ") && !strings.Contains(detail, "USING") && !strings.Contains(detail, "(subquery") &&
					!strings.HasSuffix(detail, "live") {
					t.Errorf("%s\n\t%s", detail, text)
				}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // a loop: deferred, all would stay open
				t.Error(err)
			}
		}
	})
	if plans < 30 {
		t.Errorf("looked at %d steps only", plans)
	}
}

// everyCall calls every keyed method once; what they answer does not matter.
func everyCall(ctx context.Context) func(bindery.Tx) error {
	return func(tx bindery.Tx) error {
		_, _ = tx.Instances().Get(ctx, 1)
		_, _ = tx.Instances().Find(ctx, "p", "i")
		_, _ = tx.Instances().Count(ctx, "p", "plan", 1)
		_, _ = tx.Instances().OnServer(ctx, "s")
		_ = tx.Instances().Add(ctx, bindery.Instance{Row: 1, ID: "i", State: bindery.StateReady})
		_, _ = tx.Instances().InUse(ctx)
		_ = tx.Instances().Save(ctx, bindery.Instance{Row: 1, State: bindery.StateRemoved}, bindery.StateReady)
		_, _ = tx.Bindings().Get(ctx, 1)
		_, _ = tx.Bindings().Find(ctx, "p", "i", "b")
		_, _ = tx.Bindings().Count(ctx, 1, 1)
		_ = tx.Bindings().Save(ctx, bindery.Binding{Row: 1}, bindery.StateReady)
		_, _ = tx.Accounts().OfBinding(ctx, 1)
		_, _ = tx.Accounts().ByName(ctx, "s", "a")
		_, _ = tx.Accounts().List(ctx, "s", bindery.AccountLive, bindery.Page{})
		_ = tx.Accounts().Save(ctx, bindery.Account{Row: 1}, bindery.AccountLive)
		_, _ = tx.Operations().Get(ctx, 1)
		_, _ = tx.Operations().Active(ctx, 1, 1)
		_, _ = tx.Operations().Latest(ctx, 1, 1)
		_, _ = tx.Operations().ActiveOfBindings(ctx, 1, 1)
		_, _ = tx.Operations().Claim(ctx, 1, fromMicros(now()), 1)
		_, _, _ = tx.Operations().NextDue(ctx)
		_, _ = tx.Operations().List(ctx, bindery.OperationFilter{State: bindery.OpInProgress}, bindery.Page{})
		_, _ = tx.Operations().Prune(ctx, fromMicros(now()), 1)
		_ = tx.Operations().Save(ctx, bindery.Operation{Row: 1})
		_, _ = tx.Events().Prune(ctx, fromMicros(now()), 1)
		_ = tx.Processes().Leave(ctx, 1)
		return nil
	}
}
