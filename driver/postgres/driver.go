// Package postgres makes databases and login roles on a PostgreSQL server.
//
// An instance is a database with two groups, roles that cannot log in: one, of
// the same name, owns everything in the database, the other may read it. A
// binding is a role that can log in, is a member of one of the two, and acts as
// that from the beginning of each session:
//
//	database bdy_…_5 ◄─connects─ group bdy_…_5    ◄─member, acts as─ login bdy_…_7
//	   tables…       ◄─owns──────┘                ◄─member, acts as─ login bdy_…_8
//	                 ◄─reads──── group bdy_…_5_ro ◄─member, acts as─ login bdy_…_9
//
// So the cost of a binding does not depend on how many there are, what one
// binding made is everybody's, and a role can be dropped because nothing belongs
// to it. A client that leaves its group (SET ROLE NONE) can undo that for what
// it makes then; see Revoke.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"bindery"
)

type driver struct {
	pool    *pool
	locks   bindery.NameLocks
	prefix  string         // of the names of this installation
	name    *regexp.Regexp // what those names are
	public  bindery.PublicAddress
	timeout time.Duration

	removals removals
}

const defaultTimeout = 30 * time.Second

// oldestVersion is the oldest version that this is written for.
const oldestVersion = 12

func open(s bindery.Server) (bindery.Driver, error) {
	settings, err := parseServer(s.Settings)
	if err != nil {
		return nil, err
	}
	if !bindery.IsInstallation(s.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "an installation's id is six of a-z and 0-9")
	}
	if err := s.CompletePublic(); err != nil {
		return nil, err
	}
	d := &driver{
		prefix:  bindery.NamePrefix(s.Installation),
		public:  s.Public,
		timeout: s.Timeout,
	}
	d.name = regexp.MustCompile(`^` + regexp.QuoteMeta(d.prefix) + `[a-z0-9]{1,20}$`)
	if d.timeout <= 0 {
		d.timeout = defaultTimeout
	}
	config, err := newConfig(connOptions{
		address: s.Address, user: s.Username, password: s.Password,
		database: settings.Database, tls: s.TLS, timeout: d.timeout,
	})
	if err != nil {
		return nil, err
	}
	d.removals.send, d.removals.timeout = d.remove, d.timeout
	d.pool = newPool(config, s.Installation, prepareLook(d.prefix), settings.Connections)
	return d, nil
}

// Close implements [bindery.Driver].
func (d *driver) Close() error {
	d.pool.close()
	return nil
}

// begin bounds a call, and waits for earlier ones for the same name.
func (d *driver) begin(ctx context.Context, name string) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, func() { unlock(); cancel() }, nil
}

// checkName refuses what is not a name of this installation: nothing else on the
// server may be touched, whatever goes wrong before.
func (d *driver) checkName(name string) error {
	if !d.name.MatchString(name) {
		return fmt.Errorf("%q is not a name of this installation", name)
	}
	return nil
}

// Inventory implements [bindery.Driver]. Groups are part of their instance; a
// group without a database is what is left of one.
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, inventory(d.prefix))
	if err != nil {
		return failed("list databases and roles", err)
	}
	instances := map[string]bool{}
	var roles []string
	for _, row := range results[0].Rows {
		instances[string(row[0])] = true
	}
	for _, row := range results[1].Rows {
		role := string(row[0])
		if group, ok := ofReaders(role); ok {
			instances[group] = true
		} else {
			roles = append(roles, role)
		}
	}
	for name := range instances {
		if err := yield(bindery.Found{Name: name, Instance: true}); err != nil {
			return err
		}
	}
	for _, name := range roles {
		if instances[name] {
			continue
		}
		if err := yield(bindery.Found{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// Incarnation implements [bindery.Restarter]: when the server that answers was started.
func (d *driver) Incarnation(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, incarnation)
	if err != nil {
		return "", failed("look at the server", err)
	}
	return string(results[0].Rows[0][0]), nil
}

// Ping implements [bindery.Pinger]: the server answers, is new enough, and was
// set up for Bindery.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, ping)
	if err != nil {
		return failed("ping", err)
	}
	row, open := results[0].Rows[0], number(results[1].Rows[0][0])
	var problems []string
	for _, rule := range []struct {
		broken bool
		why    string
	}{
		{number(row[0]) < oldestVersion*10000, fmt.Sprintf("the server is older than PostgreSQL %d", oldestVersion)},
		{string(row[1]) != "t", "Bindery's role needs CREATEROLE and CREATEDB"},
		{string(row[2]) != "t", "Bindery's role needs to be a member of pg_signal_backend"},
		{open > 0, fmt.Sprintf("PUBLIC may connect to %d databases, and so may every binding", open)},
	} {
		if rule.broken {
			problems = append(problems, rule.why)
		}
	}
	if len(problems) > 0 {
		return bindery.Errorf(bindery.CodeUnavailable, "the database server is not set up for Bindery").
			Because(errors.New(strings.Join(problems, "; ")))
	}
	return nil
}
