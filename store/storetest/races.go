package storetest

import (
	"strconv"
	"sync/atomic"

	"bindery"
)

const rounds = 10

var raceTests = map[string]func(world){
	"no update is lost": func(w world) {
		const callers, each = 6, 10
		i := w.instance(func(i *bindery.Instance) { i.Space = "0" })
		concurrently(w, callers, func(int) error {
			for range each {
				err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
					i, err := tx.Instances().Get(w.ctx, i.Row)
					if err != nil {
						return err
					}
					n, err := strconv.Atoi(i.Space)
					if err != nil {
						return err
					}
					i.Space = strconv.Itoa(n + 1)
					return tx.Instances().Save(w.ctx, i, i.State)
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		i.Space = strconv.Itoa(callers * each)
		w.holds(i)
	},
	"two that each spare the other do not both go (write skew)": func(w world) {
		for range rounds {
			pair := []bindery.Instance{w.instance(), w.instance()}
			concurrently(w, 2, func(n int) error {
				return w.s.Update(w.ctx, func(tx bindery.Tx) error {
					other, err := tx.Instances().Get(w.ctx, pair[1-n].Row)
					if err != nil || other.State != bindery.StateReady {
						return err
					}
					me := pair[n]
					me.State = bindery.StateRemoving
					return tx.Instances().Save(w.ctx, me, bindery.StateReady)
				})
			})
			w.view(func(tx bindery.Tx) error {
				ready := 0
				for _, i := range pair {
					i, err := tx.Instances().Get(w.ctx, i.Row)
					if err != nil {
						return err
					}
					if i.State == bindery.StateReady {
						ready++
					}
				}
				if ready != 1 {
					w.Errorf("%d are left, want 1", ready)
				}
				return nil
			})
		}
	},
	"a quota holds (write skew on rows that are not there yet)": func(w world) {
		const callers, quota = 8, 3
		for range rounds {
			i := w.instance()
			added := atomic.Int32{}
			concurrently(w, callers, func(int) error {
				b := w.newBinding(i)
				full := false
				err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
					n, err := tx.Bindings().Count(w.ctx, i.Row, quota)
					if full = n >= quota; full || err != nil {
						return err
					}
					return tx.Bindings().Add(w.ctx, b)
				})
				if err == nil && !full {
					added.Add(1)
				}
				return err
			})
			w.view(func(tx bindery.Tx) error {
				n, err := tx.Bindings().Count(w.ctx, i.Row, callers)
				if n != quota || added.Load() != quota {
					w.Errorf("got %d bindings, %d callers that added one, want %d", n, added.Load(), quota)
				}
				return err
			})
		}
	},
	"an instance is not removed under a new binding": func(w world) {
		for range rounds {
			i := w.instance()
			b := w.newBinding(i)
			concurrently(w, 2, func(n int) error {
				return w.s.Update(w.ctx, func(tx bindery.Tx) error {
					now, err := tx.Instances().Find(w.ctx, i.Platform, i.ID)
					if err != nil {
						return err
					}
					if n == 0 {
						if now.State != bindery.StateReady {
							return nil
						}
						return tx.Bindings().Add(w.ctx, b)
					}
					bound, err := tx.Bindings().Count(w.ctx, i.Row, 1)
					if err != nil || bound > 0 {
						return err
					}
					now.State = bindery.StateRemoving
					return tx.Instances().Save(w.ctx, now, bindery.StateReady)
				})
			})
			w.view(func(tx bindery.Tx) error {
				now, err := tx.Instances().Get(w.ctx, i.Row)
				if err != nil {
					return err
				}
				bound, err := tx.Bindings().Count(w.ctx, i.Row, 1)
				if (now.State == bindery.StateRemoving) == (bound > 0) {
					w.Errorf("the instance is %s and has %d bindings", now.State, bound)
				}
				return err
			})
		}
	},
	"of many that add one id, one wins": func(w world) {
		const callers = 8
		for range rounds {
			i := w.instance()
			one := w.newBinding(i)
			w.oneWins(callers, bindery.CodeConflict, func(tx bindery.Tx, row int64) error {
				b := one
				b.Row = row
				return tx.Bindings().Add(w.ctx, b)
			})
		}
	},
	"of many that begin an operation on one subject, one wins": func(w world) {
		const callers = 8
		for range rounds {
			one := w.newOperation(1, w.id())
			w.oneWins(callers, bindery.CodeBusy, func(tx bindery.Tx, row int64) error {
				o := one
				o.Row = row
				return tx.Operations().Add(w.ctx, o)
			})
		}
	},
	"of many that leave one state, one wins": func(w world) {
		const callers = 8
		for range rounds {
			b := w.binding(w.instance())
			next := b
			next.State = bindery.StateRemoving
			w.oneWins(callers, bindery.CodeBusy, func(tx bindery.Tx, _ int64) error {
				return tx.Bindings().Save(w.ctx, next, b.State)
			})
		}
	},
}

// oneWins runs f by many callers at once: one must succeed, the others get the code.
func (w world) oneWins(callers int, want bindery.Code, f func(tx bindery.Tx, row int64) error) {
	w.Helper()
	var won atomic.Int32
	concurrently(w, callers, func(int) error {
		row := w.id()
		err := w.s.Update(w.ctx, func(tx bindery.Tx) error { return f(tx, row) })
		if err == nil {
			won.Add(1)
		}
		if bindery.CodeOf(err) == want {
			return nil
		}
		return err
	})
	if won.Load() != 1 {
		w.Fatalf("%d won, want 1", won.Load())
	}
}
