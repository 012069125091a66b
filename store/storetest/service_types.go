package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"bindery"
)

var serviceTypeTests = map[string]func(world){
	"what was added is found by row, name and UUID": func(w world) {
		full := w.serviceType()
		bare := w.serviceType(func(s *bindery.ServiceType) {
			*s = bindery.ServiceType{Row: s.Row, UUID: s.UUID, Name: "bare", Revision: 1}
		})
		w.view(func(tx bindery.Tx) error {
			for _, want := range []bindery.ServiceType{full, bare} {
				got, err := tx.ServiceTypes().Get(w.ctx, want.Row)
				if err != nil {
					return err
				}
				w.same("by row", got, want)
				if got, err = tx.ServiceTypes().ByName(w.ctx, want.Name); err != nil {
					return err
				}
				w.same("by name", got, want)
				if got, err = tx.ServiceTypes().ByUUID(w.ctx, want.UUID); err != nil {
					return err
				}
				w.same("by UUID", got, want)
			}
			_, byRow := tx.ServiceTypes().Get(w.ctx, w.id())
			_, byName := tx.ServiceTypes().ByName(w.ctx, full.UUID)
			_, byUUID := tx.ServiceTypes().ByUUID(w.ctx, full.Name)
			return errors.Join(missing(byRow), missing(byName), missing(byUUID))
		})
	},
	"a name is taken while its service type lives": func(w world) {
		first := w.serviceType()
		second := w.newServiceType()
		second.Name = first.Name
		w.refusedAs(bindery.ErrNameTaken, func(tx bindery.Tx) error { return tx.ServiceTypes().Add(w.ctx, second) })
		third := w.serviceType()
		third.Name, third.Revision = first.Name, 2
		w.refusedAs(bindery.ErrNameTaken, func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, third) })
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, first.Row) })
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Add(w.ctx, second) })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.ServiceTypes().ByName(w.ctx, first.Name)
			w.same("the new one", got, second)
			return err
		})
	},
	"a row and a UUID are used once": func(w world) {
		first := w.serviceType()
		second := w.newServiceType()
		second.UUID = first.UUID
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.ServiceTypes().Add(w.ctx, second) })
		second = w.newServiceType()
		second.Row = first.Row
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.ServiceTypes().Add(w.ctx, second) })
	},
	"save writes every field but the UUID, at the next revision": func(w world) {
		s := w.serviceType()
		next := w.newServiceType()
		next.Row, next.UUID, next.Revision, next.Hosts = s.Row, s.UUID, 2, []string{"other"}
		next.AuthTypes, next.AuthMethod, next.Type, next.Updated = []bindery.AuthType{bindery.AuthOIDC}, bindery.AuthMethodHeaders, "custom", start.Add(time.Hour)
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, next) })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.ServiceTypes().Get(w.ctx, s.Row)
			w.same("saved", got, next)
			return err
		})
		for _, revision := range []int64{1, 2, 4} {
			stale := next
			stale.Revision = revision
			w.refused(bindery.CodeBusy, func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, stale) })
		}
		next.Revision = 3
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, next) }) // its own name is no obstacle
	},
	"what is removed is found by nothing, and its names are free": func(w world) {
		s := w.serviceType()
		m := w.authMethod(s)
		b := w.identity(s)
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, s.Row) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, s.Row) })
		s.Revision, m.Revision, b.Revision = 2, 2, 2
		for name, f := range map[string]struct {
			want bindery.Code
			f    func(tx bindery.Tx) error
		}{
			"get":            {bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.ServiceTypes().Get(w.ctx, s.Row)) }},
			"by name":        {bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.ServiceTypes().ByName(w.ctx, s.Name)) }},
			"by UUID":        {bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.ServiceTypes().ByUUID(w.ctx, s.UUID)) }},
			"save":           {bindery.CodeBusy, func(tx bindery.Tx) error { return tx.ServiceTypes().Save(w.ctx, s) }},
			"method":         {bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.AuthMethods().ByHost(w.ctx, s.Row, m.Host)) }},
			"save method":    {bindery.CodeBusy, func(tx bindery.Tx) error { return tx.AuthMethods().Save(w.ctx, m) }},
			"remove method":  {bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.AuthMethods().Remove(w.ctx, m.Row) }},
			"binding":        {bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.IdentityBindings().ByName(w.ctx, b.Name)) }},
			"save binding":   {bindery.CodeBusy, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, b) }},
			"remove binding": {bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(w.ctx, b.Row) }},
			"add method": {bindery.CodeNotFound, func(tx bindery.Tx) error {
				more := w.newAuthMethod(s)
				more.Host = s.Hosts[1]
				return tx.AuthMethods().Add(w.ctx, more)
			}},
			"add binding": {bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, w.newIdentity(s)) }},
		} {
			if err := w.s.Update(w.ctx, f.f); bindery.CodeOf(err) != f.want {
				w.Errorf("%s: got %v, want %s", name, err, f.want)
			}
		}
		w.resolves(bindery.Resolution{}, s.Name, b)
		w.lists(nil, bindery.IdentityBindingFilter{})
		w.lists(nil, bindery.IdentityBindingFilter{Services: []int64{s.Row}})
		w.lists(nil, bindery.IdentityBindingFilter{Host: b.Host})
		w.lists(nil, bindery.IdentityBindingFilter{Keys: b.Keys})
		w.view(func(tx bindery.Tx) error {
			types, err := tx.ServiceTypes().List(w.ctx, bindery.Page{})
			if len(types) != 0 || err != nil {
				return fmt.Errorf("service types: got %v, %w", types, err)
			}
			methods, err := tx.AuthMethods().List(w.ctx, nil, bindery.Page{})
			if len(methods) != 0 {
				return fmt.Errorf("auth methods: got %v", methods)
			}
			return err
		})
		again := w.serviceType(func(t *bindery.ServiceType) { t.Name, t.UUID = s.Name, s.UUID })
		w.authMethod(again)
		w.identity(again, func(n *bindery.IdentityBinding) { n.Name, n.Keys = b.Name, b.Keys })
	},
	"a binding may be given a name that a removed service type had": func(w world) {
		gone := w.serviceType()
		was := w.identity(gone)
		w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, gone.Row) })
		b := w.identity(w.serviceType())
		b.Name, b.Revision = was.Name, 2
		w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Save(w.ctx, b) })
		w.holdsIdentity(b)
		if got := w.purge(100); got != 1 { // the service type: the binding was in the way
			w.Errorf("purged %d, want 1", got)
		}
		w.holdsIdentity(b)
	},
	"purge removes the rows of what was removed, few at a time": func(w world) {
		stays := w.serviceType()
		kept, method := w.identity(stays), w.authMethod(stays)
		for range 2 {
			s := w.serviceType()
			w.authMethod(s)
			for range 3 {
				w.identity(s)
			}
			w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, s.Row) })
		}
		all := 0
		for n := w.purge(4); n > 0; n = w.purge(4) {
			if all += n; n > 4 {
				w.Errorf("purged %d, want at most 4", n)
			}
		}
		if want := 2 * (1 + 1 + 3); all != want { // two service types, with one method and three bindings each
			w.Errorf("purged %d, want %d", all, want)
		}
		w.holdsIdentity(kept)
		w.view(func(tx bindery.Tx) error {
			got, err := tx.AuthMethods().ByHost(w.ctx, stays.Row, method.Host)
			w.same("method", got, method)
			return err
		})
	},
	"a purge that stops early goes on where it was": func(w world) {
		const rows = 500
		s := w.serviceType()
		w.update(func(tx bindery.Tx) error {
			for range rows {
				if err := tx.IdentityBindings().Add(w.ctx, w.newIdentity(s)); err != nil {
					return err
				}
			}
			return tx.ServiceTypes().Remove(w.ctx, s.Row)
		})
		all := 0
		for n := w.purge(2 * rows); n > 0; n = w.purge(2 * rows) {
			all += n
		}
		if all != rows+1 {
			w.Errorf("purged %d, want %d", all, rows+1)
		}
	},
	"lists in order, a page at a time": func(w world) {
		var want []bindery.ServiceType
		for n := range 7 {
			s := w.serviceType()
			if n == 3 {
				w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(w.ctx, s.Row) })
				continue
			}
			want = append(want, s)
		}
		for _, limit := range []int{0, 2} {
			got := paged(w, limit, func(s bindery.ServiceType) int64 { return s.Row },
				func(tx bindery.Tx, p bindery.Page) ([]bindery.ServiceType, error) {
					return tx.ServiceTypes().List(w.ctx, p)
				})
			w.same("all", got, want)
		}
	},
}

