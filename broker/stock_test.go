package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/driver/given"
)

// A poolWorld is a broker in front of a pool.
type poolWorld struct {
	*testing.T
	brokertest.Engine
	store bindery.Store
}

// newPool makes a pool of n items. hook may be empty.
func newPool(t *testing.T, n int, hook string) *poolWorld {
	t.Helper()
	w := &poolWorld{T: t, store: brokertest.OpenStore(t)}
	var stock []map[string]any
	for i := range n {
		stock = append(stock, map[string]any{"name": fmt.Sprintf("item-%03d", i), "credentials": map[string]any{"key": fmt.Sprintf("key-%03d", i)}})
	}
	secret, err := json.Marshal(stock)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]string{"rotation_url": hook})
	if err != nil {
		t.Fatal(err)
	}
	d, err := given.Pool.Open(bindery.Server{
		Name: "stock", Kind: "pool", Installation: w.store.Installation(), Timeout: 5 * time.Second, Settings: settings,
		Secrets: map[string]bindery.Secret{"stock": bindery.NewSecret(string(secret))},
	})
	if err != nil {
		t.Fatal(err)
	}
	plan := &bindery.Plan{
		ID: "small", Name: "small", Kind: "pool", Servers: []string{"stock"}, Settings: json.RawMessage(`{}`),
		Revocation: bindery.RevocationReleased, BindingRotatable: true,
	}
	catalog := &bindery.Catalog{Offerings: []*bindery.Offering{{ID: "redis", Name: "keys", Bindable: true, Plans: []*bindery.Plan{plan}}}}
	w.Engine = brokertest.New(t, w.store, func() *bindery.Catalog { return catalog }, func(name string) (bindery.Driver, bool) { return d, name == "stock" })
	w.Start(t)
	if _, err := w.Provision(t.Context(), waits, provisionRequest("i", "small")); err != nil {
		t.Fatal(err)
	}
	return w
}

