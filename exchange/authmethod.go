package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bindery"
)

// hidden is what stands for a secret that is not shown. In an update it means
// that the secret stays.
const hidden = "***"

// A material is what an auth method's secret holds.
type material struct {
	AccessKey string            `json:"access_key,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
}

func (m material) seal() bindery.Secret {
	b, err := json.Marshal(m) //nolint:gosec // what is made is a Secret
	if err != nil {
		panic(err) // texts always marshal
	}
	return bindery.NewSecret(string(b))
}

func unseal(s bindery.Secret) (m material, err error) {
	if s.Empty() {
		return m, nil
	}
	if json.Unmarshal([]byte(s.Reveal()), &m) != nil {
		// The cause could quote the secret.
		return m, bindery.Errorf(bindery.CodeInternal, "an auth method's material is not understood")
	}
	return m, nil
}

// shown is an auth method as the caller may see it.
func (s *Service) shown(by Caller, m bindery.AuthMethod) (bindery.AuthMethod, error) {
	if !by.ReadOnly && !s.o.HideSecrets {
		return m, nil
	}
	mat, err := unseal(m.Material)
	if err != nil {
		return m, err
	}
	if mat.AccessKey != "" {
		mat.AccessKey = hidden
	}
	for k := range mat.Headers {
		mat.Headers[k] = hidden
	}
	m.Material = mat.seal()
	return m, nil
}

// CreateAuthMethod makes the auth method of a host, which in names.
func (s *Service) CreateAuthMethod(ctx context.Context, by Caller, service string, in AuthMethodInput) (m bindery.AuthMethod, err error) {
	if err := by.changes(service); err != nil {
		return m, err
	}
	row, err := s.store.NewID(ctx)
	if err != nil {
		return m, err
	}
	id, now := uuid.NewString(), s.o.Now()
	err = s.change(ctx, by, "create auth method", func(tx bindery.Tx, c *change) error {
		t, err := serviceType(ctx, tx, by, service)
		if err != nil {
			return err
		}
		m = bindery.AuthMethod{Row: row, UUID: id, ServiceRow: t.Row, ServiceUUID: t.UUID, Revision: 1, Created: now}
		if err := fillAuthMethod(&m, &t, in, true); err != nil {
			return err
		}
		if !slices.Contains(t.Hosts, m.Host) {
			return errNoHost
		}
		c.everything, c.what = true, describeMethod(m, t)
		return tx.AuthMethods().Add(ctx, m)
	})
	if err != nil {
		return m, hostTaken(err, m.Host)
	}
	return s.shown(by, m)
}

func hostTaken(err error, host string) error {
	if bindery.CodeOf(err) == bindery.CodeConflict {
		return bindery.Errorf(bindery.CodeConflict, "Auth method object with host: %s already exists", host).Because(err)
	}
	return err
}

func describeMethod(m bindery.AuthMethod, t bindery.ServiceType) string {
	return fmt.Sprintf("auth method %s of service type %q on host %q", m.UUID, t.Name, m.Host)
}

// fillAuthMethod checks what was sent and writes it to m, which is or will be
// one of t.
func fillAuthMethod(m *bindery.AuthMethod, t *bindery.ServiceType, in AuthMethodInput, creation bool) error {
	if (creation && in.Port == nil) || (in.Port != nil && *in.Port == 0) {
		return empty(objAuthMethod, "port")
	}
	if (creation && in.Host == nil) || (in.Host != nil && *in.Host == "") {
		return empty(objAuthMethod, "host")
	}
	mat, err := newMaterial(m, t.AuthMethod, in)
	if err != nil {
		return err
	}
	if in.Port != nil && (*in.Port < 1 || *in.Port > 65535) {
		return wrong(objAuthMethod, "port", "is not between 1 and 65535")
	}
	changed(&m.Port, in.Port)
	changed(&m.Host, in.Host)
	m.Kind, m.Material = t.AuthMethod, mat
	return nil
}

// newMaterial is what was sent, with what it leaves as it was, if that is of
// the kind that the service type has.
func newMaterial(m *bindery.AuthMethod, kind bindery.AuthMethodKind, in AuthMethodInput) (bindery.Secret, error) {
	var old material
	if m.Kind == kind {
		var err error
		if old, err = unseal(m.Material); err != nil {
			return bindery.Secret{}, err
		}
	}
	if kind == bindery.AuthMethodAPIKey {
		key := old.AccessKey
		if in.AccessKey != nil && *in.AccessKey != hidden {
			key = *in.AccessKey
		}
		if key == "" {
			return bindery.Secret{}, empty(objAuthMethod, "access_key")
		}
		if why := unfit(key, maxMaterial); why != "" {
			return bindery.Secret{}, wrong(objAuthMethod, "access_key", why)
		}
		return material{AccessKey: key}.seal(), nil
	}
	headers := old.Headers
	if in.Headers != nil {
		var err error
		if headers, err = newHeaders(old.Headers, *in.Headers); err != nil {
			return bindery.Secret{}, err
		}
	}
	if len(headers) == 0 {
		return bindery.Secret{}, empty(objAuthMethod, "headers")
	}
	return material{Headers: headers}.seal(), nil
}

func newHeaders(old, sent map[string]string) (map[string]string, error) {
	headers, size, seen := make(map[string]string, len(sent)), 0, make(map[string]bool, len(sent))
	for name, value := range sent {
		if value == hidden {
			if value = old[name]; value == "" {
				return nil, empty(objAuthMethod, "headers")
			}
		}
		if !isToken(name) {
			return nil, wrong(objAuthMethod, "headers", "has a name that is none of a header")
		}
		same := http.CanonicalHeaderKey(name)
		if seen[same] {
			return nil, wrong(objAuthMethod, "headers", "has one header twice")
		}
		seen[same] = true
		size += len(name) + len(value)
		if why := unfit(value, maxMaterial); why != "" || size > maxMaterial || same == "Host" && !isHost(value) {
			return nil, wrong(objAuthMethod, "headers", "has a value that no header can carry")
		}
		headers[name] = value
	}
	return headers, nil
}

const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// isHost reports whether net/http sends this as the Host of a request. One that it does
// not would count as failures of the host, and open its breaker for others.
func isHost(s string) bool { return strings.Trim(s, letters+"-._~:[]") == "" }

// isToken is RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, letters+"!#$%&'*+-.^_`|~") == ""
}

