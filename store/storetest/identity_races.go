package storetest

import (
	"errors"
	"strconv"
	"sync/atomic"

	"bindery"
)

var identityRaceTests = map[string]func(world){
	"of many that add one identifier, one wins": func(w world) {
		s := w.serviceType()
		one := w.newIdentity(s)
		for name, key := range map[string]func(b *bindery.IdentityBinding, n string){
			"both keys": func(*bindery.IdentityBinding, string) {},
			"exact key": func(b *bindery.IdentityBinding, n string) { b.Keys = bindery.IdentityKeys{Exact: "exact", Old: n} },
			"old key":   func(b *bindery.IdentityBinding, n string) { b.Keys = bindery.IdentityKeys{Exact: n, Old: "old"} },
		} {
			w.oneWinsAs(50, bindery.ErrIdentifierTaken, func(tx bindery.Tx, row int64) error {
				b := one
				b.Row, b.Name = row, name+strconv.FormatInt(row, 10)
				key(&b, b.Name)
				return tx.IdentityBindings().Add(w.ctx, b)
			})
		}
		got, err := w.s.Resolve(w.ctx, s.Name, one.Host, one.AuthType, one.Keys)
		if err != nil || got.Binding.Row == 0 {
			w.Errorf("got %v, %v, want the one that won", got.Binding, err)
		}
	},
	"of many that add one name, one wins": func(w world) {
		s := w.serviceType()
		one := w.newIdentity(s)
		w.oneWinsAs(50, bindery.ErrNameTaken, func(tx bindery.Tx, row int64) error {
			b := one
			b.Row, b.Keys = row, bindery.IdentityKeys{Exact: strconv.FormatInt(row, 10)}
			return tx.IdentityBindings().Add(w.ctx, b)
		})
		w.oneWinsAs(20, bindery.ErrNameTaken, func(tx bindery.Tx, row int64) error {
			n := s
			n.Row, n.UUID, n.Name = row, strconv.FormatInt(row, 10), "one name"
			return tx.ServiceTypes().Add(w.ctx, n)
		})
	},
	"of many that move onto one identifier, one wins": func(w world) {
		const callers = 20
		s := w.serviceType()
		var all []bindery.IdentityBinding
		for range callers {
			all = append(all, w.identity(s))
		}
		var n atomic.Int32
		next := make(chan bindery.IdentityBinding, callers)
		for _, b := range all {
			b.Host, b.Keys, b.Revision = s.Hosts[1], bindery.IdentityKeys{Exact: "one"}, 2
			next <- b
		}
		concurrently(w, callers, func(int) error {
			b := <-next
			err := w.s.Update(w.ctx, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, b) })
			if err == nil {
				n.Add(1)
			}
			if errors.Is(err, bindery.ErrIdentifierTaken) {
				return nil
			}
			return err
		})
		if n.Load() != 1 {
			w.Fatalf("%d won, want 1", n.Load())
		}
	},
	"of many changes of one revision, one wins": func(w world) {
		s := w.serviceType()
		b, m := w.identity(s), w.authMethod(s)
		s.Revision, b.Revision, m.Revision = 2, 2, 2
		w.oneWins(8, bindery.CodeBusy, func(tx bindery.Tx, _ int64) error { return tx.IdentityBindings().Save(w.ctx, b) })
		w.oneWins(8, bindery.CodeBusy, func(tx bindery.Tx, _ int64) error { return tx.AuthMethods().Save(w.ctx, m) })
		w.oneWins(8, bindery.CodeBusy, func(tx bindery.Tx, _ int64) error { return tx.ServiceTypes().Save(w.ctx, s) })
	},
	"of many that add an auth method for one host, one wins": func(w world) {
		s := w.serviceType()
		m := w.newAuthMethod(s)
		w.oneWins(20, bindery.CodeConflict, func(tx bindery.Tx, row int64) error {
			m := m
			m.Row = row
			return tx.AuthMethods().Add(w.ctx, m)
		})
	},
	"many add bindings of their own": func(w world) {
		const callers = 50
		s := w.serviceType()
		all := make(chan bindery.IdentityBinding, callers)
		for range callers {
			all <- w.newIdentity(s)
		}
		concurrently(w, callers, func(int) error {
			b := <-all
			return w.s.Update(w.ctx, func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, b) })
		})
		w.view(func(tx bindery.Tx) error {
			got, err := tx.IdentityBindings().List(w.ctx, bindery.IdentityBindingFilter{}, bindery.Page{})
			if len(got) != callers {
				w.Errorf("got %d, want %d", len(got), callers)
			}
			return err
		})
	},
	"nothing is added to a service type that is being removed": func(w world) {
		for range rounds {
			s := w.serviceType()
			b, m := w.newIdentity(s), w.newAuthMethod(s)
			concurrently(w, 3, func(n int) error {
				return w.s.Update(w.ctx, func(tx bindery.Tx) error {
					var err error
					switch n {
					case 0:
						return tx.ServiceTypes().Remove(w.ctx, s.Row)
					case 1:
						err = tx.IdentityBindings().Add(w.ctx, b)
					default:
						err = tx.AuthMethods().Add(w.ctx, m)
					}
					if bindery.CodeOf(err) == bindery.CodeNotFound {
						return nil
					}
					return err
				})
			})
			for w.purge(1) > 0 {
			}
			// Had a row come late, it would hold the name, and no purge would find it.
			again := w.serviceType()
			b.ServiceRow, b.ServiceUUID = again.Row, again.UUID
			w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, b) })
			w.holdsIdentity(b)
		}
	},
	"two that each keep to a list of hosts agree (write skew)": func(w world) {
		for range rounds {
			s := w.serviceType()
			b := w.newIdentity(s)
			b.Host = s.Hosts[1]
			concurrently(w, 2, func(n int) error {
				return w.s.Update(w.ctx, func(tx bindery.Tx) error {
					now, err := tx.ServiceTypes().Get(w.ctx, s.Row)
					if err != nil {
						return err
					}
					if n == 0 { // adds a binding where the host is there
						if len(now.Hosts) < 2 {
							return nil
						}
						return tx.IdentityBindings().Add(w.ctx, b)
					}
					bound, err := tx.IdentityBindings().List(w.ctx, bindery.IdentityBindingFilter{Services: []int64{s.Row}, Host: b.Host}, bindery.Page{Limit: 1})
					if err != nil || len(bound) > 0 {
						return err
					}
					now.Hosts, now.Revision = now.Hosts[:1], 2 // takes the host away where nothing is bound
					return tx.ServiceTypes().Save(w.ctx, now)
				})
			})
			w.view(func(tx bindery.Tx) error {
				now, err := tx.ServiceTypes().Get(w.ctx, s.Row)
				if err != nil {
					return err
				}
				bound, err := tx.IdentityBindings().List(w.ctx, bindery.IdentityBindingFilter{Services: []int64{s.Row}}, bindery.Page{})
				if (len(now.Hosts) == 2) != (len(bound) == 1) {
					w.Errorf("hosts %v, bindings %d", now.Hosts, len(bound))
				}
				return err
			})
		}
	},
}

// oneWinsAs is oneWins where the others get this very error.
func (w world) oneWinsAs(callers int, want error, f func(tx bindery.Tx, row int64) error) {
	w.Helper()
	w.oneWins(callers, bindery.CodeOf(want), func(tx bindery.Tx, row int64) error {
		err := f(tx, row)
		if bindery.CodeOf(err) == bindery.CodeOf(want) && !errors.Is(err, want) {
			return bindery.Errorf(bindery.CodeInternal, "not as it should").Because(err)
		}
		return err
	})
}
