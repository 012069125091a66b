package storetest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"

	"bindery"
)

var transactionTests = map[string]func(world){
	"an error undoes everything, and is the caller's own": func(w world) {
		i := w.instance()
		j := w.newInstance()
		changed := i
		changed.State = bindery.StateRemoving
		err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
			if err := tx.Instances().Add(w.ctx, j); err != nil {
				return err
			}
			if err := tx.Instances().Save(w.ctx, changed, i.State); err != nil {
				return err
			}
			if err := tx.Events().Add(w.ctx, bindery.Event{Row: j.Row, Action: "bind"}); err != nil {
				return err
			}
			return errUndo
		})
		if err != errUndo { //nolint:errorlint // the very error, not one that wraps it
			w.Fatalf("got %v, want the function's own error", err)
		}
		w.holds(i)
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, j.Row)
			if err := missing(err); err != nil {
				return err
			}
			events, err := tx.Events().List(w.ctx, bindery.EventFilter{}, bindery.Page{})
			if len(events) != 0 {
				w.Errorf("events: got %v, want none", events)
			}
			return err
		})
	},
	"a transaction reads what it wrote": func(w world) {
		i := w.newInstance()
		w.update(func(tx bindery.Tx) error {
			if err := tx.Instances().Add(w.ctx, i); err != nil {
				return err
			}
			got, err := tx.Instances().Find(w.ctx, i.Platform, i.ID)
			w.same("inside", got, i)
			return err
		})
	},
	"nobody sees half a transaction": func(w world) {
		i := w.newInstance()
		w.update(func(tx bindery.Tx) error {
			if err := tx.Instances().Add(w.ctx, i); err != nil {
				return err
			}
			return w.s.View(w.ctx, func(tx bindery.Tx) error {
				_, err := tx.Instances().Get(w.ctx, i.Row)
				return missing(err)
			})
		})
		w.holds(i)
	},
	"a view does not write": func(w world) {
		i := w.newInstance()
		if err := w.s.View(w.ctx, func(tx bindery.Tx) error { return tx.Instances().Add(w.ctx, i) }); err == nil {
			w.Fatal("a view wrote")
		}
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"a view returns its function's error": func(w world) {
		if err := w.s.View(w.ctx, func(bindery.Tx) error { return errUndo }); !errors.Is(err, errUndo) {
			w.Fatalf("got %v, want %v", err, errUndo)
		}
	},
	"a context that has ended runs nothing": func(w world) {
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		for name, run := range map[string]func(context.Context, func(bindery.Tx) error) error{"update": w.s.Update, "view": w.s.View} {
			err := run(ctx, func(bindery.Tx) error {
				w.Errorf("%s ran", name)
				return nil
			})
			if bindery.CodeOf(err) != bindery.CodeUnavailable || !errors.Is(err, context.Canceled) {
				w.Errorf("%s: got %v, want unavailable because it was canceled", name, err)
			}
		}
	},
	"a context that ends inside undoes": func(w world) {
		i, j := w.newInstance(), w.newInstance()
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		err := w.s.Update(ctx, func(tx bindery.Tx) error {
			if err := tx.Instances().Add(ctx, i); err != nil {
				return err
			}
			cancel()
			return tx.Instances().Add(ctx, j)
		})
		if bindery.CodeOf(err) != bindery.CodeUnavailable || !errors.Is(err, context.Canceled) {
			w.Fatalf("got %v, want unavailable because it was canceled", err)
		}
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"a panic undoes, reaches the caller, and harms nobody else": func(w world) {
		i := w.newInstance()
		func() {
			defer func() {
				if got := recover(); got != "boom" {
					w.Errorf("recovered %v, want boom", got)
				}
			}()
			_ = w.s.Update(w.ctx, func(tx bindery.Tx) error {
				if err := tx.Instances().Add(w.ctx, i); err != nil {
					return err
				}
				panic("boom")
			})
		}()
		w.instance()
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"a function that ends its goroutine undoes, and harms nobody else": func(w world) {
		i := w.newInstance()
		var all sync.WaitGroup
		all.Go(func() {
			_ = w.s.Update(w.ctx, func(tx bindery.Tx) error {
				if err := tx.Instances().Add(w.ctx, i); err != nil {
					return err
				}
				runtime.Goexit() // as t.FailNow does
				return nil
			})
			w.Error("the goroutine went on")
		})
		all.Wait()
		w.instance()
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"a transaction ends with its function": func(w world) {
		var kept bindery.Tx
		i := w.newInstance()
		w.update(func(tx bindery.Tx) error {
			kept = tx
			return nil
		})
		if err := kept.Instances().Add(w.ctx, i); err == nil {
			w.Fatal("it could be used afterwards")
		}
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"ids grow and are never given twice": func(w world) {
		const callers, each = 8, 3000
		got := make([][]int64, callers)
		concurrently(w, callers, func(n int) error {
			for range each {
				id, err := w.s.NewID(w.ctx)
				if err != nil {
					return err
				}
				if k := len(got[n]); k > 0 && id <= got[n][k-1] {
					return fmt.Errorf("%d came after %d", id, got[n][k-1])
				}
				got[n] = append(got[n], id)
			}
			return nil
		})
		seen := map[int64]bool{}
		for _, ids := range got {
			for _, id := range ids {
				if id <= 0 || seen[id] {
					w.Fatalf("id %d is not positive, or was given twice", id)
				}
				seen[id] = true
			}
		}
	},
	"an installation has an id": func(w world) {
		if got := w.s.Installation(); !regexp.MustCompile(`^[a-z0-9]{6}$`).MatchString(got) {
			w.Fatalf("got %q", got)
		}
		if err := w.s.Ping(w.ctx); err != nil {
			w.Fatalf("ping: %v", err)
		}
	},
}

// concurrently runs n callers at once and fails with their errors.
func concurrently(w world, n int, f func(n int) error) {
	w.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	for k := range n {
		all.Go(func() { errs[k] = f(k) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
}