// in runs a loop of the broker until the test ends.
func in(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// count counts the items in each state.
func (w *poolWorld) count() map[bindery.StockState]int {
	w.Helper()
	items, err := w.Stock(w.Context(), "stock")
	if err != nil {
		w.Fatal(err)
	}
	out := map[bindery.StockState]int{}
	for _, i := range items {
		out[i.State]++
	}
	return out
}

func TestAPoolUnderMoreBindsThanItHasItems(t *testing.T) {
	t.Parallel()
	const items, binds = 100, 200
	w := newPool(t, items, "")
	var refused atomic.Int32
	var mu sync.Mutex
	got := map[string]string{} // binding by key
	var all sync.WaitGroup
	for n := range binds {
		all.Go(func() {
			id := fmt.Sprint("b", n)
			r, err := w.Bind(t.Context(), waits, bindRequest("i", id))
			if bindery.CodeOf(err) == bindery.CodeQuota {
				refused.Add(1)
				return
			}
			if err != nil {
				t.Errorf("bind %s: %v", id, err)
				return
			}
			key := r.Credential.Object["key"].(string)
			mu.Lock()
			defer mu.Unlock()
			if other, taken := got[key]; taken {
				t.Errorf("%s was given to %s and to %s", key, other, id)
			}
			got[key] = id
		})
	}
	all.Wait()
	if len(got) != items || refused.Load() != binds-items {
		t.Fatalf("%d got an item and %d were refused, want %d each", len(got), refused.Load(), items)
	}
	if c := w.count(); c[bindery.StockTaken] != items {
		t.Fatalf("the stock is %v, want all taken", c)
	}
	// A refused bind left nothing, and may be asked for again; a repeat of one that got an item gets the same.
	var live []bindery.Binding
	if err := w.store.View(t.Context(), func(tx bindery.Tx) (err error) {
		live, err = tx.Bindings().List(t.Context(), bindery.BindingFilter{Removed: true}, bindery.Page{Limit: 1000})
		return err
	}); err != nil || len(live) != items {
		t.Fatalf("%d bindings are recorded (%v), want %d", len(live), err, items)
	}
	for key, id := range got {
		again, err := w.Bind(t.Context(), waits, bindRequest("i", id))
		if err != nil || again.Outcome != broker.Same || again.Credential.Object["key"] != key {
			t.Fatalf("a repeat of %s got %v (%v), want %s", id, again.Credential.Object, err, key)
		}
		break
	}

	// What an unbind leaves is given out again only when somebody released it.
	for _, id := range []string{got["key-007"], got["key-042"]} {
		if _, err := w.Unbind(t.Context(), waits, removeRequest("i", id)); err != nil {
			t.Fatal(err)
		}
	}
	if c := w.count(); c[bindery.StockQuarantine] != 2 || c[bindery.StockTaken] != items-2 {
		t.Fatalf("the stock is %v, want two in quarantine", c)
	}
	if _, err := w.Bind(t.Context(), waits, bindRequest("i", "next")); bindery.CodeOf(err) != bindery.CodeQuota {
		t.Fatalf("got %v, want nothing out of quarantine", err)
	}
	if err := w.Release(t.Context(), "stock", "item-042"); err != nil {
		t.Fatal(err)
	}
	if err := w.Release(t.Context(), "stock", "item-042"); bindery.CodeOf(err) != bindery.CodeConflict {
		t.Errorf("released twice: got %v", err)
	}
	if err := w.Release(t.Context(), "stock", "nothing"); bindery.CodeOf(err) != bindery.CodeNotFound {
		t.Errorf("released what is not there: got %v", err)
	}
	r, err := w.Bind(t.Context(), waits, bindRequest("i", "next"))
	if err != nil || r.Credential.Object["key"] != "key-042" {
		t.Fatalf("got %v (%v), want what was released", r.Credential.Object, err)
	}
	// The set lives on, and the record says so.
	if err := w.store.View(t.Context(), func(tx bindery.Tx) error {
		b, err := tx.Bindings().Find(t.Context(), "p", "i", got["key-007"])
		if err != nil {
			return err
		}
		a, err := tx.Accounts().OfBinding(t.Context(), b.Row)
		if err == nil && (a[0].State != bindery.AccountGone || a[0].Proof == "" || !a[0].Proven.IsZero() || !a[0].Material.Empty()) {
			t.Errorf("its account is %q with proof %q", a[0].State, a[0].Proof)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestTheRotationHookGivesItemsBack: with another set, once it answers.
func TestTheRotationHookGivesItemsBack(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"credentials":{"key":"fresh"}}`))
	}))
	t.Cleanup(hook.Close)
	w := newPool(t, 1, hook.URL)
	told := make(chan broker.Stocked, 100)
	w.Stocked = func(server string, s broker.Stocked) {
		if server == "stock" {
			told <- s
		}
	}
	in(t, w.RunStock)
	if _, err := w.Bind(t.Context(), waits, bindRequest("i", "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Unbind(t.Context(), waits, removeRequest("i", "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Bind(t.Context(), waits, bindRequest("i", "c")); bindery.CodeOf(err) != bindery.CodeQuota {
		t.Fatalf("got %v, want nothing before the hook answered well", err)
	}
	deadline := time.After(patience)
	for seen := false; ; {
		select {
		case s := <-told:
			if seen = seen || s[bindery.StockQuarantine] == 1; !seen || s[bindery.StockFree] != 1 {
				continue
			}
		case <-deadline:
			t.Fatalf("the item does not come back: %v", w.count())
		}
		break
	}
	if asked.Load() != 2 {
		t.Errorf("the hook was asked %d times, want once more after it failed", asked.Load())
	}
	r, err := w.Bind(t.Context(), waits, bindRequest("i", "c"))
	if err != nil || r.Credential.Object["key"] != "fresh" {
		t.Fatalf("got %v (%v), want the new set", r.Credential.Object, err)
	}
}

// What is left is told while a hook hangs.
func TestAHookThatHangsHidesNothing(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}, 10), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(hook.Close)
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	const items = 3
	w := newPool(t, items, hook.URL)
	told := make(chan broker.Stocked, 100)
	w.Stocked = func(_ string, s broker.Stocked) { told <- s }
	in(t, w.RunStock)
	for n := range items {
		id := fmt.Sprint("b", n)
		if _, err := w.Bind(t.Context(), waits, bindRequest("i", id)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Unbind(t.Context(), waits, removeRequest("i", id)); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			<-asked
		}
	}
	for deadline := time.After(patience); ; {
		select {
		case s := <-told:
			if s[bindery.StockQuarantine] != items {
				continue
			}
		case <-deadline:
			t.Fatal("nobody is told that all items are in quarantine")
		}
		break
	}
	if n := len(asked); n != 0 {
		t.Errorf("the hook was asked about %d more items before it answered", n)
	}
}
