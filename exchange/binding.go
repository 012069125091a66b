package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"bindery"
)

// CreateBinding makes a binding. own is the identity that the caller itself
// proved by certificate, whose name is taken where in has no identifier; nil for none.
func (s *Service) CreateBinding(ctx context.Context, by Caller, name string, in BindingInput, own *bindery.Identity) (b bindery.IdentityBinding, err error) {
	if err := by.changes(); err != nil {
		return b, err
	}
	in.Name = &name
	x509 := in.AuthType != nil && *in.AuthType == string(bindery.AuthX509)
	if in.Identifier == nil && own != nil && own.AuthType == bindery.AuthX509 && x509 {
		in.Identifier = &own.Name
	}
	if err := checkBinding(in, true); err != nil {
		return b, err
	}
	row, err := s.store.NewID(ctx)
	if err != nil {
		return b, err
	}
	id, now := uuid.NewString(), s.o.Now()
	err = s.change(ctx, by, "create binding", func(tx bindery.Tx, c *change) error {
		t, err := serviceTypeByUUID(ctx, tx, by, *in.ServiceUUID)
		if err != nil {
			return err
		}
		b = bindery.IdentityBinding{Row: row, UUID: id, ServiceRow: t.Row, ServiceUUID: t.UUID, Revision: 1, Created: now}
		if err := s.fillBinding(&b, &t, in, true); err != nil {
			return err
		}
		c.what, c.keys = describeBinding(b, t), []bindery.IdentityKeys{b.Keys}
		return tx.IdentityBindings().Add(ctx, b)
	})
	return b, bindingTaken(err, b)
}

// checkBinding checks what can be checked without the service type, in the face's order.
func checkBinding(in BindingInput, creation bool) error {
	err := given(objBinding, creation,
		field{"name", in.Name, maxName},
		field{"service_uuid", in.ServiceUUID, maxName},
		field{"host", in.Host, maxName},
		field{"auth_identifier", in.Identifier, maxIdentifier},
		field{"unique_key", in.UniqueKey, maxUniqueKey},
		field{"auth_type", in.AuthType, maxName},
	)
	if err != nil {
		return err
	}
	for _, f := range []field{{name: "name", value: in.Name}, {name: "unique_key", value: in.UniqueKey}} {
		if f.value != nil && unreachable(*f.value) != "" {
			return wrong(objBinding, f.name, unreachable(*f.value))
		}
	}
	return nil
}

// fillBinding writes what was sent to b, which is or will be one of t.
func (s *Service) fillBinding(b *bindery.IdentityBinding, t *bindery.ServiceType, in BindingInput, moved bool) error {
	was := *b
	changed(&b.Name, in.Name)
	changed(&b.Host, in.Host)
	changed(&b.Identifier, in.Identifier)
	changed(&b.UniqueKey, in.UniqueKey)
	changed(&b.Issuer, in.Issuer)
	if in.AuthType != nil {
		b.AuthType = bindery.AuthType(*in.AuthType)
	}
	// What a change does not touch may stand on what the service type no longer has.
	if moved || b.AuthType != was.AuthType {
		if err := supports(t, b.AuthType); err != nil {
			return err
		}
	}
	if (moved || b.Host != was.Host) && !slices.Contains(t.Hosts, b.Host) {
		return errNoHost
	}
	if in.Identifier != nil || b.AuthType != was.AuthType {
		var err error
		if b.Keys, err = s.identifierKeys(b.AuthType, b.Identifier); err != nil {
			return err
		}
	}
	if in.Issuer != nil || b.AuthType != was.AuthType {
		return pin(b)
	}
	return nil
}

// identifierKeys is what a typed identifier means.
func (s *Service) identifierKeys(auth bindery.AuthType, text string) (bindery.IdentityKeys, error) {
	if auth == bindery.AuthOIDC && s.o.OIDCIdentifier != nil {
		var err error
		if text, err = s.o.OIDCIdentifier(text); err != nil {
			if bindery.CodeOf(err) == bindery.CodeInternal {
				err = wrong(objBinding, "auth_identifier", "is not issuer#value of a configured issuer")
			}
			return bindery.IdentityKeys{}, err
		}
	}
	return bindery.IdentifierKeys(auth, text)
}

// pin reads the issuer that the binding is pinned to.
func pin(b *bindery.IdentityBinding) error {
	b.IssuerKey = ""
	if b.Issuer == "" {
		return nil
	}
	if b.AuthType != bindery.AuthX509 {
		return wrong(objBinding, "issuer", "pins the authority of certificates, which this auth_type has none of")
	}
	if why := unfit(b.Issuer, maxIdentifier); why != "" {
		return wrong(objBinding, "issuer", why)
	}
	d, err := bindery.ParseDN(b.Issuer)
	if err != nil {
		return wrong(objBinding, "issuer", "is not a distinguished name")
	}
	b.IssuerKey = d.Key()
	return nil
}

