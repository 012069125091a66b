package mtls

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"bindery"
)

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:         open,
	CheckServer:  func(settings json.RawMessage) error { _, err := parseServerSettings(settings); return err },
	CheckPlan:    func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	CheckSecrets: checkSecrets,
	Local:        true,
	Schemas: func(settings json.RawMessage) (create, update, bind json.RawMessage) {
		return bindery.NoParameters(), bindery.NoParameters(), bindingSchema(settings)
	},
	CredentialSchema: credentialSchema,
	Tags:             []string{"mtls", "tls", "x509", "certificate"},
}

// A driver is bindery.Driver for one authority.
type driver struct {
	server   bindery.Server
	settings serverSettings
	given    *authority // from files; nil: it is made here
	now      func() time.Time

	known    atomic.Pointer[authority]
	rendered atomic.Pointer[chain] // of the last credential
	lists    lists
	ocsp     responder
}

// open does no I/O. A driver without a store can be checked, and does nothing.
func open(server bindery.Server) (bindery.Driver, error) {
	settings, err := parseServerSettings(server.Settings)
	if err != nil {
		return nil, err
	}
	if err := checkSecrets(server.Password, server.Secrets); err != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "%v", err)
	}
	given, err := givenAuthority(server.Secrets)
	if err != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "%v", err)
	}
	if !bindery.IsInstallation(server.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "the installation id must be 6 characters out of a-z and 0-9")
	}
	d := &driver{server: server, settings: settings, given: given, now: time.Now}
	d.lists.turn = make(chan struct{}, 1)
	d.ocsp.open()
	return d, nil
}

// Close implements [bindery.Driver].
func (*driver) Close() error { return nil }

// bounded bounds a call.
func (d *driver) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.server.Timeout)
}

// storeError keeps what a store says that does not answer from looking like an answer.
func storeError(err error) error {
	if bindery.CodeOf(err) == bindery.CodeUnavailable {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return bindery.Errorf(bindery.CodeUnavailable, "the store did not answer in time").Because(err)
	}
	return err
}

func (d *driver) checkName(name string) error {
	if !bindery.IsName(d.server.Installation, name) {
		return bindery.Errorf(bindery.CodeInvalid, "the name is not one of this installation's")
	}
	return nil
}

// ready reports whether the store answers and the authority can sign.
func (d *driver) ready(ctx context.Context) error {
	if d.known.Load() != nil { // which needs no store, and the call must not seem to have reached it
		if _, err := d.keptAuthority(ctx); err != nil {
			return storeError(err)
		}
	}
	a, err := d.authority(ctx)
	if err == nil && d.now().After(a.cert.NotAfter) {
		err = errExpired
	}
	return err
}

// Provision implements [bindery.InstanceDriver]. An instance is nothing but a name that
// stands in its certificates.
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	if err := bindery.Settings(nil).Read("parameters", spec.Parameters); err != nil {
		return err
	}
	if _, err := parsePlan(spec.Settings); err != nil {
		return err
	}
	return d.ready(ctx)
}

// Deprovision implements [bindery.InstanceDriver].
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	return storeError(ctx.Err())
}

// Ping implements [bindery.Pinger].
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	return d.ready(ctx)
}

const page = 1000

// each calls f for all certificates, page by page, in one transaction or in several.
func (d *driver) each(ctx context.Context, view func(func(bindery.Tx) error) error, revoked bool, after time.Time, f func(bindery.IssuedCertificate) error) error {
	for p := (bindery.Page{Limit: page}); ; {
		var found []bindery.IssuedCertificate
		err := view(func(tx bindery.Tx) (err error) {
			found, err = tx.Certificates().List(ctx, d.server.Name, revoked, after, p)
			return err
		})
		if err != nil {
			return storeError(err)
		}
		for _, c := range found {
			if err := f(c); err != nil {
				return err
			}
		}
		if len(found) < page {
			return nil
		}
		p.After = found[page-1].Row
	}
}

// Inventory implements [bindery.Driver]: the names whose certificate is neither revoked nor expired.
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	view := func(f func(bindery.Tx) error) error { return d.server.Store.View(ctx, f) }
	seen := make(map[string]bool)
	return d.each(ctx, view, false, d.now(), func(c bindery.IssuedCertificate) error {
		if seen[c.Name] || !bindery.IsName(d.server.Installation, c.Name) {
			return nil
		}
		seen[c.Name] = true
		return yield(bindery.Found{Name: c.Name})
	})
}
