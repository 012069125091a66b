package storetest

import (
	"time"

	"bindery"
)

var authMethodTests = map[string]func(world){
	"what was added is found by its host": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		full := w.authMethod(s)
		bare := w.authMethod(other, func(m *bindery.AuthMethod) {
			*m = bindery.AuthMethod{Row: m.Row, ServiceRow: other.Row, ServiceUUID: other.UUID, Host: "host-1", Revision: 1}
		})
		w.holdsMethod(full)
		w.holdsMethod(bare)
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.AuthMethods().ByHost(w.ctx, s.Row, "host-2")) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.AuthMethods().ByHost(w.ctx, w.id(), full.Host)) })
	},
	"a host of a service type has one": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		first := w.authMethod(s)
		second := w.newAuthMethod(s)
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.AuthMethods().Add(w.ctx, second) })
		second = w.authMethod(other)
		moved := second
		moved.ServiceRow, moved.ServiceUUID, moved.Revision = s.Row, s.UUID, 2
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, moved) })
		w.update(func(tx bindery.Tx) error { return tx.AuthMethods().Remove(w.ctx, first.Row) })
		w.update(func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, moved) })
		w.holdsMethod(moved)
	},
	"it needs its service type": func(w world) {
		m := w.authMethod(w.serviceType())
		nowhere := bindery.ServiceType{Row: w.id()}
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.AuthMethods().Add(w.ctx, w.newAuthMethod(nowhere)) })
		m.ServiceRow, m.Revision = nowhere.Row, 2
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, m) })
	},
	"save writes every field, at the next revision": func(w world) {
		s, other := w.serviceType(), w.serviceType()
		m := w.authMethod(s)
		next := m
		next.ServiceRow, next.ServiceUUID, next.Host, next.Port = other.Row, other.UUID, "host-3", 1
		next.Kind, next.Material, next.Revision = bindery.AuthMethodHeaders, bindery.NewSecret(`{"headers":{}}`), 2
		next.Created, next.Updated = start.Add(time.Minute), start.Add(time.Hour)
		w.update(func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, next) })
		w.holdsMethod(next)
		for _, revision := range []int64{1, 2, 4} {
			stale := next
			stale.Revision = revision
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, stale) })
		}
		w.holdsMethod(next)
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.AuthMethods().ByHost(w.ctx, s.Row, m.Host)) })
	},
	"what is removed is gone": func(w world) {
		m := w.authMethod(w.serviceType())
		w.update(func(tx bindery.Tx) error { return tx.AuthMethods().Remove(w.ctx, m.Row) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.AuthMethods().Remove(w.ctx, m.Row) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.AuthMethods().ByHost(w.ctx, m.ServiceRow, m.Host)) })
	},
	"lists by service type, in order, a page at a time": func(w world) {
		types := []bindery.ServiceType{w.serviceType(), w.serviceType(), w.serviceType()}
		var all, ends []bindery.AuthMethod
		for n := range 12 {
			m := w.authMethod(types[n%3], func(m *bindery.AuthMethod) { m.Host = m.UUID })
			all = append(all, m)
			if n%3 != 1 {
				ends = append(ends, m)
			}
		}
		tests := map[string]struct {
			services []int64
			want     []bindery.AuthMethod
		}{
			"all":   {nil, all},
			"two":   {[]int64{types[2].Row, types[0].Row}, ends},
			"twice": {[]int64{types[0].Row, types[2].Row, types[0].Row}, ends},
			"none":  {[]int64{all[0].Row}, nil},
		}
		for name, test := range tests {
			for _, limit := range []int{0, 1, 3, 8} {
				got := paged(w, limit, func(m bindery.AuthMethod) int64 { return m.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.AuthMethod, error) {
						return tx.AuthMethods().List(w.ctx, test.services, p)
					})
				w.same(name, got, test.want)
			}
		}
	},
}

func (w world) holdsMethod(want bindery.AuthMethod) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.AuthMethods().ByHost(w.ctx, want.ServiceRow, want.Host)
		w.same("auth method", got, want)
		return err
	})
}
