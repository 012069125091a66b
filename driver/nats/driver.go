package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"

	"bindery"
)

// defaultTimeout bounds a call where the configuration gives no bound.
const defaultTimeout = 10 * time.Second

// A driver is bindery.Driver for one NATS server.
type driver struct {
	server  bindery.Server
	secrets secrets
	link    *link
	lines   lines
	life    context.Context //nolint:containedctx // of what goes on when its caller has given up
	end     context.CancelFunc
}

func open(server bindery.Server) (bindery.Driver, error) {
	if err := bindery.Settings(nil).Read("server settings", server.Settings); err != nil {
		return nil, err
	}
	// Subjects and the names of connections carry it.
	if !bindery.IsInstallation(server.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "an installation's id is six of a-z and 0-9")
	}
	if server.Timeout <= 0 {
		server.Timeout = defaultTimeout
	}
	if err := server.CompletePublic(); err != nil {
		return nil, err
	}
	var err error
	d := &driver{server: server}
	if d.secrets, err = parseSecrets(server.Password, server.Secrets); err != nil {
		return nil, err
	}
	if d.link, err = newLink(server, d.secrets); err != nil {
		return nil, err
	}
	d.lines.of = map[string]*line{}
	d.life, d.end = context.WithCancel(context.Background())
	return d, nil
}

// checkName refuses names that this installation did not make.
func (d *driver) checkName(name string) error {
	if !bindery.IsName(d.server.Installation, name) {
		return fmt.Errorf("the name %.63q is not one of installation %s", name, d.server.Installation)
	}
	return nil
}

// instance checks a spec and returns its plan.
func (d *driver) instance(spec bindery.InstanceSpec) (plan, error) {
	if err := d.checkName(spec.Name); err != nil {
		return plan{}, err
	}
	return parsePlan(spec.Settings)
}

// Provision implements [bindery.InstanceDriver].
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	p, err := d.instance(spec)
	if err != nil {
		return err
	}
	if err := bindery.Settings(nil).Read("parameters", spec.Parameters); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	return d.change(ctx, spec.Name, &change{apply: func(c *jwt.AccountClaims, exists bool) (bool, error) {
		return setLimits(c, p) || !exists, nil
	}})
}

// CanChange implements [bindery.Changer]: a plan without streams would leave those
// that there are where nobody can reach or remove them.
func (d *driver) CanChange(from, to bindery.InstanceSpec) error {
	old, err := parsePlan(from.Settings)
	if err != nil {
		return err
	}
	next, err := parsePlan(to.Settings)
	if err != nil {
		return err
	}
	if old.JetStream != nil && next.JetStream == nil {
		return bindery.Errorf(bindery.CodeUnsupported, "an instance with JetStream cannot move to a plan without")
	}
	return nil
}

// Deprovision implements [bindery.InstanceDriver].
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	return d.change(ctx, spec.Name, &change{remove: true})
}

// Prepare implements [bindery.AccountDriver].
func (d *driver) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	if err := d.checkName(req.Name); err != nil {
		return bindery.Secret{}, err
	}
	if _, err := d.instance(spec); err != nil {
		return bindery.Secret{}, err
	}
	access, err := bindery.ReadAccess(req.Parameters)
	if err != nil {
		return bindery.Secret{}, err
	}
	return newMaterial(spec.Name, req.Name, access, req.Expires)
}

// details are facts for an operator's eyes; nothing depends on them.
type details struct {
	Account string `json:"account"`
	User    string `json:"user"`
	Signer  string `json:"signing_key"`
}

// Ensure implements [bindery.AccountDriver]. An instance that the server has lost is
// made again.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	p, err := d.instance(spec)
	if err != nil {
		return bindery.Ensured{}, err
	}
	if err := d.checkName(account.Name); err != nil {
		return bindery.Ensured{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Ensured{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	err = d.change(ctx, spec.Name, &change{apply: func(c *jwt.AccountClaims, exists bool) (bool, error) {
		if !slices.Contains(bindings(c), account.Name) && int64(len(c.SigningKeys)) >= p.Bindings {
			return false, errFull
		}
		if !exists {
			setLimits(c, p)
		}
		allow(c, account.Name, m)
		return true, nil
	}})
	if err != nil {
		return bindery.Ensured{}, err
	}
	made, err := json.Marshal(details{Account: m.claims.IssuerAccount, User: m.claims.Subject, Signer: m.signer()})
	return bindery.Ensured{Details: made}, err
}

// Revoke implements [bindery.AccountDriver].
func (d *driver) Revoke(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) error {
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	if spec.Name != "" {
		if err := d.checkName(spec.Name); err != nil {
			return err
		}
		return d.forbid(ctx, account.Name, []string{spec.Name})
	}
	// What this process has under way could make it again after a look at the server.
	if err := d.forbid(ctx, account.Name, d.lines.active()); err != nil {
		return err
	}
	all, err := d.walk(ctx)
	if err != nil {
		return err
	}
	var instances []string
	for _, h := range all {
		if slices.Contains(h.bindings, account.Name) {
			instances = append(instances, h.instance)
		}
	}
	return d.forbid(ctx, account.Name, instances)
}

func (d *driver) forbid(ctx context.Context, name string, instances []string) error {
	for _, instance := range instances {
		err := d.change(ctx, instance, &change{
			ends:  true,
			apply: func(c *jwt.AccountClaims, _ bool) (bool, error) { return forbid(c, name), nil },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A holding is an instance that the server has.
type holding struct {
	instance string
	bindings []string
}

// walk returns what this installation has. Nobody writes meanwhile: a server that is
// writing an account does not list it.
func (d *driver) walk(ctx context.Context) (all []holding, err error) {
	err = again(ctx, func() error {
		all = nil
		c, err := d.link.own(ctx)
		if err != nil {
			return err
		}
		defer c.leave()
		return c.walk(ctx, func(claims *jwt.AccountClaims) {
			key, err := accountKey(claims.Name)
			if err == nil && key == claims.Subject && d.checkName(claims.Name) == nil {
				all = append(all, holding{claims.Name, bindings(claims)})
			}
		})
	})
	return all, err
}

// Inventory implements [bindery.Driver].
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	within, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	all, err := d.walk(within)
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := yield(bindery.Found{Name: h.instance, Instance: true}); err != nil {
			return err
		}
		for _, name := range h.bindings {
			if d.checkName(name) != nil {
				continue
			}
			if err := yield(bindery.Found{Name: name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Incarnation implements [bindery.Restarter]: the id that the server took when it started.
func (d *driver) Incarnation(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	err = again(ctx, func() error {
		c, err := d.link.get(ctx)
		if err != nil {
			return err
		}
		id = c.server
		if err := c.nc.FlushWithContext(ctx); err != nil {
			return c.failed(ctx, "ping", err)
		}
		return nil
	})
	return id, err
}

// Ping implements [bindery.Pinger]. It does what the other calls do, with what changes nothing.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	return again(ctx, func() error {
		c, err := d.link.get(ctx)
		if err != nil {
			return err
		}
		return c.try(ctx, d.secrets.Operator)
	})
}

// Close implements [bindery.Driver].
func (d *driver) Close() error {
	d.lines.mu.Lock()
	d.lines.closed = true
	d.lines.mu.Unlock()
	d.end()
	d.link.close()
	d.lines.running.Wait()
	return nil
}
