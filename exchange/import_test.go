package exchange_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/exchange"
)

var (
	created = time.Date(2018, 5, 24, 9, 58, 17, 0, time.UTC)
	updated = time.Date(2021, 5, 5, 18, 4, 5, 0, time.UTC)
)

func oldServiceType(uuid, name string) bindery.ServiceType {
	return bindery.ServiceType{
		UUID: uuid, Name: name, Hosts: []string{"h1", "h2"}, AuthTypes: []bindery.AuthType{bindery.AuthX509},
		AuthMethod: bindery.AuthMethodAPIKey, Type: "ams", Created: created, Updated: updated,
	}
}

func oldAuthMethod(t testing.TB, uuid, service, host string) bindery.AuthMethod {
	t.Helper()
	b, err := json.Marshal(map[string]string{"access_key": accessKey})
	if err != nil {
		t.Fatal(err)
	}
	return bindery.AuthMethod{
		UUID: uuid, ServiceUUID: service, Host: host, Port: 443, Kind: bindery.AuthMethodAPIKey,
		Material: bindery.NewSecret(string(b)), Created: created,
	}
}

func oldBinding(uuid, name, service, host, dn string) bindery.IdentityBinding {
	return bindery.IdentityBinding{
		UUID: uuid, Name: name, ServiceUUID: service, Host: host, AuthType: bindery.AuthX509, Identifier: dn,
		UniqueKey: uniqueKey, Created: created, Updated: updated, LastAuth: updated,
	}
}

func take(t testing.TB, i *exchange.Import, r *exchange.ImportRecord) (exchange.Imported, error) {
	t.Helper()
	all := i.Take(t.Context(), r)
	return all[0].Got, all[0].Err
}

