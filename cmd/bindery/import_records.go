package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"bindery"
	"bindery/exchange"
)

// A record is one document of the old service, as far as it is understood.
type record struct {
	label string // for the report
	take  func(context.Context, *exchange.Import) *exchange.ImportRecord
	// lookups are by what the old service found it: with two of one of these it
	// answered 500. others are what may stand once, too: a name that the old service
	// found bindings by only to administer them, and an identity's meaning, of which it knew nothing.
	lookups []lookup
	name    repeatKey
	meaning []repeatKey
	// spelled: the identifier is as the old service wrote it itself, so that it found it.
	spelled bool
	notes   []string
}

type lookup struct {
	what string // "service types have this name"
	key  repeatKey
}

// spelledLookup is for identifiers that mean one name, each as the old service wrote it at its time.
const spelledLookup = "bindings have this auth_identifier on this host in orders that the old service had at different times"

// A collection is one of the old service's, and the file that has it.
type collection struct {
	name string
	read func(document) (record, error)
}

func (c collection) file() string { return c.name + ".json" }

// The collections, in the order in which they refer to each other.
var collections = []collection{
	{"service_types", readServiceType},
	{"auth_methods", readAuthMethod},
	{"bindings", readBinding},
}

// ignoredCollection is a metric, and nothing that anybody asks for.
const ignoredCollection = "bindings_missing_ip_san"

// fields reads several fields; the first error stays.
type fields struct {
	document
	err error
}

func field[T any](f *fields, read func(document, string) (T, error), name string) T {
	v, err := read(f.document, name)
	if f.err == nil {
		f.err = err
	}
	return v
}

func (f *fields) text(name string) string { return field(f, document.text, name) }

// times are when it was made, changed, and last used. A time that cannot be read
// keeps nobody from working: it is said, and left out.
func (f *fields) times(r *record) (created, updated, used time.Time) {
	for name, to := range map[string]*time.Time{"created_on": &created, "updated_on": &updated, "last_auth": &used} {
		var err error
		if *to, err = f.time(name); err != nil {
			r.notes = append(r.notes, err.Error()+", and is left out")
		}
	}
	slices.Sort(r.notes)
	if created.IsZero() {
		created = time.Now() // clients want one
	}
	return created, updated, used
}

func readServiceType(d document) (record, error) {
	f := &fields{document: d}
	t := bindery.ServiceType{
		UUID: f.text("uuid"), Name: f.text("name"), Type: f.text("type"), Hosts: field(f, document.texts, "hosts"),
		AuthMethod: bindery.AuthMethodKind(f.text("auth_method")),
	}
	for _, a := range field(f, document.texts, "auth_types") {
		t.AuthTypes = append(t.AuthTypes, bindery.AuthType(a))
	}
	r := record{label: fmt.Sprintf("service type %q (%s)", t.Name, t.UUID)}
	t.Created, t.Updated, _ = f.times(&r)
	r.lookups = []lookup{
		{"service types have this name", keyOf("service type", t.Name)},
		{"service types have this uuid", keyOf("service type uuid", t.UUID)},
	}
	r.take = func(ctx context.Context, i *exchange.Import) *exchange.ImportRecord { return i.ServiceType(ctx, t) }
	return r, f.err
}

func readAuthMethod(d document) (record, error) {
	f := &fields{document: d}
	m := bindery.AuthMethod{
		UUID: f.text("uuid"), ServiceUUID: f.text("service_uuid"), Host: f.text("host"), Port: field(f, document.number, "port"),
		Kind: bindery.AuthMethodKind(f.text("type")),
	}
	r := record{label: fmt.Sprintf("auth method %s on host %q", m.UUID, m.Host)}
	m.Created, m.Updated, _ = f.times(&r)
	material := map[string]any{}
	switch m.Kind {
	case bindery.AuthMethodAPIKey:
		material["access_key"] = f.text("access_key")
	case bindery.AuthMethodHeaders:
		material["headers"] = field(f, document.object, "headers")
	default:
		if f.err == nil {
			f.err = fmt.Errorf("its type %q is neither %s nor %s", m.Kind, bindery.AuthMethodAPIKey, bindery.AuthMethodHeaders)
		}
	}
	b, err := json.Marshal(material)
	if err != nil {
		return r, errors.New("its secret cannot be read")
	}
	m.Material = bindery.NewSecret(string(b))
	// The old service looked for those of the kind that the service type has.
	r.lookups = []lookup{{"auth methods of this type stand on this host", keyOf("auth method", m.ServiceUUID, m.Host, string(m.Kind))}}
	r.take = func(ctx context.Context, i *exchange.Import) *exchange.ImportRecord { return i.AuthMethod(ctx, m) }
	return r, f.err
}

