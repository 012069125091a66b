package storetest

import (
	"fmt"
	"time"

	"bindery"
)

var bindingTests = map[string]func(world){
	"what was added is found by row and by ids": func(w world) {
		i := w.instance()
		full := w.binding(i)
		bare := w.binding(i, func(b *bindery.Binding) {
			*b = bindery.Binding{Row: b.Row, InstanceRow: i.Row, Platform: i.Platform, InstanceID: i.ID, ID: "bare", State: bindery.StateCreating}
		})
		w.view(func(tx bindery.Tx) error {
			for _, want := range []bindery.Binding{full, bare} {
				got, err := tx.Bindings().Get(w.ctx, want.Row)
				if err != nil {
					return err
				}
				w.same("by row", got, want)
				if got, err = tx.Bindings().Find(w.ctx, want.Platform, want.InstanceID, want.ID); err != nil {
					return err
				}
				w.same("by ids", got, want)
			}
			for _, ids := range [][3]string{
				{"other", full.InstanceID, full.ID}, {full.Platform, "other", full.ID}, {full.Platform, full.InstanceID, "other"},
			} {
				_, err := tx.Bindings().Find(w.ctx, ids[0], ids[1], ids[2])
				if err := missing(err); err != nil {
					return err
				}
			}
			_, err := tx.Bindings().Get(w.ctx, i.Row)
			return missing(err)
		})
	},
	"an id is taken while its binding lives, also by another instance": func(w world) {
		i, j := w.instance(), w.instance()
		first := w.binding(i)
		second := w.newBinding(j)
		second.ID = first.ID
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.Bindings().Add(w.ctx, second) })
		gone := first
		gone.State = bindery.StateRemoved
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, gone, first.State) })
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Add(w.ctx, second) })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Bindings().Find(w.ctx, i.Platform, j.ID, first.ID)
			if err != nil {
				return err
			}
			w.same("the live one", got, second)
			got, err = tx.Bindings().Find(w.ctx, i.Platform, i.ID, first.ID)
			w.same("the tombstone of the other instance", got, gone)
			return err
		})
	},
	"of the removed ones the newest is found": func(w world) {
		i := w.instance()
		var last bindery.Binding
		for range 3 {
			last = w.binding(i, func(b *bindery.Binding) { b.ID = "same" })
			last.State = bindery.StateRemoved
			w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, last, bindery.StateReady) })
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Bindings().Find(w.ctx, i.Platform, i.ID, "same")
			w.same("the newest", got, last)
			return err
		})
	},
	"save writes every field but whose it is": func(w world) {
		b := w.binding(w.instance())
		empty := bindery.Binding{
			Row: b.Row, InstanceRow: b.InstanceRow, Platform: b.Platform, InstanceID: b.InstanceID, ID: b.ID, State: bindery.StateCreating,
		}
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, empty, bindery.StateReady) })
		w.holdsBinding(empty)
		b.Updated = start.Add(time.Hour)
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, b, bindery.StateCreating) })
		w.holdsBinding(b)
	},
	"save is refused in another state, or for no row": func(w world) {
		b := w.binding(w.instance())
		next := b
		next.State = bindery.StateRemoving
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, next, bindery.StateCreating) })
		next.Row = w.id()
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, next, bindery.StateReady) })
		w.holdsBinding(b)
	},
	"counts the live ones of an instance, up to a limit": func(w world) {
		i, j := w.instance(), w.instance()
		for range 3 {
			w.binding(i)
		}
		w.binding(j)
		w.binding(i, func(b *bindery.Binding) { b.State = bindery.StateRemoved })
		w.view(func(tx bindery.Tx) error {
			for limit, want := range map[int]int{1: 1, 3: 3, 10: 3} {
				got, err := tx.Bindings().Count(w.ctx, i.Row, limit)
				if err != nil || got != want {
					return fmt.Errorf("count up to %d: got %d, %w, want %d", limit, got, err, want)
				}
			}
			return nil
		})
	},
	"lists by filter, in order, a page at a time": func(w world) {
		i := w.instance()
		j := w.instance(func(i *bindery.Instance) { i.Platform = "other" })
		var all, live, ofJ []bindery.Binding
		for n := range 7 {
			of := i
			if n%3 == 0 {
				of = j
			}
			b := w.binding(of, func(b *bindery.Binding) {
				if n == 4 {
					b.State = bindery.StateRemoved
				}
			})
			all = append(all, b)
			if n != 4 {
				live = append(live, b)
			}
			if n%3 == 0 {
				ofJ = append(ofJ, b)
			}
		}
		tests := map[string]struct {
			filter bindery.BindingFilter
			want   []bindery.Binding
		}{
			"live":                  {bindery.BindingFilter{}, live},
			"all":                   {bindery.BindingFilter{Removed: true}, all},
			"platform":              {bindery.BindingFilter{Platform: "other"}, ofJ},
			"instance":              {bindery.BindingFilter{InstanceRow: j.Row}, ofJ},
			"instance id":           {bindery.BindingFilter{InstanceID: j.ID}, ofJ},
			"another platform's id": {bindery.BindingFilter{Platform: "platform", InstanceID: j.ID}, nil},
			"none":                  {bindery.BindingFilter{Platform: "platform", InstanceRow: j.Row}, nil},
		}
		for name, test := range tests {
			for _, limit := range []int{0, 2, 100_000} {
				got := paged(w, limit, func(b bindery.Binding) int64 { return b.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.Binding, error) {
						return tx.Bindings().List(w.ctx, test.filter, p)
					})
				w.same(name, got, test.want)
			}
		}
	},
	"a page has 100 rows unless asked, and never more than 1000": func(w world) {
		i := w.instance()
		const n = 1005
		rows := make([]bindery.Binding, n)
		for k := range rows {
			rows[k] = w.newBinding(i)
		}
		w.update(func(tx bindery.Tx) error {
			for _, b := range rows {
				if err := tx.Bindings().Add(w.ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
		w.view(func(tx bindery.Tx) error {
			for limit, want := range map[int]int{0: 100, -1: 100, 150: 150, 1000: 1000, 5000: 1000} {
				got, err := tx.Bindings().List(w.ctx, bindery.BindingFilter{}, bindery.Page{Limit: limit})
				if err != nil || len(got) != want {
					return fmt.Errorf("limit %d: got %d rows, %w, want %d", limit, len(got), err, want)
				}
			}
			return nil
		})
	},
}

func (w world) holdsBinding(want bindery.Binding) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Bindings().Get(w.ctx, want.Row)
		w.same("binding", got, want)
		return err
	})
}
