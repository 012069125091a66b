package storetest

import (
	"fmt"
	"time"

	"bindery"
)

// Processes of the claim tests; whether they live is the matter of each test.
const (
	us   = 101
	them = 102
)

var claimTests = map[string]func(world){
	"takes what is due, oldest first, and raises the fence": func(w world) {
		var want []bindery.Operation
		for n := range 5 {
			o := w.operation(1, int64(n+1), func(o *bindery.Operation) { o.Due = start.Add(time.Duration(-n) * time.Minute) })
			want = append([]bindery.Operation{o}, want...)
		}
		w.operation(1, 9, func(o *bindery.Operation) { o.Due = start.Add(time.Microsecond) }) // not due yet
		done := w.operation(1, 10, func(o *bindery.Operation) { o.Due = start.Add(-time.Hour) })
		done.State = bindery.OpSucceeded
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, done) })
		for i := range want {
			want[i].Owner = us
			want[i].Fence++
		}
		w.update(func(tx bindery.Tx) error { return tx.Processes().Beat(w.ctx, us, start.Add(time.Hour)) })
		w.same("two", w.claim(us, start, 2), want[:2])
		w.same("the rest", w.claim(us, start, 10), want[2:])
		if got := w.claim(us, start, 10); len(got) != 0 {
			w.Fatalf("again: got %v, want none", got)
		}
		w.holdsOperation(want[0])
	},
	"leaves a live owner's alone, and takes a dead one's": func(w world) {
		o := w.operation(1, 2, func(o *bindery.Operation) { o.Owner = them })
		beat := func(until time.Time) {
			w.update(func(tx bindery.Tx) error { return tx.Processes().Beat(w.ctx, them, until) })
		}
		beat(start.Add(time.Minute))
		if got := w.claim(us, start, 10); len(got) != 0 {
			w.Fatalf("of a live owner: got %v, want none", got)
		}
		if got := w.claim(them, start, 10); len(got) != 0 {
			w.Fatalf("by its own live owner: got %v, want none", got)
		}
		beat(start.Add(-time.Microsecond)) // beats can be moved back as well
		o.Owner, o.Fence = us, o.Fence+1
		w.same("of a dead owner", w.claim(us, start, 10), []bindery.Operation{o})
	},
	"leaves alone what is on excepted servers": func(w world) {
		w.update(func(tx bindery.Tx) error { return tx.Processes().Beat(w.ctx, us, start.Add(time.Hour)) })
		var want []bindery.Operation
		for n, server := range []string{"a", "b", "a_b", "b_a", "ab", "%", "a"} {
			o := w.operation(1, int64(n+1), func(o *bindery.Operation) { o.Server = server })
			if server != "a" && server != "b_a" {
				o.Owner, o.Fence = us, o.Fence+1
				want = append(want, o)
			}
		}
		var got []bindery.Operation
		w.update(func(tx bindery.Tx) (err error) {
			got, err = tx.Operations().Claim(w.ctx, us, start, 10, "a", "b_a", "none")
			return err
		})
		w.same("the others", got, want)
		if got := w.claim(them, start, 10); len(got) != 3 {
			w.Fatalf("without exceptions: got %d, want 3", len(got))
		}
	},
	"takes those of an owner that left, or never was": func(w world) {
		w.operation(1, 2, func(o *bindery.Operation) { o.Owner = them })
		w.operation(1, 3, func(o *bindery.Operation) { o.Owner = 999 })
		w.update(func(tx bindery.Tx) error { return tx.Processes().Beat(w.ctx, them, start.Add(time.Hour)) })
		w.update(func(tx bindery.Tx) error { return tx.Processes().Leave(w.ctx, them) })
		w.update(func(tx bindery.Tx) error { return tx.Processes().Leave(w.ctx, them) }) // twice is no error
		if got := w.claim(us, start, 10); len(got) != 2 {
			w.Fatalf("got %d, want 2", len(got))
		}
	},
	"a claimed operation refuses its old owner": func(w world) {
		old := w.operation(1, 2)
		now := w.claim(us, start, 1)[0]
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, old) })
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, now) })
	},
	"the next due is the earliest that nobody owns": func(w world) {
		next := func(want time.Time, wantOK bool) {
			w.Helper()
			w.view(func(tx bindery.Tx) error {
				got, ok, err := tx.Operations().NextDue(w.ctx)
				if ok != wantOK || !got.Equal(want) {
					w.Errorf("next due: got %v, %v, want %v, %v", got, ok, want, wantOK)
				}
				return err
			})
		}
		next(time.Time{}, false)
		w.operation(1, 1, func(o *bindery.Operation) { o.Due, o.Owner = start.Add(-time.Hour), them })
		next(time.Time{}, false)
		w.operation(1, 2, func(o *bindery.Operation) { o.Due = start.Add(time.Hour) })
		next(start.Add(time.Hour), true)
		first := w.operation(1, 3)
		next(start, true)
		first.State = bindery.OpFailed
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, first) })
		next(start.Add(time.Hour), true)
	},
	"hasten makes due what nobody owns": func(w world) {
		late := func(o *bindery.Operation) { o.Due = start.Add(time.Hour) }
		hastened := w.operation(1, 1, late)
		early := w.operation(1, 2, func(o *bindery.Operation) { o.Due = start.Add(-time.Hour) })
		owned := w.operation(1, 3, late, func(o *bindery.Operation) { o.Owner = them })
		done := w.operation(1, 4, late)
		done.State, done.Finished = bindery.OpSucceeded, start
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, done) })
		w.update(func(tx bindery.Tx) error { return tx.Operations().Hasten(w.ctx, start) })
		hastened.Due = start
		for _, o := range []bindery.Operation{hastened, early, owned, done} {
			w.holdsOperation(o)
		}
	},
	"an operation is claimed by one of many": func(w world) {
		const operations, claimers = 40, 8
		for n := range operations {
			w.operation(1, int64(n+1))
		}
		for owner := range int64(claimers) {
			w.update(func(tx bindery.Tx) error { return tx.Processes().Beat(w.ctx, owner+1, start.Add(time.Hour)) })
		}
		got := make([][]bindery.Operation, claimers)
		concurrently(w, claimers, func(n int) error {
			for range operations {
				var batch []bindery.Operation
				err := w.s.Update(w.ctx, func(tx bindery.Tx) (err error) {
					batch, err = tx.Operations().Claim(w.ctx, int64(n+1), start, 3)
					return err
				})
				if err != nil {
					return err
				}
				got[n] = append(got[n], batch...)
			}
			return nil
		})
		owners := map[int64]int64{}
		for n, batch := range got {
			for _, o := range batch {
				if before, taken := owners[o.Row]; taken {
					w.Errorf("operation %d: claimed by %d and by %d", o.Row, before, n+1)
				}
				owners[o.Row] = int64(n + 1)
			}
		}
		if len(owners) != operations {
			w.Fatalf("claimed %d, want %d", len(owners), operations)
		}
		w.view(func(tx bindery.Tx) error {
			for row, owner := range owners {
				if o, err := tx.Operations().Get(w.ctx, row); err != nil || o.Owner != owner || o.Fence != 8 {
					return fmt.Errorf("operation %d: got owner %d, fence %d, %w", row, o.Owner, o.Fence, err)
				}
			}
			return nil
		})
	},
}

func (w world) claim(owner int64, now time.Time, limit int) (got []bindery.Operation) {
	w.Helper()
	w.update(func(tx bindery.Tx) (err error) {
		got, err = tx.Operations().Claim(w.ctx, owner, now, limit)
		return err
	})
	return got
}