func bindingTaken(err error, b bindery.IdentityBinding) error {
	if errors.Is(err, bindery.ErrIdentifierTaken) {
		return taken(err, bindery.ErrIdentifierTaken, "binding object with auth_identifier: %s already exists", b.Identifier)
	}
	return taken(err, bindery.ErrNameTaken, "binding object with name: %s already exists", b.Name)
}

func describeBinding(b bindery.IdentityBinding, t bindery.ServiceType) string {
	return fmt.Sprintf("binding %q (%s) of service type %q on host %q", b.Name, b.UUID, t.Name, b.Host)
}

// binding finds one for a caller, with its service type.
func binding(ctx context.Context, tx bindery.Tx, by Caller, name string) (b bindery.IdentityBinding, t bindery.ServiceType, err error) {
	b, err = tx.IdentityBindings().ByName(ctx, name)
	if b, err = found(b, err, errNoBinding); err != nil {
		return b, t, err
	}
	t, err = tx.ServiceTypes().Get(ctx, b.ServiceRow)
	if t, err = found(t, err, errNoBinding); err != nil {
		return b, t, err
	}
	return b, t, by.allowed(t.Name)
}

// Binding finds one by its name.
func (s *Service) Binding(ctx context.Context, by Caller, name string) (b bindery.IdentityBinding, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		b, _, err = binding(ctx, tx, by, name)
		return err
	})
	return b, err
}

// UpdateBinding changes what in names.
func (s *Service) UpdateBinding(ctx context.Context, by Caller, name string, in BindingInput) (b bindery.IdentityBinding, err error) {
	if err := by.changes(); err != nil {
		return b, err
	}
	now := s.o.Now()
	err = s.change(ctx, by, "update binding", func(tx bindery.Tx, c *change) error {
		var t bindery.ServiceType
		if b, t, err = binding(ctx, tx, by, name); err != nil {
			return err
		}
		if err := checkBinding(in, false); err != nil {
			return err
		}
		before := b
		c.what = describeBinding(b, t)
		if in.ServiceUUID != nil {
			if t, err = serviceTypeByUUID(ctx, tx, by, *in.ServiceUUID); err != nil {
				return err
			}
		}
		if err := s.fillBinding(&b, &t, in, t.Row != before.ServiceRow); err != nil {
			return err
		}
		b.ServiceRow, b.ServiceUUID = t.Row, t.UUID
		b.Revision++
		b.Updated = now
		if b.Name != before.Name || b.Host != before.Host || b.ServiceRow != before.ServiceRow {
			c.what += ", now " + describeBinding(b, t)
		}
		c.keys = []bindery.IdentityKeys{before.Keys, b.Keys}
		return tx.IdentityBindings().Save(ctx, b)
	})
	return b, bindingTaken(err, b)
}

// DeleteBinding removes one.
func (s *Service) DeleteBinding(ctx context.Context, by Caller, name string) error {
	if err := by.changes(); err != nil {
		return err
	}
	return s.change(ctx, by, "delete binding", func(tx bindery.Tx, c *change) error {
		b, t, err := binding(ctx, tx, by, name)
		if err != nil {
			return err
		}
		c.what, c.keys = describeBinding(b, t), []bindery.IdentityKeys{b.Keys}
		return tx.IdentityBindings().Remove(ctx, b.Row)
	})
}

// Bindings returns a page of those that the caller may see.
func (s *Service) Bindings(ctx context.Context, by Caller, p bindery.Page) (page []bindery.IdentityBinding, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		rows, all, err := visible(ctx, tx, by)
		page = nil
		if err != nil || !all && len(rows) == 0 {
			return err
		}
		page, err = tx.IdentityBindings().List(ctx, bindery.IdentityBindingFilter{Services: rows}, p)
		return err
	})
	return page, err
}

// BindingsOf returns a page of those of a service type on a host; with an
// identifier, those that it means, in any spelling. CodeNotFound where the
// service type or host is unknown, and where nothing has the identifier.
func (s *Service) BindingsOf(ctx context.Context, by Caller, service, host, identifier string, p bindery.Page) (page []bindery.IdentityBinding, err error) {
	var keys []bindery.IdentityKeys
	if identifier != "" {
		for _, auth := range []bindery.AuthType{bindery.AuthX509, bindery.AuthOIDC} {
			if k, err := s.identifierKeys(auth, identifier); err == nil {
				keys = append(keys, k)
			}
		}
	}
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		page = nil
		t, err := serviceType(ctx, tx, by, service)
		if err != nil {
			return err
		}
		if !slices.Contains(t.Hosts, host) {
			return errNoHost
		}
		f := bindery.IdentityBindingFilter{Services: []int64{t.Row}, Host: host}
		if identifier == "" {
			page, err = tx.IdentityBindings().List(ctx, f, p)
			return err
		}
		for _, f.Keys = range keys {
			some, err := tx.IdentityBindings().List(ctx, f, p)
			if err != nil {
				return err
			}
			page = append(page, some...)
		}
		return nil
	})
	if err != nil || identifier == "" {
		return page, err
	}
	if page = cut(page, p, func(b bindery.IdentityBinding) int64 { return b.Row }); len(page) == 0 && p.After == 0 {
		return nil, errNoBinding
	}
	return page, nil
}
