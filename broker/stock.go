package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

const (
	// returnLimit bounds one question whether an item may be given out again.
	returnLimit = time.Minute
	// keepLimit bounds the recording of its answer.
	keepLimit = 10 * time.Second
	// returnLease is after how long a process that asks is taken for dead.
	returnLease = 2 * returnLimit
	// stockEvery is the pause between two looks at the stocks; a bind and an unbind wake earlier.
	stockEvery = 15 * time.Second
	// stockPause is the least time between two looks.
	stockPause = 500 * time.Millisecond

	firstReturnPause = time.Second
	maxReturnPause   = 10 * time.Minute
	// operatorPause is for what waits for an operator: a reload may bring a hook.
	operatorPause = time.Hour
)

// Stocked says how many items of a server's stock are in which state, of those
// that are configured; what nobody ever took is free.
type Stocked map[bindery.StockState]int

// A taking is what a bind takes out of a stock, in the transaction that records it.
type taking struct {
	driver  bindery.Driver
	items   []string
	spec    bindery.InstanceSpec
	request bindery.AccountRequest
}

// take gives an account its item, and what the driver makes of it. Errors:
// CodeQuota where nothing is left.
func (t *taking) take(ctx context.Context, tx bindery.Tx, a bindery.Account) (bindery.Account, error) {
	item, err := tx.Stock().Take(ctx, a.Server, t.items, a.Row)
	if err != nil {
		return a, err
	}
	r := t.request
	r.Item = item
	a.Material, err = t.driver.Prepare(t.spec, r)
	return a, err
}

// quarantine keeps what an account had from being given out at once.
func quarantine(ctx context.Context, tx bindery.Tx, a bindery.Account, now time.Time) error {
	item, err := tx.Stock().OfAccount(ctx, a.Row)
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound, err == nil && item.State != bindery.StockTaken:
		return nil
	case err != nil:
		return err
	}
	item.State, item.Since = bindery.StockQuarantine, now
	return tx.Stock().Save(ctx, item, bindery.StockTaken)
}

// Stocks returns the names of the servers that have a stock.
func (b *Broker) Stocks() []string { return slices.Sorted(maps.Keys(b.stockers())) }

// Stock returns the items of a server, those that nobody ever took included, in
// the order in which they are given out, then those that are no longer
// configured and still taken or in quarantine. Errors: CodeNotFound.
func (b *Broker) Stock(ctx context.Context, server string) ([]bindery.StockItem, error) {
	d, ok := b.Drivers(server)
	var stock bindery.Stocker
	if ok {
		stock, ok = bindery.Capability[bindery.Stocker](d)
	}
	if !ok {
		return nil, bindery.Errorf(bindery.CodeNotFound, "there is no server %q that has a stock", server)
	}
	kept := map[string]bindery.StockItem{}
	var order []string
	const most = 1000
	for after := int64(0); ; {
		var some []bindery.StockItem
		err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
			some, err = tx.Stock().List(ctx, server, bindery.Page{After: after, Limit: most})
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, i := range some {
			after = i.Row
			kept[i.Name] = i
			order = append(order, i.Name)
		}
		if len(some) < most {
			break
		}
	}
	configured := stock.Stock()
	out := make([]bindery.StockItem, 0, len(configured))
	for _, name := range configured {
		i, ok := kept[name]
		if !ok {
			i = bindery.StockItem{Server: server, Name: name, State: bindery.StockFree}
		}
		out = append(out, i)
		delete(kept, name)
	}
	for _, name := range order {
		if i, ok := kept[name]; ok && i.State != bindery.StockFree {
			out = append(out, i)
		}
	}
	return out, nil
}

// Release gives an item that is in quarantine back to its stock, as an operator
// decided. Errors: CodeNotFound; CodeConflict for one that is not in quarantine.
func (b *Broker) Release(ctx context.Context, server, name string) error {
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		item, err := tx.Stock().ByName(ctx, server, name)
		switch {
		case bindery.CodeOf(err) == bindery.CodeNotFound:
			return bindery.Errorf(bindery.CodeNotFound, "nobody ever took an item %q of server %q", name, server)
		case err != nil:
			return err
		case item.State != bindery.StockQuarantine:
			return bindery.Errorf(bindery.CodeConflict, "item %q is not in quarantine: it is %s", name, item.State)
		}
		return b.putBack(ctx, tx, item, bindery.StockQuarantine, "operator", "an operator released it")
	})
	if err == nil {
		b.stocks.ring()
	}
	return err
}

// putBack gives an item back to its stock, with an event.
func (b *Broker) putBack(ctx context.Context, tx bindery.Tx, item bindery.StockItem, from bindery.StockState, actor, how string) error {
	now := b.Now()
	item.State, item.Since = bindery.StockFree, now
	if err := tx.Stock().Save(ctx, item, from); err != nil {
		return err
	}
	return tx.Events().Add(ctx, bindery.Event{
		At: now, Actor: actor, Action: "release", Account: item.Name, Result: string(bindery.OpSucceeded),
		Message: "item of server " + item.Server + ": " + how,
	})
}

// A watched stock is what is known of one between two looks.
type watchedStock struct {
	busy  atomic.Bool
	began time.Time
	low   bool // it was told that little is left
	retry map[string]retry
}

type retry struct {
	attempts int
	due      time.Time
}

