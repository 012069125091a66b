package storetest

import (
	"fmt"
	"time"

	"bindery"
)

var operationTests = map[string]func(world){
	"what was added is found": func(w world) {
		o := w.operation(1, 2)
		bare := w.operation(1, 3, func(o *bindery.Operation) {
			*o = bindery.Operation{Row: o.Row, InstanceRow: 1, BindingRow: 3, State: bindery.OpInProgress, Due: start, Internal: true}
		})
		w.view(func(tx bindery.Tx) error {
			for _, want := range []bindery.Operation{o, bare} {
				got, err := tx.Operations().Get(w.ctx, want.Row)
				if err != nil {
					return err
				}
				w.same("by row", got, want)
				if got, err = tx.Operations().Active(w.ctx, want.InstanceRow, want.BindingRow); err != nil {
					return err
				}
				w.same("active", got, want)
			}
			_, err := tx.Operations().Get(w.ctx, o.Row-1)
			if err := missing(err); err != nil {
				return err
			}
			if _, err = tx.Operations().Active(w.ctx, 1, 0); missing(err) != nil {
				return fmt.Errorf("on the instance: %w", missing(err))
			}
			_, err = tx.Operations().Active(w.ctx, 2, 2)
			return missing(err)
		})
	},
	"one at a time is in progress on a subject": func(w world) {
		for _, binding := range []int64{0, 5} {
			first := w.operation(1, binding)
			second := w.newOperation(1, binding)
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Operations().Add(w.ctx, second) })
			w.operation(2, binding) // another subject
			first.State, first.Finished = bindery.OpFailed, start
			w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, first) })
			w.update(func(tx bindery.Tx) error { return tx.Operations().Add(w.ctx, second) })
		}
	},
	"the latest is the newest that is not internal": func(w world) {
		var last bindery.Operation
		for n := range 4 {
			o := w.operation(1, 2, func(o *bindery.Operation) { o.Internal = n == 3 })
			o.State, o.Finished = bindery.OpSucceeded, start
			w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
			if n < 3 {
				last = o
			}
		}
		w.operation(1, 0)
		w.operation(1, 3)
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Operations().Latest(w.ctx, 1, 2)
			w.same("latest", got, last)
			if err != nil {
				return err
			}
			_, err = tx.Operations().Latest(w.ctx, 2, 2)
			return missing(err)
		})
	},
	"of an instance's bindings those in progress are found": func(w world) {
		var want []bindery.Operation
		for binding := range int64(4) {
			o := w.operation(1, binding)
			if binding == 2 {
				o.State = bindery.OpFailed
				w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
			} else if binding > 0 {
				want = append(want, o)
			}
			w.operation(2, binding)
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Operations().ActiveOfBindings(w.ctx, 1, 10)
			w.same("active", got, want)
			if err != nil {
				return err
			}
			got, err = tx.Operations().ActiveOfBindings(w.ctx, 1, 1)
			if len(got) != 1 {
				w.Errorf("limit 1: got %d operations", len(got))
			}
			return err
		})
	},
	"save writes every field": func(w world) {
		o := w.operation(1, 2)
		next := bindery.Operation{
			Row: o.Row, Kind: o.Kind, Platform: o.Platform, InstanceRow: 1, BindingRow: 2, State: bindery.OpInProgress, Fence: o.Fence,
			Internal: true, Owner: 9, Due: start.Add(time.Minute), Attempts: 4, Problem: "another",
		}
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, next) })
		w.holdsOperation(next)
		next.State, next.Finished, next.Code, next.Message = bindery.OpFailed, start.Add(time.Hour), bindery.CodeInvalid, "no"
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, next) })
		w.holdsOperation(next)
	},
	"save is refused with another fence, when finished, or for no row": func(w world) {
		o := w.operation(1, 2)
		for _, fence := range []int64{o.Fence - 1, o.Fence + 1, 0} {
			late := o
			late.Fence, late.Problem = fence, "late"
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, late) })
		}
		none := o
		none.Row = w.id()
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, none) })
		w.holdsOperation(o)
		o.State, o.Finished = bindery.OpSucceeded, start
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
	},
	"lists by filter, in order, a page at a time": func(w world) {
		var all, inProgress, failed, other, ofOne []bindery.Operation
		for n := range 9 {
			o := w.operation(int64(1+n%2), int64(n+1), func(o *bindery.Operation) {
				if n%4 == 0 {
					o.Platform = "other"
				}
			})
			if n%3 == 0 {
				o.State, o.Finished = bindery.OpFailed, start
				w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
				failed = append(failed, o)
			} else {
				inProgress = append(inProgress, o)
			}
			all = append(all, o)
			if o.Platform == "other" {
				other = append(other, o)
			}
			if o.InstanceRow == 1 {
				ofOne = append(ofOne, o)
			}
		}
		tests := map[string]struct {
			filter bindery.OperationFilter
			want   []bindery.Operation
		}{
			"all":         {bindery.OperationFilter{}, all},
			"in progress": {bindery.OperationFilter{State: bindery.OpInProgress}, inProgress},
			"failed":      {bindery.OperationFilter{State: bindery.OpFailed}, failed},
			"platform":    {bindery.OperationFilter{Platform: "other"}, other},
			"instance":    {bindery.OperationFilter{InstanceRow: 1}, ofOne},
			"none":        {bindery.OperationFilter{State: bindery.OpSucceeded}, nil},
		}
		for name, test := range tests {
			for _, limit := range []int{0, 2} {
				got := paged(w, limit, func(o bindery.Operation) int64 { return o.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.Operation, error) {
						return tx.Operations().List(w.ctx, test.filter, p)
					})
				w.same(name, got, test.want)
			}
		}
	},
	"prune removes those that finished before, up to a limit": func(w world) {
		for n := range 6 {
			o := w.operation(1, int64(n+1))
			if n < 5 {
				o.State, o.Finished = bindery.OpSucceeded, start.Add(time.Duration(n)*time.Hour)
				w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
			}
		}
		for _, step := range []struct {
			before          time.Duration
			limit, want, in int
		}{{0, 10, 0, 6}, {3 * time.Hour, 2, 2, 4}, {3 * time.Hour, 10, 1, 3}, {1000 * time.Hour, 10, 2, 1}} {
			w.update(func(tx bindery.Tx) error {
				got, err := tx.Operations().Prune(w.ctx, start.Add(step.before), step.limit)
				if got != step.want {
					w.Errorf("pruned %d, want %d", got, step.want)
				}
				return err
			})
			w.view(func(tx bindery.Tx) error {
				left, err := tx.Operations().List(w.ctx, bindery.OperationFilter{}, bindery.Page{})
				if len(left) != step.in {
					w.Errorf("left %d, want %d", len(left), step.in)
				}
				return err
			})
		}
	},
}

func (w world) holdsOperation(want bindery.Operation) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Operations().Get(w.ctx, want.Row)
		w.same("operation", got, want)
		return err
	})
}