func readBinding(d document) (record, error) {
	f := &fields{document: d}
	b := bindery.IdentityBinding{
		UUID: f.text("uuid"), Name: f.text("name"), ServiceUUID: f.text("service_uuid"), Host: f.text("host"),
		AuthType: bindery.AuthType(f.text("auth_type")), Identifier: f.text("auth_identifier"),
	}
	r := record{label: fmt.Sprintf("binding %q (%s)", b.Name, b.UUID)}
	b.Created, b.Updated, b.LastAuth = f.times(&r)
	used, updated := f.text("uniquekey"), f.text("unique_key")
	b.UniqueKey = first(used, updated)
	if used != "" && updated != "" && used != updated {
		r.notes = append(r.notes, fmt.Sprintf("uniquekey %q, which the old service used, is taken, and not unique_key %q, which an update stored", used, updated))
	}
	place := []string{b.ServiceUUID, b.Host, string(b.AuthType)}
	unique := func(what, key string) repeatKey { return keyOf(append([]string{what}, append(place, key)...)...) }
	r.name = keyOf("binding", b.Name)
	r.lookups = []lookup{{"bindings have this auth_identifier on this host", unique("auth_identifier", b.Identifier)}}
	if b.AuthType == bindery.AuthX509 {
		if keys, err := bindery.IdentifierKeys(b.AuthType, b.Identifier); err == nil {
			r.meaning = append(r.meaning, unique("exact", keys.Exact))
			if keys.Old != "" {
				r.meaning = append(r.meaning, unique("old", keys.Old))
			}
			if r.spelled = bindery.IsOldForm(b.Identifier); r.spelled {
				r.lookups = append(r.lookups, lookup{spelledLookup, unique("spelled", keys.Old)})
			}
		}
		if _, err := bindery.ParseDN(b.Identifier); err != nil && b.Identifier != "" {
			r.notes = append(r.notes, "its auth_identifier is no distinguished name: no certificate matches it")
		}
	}
	r.take = func(ctx context.Context, i *exchange.Import) *exchange.ImportRecord { return i.Binding(ctx, b) }
	return r, f.err
}

// keys are all that must be counted of a record.
func (r record) keys() []repeatKey {
	var out []repeatKey
	for _, l := range r.lookups {
		out = append(out, l.key)
	}
	if r.name != (repeatKey{}) {
		out = append(out, r.name)
	}
	return append(out, r.meaning...)
}

// judge says why a record cannot be taken beside the others of the export, and
// what is to be said where it can.
func (r record) judge(seen *repeats) (why string, notes []string) {
	for _, l := range r.lookups {
		switch n := seen.of(l.key); {
		case n > 1 && l.what == spelledLookup:
			return fmt.Sprintf("%d %s: decide which one it is, and create it", n, l.what), nil
		case n > 1:
			return fmt.Sprintf("%d %s, and the old service answered 500 for it: decide which one it is, and create it", n, l.what), nil
		}
	}
	notes = r.notes
	for _, k := range r.meaning {
		if seen.of(k) == 1 {
			continue
		}
		if !r.spelled {
			return "another binding on this host has this auth_identifier in another spelling, and the old service found no certificate by this one", nil
		}
		notes = append(notes, "other bindings on this host have this auth_identifier in other spellings; the old service found certificates by this one, which is taken")
		break
	}
	if r.twins(seen) {
		notes = append(notes, fmt.Sprintf("%d bindings have this name; the first that can be taken keeps it", seen.of(r.name)))
	}
	return "", notes
}

// twins: which of those with one name comes first decides, so that they are taken one after the other.
func (r record) twins(seen *repeats) bool { return r.name != (repeatKey{}) && seen.of(r.name) > 1 }
