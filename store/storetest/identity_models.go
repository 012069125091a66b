package storetest

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bindery"
)

var identityModelTests = map[string]func(world){
	"any history of the identity face does what a simple model does": func(w world) {
		rapid.Check(w.T, func(t *rapid.T) {
			// Names of its own keep each history apart from the others in the store.
			m := identityModel{
				space: strconv.FormatInt(w.id(), 10) + "-",
				types: map[int64]bindery.ServiceType{}, methods: map[int64]bindery.AuthMethod{}, bindings: map[int64]bindery.IdentityBinding{},
			}
			letter := rapid.SampledFrom([]string{"a", "b", "c"})
			host := rapid.SampledFrom([]string{"h1", "h2"})
			for range rapid.IntRange(1, 8).Draw(t, "transactions") {
				steps := make([]identityStep, rapid.IntRange(1, 4).Draw(t, "steps"))
				for i := range steps {
					steps[i] = identityStep{
						what: rapid.IntRange(0, 12).Draw(t, "what"), row: w.id(), pick: rapid.IntRange(0, 9).Draw(t, "pick"),
						service: rapid.IntRange(0, 2).Draw(t, "service"), name: letter.Draw(t, "name"), host: host.Draw(t, "host"),
						exact: letter.Draw(t, "exact"), old: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "old"),
						stale: rapid.IntRange(0, 3).Draw(t, "stale") == 0,
					}
				}
				undo := rapid.Bool().Draw(t, "undo")
				var after identityModel
				err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
					after = m.clone() // it may be run again
					for _, s := range steps {
						got, want := s.do(w, tx, after)
						// Where one code has two errors it must be the very one.
						exactly := errors.Is(want, bindery.ErrNameTaken) || errors.Is(want, bindery.ErrIdentifierTaken)
						if !errors.Is(got, want) && (exactly || bindery.CodeOf(got) != bindery.CodeOf(want)) {
							t.Fatalf("%+v: got %v, want %v", s, got, want)
						}
					}
					if undo {
						return errUndo
					}
					return nil
				})
				switch {
				case undo && !errors.Is(err, errUndo), !undo && err != nil:
					t.Fatalf("update: %v", err)
				case !undo:
					m = after
				}
				m.check(w, t)
			}
		})
	},
}

// What a call may answer, beside the two that have an error of their own.
var (
	errAnyConflict = bindery.Errorf(bindery.CodeConflict, "conflict")
	errAnyBusy     = bindery.Errorf(bindery.CodeBusy, "busy")
	errAnyMissing  = bindery.Errorf(bindery.CodeNotFound, "not found")
)

// An identityModel is what a store should hold, in plain maps by row. What belongs
// to a removed service type is simply not there.
type identityModel struct {
	space    string
	types    map[int64]bindery.ServiceType
	methods  map[int64]bindery.AuthMethod
	bindings map[int64]bindery.IdentityBinding
}

func (m identityModel) clone() identityModel {
	return identityModel{m.space, maps.Clone(m.types), maps.Clone(m.methods), maps.Clone(m.bindings)}
}

// An identityStep is one call, drawn before it runs.
type identityStep struct {
	what, pick, service    int
	row                    int64
	name, host, exact, old string
	stale                  bool
}

// revision is the next one of a row, or one that is not.
func (s identityStep) revision(now int64) int64 {
	if s.stale {
		return now + 2
	}
	return now + 1
}

// do makes the call and changes the model; it returns the error and the model's.
func (s identityStep) do(w world, tx bindery.Tx, m identityModel) (got, want error) {
	service, hasService := pick(m.types, s.service)
	switch s.what {
	case 0, 1:
		t := bindery.ServiceType{Row: s.row, UUID: m.space + strconv.FormatInt(s.row, 10), Name: m.space + s.name, Hosts: []string{"h1"}, Revision: 1}
		if want = m.freeType(t); want == nil {
			m.types[t.Row] = t
		}
		return tx.ServiceTypes().Add(w.ctx, t), want
	case 2:
		t, ok := pick(m.types, s.pick)
		if !ok {
			return nil, nil
		}
		t.Name, t.Hosts, t.Revision = m.space+s.name, []string{"h1", "h2"}, s.revision(t.Revision)
		if want = m.freeType(t); want == nil && s.stale {
			want = errAnyBusy
		}
		if want == nil {
			m.types[t.Row] = t
		}
		return tx.ServiceTypes().Save(w.ctx, t), want
	case 3:
		t, ok := pick(m.types, s.pick)
		if !ok {
			return tx.ServiceTypes().Remove(w.ctx, s.row), errAnyMissing
		}
		delete(m.types, t.Row)
		maps.DeleteFunc(m.methods, func(_ int64, o bindery.AuthMethod) bool { return o.ServiceRow == t.Row })
		maps.DeleteFunc(m.bindings, func(_ int64, o bindery.IdentityBinding) bool { return o.ServiceRow == t.Row })
		return tx.ServiceTypes().Remove(w.ctx, t.Row), nil
	case 4:
		_, err := tx.ServiceTypes().Purge(w.ctx, s.pick)
		return err, nil
	case 5, 6, 7:
		if !hasService {
			return nil, nil
		}
		a := bindery.AuthMethod{Row: s.row, ServiceRow: service.Row, ServiceUUID: service.UUID, Host: s.host, Material: bindery.NewSecret(s.name), Revision: 1}
		if s.what == 6 {
			was, ok := pick(m.methods, s.pick)
			if !ok {
				return nil, nil
			}
			a.Row, a.Revision = was.Row, s.revision(was.Revision)
			if s.stale {
				return tx.AuthMethods().Save(w.ctx, a), errAnyBusy
			}
			if want = m.freeMethod(a); want == nil {
				m.methods[a.Row] = a
			}
			return tx.AuthMethods().Save(w.ctx, a), want
		}
		if want = m.freeMethod(a); want == nil {
			m.methods[a.Row] = a
		}
		return tx.AuthMethods().Add(w.ctx, a), want
	case 8:
		b, ok := pick(m.bindings, s.pick)
		if !ok {
			return tx.IdentityBindings().Remove(w.ctx, s.row), errAnyMissing
		}
		delete(m.bindings, b.Row)
		return tx.IdentityBindings().Remove(w.ctx, b.Row), nil
	default:
		if !hasService {
			return nil, nil
		}
		b := bindery.IdentityBinding{
			Row: s.row, Name: m.space + s.name, ServiceRow: service.Row, ServiceUUID: service.UUID, Host: s.host, AuthType: bindery.AuthX509,
			Keys: bindery.IdentityKeys{Exact: s.exact, Old: s.old}, UniqueKey: s.name, Revision: 1,
		}
		if s.what >= 11 {
			was, ok := pick(m.bindings, s.pick)
			if !ok {
				return nil, nil
			}
			b.Row, b.Revision = was.Row, s.revision(was.Revision)
			if s.stale {
				return tx.IdentityBindings().Save(w.ctx, b), errAnyBusy
			}
			if want = m.freeBinding(b); want == nil {
				m.bindings[b.Row] = b
			}
			return tx.IdentityBindings().Save(w.ctx, b), want
		}
		if want = m.freeBinding(b); want == nil {
			m.bindings[b.Row] = b
		}
		return tx.IdentityBindings().Add(w.ctx, b), want
	}
}

