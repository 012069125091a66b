package exchange

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bindery"
)

// An Import takes over the records of another service as they are: their UUIDs,
// dates and names. Every record is checked as if an administrator had sent it. It
// begins with the service types, since the others refer to them by UUID, and one
// goroutine uses it. It can be ended and repeated at any time.
type Import struct {
	// Distinct says that the caller sees to it that no two of the records at hand share
	// what must be unique, so that a dry run need not remember what they have.
	Distinct bool

	s   *Service
	by  Caller
	dry bool

	// What a dry run would have added, since nothing of it is in the store: the
	// service types by UUID, and who has what must be unique.
	types map[string]bindery.ServiceType
	has   map[string]string
}

// Imported is what became of a record.
type Imported string

// What becomes of a record that is not refused.
const (
	ImportAdded     Imported = "added" // or would be, in a dry run
	ImportUnchanged Imported = "unchanged"
)

// An ImportRecord is one that was checked by itself. [Import.Take] takes it.
type ImportRecord struct {
	err  error  // what is wrong with it by itself
	what string // for the audit
	// fill completes it from what it refers to. add adds it, with CodeConflict where it is here or
	// something else is in its way, and look says which. That is the order because few are.
	fill func(bindery.Tx) error
	add  func(bindery.Tx, *change) error
	look func(bindery.Tx) (Imported, error)
	// note is for a dry run that would have added it.
	note func() error
}

// An ImportResult is what became of a record. Errors: CodeInvalid and CodeNotFound
// as for an administrator, CodeConflict, which says what the record collides with, CodeForbidden
// for keys that may only read or are limited; see [Refused] for others.
type ImportResult struct {
	Got Imported
	Err error
}

// Refused reports whether an error is about the record. Any other one is about the
// store, and the next record would have it too.
func Refused(err error) bool { return slices.Contains(refusals, bindery.CodeOf(err)) }

var refusals = []bindery.Code{
	bindery.CodeInvalid, bindery.CodeNotFound, bindery.CodeConflict, bindery.CodeTooLarge, bindery.CodeUnsupported,
}

// Import begins an import. A dry run checks everything and changes nothing.
func (s *Service) Import(by Caller, dryRun bool) *Import {
	return &Import{s: s, by: by, dry: dryRun, types: make(map[string]bindery.ServiceType), has: make(map[string]string)}
}

// Take takes records in their order, all in one transaction: a commit for each of
// a hundred thousand would be most of the work. One that is refused does not keep
// the others from being taken. Where the transaction fails, each is taken in one
// of its own, so that whoever is at fault is alone.
func (i *Import) Take(ctx context.Context, records ...*ImportRecord) []ImportResult {
	results := make([]ImportResult, len(records))
	err := i.together(ctx, records, results)
	for n := 0; err != nil && n < len(records); n++ {
		if one := i.together(ctx, records[n:n+1], results[n:n+1]); one != nil {
			results[n] = ImportResult{Err: one}
		}
		if one := results[n].Err; one != nil && !Refused(one) {
			for ; n < len(records); n++ {
				results[n] = ImportResult{Err: one}
			}
		}
	}
	return results
}

// together is one transaction. Its error is that of the transaction, and what the
// results say then never happened.
func (i *Import) together(ctx context.Context, records []*ImportRecord, results []ImportResult) error {
	if i.dry {
		return i.pretend(ctx, records, results)
	}
	now := i.s.o.Now()
	var c change
	defer func() { i.s.stamps.forget(c) }()
	return i.s.store.Update(ctx, func(tx bindery.Tx) error {
		c = change{}
		for n, r := range records {
			got, err := r.take(tx, &c)
			if err == nil && got == ImportAdded {
				err = audit(ctx, tx, i.by, "import", r.what, now)
			}
			if err != nil && !Refused(err) {
				return err
			}
			results[n] = ImportResult{got, err}
		}
		return nil
	})
}

func (r *ImportRecord) take(tx bindery.Tx, c *change) (Imported, error) {
	if r.err != nil {
		return "", r.err
	}
	if err := r.fill(tx); err != nil {
		return "", err
	}
	err := r.add(tx, c)
	if bindery.CodeOf(err) != bindery.CodeConflict {
		return ImportAdded, err
	}
	got, why := r.look(tx)
	if why == nil && got == ImportAdded {
		why = err // and nothing that can be named is in its way
	}
	return got, why
}

// pretend is together in a dry run.
func (i *Import) pretend(ctx context.Context, records []*ImportRecord, results []ImportResult) error {
	err := i.s.store.View(ctx, func(tx bindery.Tx) error {
		for n, r := range records {
			got, err := r.try(tx)
			if err != nil && !Refused(err) {
				return err
			}
			results[n] = ImportResult{got, err}
		}
		return nil
	})
	for n, r := range records {
		if err == nil && results[n].Err == nil && results[n].Got == ImportAdded {
			results[n].Err = r.note()
		}
	}
	return err
}

