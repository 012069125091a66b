package exchange

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"bindery"
)

// CreateServiceType makes a service type.
func (s *Service) CreateServiceType(ctx context.Context, by Caller, in ServiceTypeInput) (bindery.ServiceType, error) {
	none := bindery.ServiceType{}
	if err := by.changes(); err != nil {
		return none, err
	}
	t := bindery.ServiceType{UUID: uuid.NewString(), Revision: 1, Created: s.o.Now()}
	if err := s.fillServiceType(&t, in, true); err != nil {
		return none, err
	}
	if err := by.allowed(t.Name); err != nil {
		return none, err
	}
	var err error
	if t.Row, err = s.store.NewID(ctx); err != nil {
		return none, err
	}
	err = s.change(ctx, by, "create service type", func(tx bindery.Tx, c *change) error {
		c.everything, c.what = true, describeType(t)
		return tx.ServiceTypes().Add(ctx, t)
	})
	return t, nameTaken(err, t.Name)
}

func nameTaken(err error, name string) error {
	return taken(err, bindery.ErrNameTaken, "service-type object with name: %s already exists", name)
}

func describeType(t bindery.ServiceType) string {
	return fmt.Sprintf("service type %q (%s)", t.Name, t.UUID)
}

// fillServiceType checks what was sent and writes it to t.
func (s *Service) fillServiceType(t *bindery.ServiceType, in ServiceTypeInput, creation bool) error {
	if err := s.checkServiceType(in, creation); err != nil {
		return err
	}
	changed(&t.Name, in.Name)
	if in.Hosts != nil {
		// A host that is named twice is one host.
		t.Hosts = nil
		for _, h := range *in.Hosts {
			if !slices.Contains(t.Hosts, h) {
				t.Hosts = append(t.Hosts, h)
			}
		}
	}
	if in.AuthTypes != nil {
		t.AuthTypes = nil
		for _, a := range *in.AuthTypes {
			if !slices.Contains(t.AuthTypes, bindery.AuthType(a)) {
				t.AuthTypes = append(t.AuthTypes, bindery.AuthType(a))
			}
		}
	}
	if in.AuthMethod != nil {
		t.AuthMethod = bindery.AuthMethodKind(*in.AuthMethod)
	}
	if creation {
		t.Type = *in.Type
	}
	return nil
}

// checkServiceType checks in the face's order: empty fields, then values.
func (s *Service) checkServiceType(in ServiceTypeInput, creation bool) error {
	missing := func(sent, isEmpty bool) bool { return isEmpty && (sent || creation) }
	noHosts := in.Hosts == nil || len(*in.Hosts) == 0 || slices.Contains(*in.Hosts, "")
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"name", missing(in.Name != nil, in.Name == nil || *in.Name == "")},
		{"hosts", missing(in.Hosts != nil, noHosts)},
		{"auth_types", creation && in.AuthTypes == nil},
		{"auth_method", missing(in.AuthMethod != nil, in.AuthMethod == nil || *in.AuthMethod == "")},
		{"type", creation && (in.Type == nil || *in.Type == "")},
	} {
		if f.missing {
			return empty(objServiceType, f.name)
		}
	}
	if err := s.checkServiceTypeValues(in, creation); err != nil {
		return err
	}
	if in.Name == nil {
		return nil
	}
	if why := cmp.Or(unfit(*in.Name, maxName), unreachable(*in.Name)); why != "" {
		return wrong(objServiceType, "name", why)
	}
	if s.o.Reserved != nil && s.o.Reserved(*in.Name) {
		return bindery.Errorf(bindery.CodeConflict, "service-type object with name: %s cannot be: a service offering has this name", *in.Name)
	}
	return nil
}

