package storetest

import (
	"fmt"
	"time"

	"bindery"
)

var instanceTests = map[string]func(world){
	"what was added is found by row and by id": func(w world) {
		i := w.instance()
		bare := w.instance(func(i *bindery.Instance) { // empty stays empty
			*i = bindery.Instance{Row: i.Row, Platform: "p", ID: "bare", State: bindery.StateCreating}
		})
		w.view(func(tx bindery.Tx) error {
			for _, want := range []bindery.Instance{i, bare} {
				got, err := tx.Instances().Get(w.ctx, want.Row)
				if err != nil {
					return err
				}
				w.same("by row", got, want)
				if got, err = tx.Instances().Find(w.ctx, want.Platform, want.ID); err != nil {
					return err
				}
				w.same("by id", got, want)
			}
			return nil
		})
	},
	"what is not there is not found": func(w world) {
		i := w.instance()
		w.view(func(tx bindery.Tx) error {
			_, err := tx.Instances().Get(w.ctx, i.Row+1)
			if err := missing(err); err != nil {
				return err
			}
			if _, err = tx.Instances().Find(w.ctx, "other", i.ID); missing(err) != nil {
				return missing(err)
			}
			_, err = tx.Instances().Find(w.ctx, i.Platform, "other")
			return missing(err)
		})
	},
	"an id is taken while its instance lives, for its platform": func(w world) {
		first := w.instance()
		second := w.newInstance()
		second.ID = first.ID
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.Instances().Add(w.ctx, second) })
		elsewhere := second
		elsewhere.Row, elsewhere.Platform = w.id(), "other"
		w.update(func(tx bindery.Tx) error { return tx.Instances().Add(w.ctx, elsewhere) })

		gone := first
		gone.State = bindery.StateRemoved
		w.update(func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, gone, first.State) })
		w.update(func(tx bindery.Tx) error { return tx.Instances().Add(w.ctx, second) })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Instances().Find(w.ctx, first.Platform, first.ID)
			w.same("the live one", got, second)
			return err
		})
	},
	"a conflict does not spoil its transaction": func(w world) {
		first := w.instance()
		again := first
		again.Row = w.id()
		other := w.newInstance()
		w.update(func(tx bindery.Tx) error {
			if err := tx.Instances().Add(w.ctx, again); bindery.CodeOf(err) != bindery.CodeConflict {
				return fmt.Errorf("got %w, want a conflict", err)
			}
			return tx.Instances().Add(w.ctx, other)
		})
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Instances().Get(w.ctx, other.Row)
			w.same("the other", got, other)
			return err
		})
	},
	"of the removed ones the newest is found": func(w world) {
		var last bindery.Instance
		for range 3 {
			last = w.instance(func(i *bindery.Instance) { i.ID = "same" })
			last.State = bindery.StateRemoved
			w.update(func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, last, bindery.StateReady) })
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Instances().Find(w.ctx, last.Platform, "same")
			w.same("the newest", got, last)
			return err
		})
	},
	"save writes every field but whose it is": func(w world) {
		i := w.instance()
		changed := bindery.Instance{Row: i.Row, Platform: i.Platform, ID: i.ID, State: bindery.StateUpdating}
		other := w.newInstance()
		other.Row, other.ID = i.Row, i.ID
		other.PlanID, other.Space, other.State = "bigger", "elsewhere", bindery.StateReady
		other.Updated = start.Add(time.Hour)
		for from, next := range map[bindery.State]bindery.Instance{bindery.StateReady: changed} {
			w.update(func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, next, from) })
			w.holds(next)
		}
		w.update(func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, other, bindery.StateUpdating) })
		w.holds(other)
	},
	"save is refused in another state, or for no row": func(w world) {
		i := w.instance()
		next := i
		next.State = bindery.StateRemoving
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, next, bindery.StateUpdating) })
		next.Row = w.id()
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Instances().Save(w.ctx, next, bindery.StateReady) })
		w.holds(i)
	},
	"counts live ones of a plan, up to a limit": func(w world) {
		for range 3 {
			w.instance()
		}
		w.instance(func(i *bindery.Instance) { i.State = bindery.StateRemoved })
		w.instance(func(i *bindery.Instance) { i.Platform = "other" })
		w.instance(func(i *bindery.Instance) { i.PlanID = "other" })
		w.view(func(tx bindery.Tx) error {
			for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 10: 3} {
				got, err := tx.Instances().Count(w.ctx, "platform", "plan", limit)
				if err != nil || got != want {
					return fmt.Errorf("count up to %d: got %d, %w, want %d", limit, got, err, want)
				}
			}
			return nil
		})
	},
	"knows servers and combinations in use": func(w world) {
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Instances().InUse(w.ctx)
			if len(got) != 0 {
				w.Errorf("in use: got %v, want none", got)
			}
			return err
		})
		for n := range 3 {
			for _, server := range []string{"a", "b"} {
				w.instance(func(i *bindery.Instance) { i.Server, i.PlanID = server, fmt.Sprint("plan-", n%2) })
			}
		}
		w.instance(func(i *bindery.Instance) { i.Server, i.State = "removed", bindery.StateRemoved })
		w.view(func(tx bindery.Tx) error {
			for server, want := range map[string]bool{"a": true, "b": true, "removed": false, "never": false} {
				if got, err := tx.Instances().OnServer(w.ctx, server); err != nil || got != want {
					return fmt.Errorf("on server %s: got %v, %w, want %v", server, got, err, want)
				}
			}
			got, err := tx.Instances().InUse(w.ctx)
			seen := map[bindery.PlanUse]int{}
			for _, u := range got {
				seen[u]++
			}
			want := map[bindery.PlanUse]int{}
			for _, server := range []string{"a", "b"} {
				for n := range 2 {
					want[bindery.PlanUse{OfferingID: "offering", PlanID: fmt.Sprint("plan-", n), Kind: "redis", Server: server}] = 1
				}
			}
			w.same("in use", seen, want)
			return err
		})
	},
	"lists by filter, in order, a page at a time": func(w world) {
		var all, live, ofOther []bindery.Instance
		for n := range 7 {
			i := w.instance(func(i *bindery.Instance) {
				if n%3 == 0 {
					i.Platform, i.PlanID, i.Server = "other", "other plan", "other server"
				}
				if n == 3 {
					i.State = bindery.StateRemoved
				}
			})
			all = append(all, i)
			if n != 3 {
				live = append(live, i)
			}
			if n != 3 && n%3 == 0 {
				ofOther = append(ofOther, i)
			}
		}
		tests := map[string]struct {
			filter bindery.InstanceFilter
			want   []bindery.Instance
		}{
			"live":     {bindery.InstanceFilter{}, live},
			"all":      {bindery.InstanceFilter{Removed: true}, all},
			"platform": {bindery.InstanceFilter{Platform: "other"}, ofOther},
			"plan":     {bindery.InstanceFilter{PlanID: "other plan"}, ofOther},
			"server":   {bindery.InstanceFilter{Server: "other server"}, ofOther},
			"none":     {bindery.InstanceFilter{Platform: "other", Server: "server"}, nil},
		}
		for name, test := range tests {
			for _, limit := range []int{0, 1, 2, 100_000} {
				got := paged(w, limit, func(i bindery.Instance) int64 { return i.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.Instance, error) {
						return tx.Instances().List(w.ctx, test.filter, p)
					})
				w.same(name, got, test.want)
			}
		}
	},
}

func (w world) holds(want bindery.Instance) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Instances().Get(w.ctx, want.Row)
		w.same("instance", got, want)
		return err
	})
}

// paged reads a whole list, limit rows at a time, and checks that no page is
// longer than asked for. Limit 0 reads one page of the default size.
func paged[T any](w world, limit int, row func(T) int64, list func(bindery.Tx, bindery.Page) ([]T, error)) []T {
	w.Helper()
	var all []T
	page := bindery.Page{Limit: limit}
	for {
		var got []T
		w.view(func(tx bindery.Tx) (err error) {
			got, err = list(tx, page)
			return err
		})
		if limit > 0 && len(got) > limit {
			w.Fatalf("page: got %d rows, want at most %d", len(got), limit)
		}
		all = append(all, got...)
		if len(got) == 0 || limit == 0 {
			return all
		}
		page.After = row(got[len(got)-1])
	}
}
