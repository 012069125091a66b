package storetest

import (
	"errors"
	"fmt"
	"time"

	"bindery"
)

var pendingTests = map[string]func(world){
	"those that are due are found, longest due first": func(w world) {
		b := w.binding(w.instance())
		later, first, stuck, now := w.pending(b, 3), w.pending(b, 1), w.pending(b, 2), w.pending(b, 0)
		w.move(&stuck, bindery.AccountStuck)
		now.Retry = time.Time{}
		w.move(&now, bindery.AccountStuck) // at once
		w.account(b)
		w.account(b, func(a *bindery.Account) { a.State = bindery.AccountGone })
		w.account(b, func(a *bindery.Account) { a.State, a.Server = bindery.AccountStuck, "other" })
		w.due("server", start.Add(2*time.Minute), 10, []bindery.Account{now, first, stuck})
		w.due("server", start.Add(time.Hour), 10, []bindery.Account{now, first, stuck, later})
		w.due("server", start.Add(time.Hour), 2, []bindery.Account{now, first})
		w.due("server", start.Add(time.Minute-time.Microsecond), 10, []bindery.Account{now})
		w.due("nowhere", start.Add(time.Hour), 10, nil)
	},
	"the next that is due": func(w world) {
		w.nextDue("server", time.Time{}, false)
		b := w.binding(w.instance())
		w.account(b)
		w.nextDue("server", time.Time{}, false)
		later, first := w.pending(b, 2), w.pending(b, 1)
		w.nextDue("server", first.Retry, true)
		w.nextDue("other", time.Time{}, false)
		first.Proven, first.Retry = start, time.Time{}
		w.move(&first, bindery.AccountGone)
		w.nextDue("server", later.Retry, true)
		later.Retry = time.Time{}
		w.move(&later, bindery.AccountStuck)
		w.nextDue("server", time.Time{}, true)
		w.move(&later, bindery.AccountRemoving)
		w.nextDue("server", time.Time{}, false)
	},
	"what is not pending keeps no time to retry": func(w world) {
		a := w.account(w.binding(w.instance()))
		a.Retry = start
		w.move(&a, bindery.AccountLive)
		a.Retry = time.Time{}
		w.holdsAccount(a)
		w.due("server", start.Add(time.Hour), 10, nil)
	},
	"counts by server and state": func(w world) {
		b := w.binding(w.instance())
		w.account(b)
		for n := range 5 {
			a := w.pending(b, n)
			if n > 2 {
				w.move(&a, bindery.AccountStuck)
			}
		}
		w.account(b, func(a *bindery.Account) { a.State, a.Server = bindery.AccountUnproven, "other" })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Accounts().Backlog(w.ctx)
			w.same("backlog", got, []bindery.Backlog{
				{Server: "other", State: bindery.AccountUnproven, Count: 1},
				{Server: "server", State: bindery.AccountStuck, Count: 2},
				{Server: "server", State: bindery.AccountUnproven, Count: 3},
			})
			return err
		})
	},
	"bindings with a stuck or pending account are listed": func(w world) {
		i, other := w.instance(), w.instance()
		elsewhere := w.binding(other)
		w.pending(elsewhere, 1)
		plain, unproven, stuck, twice := w.binding(i), w.binding(i), w.binding(i), w.binding(i)
		removed := w.binding(i, func(b *bindery.Binding) { b.State = bindery.StateRemoved })
		w.account(plain)
		w.pending(unproven, 1)
		for _, b := range []bindery.Binding{stuck, twice, twice, removed} {
			w.account(b)
			a := w.pending(b, 1)
			w.move(&a, bindery.AccountStuck)
		}
		for _, test := range []struct {
			filter bindery.BindingFilter
			want   []bindery.Binding
		}{
			{bindery.BindingFilter{Stuck: true}, []bindery.Binding{stuck, twice}},
			{bindery.BindingFilter{Stuck: true, Removed: true}, []bindery.Binding{stuck, twice, removed}},
			{bindery.BindingFilter{Stuck: true, Platform: "other"}, nil},
			{bindery.BindingFilter{Pending: true, InstanceRow: i.Row}, []bindery.Binding{unproven, stuck, twice}},
			{bindery.BindingFilter{Pending: true, InstanceRow: i.Row, Removed: true}, []bindery.Binding{unproven, stuck, twice, removed}},
			{bindery.BindingFilter{Pending: true, InstanceRow: other.Row}, []bindery.Binding{elsewhere}},
		} {
			got := paged(w, 1, func(b bindery.Binding) int64 { return b.Row },
				func(tx bindery.Tx, p bindery.Page) ([]bindery.Binding, error) {
					return tx.Bindings().List(w.ctx, test.filter, p)
				})
			w.same(fmt.Sprintf("%+v", test.filter), got, test.want)
		}
	},
}

// pending adds an account that is unproven, and to be looked at again in so many minutes.
func (w world) pending(b bindery.Binding, minutes int) bindery.Account {
	w.Helper()
	return w.account(b, func(a *bindery.Account) {
		a.State, a.Retry, a.Proven = bindery.AccountUnproven, start.Add(time.Duration(minutes)*time.Minute), time.Time{}
	})
}

