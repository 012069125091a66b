package storetest

import (
	"errors"

	"bindery"
)

var resolveTests = map[string]func(world){
	"finds service type, auth method and binding": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		m, b := w.authMethod(s), w.identity(s)
		// The same identity elsewhere is somebody else.
		w.identity(s, func(n *bindery.IdentityBinding) { n.Keys, n.Host = b.Keys, s.Hosts[1] })
		w.identity(s, func(n *bindery.IdentityBinding) { n.Keys, n.AuthType = b.Keys, bindery.AuthOIDC })
		w.authMethod(other)
		w.identity(other, func(n *bindery.IdentityBinding) { n.Keys = b.Keys })
		w.resolves(bindery.Resolution{Service: s, Method: m, Binding: b}, s.Name, b)
		w.resolves(bindery.Resolution{}, "nowhere", b)
	},
	"what is missing is missing alone": func(w world) {
		s := w.serviceType()
		b := w.newIdentity(s)
		w.resolves(bindery.Resolution{Service: s}, s.Name, b)
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, b) })
		w.resolves(bindery.Resolution{Service: s, Binding: b}, s.Name, b)
		m := w.authMethod(s)
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(w.ctx, b.Row) })
		w.resolves(bindery.Resolution{Service: s, Method: m}, s.Name, b)
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, s.Row) })
		w.resolves(bindery.Resolution{}, s.Name, b)
	},
	"a host that is not the service type's has nothing": func(w world) {
		s := w.serviceType()
		m, b := w.authMethod(s), w.identity(s)
		s.Hosts, s.Revision = []string{"host-10", "host-"}, 2
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, s) })
		w.resolves(bindery.Resolution{Service: s}, s.Name, b)
		s.Hosts, s.Revision = []string{"other", b.Host}, 3
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, s) })
		w.resolves(bindery.Resolution{Service: s, Method: m, Binding: b}, s.Name, b)
	},
	"the exact key goes before the old form": func(w world) {
		s := w.serviceType()
		exact := w.identity(s, func(b *bindery.IdentityBinding) { b.Keys.Old = "" })
		old := w.identity(s)
		asked := exact
		asked.Keys.Old = old.Keys.Old
		w.resolves(bindery.Resolution{Service: s, Binding: exact}, s.Name, asked)
		asked.Keys.Exact = "other"
		w.resolves(bindery.Resolution{Service: s, Binding: old, ByOldForm: true}, s.Name, asked)
		asked.Keys.Old = "" // it has no old form, and neither has the first one
		w.resolves(bindery.Resolution{Service: s}, s.Name, asked)
		asked.Keys = bindery.IdentityKeys{Exact: old.Keys.Old, Old: old.Keys.Exact} // each is of its own kind
		w.resolves(bindery.Resolution{Service: s}, s.Name, asked)
	},
	"a change is seen as soon as it is made": func(w world) {
		s := w.serviceType()
		m, b := w.authMethod(s), w.identity(s)
		for n := range 20 {
			m.Revision, m.Port = int64(n)+2, n
			b.Revision, b.UniqueKey = int64(n)+2, m.UUID+string(rune('a'+n))
			w.update(func(tx bindery.Tx) error {
				return errors.Join(tx.AuthMethods().Save(w.ctx, m), tx.IdentityBindings().Save(w.ctx, b))
			})
			w.resolves(bindery.Resolution{Service: s, Method: m, Binding: b}, s.Name, b)
		}
	},
	"nobody resolves half a transaction": func(w world) {
		s := w.serviceType()
		m, b := w.authMethod(s), w.identity(s)
		concurrently(w, 4, func(n int) error {
			for k := range 50 {
				if n == 0 {
					next, nextB := m, b
					next.Revision, nextB.Revision = int64(k)+2, int64(k)+2
					err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
						return errors.Join(tx.AuthMethods().Save(w.ctx, next), tx.IdentityBindings().Save(w.ctx, nextB))
					})
					if err != nil {
						return err
					}
					continue
				}
				got, err := w.s.Resolve(w.ctx, s.Name, b.Host, b.AuthType, b.Keys)
				if err != nil {
					return err
				}
				if got.Method.Revision != got.Binding.Revision {
					w.Errorf("method at %d, binding at %d", got.Method.Revision, got.Binding.Revision)
				}
			}
			return nil
		})
	},
}

// resolves checks what is found for the identity of b, on its host.
func (w world) resolves(want bindery.Resolution, service string, b bindery.IdentityBinding) {
	w.Helper()
	got, err := w.s.Resolve(w.ctx, service, b.Host, b.AuthType, b.Keys)
	if err != nil {
		w.Fatalf("resolve: %v", err)
	}
	w.same("resolution", got, want)
}
