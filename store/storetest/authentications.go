package storetest

import (
	"strconv"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bindery"
)

var authenticationTests = map[string]func(world){
	"counts add up by binding, outcome and second": func(w world) {
		s := w.serviceType()
		a, b := w.identity(s), w.identity(s)
		at := start.Truncate(time.Second)
		one := func(b bindery.IdentityBinding, o bindery.AuthOutcome, after time.Duration, n int) bindery.Authentication {
			return bindery.Authentication{BindingRow: b.Row, Outcome: o, At: at.Add(after), Count: n}
		}
		nobody := bindery.IdentityBinding{}
		w.record(
			one(a, bindery.AuthSucceeded, 0, 1), one(a, bindery.AuthSucceeded, 999*time.Millisecond, 2), one(a, bindery.AuthUpstream, 0, 3),
			one(b, bindery.AuthSucceeded, 0, 4), one(nobody, bindery.AuthUnbound, 0, 5))
		w.record(one(a, bindery.AuthSucceeded, 0, 10), one(a, bindery.AuthSucceeded, time.Second, 20), one(nobody, bindery.AuthUnbound, 0, 30))
		w.record()
		w.recorded(0, []bindery.Authentication{
			one(a, bindery.AuthSucceeded, 0, 13), one(a, bindery.AuthUpstream, 0, 3), one(b, bindery.AuthSucceeded, 0, 4),
			one(nobody, bindery.AuthUnbound, 0, 35), one(a, bindery.AuthSucceeded, time.Second, 20),
		})
		w.recorded(a.Row, []bindery.Authentication{
			one(a, bindery.AuthSucceeded, 0, 13), one(a, bindery.AuthUpstream, 0, 3), one(a, bindery.AuthSucceeded, time.Second, 20),
		})
	},
	"the last authentication moves forward only, and by success only": func(w world) {
		b := w.identity(w.serviceType(), func(b *bindery.IdentityBinding) { b.LastAuth = time.Time{} })
		at := start.Truncate(time.Second)
		for _, step := range []struct {
			outcome bindery.AuthOutcome
			after   time.Duration
			want    time.Time
		}{
			{bindery.AuthUpstream, 0, time.Time{}},
			{bindery.AuthSucceeded, 0, at},
			{bindery.AuthSucceeded, time.Minute, at.Add(time.Minute)},
			{bindery.AuthSucceeded, time.Second, at.Add(time.Minute)},
			{bindery.AuthUpstream, time.Hour, at.Add(time.Minute)},
		} {
			w.record(bindery.Authentication{BindingRow: b.Row, Outcome: step.outcome, At: at.Add(step.after), Count: 1})
			b.LastAuth = step.want
			w.holdsIdentity(b)
		}
	},
	"bindings that are gone are left out, and what was recorded stays until pruned": func(w world) {
		gone := w.serviceType()
		removed, ofGone, stays := w.identity(w.serviceType()), w.identity(gone), w.identity(w.serviceType())
		at := start.Truncate(time.Second)
		all := func(n int) (out []bindery.Authentication) {
			for _, b := range []bindery.IdentityBinding{removed, ofGone, stays} {
				out = append(out, bindery.Authentication{BindingRow: b.Row, Outcome: bindery.AuthSucceeded, At: at, Count: n})
			}
			return out
		}
		w.record(all(1)...)
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(w.ctx, removed.Row) })
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, gone.Row) })
		w.record(all(2)...)
		w.record(bindery.Authentication{BindingRow: w.id(), Outcome: bindery.AuthSucceeded, At: at, Count: 1})
		want := all(1)
		want[2].Count = 3
		w.recorded(0, want)
	},
	"prunes what is old, few at a time": func(w world) {
		b := w.identity(w.serviceType())
		at := start.Truncate(time.Second)
		var want []bindery.Authentication
		for n := range 10 {
			want = append(want, bindery.Authentication{BindingRow: b.Row, Outcome: bindery.AuthUpstream, At: at.Add(time.Duration(n) * time.Second), Count: 1})
		}
		w.record(want...)
		for _, pruned := range []int{4, 2, 0} {
			w.update(func(tx bindery.Tx) error {
				n, err := tx.Authentications().Prune(w.ctx, at.Add(6*time.Second), 4)
				if n != pruned {
					w.Errorf("pruned %d, want %d", n, pruned)
				}
				return err
			})
		}
		w.recorded(b.Row, want[6:])
	},
	"a large batch, by many at once, in any order": func(w world) {
		const callers, bindings = 4, 150
		s := w.serviceType()
		var seen, want []bindery.Authentication
		for n := range bindings {
			b := w.identity(s, func(b *bindery.IdentityBinding) { b.Name, b.LastAuth = strconv.Itoa(n), time.Time{} })
			a := bindery.Authentication{BindingRow: b.Row, Outcome: bindery.AuthSucceeded, At: start.Truncate(time.Second), Count: 1}
			seen = append(seen, a)
			a.Count = callers
			want = append(want, a)
		}
		concurrently(w, callers, func(n int) error {
			mine := append(append([]bindery.Authentication(nil), seen[n*30:]...), seen[:n*30]...)
			return w.s.Update(w.ctx, func(tx bindery.Tx) error { return tx.Authentications().Record(w.ctx, mine) })
		})
		w.recorded(0, want)
		w.view(func(tx bindery.Tx) error {
			for n := range bindings {
				b, err := tx.IdentityBindings().ByName(w.ctx, strconv.Itoa(n))
				if err != nil || !b.LastAuth.Equal(start.Truncate(time.Second)) {
					w.Errorf("binding %d: last authentication %v, %v", n, b.LastAuth, err)
				}
			}
			return nil
		})
	},
}

func (w world) record(seen ...bindery.Authentication) {
	w.Helper()
	w.update(func(tx bindery.Tx) error { return tx.Authentications().Record(w.ctx, seen) })
}

// recorded checks what a list has, in whatever order it was recorded.
func (w world) recorded(bindingRow int64, want []bindery.Authentication) {
	w.Helper()
	for _, limit := range []int{2, 1000} {
		got := paged(w, limit, func(a bindery.Authentication) int64 { return a.Row },
			func(tx bindery.Tx, p bindery.Page) ([]bindery.Authentication, error) {
				return tx.Authentications().List(w.ctx, bindingRow, p)
			})
		less := func(a, b bindery.Authentication) bool {
			return a.BindingRow < b.BindingRow || a.BindingRow == b.BindingRow && (a.Outcome < b.Outcome || a.Outcome == b.Outcome && a.At.Before(b.At))
		}
		if d := cmp.Diff(want, got, cmpopts.SortSlices(less), cmpopts.IgnoreFields(bindery.Authentication{}, "Row")); d != "" {
			w.Fatalf("records (-want +got):\n%s", d)
		}
	}
}