func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	dry, i := w.Import(admin, true), w.Import(admin, false)
	type step struct {
		name string
		run  func(i *exchange.Import) (exchange.Imported, error)
		code bindery.Code
		want string // of the message
	}
	service := func(s bindery.ServiceType) func(*exchange.Import) (exchange.Imported, error) {
		return func(i *exchange.Import) (exchange.Imported, error) { return take(t, i, i.ServiceType(ctx, s)) }
	}
	method := func(m bindery.AuthMethod) func(*exchange.Import) (exchange.Imported, error) {
		return func(i *exchange.Import) (exchange.Imported, error) { return take(t, i, i.AuthMethod(ctx, m)) }
	}
	binding := func(b bindery.IdentityBinding) func(*exchange.Import) (exchange.Imported, error) {
		return func(i *exchange.Import) (exchange.Imported, error) { return take(t, i, i.Binding(ctx, b)) }
	}
	wrongKind := oldAuthMethod(t, "m-3", "s-1", "h2")
	wrongKind.Kind = bindery.AuthMethodHeaders
	unsupported := oldServiceType("s-9", "st9")
	unsupported.Type = "mq"
	noUUID := oldBinding("", "b9", "s-1", "h1", "CN=x")
	steps := []step{
		{"a service type", service(oldServiceType("s-1", "st1")), "", ""},
		{"its name again", service(oldServiceType("s-2", "st1")), bindery.CodeConflict, `service type "st1" (s-2) collides with service type "st1" (s-1)`},
		{"an unknown type", service(unsupported), bindery.CodeInvalid, "type: mq is not yet supported.Supported:[ams web-api custom]"},
		{"an auth method", method(oldAuthMethod(t, "m-1", "s-1", "h1")), "", ""},
		{"another of the host", method(oldAuthMethod(t, "m-2", "s-1", "h1")), bindery.CodeConflict, `auth method m-2 of service type "st1" on host "h1" collides with auth method m-1`},
		{"an orphan", method(oldAuthMethod(t, "m-4", "s-gone", "h1")), bindery.CodeNotFound, "Service-type was not found"},
		{"one of another kind", method(wrongKind), bindery.CodeInvalid, "is of type headers, and its service type uses api-key"},
		{"one of an unknown host", method(oldAuthMethod(t, "m-5", "s-1", "h3")), bindery.CodeNotFound, "Host was not found"},
		{"a binding", binding(oldBinding("b-1", "b1", "s-1", "h1", "CN=alice,O=x")), "", ""},
		{"its identifier, spelled anew", binding(oldBinding("b-2", "b2", "s-1", "h1", "/O=x/CN=alice")), bindery.CodeConflict, `binding "b2" (b-2) of service type "st1" on host "h1" collides with binding "b1" (b-1)`},
		{"its name", binding(oldBinding("b-3", "b1", "s-1", "h2", "CN=bob,O=x")), bindery.CodeConflict, `collides with binding "b1" (b-1)`},
		{"an orphan binding", binding(oldBinding("b-4", "b4", "s-gone", "h1", "CN=bob,O=x")), bindery.CodeNotFound, "Service-type was not found"},
		{"a binding of nobody", binding(noUUID), bindery.CodeInvalid, "binding object contains empty fields. empty value for field: uuid"},
		{"the identifier on another host", binding(oldBinding("b-5", "b5", "s-1", "h2", "CN=alice,O=x")), "", ""},
	}
	check := func(kind string, i *exchange.Import, good exchange.Imported) {
		t.Helper()
		for _, s := range steps {
			got, err := s.run(i)
			if bindery.CodeOf(err) != s.code || err != nil && !strings.Contains(bindery.MessageOf(err), s.want) {
				t.Errorf("%s, %s: got %v, want %s %q", kind, s.name, err, s.code, s.want)
			}
			if err == nil && got != good {
				t.Errorf("%s, %s: got %s, want %s", kind, s.name, got, good)
			}
			if err != nil && strings.Contains(err.Error(), accessKey) {
				t.Errorf("%s, %s: the error has the access key", kind, s.name)
			}
		}
	}
	check("dry", dry, exchange.ImportAdded)
	if all := must(w.ServiceTypes(ctx, admin, bindery.Page{}))(t); len(all) != 0 {
		t.Errorf("a dry run added %v", all)
	}
	check("first", i, exchange.ImportAdded)
	check("second", i, exchange.ImportUnchanged)
	check("dry again", w.Import(admin, true), exchange.ImportUnchanged)

	s := must(w.ServiceType(ctx, admin, "st1"))(t)
	m := must(w.AuthMethod(ctx, admin, "st1", "h1"))(t)
	b := must(w.Binding(ctx, admin, "b1"))(t)
	if s.UUID != "s-1" || !s.Created.Equal(created) || !s.Updated.Equal(updated) || m.UUID != "m-1" || !m.Created.Equal(created) ||
		b.UUID != "b-1" || !b.Created.Equal(created) || !b.Updated.Equal(updated) || !b.LastAuth.Equal(updated) || b.UniqueKey != uniqueKey {
		t.Errorf("got %+v, %+v, %+v", s, m, b)
	}
	if key, _ := material(t, m); key != accessKey {
		t.Errorf("got key %q", key)
	}
	// What was changed here since is not overwritten.
	must(w.UpdateBinding(ctx, admin, "b1", exchange.BindingInput{UniqueKey: ptr("new")}))(t)
	_, err := take(t, i, i.Binding(ctx, oldBinding("b-1", "b1", "s-1", "h1", "CN=alice,O=x")))
	refused(t, err, bindery.CodeConflict, `binding "b1" (b-1) of service type "st1" on host "h1" collides with itself, which is here with another unique_key`)
	for _, by := range []exchange.Caller{{Name: "r", ReadOnly: true}, {Name: "l", Services: []string{"st5"}}} {
		i := w.Import(by, false)
		if _, err := take(t, i, i.ServiceType(ctx, oldServiceType("s-5", "st5"))); bindery.CodeOf(err) != bindery.CodeForbidden {
			t.Errorf("%s: got %v", by.Name, err)
		}
	}
}

