package crash_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"bindery"
	"bindery/client"
)

const poolService = "pool"

// Bindery is killed while twice as many ask as the pool has items: each item is
// given to one, everybody else is refused, and nothing is lost or doubled. Then it
// is killed while they are given back.
func TestKillAmidAPool(t *testing.T) {
	t.Parallel()
	const items, asking, kills = 100, 200, 4
	rng := chance(t)
	w := newWorld(t, raced, func(s *settings) { s.Pool = "stock" })
	var stock []map[string]any
	for n := range items {
		stock = append(stock, map[string]any{"name": fmt.Sprint("item-", n), "credentials": map[string]string{"key": fmt.Sprint("key-", n)}})
	}
	raw, err := json.Marshal(stock)
	if err != nil {
		t.Fatal(err)
	}
	w.keep("stock", string(raw))
	w.start()
	w.provision(poolService, "i")

	var mu sync.Mutex
	holders := map[string]string{} // bindings by key
	var refusals atomic.Int64
	ended := w.amid(rng, kills, asking, func(n int) {
		id := fmt.Sprint("b-", n)
		k := &caller{world: w}
		got, credentials := k.bind(t.Context(), poolService, "i", id, "")
		switch got {
		case done:
			mu.Lock()
			defer mu.Unlock()
			key := credentials.Text("key")
			if other, taken := holders[key]; taken {
				t.Errorf("%s was given to %s and to %s", key, other, id)
			}
			holders[key] = id
		case refused:
			refusals.Add(1)
		default:
			t.Errorf("bind %s is %s: %v", id, got, k.last)
		}
	})
	if !ended {
		t.FailNow()
	}
	if len(holders) != items || refusals.Load() != asking-items {
		t.Fatalf("%d got an item and %d were refused, want %d each", len(holders), refusals.Load(), items)
	}
	w.stocked(bindery.StockTaken, items, holders)

	var ids []string
	for _, id := range holders {
		ids = append(ids, id)
	}
	if !w.amid(rng, kills, len(ids), func(n int) {
		k := &caller{world: w}
		if got := k.unbind(t.Context(), poolService, "i", ids[n]); got != done && got != gone {
			t.Errorf("unbind %s is %s: %v", ids[n], got, k.last)
		}
	}) {
		t.FailNow()
	}
	w.stocked(bindery.StockQuarantine, items, holders)
}

// amid calls f for each number beside each other, and kills Bindery meanwhile. It
// returns whether Bindery came up again each time.
func (w *world) amid(rng *rand.Rand, kills, n int, f func(int)) bool {
	w.Helper()
	var begun atomic.Int64
	var calls sync.WaitGroup
	at := make(chan struct{}, n)
	for range 16 {
		calls.Go(func() {
			for {
				i := int(begun.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
				at <- struct{}{}
			}
		})
	}
	good := true
	for kill := 0; kill < kills && good; kill++ {
		for range n / (kills + 1) {
			<-at
		}
		good = w.replace(rng)
	}
	calls.Wait()
	return good
}

// stocked checks that all items are in a state, each with the binding that got it.
func (w *world) stocked(state bindery.StockState, n int, holders map[string]string) {
	w.Helper()
	pool, err := collect(w.admin().Pool(w.Context(), "", ""))
	if err != nil {
		w.Fatal(err)
	}
	if len(pool) != n {
		w.Errorf("the pool has %d items, want %d", len(pool), n)
	}
	for _, i := range pool {
		key := "key" + i.Name[len("item"):]
		if i.State == bindery.StockReturning {
			i.State = bindery.StockQuarantine // it is just being asked whether it may be given out again
		}
		if i.State != state || i.BindingID != holders[key] {
			w.Errorf("%s is %s, with %q; %s was given to %q", i.Name, i.State, i.BindingID, key, holders[key])
		}
	}
	live, err := collect(w.admin().Bindings(w.Context(), client.BindingFilter{InstanceID: "i"}))
	if err != nil {
		w.Fatal(err)
	}
	want := 0
	if state == bindery.StockTaken {
		want = n
	}
	if len(live) != want {
		w.Errorf("%d bindings are live, want %d", len(live), want)
	}
}