func (r *ImportRecord) try(tx bindery.Tx) (Imported, error) {
	if r.err != nil {
		return "", r.err
	}
	if err := r.fill(tx); err != nil {
		return "", err
	}
	return r.look(tx)
}

func (i *Import) allowed(uuid, object string) error {
	if err := i.by.changes(); err != nil {
		return err
	}
	if i.by.Services != nil {
		return errLimited
	}
	if uuid == "" {
		return empty(object, "uuid")
	}
	if why := unfit(uuid, maxName); why != "" {
		return wrong(object, "uuid", why)
	}
	return nil
}

// claim notes in a dry run that a record has what must be unique, or says which one has it.
func (i *Import) claim(who string, unique ...string) error {
	if i.Distinct {
		return nil
	}
	for _, u := range unique {
		if other, ok := i.has[u]; ok && other != who {
			return collides(who, other, "which the same import brings")
		}
	}
	for _, u := range unique {
		i.has[u] = who
	}
	return nil
}

// collides is the error for a record that cannot stand beside another one.
func collides(who, other, how string) error {
	return bindery.Errorf(bindery.CodeConflict, "%s collides with %s, %s", who, other, how)
}

// A field of a record, and whether the one that is here has the same in it.
type compared struct {
	field string
	same  bool
}

// same is the answer for a record whose UUID is there.
func same(who string, fields ...compared) (Imported, error) {
	var others []string
	for _, f := range fields {
		if !f.same {
			others = append(others, f.field)
		}
	}
	if others != nil {
		return "", collides(who, "itself", "which is here with another "+strings.Join(others, ", "))
	}
	return ImportUnchanged, nil
}

// ServiceType is one to take over.
func (i *Import) ServiceType(ctx context.Context, t bindery.ServiceType) *ImportRecord {
	if err := i.allowed(t.UUID, objServiceType); err != nil {
		return &ImportRecord{err: err}
	}
	authTypes, method := make([]string, len(t.AuthTypes)), string(t.AuthMethod)
	for n, a := range t.AuthTypes {
		authTypes[n] = string(a)
	}
	hosts := t.Hosts
	in := ServiceTypeInput{Name: &t.Name, Hosts: &hosts, AuthTypes: &authTypes, AuthMethod: &method, Type: &t.Type}
	err := i.s.fillServiceType(&t, in, true)
	if err == nil {
		t.Row, err = i.s.store.NewID(ctx)
	}
	t.Revision = 1
	who := describeType(t)
	nothing := func(bindery.Tx) error { return nil }
	return &ImportRecord{err: err, what: who, fill: nothing, look: func(tx bindery.Tx) (Imported, error) {
		had, err := tx.ServiceTypes().ByUUID(ctx, t.UUID)
		if err == nil {
			return same(who, compared{"name", had.Name == t.Name}, compared{"hosts", slices.Equal(had.Hosts, t.Hosts)},
				compared{"auth_types", slices.Equal(had.AuthTypes, t.AuthTypes)},
				compared{"auth_method", had.AuthMethod == t.AuthMethod}, compared{"type", had.Type == t.Type})
		}
		if bindery.CodeOf(err) != bindery.CodeNotFound {
			return "", err
		}
		if had, err = tx.ServiceTypes().ByName(ctx, t.Name); err == nil {
			return "", collides(who, describeType(had), "which has its name")
		}
		return ImportAdded, ignoreMissing(err)
	}, add: func(tx bindery.Tx, c *change) error {
		c.everything = true
		return tx.ServiceTypes().Add(ctx, t)
	}, note: func() error {
		err := i.claim(who, "service type\x00"+t.Name, "service type uuid\x00"+t.UUID)
		if err == nil {
			i.types[t.UUID] = t
		}
		return err
	}}
}

func ignoreMissing(err error) error {
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return nil
	}
	return err
}

// serviceType finds the one that a record refers to.
func (i *Import) serviceType(ctx context.Context, tx bindery.Tx, uuid string) (bindery.ServiceType, error) {
	t, err := serviceTypeByUUID(ctx, tx, i.by, uuid)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		if t, ok := i.types[uuid]; ok {
			return t, nil
		}
	}
	return t, err
}

