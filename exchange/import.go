package exchange

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bindery"
)

// An Import takes over the records of another service as they are: their UUIDs,
// dates and names. Every record is checked as if an administrator had sent it,
// and taken in a transaction of its own, so that an import can be ended and
// repeated at any time. It begins with the service types, since the others refer
// to them by UUID; several goroutines may use it at once.
type Import struct {
	// Distinct says that the caller sees to it that no two of the records at hand share
	// what must be unique, so that a dry run need not remember what they have.
	Distinct bool

	s   *Service
	by  Caller
	dry bool

	// What a dry run would have added, since nothing of it is in the store: the
	// service types by UUID, and who has what must be unique.
	mu    sync.Mutex
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

// Import begins an import. A dry run checks everything and changes nothing.
// Errors of its methods: CodeInvalid and CodeNotFound as for an administrator,
// CodeConflict, which says what the record collides with, CodeForbidden for keys
// that may only read or are limited.
func (s *Service) Import(by Caller, dryRun bool) *Import {
	return &Import{s: s, by: by, dry: dryRun, types: make(map[string]bindery.ServiceType), has: make(map[string]string)}
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
	if !i.dry || i.Distinct {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
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

// take is one record's transaction. look says whether the record is there as it
// is, and what else is in its way; add adds it.
func (i *Import) take(ctx context.Context, what string, look func(bindery.Tx) (Imported, error), add func(bindery.Tx, *change) error) (got Imported, err error) {
	// Most of a repeated import is there already, and nothing is written about that.
	err = i.s.store.View(ctx, func(tx bindery.Tx) error {
		got, err = look(tx)
		return err
	})
	if err != nil || i.dry || got == ImportUnchanged {
		return got, err
	}
	err = i.s.change(ctx, i.by, "import", func(tx bindery.Tx, c *change) error {
		if got, err = look(tx); err != nil || got == ImportUnchanged {
			return err
		}
		c.what = what
		return add(tx, c)
	})
	return got, err
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

// ServiceType takes one over.
func (i *Import) ServiceType(ctx context.Context, t bindery.ServiceType) (Imported, error) {
	if err := i.allowed(t.UUID, objServiceType); err != nil {
		return "", err
	}
	authTypes, method := make([]string, len(t.AuthTypes)), string(t.AuthMethod)
	for n, a := range t.AuthTypes {
		authTypes[n] = string(a)
	}
	hosts := t.Hosts
	in := ServiceTypeInput{Name: &t.Name, Hosts: &hosts, AuthTypes: &authTypes, AuthMethod: &method, Type: &t.Type}
	if err := i.s.fillServiceType(&t, in, true); err != nil {
		return "", err
	}
	var err error
	if t.Row, err = i.s.store.NewID(ctx); err != nil {
		return "", err
	}
	t.Revision = 1
	who := describeType(t)
	got, err := i.take(ctx, who, func(tx bindery.Tx) (Imported, error) {
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
	}, func(tx bindery.Tx, c *change) error {
		c.everything = true
		return tx.ServiceTypes().Add(ctx, t)
	})
	if err == nil && got == ImportAdded {
		err = i.claim(who, "service type\x00"+t.Name, "service type uuid\x00"+t.UUID)
	}
	if err == nil && i.dry && got == ImportAdded {
		i.mu.Lock()
		i.types[t.UUID] = t
		i.mu.Unlock()
	}
	return got, err
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
		i.mu.Lock()
		defer i.mu.Unlock()
		if t, ok := i.types[uuid]; ok {
			return t, nil
		}
	}
	return t, err
}

// AuthMethod takes one over. It is found by its service type and host.
func (i *Import) AuthMethod(ctx context.Context, m bindery.AuthMethod) (Imported, error) {
	if err := i.allowed(m.UUID, objAuthMethod); err != nil {
		return "", err
	}
	if m.ServiceUUID == "" {
		return "", empty(objAuthMethod, "service_uuid")
	}
	mat, err := unseal(m.Material)
	if err != nil {
		return "", err
	}
	in := AuthMethodInput{Host: &m.Host, Port: &m.Port, AccessKey: &mat.AccessKey, Headers: &mat.Headers}
	if m.Row, err = i.s.store.NewID(ctx); err != nil {
		return "", err
	}
	m.Revision = 1
	kind := m.Kind
	var who string
	got, err := i.take(ctx, fmt.Sprintf("auth method %s of service type %s on host %q", m.UUID, m.ServiceUUID, m.Host), func(tx bindery.Tx) (Imported, error) {
		t, err := i.serviceType(ctx, tx, m.ServiceUUID)
		if err != nil {
			return "", err
		}
		if who = describeMethod(m, t); kind != t.AuthMethod {
			return "", invalid("%s is of type %s, and its service type uses %s", who, kind, t.AuthMethod)
		}
		m.ServiceRow, m.Kind = t.Row, "" // no material is there yet that could stay
		if err := fillAuthMethod(&m, &t, in, true); err != nil {
			return "", err
		}
		if !slices.Contains(t.Hosts, m.Host) {
			return "", errNoHost
		}
		had, err := tx.AuthMethods().ByHost(ctx, t.Row, m.Host)
		switch {
		case err != nil:
			return ImportAdded, ignoreMissing(err)
		case had.UUID != m.UUID:
			return "", collides(who, describeMethod(had, t), "which stands there")
		}
		return same(who, compared{"port", had.Port == m.Port}, compared{"access_key or headers", had.Material.Equal(m.Material)})
	}, func(tx bindery.Tx, c *change) error {
		c.everything = true
		return tx.AuthMethods().Add(ctx, m)
	})
	if err == nil && got == ImportAdded {
		err = i.claim(who, fmt.Sprintf("auth method\x00%s\x00%s", m.ServiceUUID, m.Host))
	}
	return got, err
}

// Binding takes one over. It is found by its name, or its identifier.
func (i *Import) Binding(ctx context.Context, b bindery.IdentityBinding) (Imported, error) {
	if err := i.allowed(b.UUID, objBinding); err != nil {
		return "", err
	}
	auth := string(b.AuthType)
	in := BindingInput{
		Name: &b.Name, ServiceUUID: &b.ServiceUUID, Host: &b.Host, AuthType: &auth,
		Identifier: &b.Identifier, UniqueKey: &b.UniqueKey, Issuer: &b.Issuer,
	}
	if err := checkBinding(in, true); err != nil {
		return "", err
	}
	var err error
	if b.Row, err = i.s.store.NewID(ctx); err != nil {
		return "", err
	}
	b.Revision = 1
	var who string
	got, err := i.take(ctx, fmt.Sprintf("binding %q (%s) of service type %s on host %q", b.Name, b.UUID, b.ServiceUUID, b.Host), func(tx bindery.Tx) (Imported, error) {
		t, err := i.serviceType(ctx, tx, b.ServiceUUID)
		if err != nil {
			return "", err
		}
		b.ServiceRow, who = t.Row, describeBinding(b, t)
		if err := i.s.fillBinding(&b, &t, in, true); err != nil {
			return "", err
		}
		had, err := tx.IdentityBindings().List(ctx, bindery.IdentityBindingFilter{Services: []int64{t.Row}, Host: b.Host, Keys: b.Keys}, bindery.Page{})
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
	}, func(tx bindery.Tx, c *change) error {
		c.keys = []bindery.IdentityKeys{b.Keys}
		return tx.IdentityBindings().Add(ctx, b)
	})
	if err == nil && got == ImportAdded {
		unique := []string{"binding\x00" + b.Name, fmt.Sprintf("exact\x00%s\x00%s\x00%s\x00%s", b.ServiceUUID, b.Host, b.AuthType, b.Keys.Exact)}
		if b.Keys.Old != "" {
			unique = append(unique, fmt.Sprintf("old\x00%s\x00%s\x00%s\x00%s", b.ServiceUUID, b.Host, b.AuthType, b.Keys.Old))
		}
		err = i.claim(who, unique...)
	}
	return got, err
}
