package storetest

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"bindery"
)

var stockTests = map[string]func(world){
	"the first that nobody has is taken": func(w world) {
		items := []string{"c", "a", "b"}
		for n, want := range items {
			before := time.Now().Truncate(time.Microsecond)
			got := w.take(items, int64(n+1))
			w.same("item", got, bindery.StockItem{
				Row: got.Row, Server: "server", Name: want, State: bindery.StockTaken, AccountRow: int64(n + 1), Since: got.Since,
			})
			if got.Since.Before(before) || got.Since.After(time.Now()) {
				w.Errorf("taken at %v, between %v and now", got.Since, before)
			}
			w.holdsItem(got)
		}
		w.refused(bindery.CodeQuota, func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "server", items, 4)) })
		w.refused(bindery.CodeQuota, func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "server", nil, 4)) })
		// Another server's items are others, whatever their names.
		w.update(func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "other", items, 4)) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.Stock().OfAccount(w.ctx, 5)) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.Stock().ByName(w.ctx, "server", "d")) })
	},
	"what comes back is taken again, with what replaced it, but not out of quarantine": func(w world) {
		items := []string{"a", "b", "c"}
		a, b := w.take(items, 1), w.take(items, 2)
		a.State, a.Since, a.Material = bindery.StockQuarantine, start, bindery.NewSecret("of the hook")
		w.saveItem(a, bindery.StockTaken)
		w.holdsItem(a)
		if got := w.take(items, 3); got.Name != "c" {
			w.Errorf("got %v, want the one that is left", got.Name)
		}
		w.refused(bindery.CodeQuota, func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "server", items, 4)) })
		a.State = bindery.StockFree
		w.saveItem(a, bindery.StockQuarantine)
		b.State = bindery.StockFree
		w.saveItem(b, bindery.StockTaken)
		got := w.take(items, 5)
		w.same("item", got, bindery.StockItem{
			Row: a.Row, Server: "server", Name: "a", State: bindery.StockTaken, AccountRow: 5, Material: a.Material, Since: got.Since,
		})
		w.holdsItem(got)
		// One that is not among the items any more is not given out.
		w.refused(bindery.CodeQuota, func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "server", []string{"a", "c"}, 6)) })
	},
	"save is refused in another state, or for no row": func(w world) {
		i := w.take([]string{"a"}, 1)
		next := i
		next.State = bindery.StockQuarantine
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Stock().Save(w.ctx, next, bindery.StockFree) })
		next.Row++
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Stock().Save(w.ctx, next, bindery.StockTaken) })
		w.holdsItem(i)
	},
	"what was undone was not taken": func(w world) {
		err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
			if err := second(tx.Stock().Take(w.ctx, "server", []string{"a"}, 1)); err != nil {
				return err
			}
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			w.Fatal(err)
		}
		w.take([]string{"a"}, 2)
	},
	"a long stock, to its end": func(w world) {
		const n = 1000
		items := stockOf(n)
		var want []bindery.StockItem
		w.update(func(tx bindery.Tx) error {
			want = want[:0]
			for row := range int64(n) {
				i, err := tx.Stock().Take(w.ctx, "server", items, row+1)
				if err != nil {
					return err
				}
				if i.Name != items[row] {
					w.Fatalf("got %s, want %s", i.Name, items[row])
				}
				want = append(want, i)
			}
			return nil
		})
		w.refused(bindery.CodeQuota, func(tx bindery.Tx) error { return second(tx.Stock().Take(w.ctx, "server", items, n)) })
		for _, limit := range []int{70, 1000} {
			got := paged(w, limit, func(i bindery.StockItem) int64 { return i.Row },
				func(tx bindery.Tx, p bindery.Page) ([]bindery.StockItem, error) {
					return tx.Stock().List(w.ctx, "server", p)
				})
			w.same("list", got, want)
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Stock().List(w.ctx, "other", bindery.Page{})
			w.same("another server's", got, []bindery.StockItem(nil))
			return err
		})
	},
	"many at once, and each gets one of its own": func(w world) {
		const callers, n = 200, 100
		items := stockOf(n)
		var mu sync.Mutex
		got := make(map[string]int64)
		refused := 0
		concurrently(w, callers, func(caller int) error {
			var i bindery.StockItem
			err := w.s.Update(w.ctx, func(tx bindery.Tx) (err error) {
				i, err = tx.Stock().Take(w.ctx, "server", items, int64(caller+1))
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if bindery.CodeOf(err) == bindery.CodeQuota {
				refused++
				return nil
			}
			if err == nil && got[i.Name] != 0 {
				w.Errorf("%s was taken twice", i.Name)
			}
			got[i.Name] = i.AccountRow
			return err
		})
		if len(got) != n || refused != callers-n {
			w.Fatalf("%d have one and %d were refused, want %d each", len(got), refused, n)
		}
		w.view(func(tx bindery.Tx) error {
			for name, account := range got {
				i, err := tx.Stock().OfAccount(w.ctx, account)
				if err != nil {
					return err
				}
				w.same("item", i.Name, name)
			}
			return nil
		})
	},
}

func stockOf(n int) []string {
	items := make([]string, n)
	for i := range items {
		items[i] = "item-" + strconv.Itoa(i)
	}
	return items
}

// take takes one of the items of a server.
func (w world) take(items []string, accountRow int64) (i bindery.StockItem) {
	w.Helper()
	w.update(func(tx bindery.Tx) (err error) {
		i, err = tx.Stock().Take(w.ctx, "server", items, accountRow)
		return err
	})
	return i
}

func (w world) saveItem(i bindery.StockItem, from bindery.StockState) {
	w.Helper()
	w.update(func(tx bindery.Tx) error { return tx.Stock().Save(w.ctx, i, from) })
}

func (w world) holdsItem(want bindery.StockItem) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		byName, err := tx.Stock().ByName(w.ctx, want.Server, want.Name)
		if err != nil {
			return err
		}
		w.same("by name", byName, want)
		ofAccount, err := tx.Stock().OfAccount(w.ctx, want.AccountRow)
		w.same("of its account", ofAccount, want)
		return err
	})
}
