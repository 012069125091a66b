package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"bindery"
)

// defaultTimeout bounds a call where the configuration gives no bound.
const defaultTimeout = 10 * time.Second

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:             open,
	CheckServer:      func(settings json.RawMessage) error { _, err := parseServerSettings(settings); return err },
	CheckPlan:        func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	CheckSecrets:     checkSecrets,
	Revocation:       revocation,
	CredentialSchema: credentialSchema,
	Schemas:          schemas,
	Aliases:          []string{aliasSpring, aliasSteeltoe},
	Tags:             []string{"oauth2", "oauth", "oidc"},
}

// A driver is bindery.Driver for one authorization server.
type driver struct {
	server        bindery.Server
	settings      serverSettings
	client        *client
	discovery     discovery
	registrations registrations
}

func open(server bindery.Server) (bindery.Driver, error) {
	settings, err := parseServerSettings(server.Settings)
	if err != nil {
		return nil, err
	}
	if err := checkSecrets(server.Password, server.Secrets); err != nil {
		return nil, err
	}
	if !bindery.IsInstallation(server.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "an installation's id is six of a-z and 0-9")
	}
	if settings.Issuer.Scheme == "http" && server.TLS != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "tls makes no sense with an issuer that begins with http://")
	}
	if server.Timeout <= 0 {
		server.Timeout = defaultTimeout
	}
	d := &driver{server: server, settings: settings, client: newClient(server, settings.Issuer, settings.MaxConnections)}
	d.registrations.open()
	return d, nil
}

// checkName refuses names that this installation did not make.
func (d *driver) checkName(name string) error {
	if !bindery.IsName(d.server.Installation, name) {
		return fmt.Errorf("the name %.63q is not one of installation %s", name, d.server.Installation)
	}
	return nil
}

// Provision implements [bindery.InstanceDriver]. There is nothing to make: it
// finds out whether the server answers.
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if _, err := d.plan(spec); err != nil {
		return err
	}
	if err := bindery.Settings(nil).Read("parameters", spec.Parameters); err != nil {
		return err
	}
	return d.Ping(ctx)
}

func (d *driver) plan(spec bindery.InstanceSpec) (plan, error) {
	if err := d.checkName(spec.Name); err != nil {
		return plan{}, err
	}
	return parsePlan(spec.Settings)
}

// Deprovision implements [bindery.InstanceDriver]. There is nothing to remove.
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	return ctx.Err()
}

// Inventory implements [bindery.Driver]. RFC 7591 and RFC 7592 have no way to
// list clients.
func (d *driver) Inventory(context.Context, func(bindery.Found) error) error {
	return bindery.ErrNoInventory
}

// Ping implements [bindery.Pinger]. It does not try the initial access token:
// that would register a client.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	_, err := d.discoverAnew(ctx)
	return err
}

// Close implements [bindery.Driver].
func (d *driver) Close() error {
	d.registrations.close()
	d.client.close()
	return nil
}