// authMethod finds one, which may stand on a host that its service type had: how
// else could it be removed.
func authMethod(ctx context.Context, tx bindery.Tx, by Caller, service, host string) (t bindery.ServiceType, m bindery.AuthMethod, err error) {
	if t, err = serviceType(ctx, tx, by, service); err != nil {
		return t, m, err
	}
	missing := errNoHost
	if slices.Contains(t.Hosts, host) {
		missing = errNoAuthMethod
	}
	m, err = tx.AuthMethods().ByHost(ctx, t.Row, host)
	m, err = found(m, err, missing)
	return t, m, err
}

// AuthMethod finds the one of a host.
func (s *Service) AuthMethod(ctx context.Context, by Caller, service, host string) (m bindery.AuthMethod, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		_, m, err = authMethod(ctx, tx, by, service, host)
		return err
	})
	if err != nil {
		return m, err
	}
	return s.shown(by, m)
}

// UpdateAuthMethod changes what in names. It becomes of the kind that its
// service type has.
func (s *Service) UpdateAuthMethod(ctx context.Context, by Caller, service, host string, in AuthMethodInput) (m bindery.AuthMethod, err error) {
	if err := by.changes(service); err != nil {
		return m, err
	}
	now := s.o.Now()
	err = s.change(ctx, by, "update auth method", func(tx bindery.Tx, c *change) error {
		var t bindery.ServiceType
		if t, m, err = authMethod(ctx, tx, by, service, host); err != nil {
			return err
		}
		c.everything, c.what = true, describeMethod(m, t)
		if in.ServiceUUID != nil {
			if *in.ServiceUUID == "" {
				return empty(objAuthMethod, "service_uuid")
			}
			if t, err = serviceTypeByUUID(ctx, tx, by, *in.ServiceUUID); err != nil {
				return err
			}
		}
		moved := t.Row != m.ServiceRow || in.Host != nil && *in.Host != m.Host
		if s.o.HideSecrets && in.leads(m) && in.keeps(t.AuthMethod) {
			return errKept
		}
		if err := fillAuthMethod(&m, &t, in, false); err != nil {
			return err
		}
		if moved && !slices.Contains(t.Hosts, m.Host) {
			return errNoHost
		}
		if moved {
			c.what += fmt.Sprintf(", now of %q on %q", t.Name, m.Host)
		}
		m.ServiceRow, m.ServiceUUID = t.Row, t.UUID
		m.Revision++
		m.Updated = now
		return tx.AuthMethods().Save(ctx, m)
	})
	if err != nil {
		return m, hostTaken(err, m.Host)
	}
	return s.shown(by, m)
}

// errKept refuses to send a secret elsewhere that its sender may not see: a server of
// their own would tell it to them.
var errKept = invalid("%s object has another host or port. Where secrets are hidden, it needs its access_key or headers anew", objAuthMethod)

// keeps reports whether the secret of an auth method of this kind stays, or a part of it.
func (in AuthMethodInput) keeps(kind bindery.AuthMethodKind) bool {
	if kind == bindery.AuthMethodAPIKey {
		return in.AccessKey == nil || *in.AccessKey == hidden
	}
	return in.Headers == nil || slices.Contains(slices.Collect(maps.Values(*in.Headers)), hidden)
}

// leads reports whether the secret of m would be sent elsewhere.
func (in AuthMethodInput) leads(m bindery.AuthMethod) bool {
	return in.Host != nil && *in.Host != m.Host || in.Port != nil && *in.Port != m.Port
}

// DeleteAuthMethod removes the one of a host.
func (s *Service) DeleteAuthMethod(ctx context.Context, by Caller, service, host string) error {
	if err := by.changes(service); err != nil {
		return err
	}
	return s.change(ctx, by, "delete auth method", func(tx bindery.Tx, c *change) error {
		t, m, err := authMethod(ctx, tx, by, service, host)
		if err != nil {
			return err
		}
		c.everything, c.what = true, describeMethod(m, t)
		return tx.AuthMethods().Remove(ctx, m.Row)
	})
}

// AuthMethods returns a page of those that the caller may see.
func (s *Service) AuthMethods(ctx context.Context, by Caller, p bindery.Page) (page []bindery.AuthMethod, err error) {
	err = s.store.View(ctx, func(tx bindery.Tx) error {
		rows, all, err := visible(ctx, tx, by)
		page = nil
		if err != nil || !all && len(rows) == 0 {
			return err
		}
		page, err = tx.AuthMethods().List(ctx, rows, p)
		return err
	})
	for i := range page {
		if err == nil {
			page[i], err = s.shown(by, page[i])
		}
	}
	return page, err
}