func second[T any](_ T, err error) error { return err }

// refusedAs runs an update that must end with this very error.
func (w world) refusedAs(want error, f func(bindery.Tx) error) {
	w.Helper()
	if err := w.s.Update(w.ctx, f); !errors.Is(err, want) {
		w.Fatalf("update: got %v, want %v", err, want)
	}
}

func (w world) purge(limit int) (n int) {
	w.Helper()
	w.update(func(tx bindery.Tx) (err error) {
		n, err = tx.ServiceTypes().Purge(w.ctx, limit)
		return err
	})
	return n
}

func (w world) newServiceType() bindery.ServiceType {
	w.Helper()
	row := w.id()
	n := strconv.FormatInt(row, 10)
	return bindery.ServiceType{
		Row: row, UUID: "service-uuid-" + n, Name: "service-" + n, Hosts: []string{"host-1", "host \"2\" <&>"},
		AuthTypes: []bindery.AuthType{bindery.AuthX509, bindery.AuthOIDC}, AuthMethod: bindery.AuthMethodAPIKey, Type: "ams",
		Revision: 1, Created: start, Updated: start.Add(time.Second),
	}
}

// serviceType adds one.
func (w world) serviceType(change ...func(*bindery.ServiceType)) bindery.ServiceType {
	w.Helper()
	s := w.newServiceType()
	for _, f := range change {
		f(&s)
	}
	w.update(func(tx bindery.Tx) error { return tx.ServiceTypes().Add(w.ctx, s) })
	return s
}

