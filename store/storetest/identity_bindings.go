package storetest

import (
	"time"

	"bindery"
)

var identityBindingTests = map[string]func(world){
	"what was added is found by name": func(w world) {
		s := w.serviceType()
		full := w.identity(s)
		bare := w.identity(s, func(b *bindery.IdentityBinding) {
			*b = bindery.IdentityBinding{
				Row: b.Row, Name: "bare", ServiceRow: s.Row, ServiceUUID: s.UUID, Keys: bindery.IdentityKeys{Exact: "bare"}, Revision: 1,
			}
		})
		w.holdsIdentity(full)
		w.holdsIdentity(bare)
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.IdentityBindings().ByName(w.ctx, full.UUID)) })
	},
	"the identifier is unique in service type, host and auth type; the name everywhere": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		first := w.identity(s)
		tests := map[string]struct {
			change func(*bindery.IdentityBinding)
			want   error
		}{
			"exact key": {func(b *bindery.IdentityBinding) { b.Keys.Exact = first.Keys.Exact }, bindery.ErrIdentifierTaken},
			"old key":   {func(b *bindery.IdentityBinding) { b.Keys.Old = first.Keys.Old }, bindery.ErrIdentifierTaken},
			"name":      {func(b *bindery.IdentityBinding) { b.Name = first.Name }, bindery.ErrNameTaken},
			"name and key: the identifier goes first": {func(b *bindery.IdentityBinding) {
				b.Name, b.Keys = first.Name, first.Keys
			}, bindery.ErrIdentifierTaken},
			"name, elsewhere": {func(b *bindery.IdentityBinding) {
				b.Name, b.Keys, b.ServiceRow, b.ServiceUUID = first.Name, first.Keys, other.Row, other.UUID
			}, bindery.ErrNameTaken},
			"another service type": {func(b *bindery.IdentityBinding) {
				b.Keys, b.ServiceRow, b.ServiceUUID = first.Keys, other.Row, other.UUID
			}, nil},
			"another host":      {func(b *bindery.IdentityBinding) { b.Keys, b.Host = first.Keys, "host-2" }, nil},
			"another auth type": {func(b *bindery.IdentityBinding) { b.Keys, b.AuthType = first.Keys, bindery.AuthOIDC }, nil},
			"no old key":        {func(b *bindery.IdentityBinding) { b.Keys.Old = "" }, nil},
			"no old key either": {func(b *bindery.IdentityBinding) { b.Keys.Old = "" }, nil},
			"exact like old":    {func(b *bindery.IdentityBinding) { b.Keys.Exact = first.Keys.Old }, nil},
		}
		for name, test := range tests {
			added := w.newIdentity(s)
			test.change(&added)
			moved := w.newIdentity(s)
			w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, moved) })
			row := moved.Row
			test.change(&moved)
			moved.Row, moved.Revision = row, 2
			for how, f := range map[string]func(tx bindery.Tx) error{
				"add":  func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, added) },
				"save": func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, moved) },
			} {
				err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
					if err := f(tx); err != nil {
						return err
					}
					return errUndo
				})
				want := test.want
				if want == nil {
					want = errUndo
				}
				if err != want { //nolint:errorlint // the very error
					w.Errorf("%s, %s: got %v, want %v", name, how, err, want)
				}
			}
		}
		again := w.newIdentity(s)
		again.Row = first.Row
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, again) })
		w.holdsIdentity(first)
	},
	"it needs its service type": func(w world) {
		b := w.identity(w.serviceType())
		nowhere := bindery.ServiceType{Row: w.id()}
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, w.newIdentity(nowhere)) })
		b.ServiceRow, b.Revision = nowhere.Row, 2
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, b) })
	},
	"save writes every field but the UUID and the last authentication": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		b := w.identity(s)
		next := b // nothing that is indexed
		next.Identifier, next.Issuer, next.IssuerKey, next.UniqueKey, next.Revision = "E=x", "", "", "changed", 2
		next.Created, next.Updated = start.Add(time.Minute), start.Add(time.Hour)
		saved := next
		saved.LastAuth = start.Add(time.Hour)
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, saved) })
		w.holdsIdentity(next)
		next.Name, next.ServiceRow, next.ServiceUUID, next.Host, next.AuthType = "moved", other.Row, other.UUID, "host-2", bindery.AuthOIDC
		next.Keys, next.Revision = bindery.IdentityKeys{Exact: "moved"}, 3
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, next) })
		w.holdsIdentity(next)
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.IdentityBindings().ByName(w.ctx, b.Name)) })
		w.identity(s, func(n *bindery.IdentityBinding) { n.Name, n.Keys = b.Name, b.Keys }) // what it was is free
		for _, revision := range []int64{1, 3, 5} {
			stale := next
			stale.Revision = revision
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, stale) })
			stale.UniqueKey = "stale"
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, stale) })
		}
		w.holdsIdentity(next)
	},
	"what is removed is gone, and its names are free": func(w world) {
		s := w.serviceType()
		b := w.identity(s)
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(w.ctx, b.Row) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(w.ctx, b.Row) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.IdentityBindings().ByName(w.ctx, b.Name)) })
		b.Row = w.id()
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, b) })
		w.holdsIdentity(b)
	},
	"lists by filter, in order, a page at a time": func(w world) {
		types := []bindery.ServiceType{w.serviceType(), w.serviceType(), w.serviceType()}
		shared := bindery.IdentityKeys{Exact: "shared", Old: "shared old"}
		var all []bindery.IdentityBinding
		for n := range 24 {
			all = append(all, w.identity(types[n%3], func(b *bindery.IdentityBinding) {
				b.Host = []string{"host-1", "host-2"}[n/3%2]
				switch n / 6 {
				case 1:
					b.Keys.Exact = shared.Exact
				case 2:
					b.Keys.Old = shared.Old
				}
			}))
		}
		pick := func(keep func(b bindery.IdentityBinding) bool) (out []bindery.IdentityBinding) {
			for _, b := range all {
				if keep(b) {
					out = append(out, b)
				}
			}
			return out
		}
		in := func(b bindery.IdentityBinding, n ...int) bool {
			for _, n := range n {
				if b.ServiceRow == types[n].Row {
					return true
				}
			}
			return false
		}
		has := func(b bindery.IdentityBinding) bool { return b.Keys.Exact == shared.Exact || b.Keys.Old == shared.Old }
		two := []int64{types[2].Row, types[0].Row, types[2].Row}
		tests := map[string]struct {
			filter bindery.IdentityBindingFilter
			want   func(b bindery.IdentityBinding) bool
		}{
			"all":           {bindery.IdentityBindingFilter{}, func(bindery.IdentityBinding) bool { return true }},
			"service types": {bindery.IdentityBindingFilter{Services: two}, func(b bindery.IdentityBinding) bool { return in(b, 0, 2) }},
			"host":          {bindery.IdentityBindingFilter{Host: "host-2"}, func(b bindery.IdentityBinding) bool { return b.Host == "host-2" }},
			"both": {bindery.IdentityBindingFilter{Services: two, Host: "host-1"}, func(b bindery.IdentityBinding) bool {
				return in(b, 0, 2) && b.Host == "host-1"
			}},
			"keys": {bindery.IdentityBindingFilter{Keys: shared}, has},
			"exact key": {bindery.IdentityBindingFilter{Keys: bindery.IdentityKeys{Exact: shared.Exact}}, func(b bindery.IdentityBinding) bool {
				return b.Keys.Exact == shared.Exact
			}},
			"old key": {bindery.IdentityBindingFilter{Keys: bindery.IdentityKeys{Old: shared.Old}}, func(b bindery.IdentityBinding) bool {
				return b.Keys.Old == shared.Old
			}},
			"keys of one binding": {bindery.IdentityBindingFilter{Keys: all[0].Keys}, func(b bindery.IdentityBinding) bool { return b.Row == all[0].Row }},
			"everything": {bindery.IdentityBindingFilter{Services: two, Host: "host-2", Keys: shared}, func(b bindery.IdentityBinding) bool {
				return in(b, 0, 2) && b.Host == "host-2" && has(b)
			}},
			"none": {bindery.IdentityBindingFilter{Services: []int64{w.id()}}, func(bindery.IdentityBinding) bool { return false }},
		}
		check := func() {
			w.Helper()
			for name, test := range tests {
				if want := pick(test.want); len(want) == 0 && name != "none" {
					w.Fatalf("%s: the test wants none", name)
				}
				w.lists(pick(test.want), test.filter)
			}
		}
		check()
		// With rows of a removed service type among them nothing is different.
		gone := types[1]
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, gone.Row) })
		all = pick(func(b bindery.IdentityBinding) bool { return in(b, 0, 2) })
		check()
		w.purge(3)
		check()
	},
}

// lists checks what a list has, in pages of several sizes.
func (w world) lists(want []bindery.IdentityBinding, f bindery.IdentityBindingFilter) {
	w.Helper()
	for _, limit := range []int{0, 1, 3, 100_000} {
		got := paged(w, limit, func(b bindery.IdentityBinding) int64 { return b.Row },
			func(tx bindery.Tx, p bindery.Page) ([]bindery.IdentityBinding, error) {
				return tx.IdentityBindings().List(w.ctx, f, p)
			})
		w.same("list", got, want)
	}
}