func (m identityModel) freeType(t bindery.ServiceType) error {
	for _, o := range m.types {
		if o.Row != t.Row && o.Name == t.Name {
			return bindery.ErrNameTaken
		}
	}
	return nil
}

func (m identityModel) freeMethod(a bindery.AuthMethod) error {
	for _, o := range m.methods {
		if o.Row != a.Row && o.ServiceRow == a.ServiceRow && o.Host == a.Host {
			return errAnyConflict
		}
	}
	return nil
}

func (m identityModel) freeBinding(b bindery.IdentityBinding) error {
	var err error
	for _, o := range m.bindings {
		if o.Row == b.Row {
			continue
		}
		if o.ServiceRow == b.ServiceRow && o.Host == b.Host && (o.Keys.Exact == b.Keys.Exact || b.Keys.Old != "" && o.Keys.Old == b.Keys.Old) {
			return bindery.ErrIdentifierTaken
		}
		if o.Name == b.Name {
			err = bindery.ErrNameTaken
		}
	}
	return err
}

// resolve is what one authentication should find.
func (m identityModel) resolve(t bindery.ServiceType, host string, keys bindery.IdentityKeys) bindery.Resolution {
	out := bindery.Resolution{Service: t}
	if !slices.Contains(t.Hosts, host) {
		return out
	}
	for _, a := range m.methods {
		if a.ServiceRow == t.Row && a.Host == host {
			out.Method = a
		}
	}
	for _, b := range m.bindings {
		if b.ServiceRow != t.Row || b.Host != host {
			continue
		}
		if b.Keys.Exact == keys.Exact {
			out.Binding, out.ByOldForm = b, false
			return out
		}
		if keys.Old != "" && b.Keys.Old == keys.Old {
			out.Binding, out.ByOldForm = b, true
		}
	}
	return out
}

// check compares what can be read with the model.
func (m identityModel) check(w world, t *rapid.T) {
	same := func(what string, got, want any) {
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
	err := w.s.View(w.ctx, func(tx bindery.Tx) error {
		for _, name := range []string{"a", "b", "c"} {
			var wantType bindery.ServiceType
			for _, o := range m.types {
				if o.Name == m.space+name {
					wantType = o
				}
			}
			gotType, err := tx.ServiceTypes().ByName(w.ctx, m.space+name)
			if wantType.Row == 0 {
				err = missing(err)
			}
			if err != nil {
				return err
			}
			same("service type", gotType, wantType)
			var want bindery.IdentityBinding
			for _, o := range m.bindings {
				if o.Name == m.space+name {
					want = o
				}
			}
			got, err := tx.IdentityBindings().ByName(w.ctx, m.space+name)
			if want.Row == 0 {
				err = missing(err)
			}
			if err != nil {
				return err
			}
			same("binding", got, want)
		}
		if len(m.types) == 0 {
			return nil
		}
		services := slices.Sorted(maps.Keys(m.types))
		methods, err := tx.AuthMethods().List(w.ctx, services, bindery.Page{})
		if err != nil {
			return err
		}
		same("auth methods", methods, inOrder(m.methods))
		bindings, err := tx.IdentityBindings().List(w.ctx, bindery.IdentityBindingFilter{Services: services}, bindery.Page{})
		same("bindings", bindings, inOrder(m.bindings))
		return err
	})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, s := range m.types {
		for _, keys := range []bindery.IdentityKeys{{Exact: "a"}, {Exact: "b", Old: "a"}, {Exact: "none", Old: "b"}} {
			for _, host := range []string{"h1", "h2"} {
				got, err := w.s.Resolve(w.ctx, s.Name, host, bindery.AuthX509, keys)
				if err != nil {
					t.Fatalf("resolve: %v", err)
				}
				same("resolution", got, m.resolve(s, host, keys))
			}
		}
	}
}