// move saves an account in another state.
func (w world) move(a *bindery.Account, to bindery.AccountState) {
	w.Helper()
	from := a.State
	a.State = to
	w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, *a, from) })
}

func (w world) due(server string, now time.Time, limit int, want []bindery.Account) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Accounts().Due(w.ctx, server, now, limit)
		w.same("due", got, want)
		return err
	})
}

func (w world) nextDue(server string, want time.Time, ok bool) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, found, err := tx.Accounts().NextDue(w.ctx, server)
		if !got.Equal(want) || found != ok {
			w.Errorf("next due: got %v, %v, want %v, %v", got, found, want, ok)
		}
		return err
	})
}

var expiryTests = map[string]func(world){
	"those that are ready and expire are found, first first": func(w world) {
		i := w.instance()
		at := func(minutes int, state bindery.State) func(*bindery.Binding) {
			return func(b *bindery.Binding) {
				b.Expires, b.State = start.Add(time.Duration(minutes)*time.Minute), state
			}
		}
		third := w.binding(i, at(3, bindery.StateReady))
		first := w.binding(i, at(1, bindery.StateReady))
		second := w.binding(i, at(2, bindery.StateCreating))
		second.State = bindery.StateReady
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, second, bindery.StateCreating) })
		w.binding(i, func(b *bindery.Binding) { b.Expires = time.Time{} })
		for _, state := range []bindery.State{bindery.StateCreating, bindery.StateRemoved} {
			w.binding(i, at(0, state))
		}
		w.expiring(start.Add(time.Hour), 10, []bindery.Binding{first, second, third})
		w.expiring(start.Add(time.Hour), 1, []bindery.Binding{first})
		w.expiring(third.Expires, 10, []bindery.Binding{first, second})
		w.nextExpiry(first.Expires, true)

		removing := first
		removing.State = bindery.StateRemoving
		o := w.operation(i.Row, removing.Row)
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, removing, bindery.StateReady) })
		w.nextExpiry(second.Expires, true)
		w.expiring(start.Add(time.Hour), 10, []bindery.Binding{second, third})
		o.State, o.Finished = bindery.OpFailed, start // as it was canceled
		w.update(func(tx bindery.Tx) error {
			return errors.Join(tx.Operations().Save(w.ctx, o), tx.Bindings().Save(w.ctx, removing, bindery.StateRemoving))
		})
		w.nextExpiry(removing.Expires, true)
		w.expiring(start.Add(time.Hour), 10, []bindery.Binding{removing, second, third})
		removed := removing
		removed.State = bindery.StateRemoved
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, removed, bindery.StateRemoving) })
		w.nextExpiry(second.Expires, true)
		forever, later := second, third
		forever.Expires, later.Expires = time.Time{}, start.Add(time.Hour)
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, forever, bindery.StateReady) })
		w.update(func(tx bindery.Tx) error { return tx.Bindings().Save(w.ctx, later, bindery.StateReady) })
		w.nextExpiry(later.Expires, true)
		w.expiring(start.Add(time.Hour), 10, nil)
		w.expiring(start.Add(2*time.Hour), 10, []bindery.Binding{later})
	},
	"those wait whose instance is at work": func(w world) {
		soon := func(b *bindery.Binding) { b.Expires, b.State = start.Add(time.Minute), bindery.StateReady }
		later := func(b *bindery.Binding) { b.Expires, b.State = start.Add(2*time.Minute), bindery.StateReady }
		busy, idle := w.instance(), w.instance()
		held := w.binding(busy, soon)
		first, second := w.binding(idle, later), w.binding(idle, later)
		o := w.operation(busy.Row, 0)
		w.operation(idle.Row, first.Row) // on a binding: it holds up no other, nor itself
		w.expiring(start.Add(time.Hour), 1, []bindery.Binding{first})
		w.expiring(start.Add(time.Hour), 10, []bindery.Binding{first, second})
		w.nextExpiry(held.Expires, true)
		o.State, o.Finished = bindery.OpSucceeded, start
		w.update(func(tx bindery.Tx) error { return tx.Operations().Save(w.ctx, o) })
		w.expiring(start.Add(time.Hour), 10, []bindery.Binding{held, first, second})
	},
	"none expires": func(w world) {
		w.binding(w.instance(), func(b *bindery.Binding) { b.Expires = time.Time{} })
		w.nextExpiry(time.Time{}, false)
		w.expiring(start.Add(time.Hour), 10, nil)
	},
}

func (w world) expiring(before time.Time, limit int, want []bindery.Binding) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Bindings().Expiring(w.ctx, before, limit)
		w.same("expiring", got, want)
		return err
	})
}

func (w world) nextExpiry(want time.Time, ok bool) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, found, err := tx.Bindings().NextExpiry(w.ctx)
		if !got.Equal(want) || found != ok {
			w.Errorf("next expiry: got %v, %v, want %v, %v", got, found, want, ok)
		}
		return err
	})
}