// AuthMethod is one to take over. It is found by its service type and host.
func (i *Import) AuthMethod(ctx context.Context, m bindery.AuthMethod) *ImportRecord {
	if err := i.allowed(m.UUID, objAuthMethod); err != nil {
		return &ImportRecord{err: err}
	}
	if m.ServiceUUID == "" {
		return &ImportRecord{err: empty(objAuthMethod, "service_uuid")}
	}
	mat, err := unseal(m.Material)
	if err == nil {
		m.Row, err = i.s.store.NewID(ctx)
	}
	in := AuthMethodInput{Host: &m.Host, Port: &m.Port, AccessKey: &mat.AccessKey, Headers: &mat.Headers}
	m.Revision = 1
	kind := m.Kind
	var who string
	var t bindery.ServiceType
	what := fmt.Sprintf("auth method %s of service type %s on host %q", m.UUID, m.ServiceUUID, m.Host)
	return &ImportRecord{err: err, what: what, fill: func(tx bindery.Tx) (err error) {
		if t, err = i.serviceType(ctx, tx, m.ServiceUUID); err != nil {
			return err
		}
		if who = describeMethod(m, t); kind != t.AuthMethod {
			return invalid("%s is of type %s, and its service type uses %s", who, kind, t.AuthMethod)
		}
		m.ServiceRow, m.Kind = t.Row, "" // no material is there yet that could stay
		if err := fillAuthMethod(&m, &t, in, true); err != nil {
			return err
		}
		if !slices.Contains(t.Hosts, m.Host) {
			return errNoHost
		}
		return nil
	}, look: func(tx bindery.Tx) (Imported, error) {
		had, err := tx.AuthMethods().ByHost(ctx, t.Row, m.Host)
		switch {
		case err != nil:
			return ImportAdded, ignoreMissing(err)
		case had.UUID != m.UUID:
			return "", collides(who, describeMethod(had, t), "which stands there")
		}
		return same(who, compared{"port", had.Port == m.Port}, compared{"access_key or headers", had.Material.Equal(m.Material)})
	}, add: func(tx bindery.Tx, c *change) error {
		c.everything = true
		return tx.AuthMethods().Add(ctx, m)
	}, note: func() error {
		return i.claim(who, fmt.Sprintf("auth method\x00%s\x00%s", m.ServiceUUID, m.Host))
	}}
}

// Binding is one to take over. It is found by its name, or its identifier.
func (i *Import) Binding(ctx context.Context, b bindery.IdentityBinding) *ImportRecord {
	if err := i.allowed(b.UUID, objBinding); err != nil {
		return &ImportRecord{err: err}
	}
	auth := string(b.AuthType)
	in := BindingInput{
		Name: &b.Name, ServiceUUID: &b.ServiceUUID, Host: &b.Host, AuthType: &auth,
		Identifier: &b.Identifier, UniqueKey: &b.UniqueKey, Issuer: &b.Issuer,
	}
	err := checkBinding(in, true)
	if err == nil {
		b.Row, err = i.s.store.NewID(ctx)
	}
	b.Revision = 1
	var who string
	what := fmt.Sprintf("binding %q (%s) of service type %s on host %q", b.Name, b.UUID, b.ServiceUUID, b.Host)
	return &ImportRecord{err: err, what: what, fill: func(tx bindery.Tx) error {
		t, err := i.serviceType(ctx, tx, b.ServiceUUID)
		if err != nil {
			return err
		}
		b.ServiceRow, who = t.Row, describeBinding(b, t)
		return i.s.fillBinding(&b, &t, in, true)
	}, look: func(tx bindery.Tx) (Imported, error) {
		return lookBinding(ctx, tx, b, who)
	}, add: func(tx bindery.Tx, c *change) error {
		c.keys = append(c.keys, b.Keys)
		return tx.IdentityBindings().Add(ctx, b)
	}, note: func() error {
		place := fmt.Sprintf("\x00%s\x00%s\x00%s\x00", b.ServiceUUID, b.Host, b.AuthType)
		unique := []string{"binding\x00" + b.Name, "exact" + place + b.Keys.Exact}
		if b.Keys.Old != "" {
			unique = append(unique, "old"+place+b.Keys.Old)
		}
		return i.claim(who, unique...)
	}}
}

// lookBinding looks for a binding, and for others that have what must be unique.
func lookBinding(ctx context.Context, tx bindery.Tx, b bindery.IdentityBinding, who string) (Imported, error) {
	f := bindery.IdentityBindingFilter{Services: []int64{b.ServiceRow}, Host: b.Host, Keys: b.Keys}
	had, err := tx.IdentityBindings().List(ctx, f, bindery.Page{})
	if err != nil {
		return "", err
	}
	how := "which has its auth_identifier"
	if named, err := tx.IdentityBindings().ByName(ctx, b.Name); err == nil {
		if named.UUID == b.UUID || len(had) == 0 {
			had, how = []bindery.IdentityBinding{named}, "which has its name"
		}
	} else if ignoreMissing(err) != nil {
		return "", err
	}
	if len(had) == 0 {
		return ImportAdded, nil
	}
	if old := had[0]; old.UUID == b.UUID {
		return same(who, compared{"name", old.Name == b.Name}, compared{"service_uuid", old.ServiceUUID == b.ServiceUUID},
			compared{"host", old.Host == b.Host}, compared{"auth_identifier", old.Identifier == b.Identifier},
			compared{"unique_key", old.UniqueKey == b.UniqueKey}, compared{"auth_type", old.AuthType == b.AuthType})
	}
	return "", collides(who, fmt.Sprintf("binding %q (%s), auth_identifier %q", had[0].Name, had[0].UUID, had[0].Identifier), how)
}