// An identity that was refused is found as soon as its binding is imported.
func TestImportedBindingsAuthenticate(t *testing.T) {
	t.Parallel()
	w, u, _ := bound(t, giveToken)
	s := must(w.ServiceType(t.Context(), admin, "ams1"))(t)
	bob := who(t, "CN=bob,O=x")
	_, err := w.Token(t.Context(), bob, "ams1", u.host)
	refused(t, err, bindery.CodeNotFound, "Binding was not found")
	i := w.Import(admin, false)
	if _, err := take(t, i, i.Binding(t.Context(), oldBinding("b-1", "b1", s.UUID, u.host, "/O=x/CN=bob"))); err != nil {
		t.Fatal(err)
	}
	must(w.Token(t.Context(), bob, "ams1", u.host))(t)
}

// A troubled store fails as it is told to, and counts transactions.
type troubled struct {
	bindery.Store
	updates int
	fail    func(n int) error
}

func (s *troubled) Update(ctx context.Context, f func(bindery.Tx) error) error {
	s.updates++
	if s.fail != nil {
		if err := s.fail(s.updates); err != nil {
			return err
		}
	}
	return s.Store.Update(ctx, f)
}

// Many records share a transaction, and each has its own fate: what is refused is
// refused as if it came alone, after those before it.
func TestImportTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() bindery.Store) {
		s := &troubled{Store: open()}
		w := worldOn(t, s)
		i, ctx := w.Import(admin, false), t.Context()
		if r := i.Take(ctx, i.ServiceType(ctx, oldServiceType("s-1", "st1"))); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		records := func() []*exchange.ImportRecord {
			return []*exchange.ImportRecord{
				i.Binding(ctx, oldBinding("b-1", "b1", "s-1", "h1", "CN=alice,O=x")),
				i.Binding(ctx, oldBinding("b-2", "b2", "s-1", "h1", "/O=x/CN=alice")),
				i.Binding(ctx, oldBinding("b-3", "b1", "s-1", "h1", "CN=bob,O=x")),
				i.Binding(ctx, oldBinding("b-4", "b4", "s-gone", "h1", "CN=carol,O=x")),
				i.Binding(ctx, oldBinding("", "b5", "s-1", "h1", "CN=dave,O=x")),
				i.Binding(ctx, oldBinding("b-6", "b6", "s-1", "h1", "CN=eve,O=x")),
			}
		}
		const name, identifier = "which has its name", "which has its auth_identifier"
		check := func(what string, good exchange.Imported, transactions int) {
			t.Helper()
			before := s.updates
			for n, r := range i.Take(ctx, records()...) {
				code := []bindery.Code{"", bindery.CodeConflict, bindery.CodeConflict, bindery.CodeNotFound, bindery.CodeInvalid, ""}[n]
				want := []string{"", identifier, name, "Service-type was not found", "uuid", ""}[n]
				if bindery.CodeOf(r.Err) != code || r.Err != nil && !strings.Contains(bindery.MessageOf(r.Err), want) || r.Err == nil && r.Got != good {
					t.Errorf("%s, record %d: got %s, %v", what, n, r.Got, r.Err)
				}
			}
			if n := s.updates - before; n != transactions {
				t.Errorf("%s: %d transactions, want %d", what, n, transactions)
			}
		}
		// Where all together cannot be written, each is tried by itself.
		s.fail = func(n int) error {
			if n == 2 {
				return bindery.Errorf(bindery.CodeUnavailable, "others were in the way")
			}
			return nil
		}
		check("first", exchange.ImportAdded, 1+6)
		check("again", exchange.ImportUnchanged, 1)
		events := 0
		if err := s.View(ctx, func(tx bindery.Tx) error {
			all, err := tx.Events().List(ctx, bindery.EventFilter{}, bindery.Page{})
			events = len(all)
			return err
		}); err != nil || events != 3 {
			t.Errorf("%d events (%v), want one for each that was added", events, err)
		}
		// A store that is gone is no fault of a record, and not asked for each.
		s.fail = func(int) error { return bindery.Errorf(bindery.CodeUnavailable, "the store does not answer") }
		before := s.updates
		for n, r := range i.Take(ctx, records()...) {
			if exchange.Refused(r.Err) || r.Err == nil {
				t.Errorf("without a store, record %d: got %s, %v", n, r.Got, r.Err)
			}
		}
		if n := s.updates - before; n != 2 {
			t.Errorf("a store that is gone was asked %d times", n)
		}
	})
}