func (w world) newAuthMethod(s bindery.ServiceType) bindery.AuthMethod {
	w.Helper()
	row := w.id()
	n := strconv.FormatInt(row, 10)
	return bindery.AuthMethod{
		Row: row, UUID: "method-uuid-" + n, ServiceRow: s.Row, ServiceUUID: s.UUID, Host: "host-1", Port: 9000,
		Kind: bindery.AuthMethodAPIKey, Material: bindery.NewSecret(`{"access_key":"` + n + `"}`), Revision: 1,
		Created: start, Updated: start.Add(time.Second),
	}
}

// authMethod adds one.
func (w world) authMethod(s bindery.ServiceType, change ...func(*bindery.AuthMethod)) bindery.AuthMethod {
	w.Helper()
	m := w.newAuthMethod(s)
	for _, f := range change {
		f(&m)
	}
	w.update(func(tx bindery.Tx) error { return tx.AuthMethods().Add(w.ctx, m) })
	return m
}

// newIdentity makes an identity binding whose keys are its own.
func (w world) newIdentity(s bindery.ServiceType) bindery.IdentityBinding {
	w.Helper()
	row := w.id()
	n := strconv.FormatInt(row, 10)
	return bindery.IdentityBinding{
		Row: row, UUID: "binding-uuid-" + n, Name: "binding-" + n, ServiceRow: s.Row, ServiceUUID: s.UUID, Host: "host-1",
		AuthType: bindery.AuthX509, Identifier: "CN=" + n, Keys: bindery.IdentityKeys{Exact: "exact-" + n, Old: "old-" + n},
		Issuer: "CN=issuer", IssuerKey: "issuer-key", UniqueKey: "unique-" + n, Revision: 1,
		Created: start, Updated: start.Add(time.Second), LastAuth: start.Truncate(time.Second),
	}
}

// identity adds an identity binding.
func (w world) identity(s bindery.ServiceType, change ...func(*bindery.IdentityBinding)) bindery.IdentityBinding {
	w.Helper()
	b := w.newIdentity(s)
	for _, f := range change {
		f(&b)
	}
	w.update(func(tx bindery.Tx) error { return tx.IdentityBindings().Add(w.ctx, b) })
	return b
}

func (w world) holdsIdentity(want bindery.IdentityBinding) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		got, err := tx.IdentityBindings().ByName(w.ctx, want.Name)
		w.same("identity binding", got, want)
		return err
	})
}