// RunStock looks after the stocks until ctx ends: what is in quarantine is given
// back where the driver says so, and metrics and the log tell what is left.
func (b *Broker) RunStock(ctx context.Context) error {
	watches := map[string]*watchedStock{}
	var looks sync.WaitGroup
	defer looks.Wait()
	for {
		for server, d := range b.stockers() {
			w := watches[server]
			if w == nil {
				w = &watchedStock{began: b.Now(), retry: map[string]retry{}}
				watches[server] = w
			}
			items, err := b.lookAt(ctx, server, d, w)
			if err != nil && ctx.Err() == nil {
				b.Log.WarnContext(ctx, "stock not looked after", "server", server, "error", err.Error())
			}
			if err != nil || !w.busy.CompareAndSwap(false, true) {
				continue // its hook is slow, and delays no other
			}
			looks.Go(func() {
				defer w.busy.Store(false)
				if err := b.giveBackAll(ctx, d, w, items); err != nil && ctx.Err() == nil {
					b.Log.WarnContext(ctx, "stock not looked after", "server", server, "error", err.Error())
				}
			})
		}
		if !sleep(ctx, stockPause, nil) || !sleep(ctx, stockEvery, b.stocks.rung()) {
			return nil
		}
	}
}

// sleep returns whether ctx goes on.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-early:
	}
	return true
}

// stockers are the servers of the catalog that have a stock.
func (b *Broker) stockers() map[string]bindery.Stocker {
	out := map[string]bindery.Stocker{}
	for _, o := range b.Current().Offerings {
		for _, p := range o.Plans {
			for _, name := range p.Servers {
				if d, ok := b.Drivers(name); ok {
					if s, ok := bindery.Capability[bindery.Stocker](d); ok {
						out[name] = s
					}
				}
			}
		}
	}
	return out
}

// lookAt tells how much is left of a stock, however slow its hook is, and returns its items.
func (b *Broker) lookAt(ctx context.Context, server string, d bindery.Stocker, w *watchedStock) ([]bindery.StockItem, error) {
	items, err := b.Stock(ctx, server)
	if err != nil {
		return nil, err
	}
	configured := len(d.Stock())
	items = items[:min(len(items), configured)] // the rest is gone from the configuration
	counts := Stocked{bindery.StockFree: 0, bindery.StockTaken: 0, bindery.StockQuarantine: 0}
	for _, i := range items {
		state := i.State
		if state == bindery.StockReturning {
			state = bindery.StockQuarantine
		}
		counts[state]++
	}
	if b.Stocked != nil {
		b.Stocked(server, counts)
	}
	low := counts[bindery.StockFree]*10 < configured
	if low && !w.low {
		b.Log.WarnContext(ctx, "the stock runs out: under a tenth is left", "server", server, "free", counts[bindery.StockFree],
			"taken", counts[bindery.StockTaken], "quarantine", counts[bindery.StockQuarantine])
	}
	w.low = low
	return items, nil
}

func (b *Broker) giveBackAll(ctx context.Context, d bindery.Stocker, w *watchedStock, items []bindery.StockItem) error {
	for _, i := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.giveBack(ctx, d, w, i); err != nil {
			return err
		}
	}
	return nil
}

// giveBack asks whether an item that is in quarantine may be given out again. One
// process asks at a time: of two new sets that a hook made, the older one would be
// kept otherwise.
func (b *Broker) giveBack(ctx context.Context, d bindery.Stocker, w *watchedStock, item bindery.StockItem) error {
	now := b.Now()
	// Of a store of its own this process knows who asked before it began.
	abandoned := item.State == bindery.StockReturning &&
		(now.Sub(item.Since) > returnLease || b.Store.Sole() && item.Since.Before(w.began))
	if item.State != bindery.StockQuarantine && !abandoned || now.Before(w.retry[item.Name].due) {
		return nil
	}
	seen := item
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		now, err := tx.Stock().ByName(ctx, seen.Server, seen.Name)
		if err != nil {
			return err
		}
		if now.State != seen.State || !now.Since.Equal(seen.Since) {
			return errBusy
		}
		item = now
		item.State, item.Since = bindery.StockReturning, b.Now()
		return tx.Stock().Save(ctx, item, now.State)
	})
	if bindery.CodeOf(err) == bindery.CodeBusy {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, returnLimit)
	material, ok, failed := d.Return(limited, item)
	cancel()
	// What the hook did is kept even where this process is about to end.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), keepLimit)
	defer cancel()
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		back := item
		if failed == nil && ok {
			back.Material = material
			return b.putBack(ctx, tx, back, bindery.StockReturning, "bindery", "its rotation hook gave it back")
		}
		back.State, back.Since = bindery.StockQuarantine, seen.Since
		return tx.Stock().Save(ctx, back, bindery.StockReturning)
	})
	if err != nil {
		return err
	}
	if failed == nil && ok {
		delete(w.retry, item.Name)
		b.stocks.ring() // to be counted
		return nil
	}
	r := w.retry[item.Name]
	pause := operatorPause
	if failed != nil {
		pause = min(firstReturnPause<<min(r.attempts, 10), maxReturnPause)
		b.Log.WarnContext(ctx, "an item of a stock stays in quarantine", "server", item.Server, "item", item.Name,
			"attempts", r.attempts+1, "error", failed.Error())
	}
	w.retry[item.Name] = retry{attempts: r.attempts + 1, due: b.Now().Add(pause)}
	return nil
}
