package storetest

import (
	"encoding/json"
	"time"

	"bindery"
)

var accountTests = map[string]func(world){
	"what was added is found by binding and by name": func(w world) {
		b := w.binding(w.instance())
		first := w.account(b)
		second := w.account(b, func(a *bindery.Account) {
			*a = bindery.Account{Row: a.Row, BindingRow: b.Row, Server: "other", Name: first.Name, State: bindery.AccountWanted}
		})
		w.account(w.binding(w.instance()))
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Accounts().OfBinding(w.ctx, b.Row)
			if err != nil {
				return err
			}
			w.same("of the binding", got, []bindery.Account{first, second})
			one, err := tx.Accounts().ByName(w.ctx, "other", first.Name)
			if err != nil {
				return err
			}
			w.same("by name", one, second)
			none, err := tx.Accounts().OfBinding(w.ctx, b.Row-1)
			if len(none) != 0 || err != nil {
				w.Errorf("of another binding: got %v, %v", none, err)
			}
			_, err = tx.Accounts().ByName(w.ctx, "nowhere", first.Name)
			return missing(err)
		})
	},
	"a name is used once on a server, for good": func(w world) {
		b := w.binding(w.instance())
		first := w.account(b, func(a *bindery.Account) { a.State, a.Material = bindery.AccountGone, bindery.Secret{} })
		again := first
		again.Row, again.State = w.id(), bindery.AccountWanted
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.Accounts().Add(w.ctx, again) })
	},
	"save writes every field but whose it is": func(w world) {
		a := w.account(w.binding(w.instance()))
		a.State, a.Details, a.Proof = bindery.AccountLive, json.RawMessage(`{"oid":2}`), ""
		a.Material = bindery.NewSecret(`{"password":"other"}`)
		w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, a, bindery.AccountWanted) })
		w.holdsAccount(a)
		plain := a
		plain.State, plain.Expires, plain.Proven, plain.Attempts = bindery.AccountRemoving, time.Time{}, time.Time{}, 0
		w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, plain, bindery.AccountLive) })
		w.holdsAccount(plain)
		a.State, a.Expires, a.Proven, a.Attempts = bindery.AccountUnproven, start, start.Add(time.Second), 7
		a.Retry = start.Add(time.Minute)
		w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, a, bindery.AccountRemoving) })
		w.holdsAccount(a)
		a.State, a.Details, a.Proof, a.Retry = bindery.AccountGone, nil, "the server said so", time.Time{}
		a.Material = bindery.Secret{} // what is gone has no secret
		w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, a, bindery.AccountUnproven) })
		w.holdsAccount(a)
	},
	"save is refused in another state, or for no row": func(w world) {
		a := w.account(w.binding(w.instance()))
		next := a
		next.State = bindery.AccountGone
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, next, bindery.AccountLive) })
		next.Row = w.id()
		w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, next, bindery.AccountWanted) })
		w.holdsAccount(a)
	},
	"lists those of a server in a state, a page at a time": func(w world) {
		b := w.binding(w.instance())
		want := map[bindery.AccountState][]bindery.Account{}
		states := []bindery.AccountState{
			bindery.AccountWanted, bindery.AccountLive, bindery.AccountRemoving, bindery.AccountUnproven, bindery.AccountStuck, bindery.AccountGone,
		}
		for n := range 17 {
			a := w.account(b)
			from := a.State
			a.State = states[n%len(states)]
			w.update(func(tx bindery.Tx) error { return tx.Accounts().Save(w.ctx, a, from) })
			want[a.State] = append(want[a.State], a)
		}
		w.account(b, func(a *bindery.Account) { a.Server = "other" })
		for _, state := range states {
			for _, limit := range []int{0, 2} {
				got := paged(w, limit, func(a bindery.Account) int64 { return a.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.Account, error) {
						return tx.Accounts().List(w.ctx, "server", state, p)
					})
				w.same(string(state), got, want[state])
			}
		}
	},
}

func (w world) holdsAccount(want bindery.Account) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.Accounts().ByName(w.ctx, want.Server, want.Name)
		w.same("account", got, want)
		return err
	})
}
