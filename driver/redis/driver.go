package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
)

// defaultTimeout bounds a call where the configuration gives no bound.
const defaultTimeout = 10 * time.Second

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:        open,
	CheckServer: func(settings json.RawMessage) error { _, err := parseServerSettings(settings); return err },
	CheckPlan:   func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	Exclusive: func(settings json.RawMessage) bool {
		p, err := parsePlan(settings)
		return err == nil && p.whole()
	},
	Schemas: func(json.RawMessage) (create, update, bind json.RawMessage) {
		return bindery.NoParameters(), bindery.NoParameters(),
			bindery.ObjectSchema(map[string]any{"access": bindery.AccessProperty("What the credential may do.")})
	},
	CredentialSchema: credentialSchema,
	Aliases:          []string{aliasMinibroker, aliasSpring, aliasSteeltoe},
	Tags:             []string{"redis", "cache", "key-value"},
}

// A driver is bindery.Driver for one Redis server.
type driver struct {
	server bindery.Server
	pool   *pool
	saver  *saver
	sweeps sweeps
}

func open(server bindery.Server) (bindery.Driver, error) {
	settings, err := parseServerSettings(server.Settings)
	if err != nil {
		return nil, err
	}
	// Statements carry names unquoted and kill connections by the installation's
	// name: both are safe because of what an id can be.
	if !bindery.IsInstallation(server.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "an installation's id is six of a-z and 0-9")
	}
	if server.Timeout <= 0 {
		server.Timeout = defaultTimeout
	}
	if err := server.CompletePublic(); err != nil {
		return nil, err
	}
	d := &driver{server: server, pool: newPool(server, settings.MaxConnections)}
	d.saver = newSaver(d.pool, server.Timeout)
	return d, nil
}

// rowDigits is what bindery.Name makes of a row.
var rowDigits = regexp.MustCompile(`^[a-z0-9]{1,13}$`)

// checkName refuses names that this installation did not make. Nothing that is
// sent could harm a foreign user or key, whatever defect brought its name here;
// and what passes needs no quoting, in a rule, a pattern or a connection string.
func (d *driver) checkName(name string) error {
	row, ours := strings.CutPrefix(name, bindery.NamePrefix(d.server.Installation))
	if !ours || !rowDigits.MatchString(row) {
		return fmt.Errorf("the name %q is not one of installation %s", name, d.server.Installation)
	}
	return nil
}

// Provision implements [bindery.InstanceDriver]. There is nothing to make: it
// finds out whether the server answers.
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if _, err := d.instance(spec); err != nil {
		return err
	}
	if err := bindery.Settings(nil).Read("parameters", spec.Parameters); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	return d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) { p.Ping(ctx) })
}

// instance checks a spec and returns its plan.
func (d *driver) instance(spec bindery.InstanceSpec) (plan, error) {
	if err := d.checkName(spec.Name); err != nil {
		return plan{}, err
	}
	return parsePlan(spec.Settings)
}

// CanChange implements [bindery.Changer]: keys do not move between servers or prefixes.
func (d *driver) CanChange(from, to bindery.InstanceSpec) error {
	old, err := parsePlan(from.Settings)
	if err != nil {
		return err
	}
	next, err := parsePlan(to.Settings)
	if err != nil {
		return err
	}
	if old.whole() != next.whole() {
		return bindery.Errorf(bindery.CodeUnsupported, "an instance cannot move between a shared and a whole server")
	}
	return nil
}

// Deprovision implements [bindery.InstanceDriver].
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	plan, err := d.instance(spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	if plan.whole() {
		return d.pool.call(ctx, func(p goredis.Pipeliner, s *session) { flushServer(ctx, p, s.facts.version) })
	}
	return d.sweep(ctx, spec.Name)
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
	return newMaterial(access)
}

// details are facts for an operator's eyes; nothing depends on them.
type details struct {
	Server string `json:"server_version"`
}

// Ensure implements [bindery.AccountDriver], in one round trip. Deleting the
// user ends its sessions, and in the same transaction it is made anew: nobody
// sees it missing.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	plan, err := d.instance(spec)
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
	var on version
	err = d.pool.transaction(ctx, func(p goredis.Pipeliner, s *session) {
		on = s.facts.version
		p.Do(ctx, deleteUser(account.Name)...)
		p.Do(ctx, setUser(account.Name, m.Password, plan.prefix(spec.Name), s.facts.rights[rightsKey{
			whole: plan.whole(), readOnly: m.Access == bindery.ReadOnly, scripts: plan.Scripts,
		}])...)
	})
	if err != nil {
		return bindery.Ensured{}, err
	}
	d.saver.soon()
	made, err := json.Marshal(details{Server: on.String()})
	return bindery.Ensured{Details: made}, err
}

// Revoke implements [bindery.AccountDriver]. Deleting a user ends its sessions;
// it is confirmed once a save covers it and it is still away after that.
func (d *driver) Revoke(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) error {
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	err := d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) { p.Do(ctx, deleteUser(account.Name)...) })
	if err != nil {
		return err
	}
	return d.saver.confirm(ctx, account.Name)
}

// Inventory implements [bindery.Driver]. It finds accounts only: an instance is
// nothing but the keys that applications wrote, and to find those is to walk
// through every key of the server.
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	prefix := bindery.NamePrefix(d.server.Installation)
	names, err := d.users(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := yield(bindery.Found{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) users(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	var reply *goredis.Cmd
	err := d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) { reply = p.Do(ctx, listUsers()...) })
	if err != nil {
		return nil, err
	}
	names, err := reply.StringSlice()
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return names, nil
}

// Incarnation implements [bindery.Restarter]: the run id of the server that answers.
func (d *driver) Incarnation(ctx context.Context) (run string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	err = d.pool.call(ctx, func(p goredis.Pipeliner, s *session) {
		run = s.facts.run // of the run that the connection was made to, and ends with
		p.Do(ctx, "HELLO")
	})
	return run, err
}

// Ping implements [bindery.Pinger]. It does what the other calls do, to a user
// that cannot be anybody's, inside a transaction that leaves nothing behind.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	// Names end in a row's digits; no row has an underscore.
	nobody := bindery.NamePrefix(d.server.Installation) + "_ping"
	var hello *goredis.Cmd
	err := d.pool.transaction(ctx, func(p goredis.Pipeliner, s *session) {
		hello = p.Do(ctx, "HELLO")
		p.Do(ctx, setUser(nobody, bindery.NewSecret(""), nobody, nil)...)
		p.Do(ctx, getUser(nobody)...)
		p.Do(ctx, deleteUser(nobody)...)
		p.Do(ctx, killConnection(s.id+1<<40)...)
		p.Do(ctx, selectDatabase(0)...)
		p.Do(ctx, "SCAN", 0, "MATCH", nobody, "COUNT", 1)
		p.Do(ctx, unlinkKeys([]string{nobody})...)
	})
	if err != nil {
		return err
	}
	said := pairs(hello.Val())
	if mode := said["mode"]; mode != "standalone" {
		return bindery.Errorf(bindery.CodeUnavailable, "the Redis server cannot be administered").
			Because(fmt.Errorf("its mode is %v, and only standalone servers are supported", mode))
	}
	if role := said["role"]; role != "master" {
		return bindery.Errorf(bindery.CodeUnavailable, "the Redis server cannot be administered").
			Because(fmt.Errorf("its role is %v; users and keys are made on a master", role))
	}
	return nil
}

// Close implements [bindery.Driver].
func (d *driver) Close() error {
	d.saver.close()
	d.pool.close()
	return nil
}