func (s *Service) checkServiceTypeValues(in ServiceTypeInput, creation bool) error {
	if in.Hosts != nil {
		if len(*in.Hosts) > maxHosts {
			return wrong(objServiceType, "hosts", fmt.Sprintf("has more than %d hosts", maxHosts))
		}
		for _, h := range *in.Hosts {
			if why := checkHost(h); why != "" {
				return wrong(objServiceType, "hosts", why)
			}
		}
	}
	if in.AuthTypes != nil {
		if len(*in.AuthTypes) == 0 {
			return unsupported("auth_types", "empty", s.o.AuthTypes)
		}
		for _, a := range *in.AuthTypes {
			if !slices.Contains(s.o.AuthTypes, bindery.AuthType(a)) {
				return unsupported("auth_types", a, s.o.AuthTypes)
			}
		}
	}
	kinds := []bindery.AuthMethodKind{bindery.AuthMethodAPIKey, bindery.AuthMethodHeaders}
	if in.AuthMethod != nil && !slices.Contains(kinds, bindery.AuthMethodKind(*in.AuthMethod)) {
		return unsupported("auth_method", *in.AuthMethod, kinds)
	}
	if creation && !slices.Contains(s.names, *in.Type) {
		return unsupported("type", *in.Type, s.names)
	}
	return nil
}

// ServiceType finds one by its name.
func (s *Service) ServiceType(ctx context.Context, by Caller, name string) (t bindery.ServiceType, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		t, err = serviceType(ctx, tx, by, name)
		return err
	})
	return t, err
}

// UpdateServiceType changes what in names. What stands on a host, an auth type
// or a kind of auth method that it takes away stays, and works again when that
// comes back; until then nobody authenticates by it.
func (s *Service) UpdateServiceType(ctx context.Context, by Caller, name string, in ServiceTypeInput) (t bindery.ServiceType, err error) {
	if err := by.changes(name); err != nil {
		return t, err
	}
	if in.Name != nil {
		if err := by.allowed(*in.Name); err != nil {
			return t, err
		}
		if *in.Name == name {
			in.Name = nil // not a rename: the name may have been reserved since
		}
	}
	now := s.o.Now()
	err = s.change(ctx, by, "update service type", func(tx bindery.Tx, c *change) error {
		if t, err = serviceType(ctx, tx, by, name); err != nil {
			return err
		}
		before := describeType(t)
		if err := s.fillServiceType(&t, in, false); err != nil {
			return err
		}
		t.Revision++
		t.Updated = now
		c.everything, c.what = true, before
		if t.Name != name {
			c.what = fmt.Sprintf("%s, now %q", before, t.Name)
		}
		return tx.ServiceTypes().Save(ctx, t)
	})
	return t, nameTaken(err, t.Name)
}

// DeleteServiceType removes one with its auth methods and bindings.
func (s *Service) DeleteServiceType(ctx context.Context, by Caller, name string) error {
	if err := by.changes(name); err != nil {
		return err
	}
	err := s.change(ctx, by, "delete service type", func(tx bindery.Tx, c *change) error {
		t, err := serviceType(ctx, tx, by, name)
		if err != nil {
			return err
		}
		c.everything, c.what = true, describeType(t)
		return tx.ServiceTypes().Remove(ctx, t.Row)
	})
	if err != nil {
		return err
	}
	select {
	case s.purge <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// ServiceTypes returns a page of those that the caller may see.
func (s *Service) ServiceTypes(ctx context.Context, by Caller, p bindery.Page) (page []bindery.ServiceType, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		var all bool
		if page, all, err = visibleTypes(ctx, tx, by); err != nil || !all {
			return err
		}
		page, err = tx.ServiceTypes().List(ctx, p)
		return err
	})
	if err != nil || by.Services == nil {
		return page, err
	}
	page = slices.DeleteFunc(page, func(t bindery.ServiceType) bool { return t.Row <= p.After })
	return cut(page, p, func(t bindery.ServiceType) int64 { return t.Row }), nil
}

// cut sorts rows, and leaves as many as the page asks for, none twice.
func cut[T any](rows []T, p bindery.Page, row func(T) int64) []T {
	slices.SortFunc(rows, func(a, b T) int { return cmp.Compare(row(a), row(b)) })
	rows = slices.CompactFunc(rows, func(a, b T) bool { return row(a) == row(b) })
	limit := min(max(p.Limit, 0), 1000)
	if limit == 0 {
		limit = 100
	}
	return rows[:min(len(rows), limit)]
}
