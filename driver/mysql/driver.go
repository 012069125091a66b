// Package mysql makes databases and accounts on a MariaDB or MySQL server.
//
// An instance is a database, and an account of the same name that nobody can log
// in to: what is stored in the database and runs with its maker's rights (views,
// routines, triggers, events) is given to it when the maker goes. A binding is an
// account with rights on the database:
//
//	database bdy_…_5 ◄─all rights─ bdy_…_5@0.0.0.0, the definer, locked
//	   views…         ◄─all rights─ bdy_…_7@%, a binding
//	   tables…        ◄─reads────── bdy_…_8@%, a binding
//
// Tables belong to nobody here, so only what has a definer has to be moved.
//
// Account statements commit by themselves (they are no part of any
// transaction): whatever needs several of them can stop after each, and is
// repeated from the beginning.
package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bindery"
)

type driver struct {
	pool         *pool
	locks        bindery.NameLocks
	installation string
	public       bindery.PublicAddress
	timeout      time.Duration
}

const defaultTimeout = 30 * time.Second

// The oldest versions that this is written for: with all privileges that Bindery
// needs by name.
const (
	oldestMariaDB = "10.5.2"
	oldestMySQL   = "8.0.20"
)

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
	d := &driver{installation: s.Installation, public: s.Public, timeout: s.Timeout}
	if d.timeout <= 0 {
		d.timeout = defaultTimeout
	}
	options := connOptions{
		address: s.Address, user: s.Username, password: s.Password, tls: s.TLS,
		timeout: d.timeout, size: settings.Connections,
	}
	if _, err := options.config(); err != nil {
		return nil, err
	}
	d.pool = newPool(options, s.Installation)
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
	if !bindery.IsName(d.installation, name) {
		return fmt.Errorf("%q is not a name of this installation", name)
	}
	return nil
}

// Inventory implements [bindery.Driver]. A definer is part of its instance; one
// without a database is what is left of one.
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, inventory(bindery.NamePrefix(d.installation)))
	if err != nil {
		return failed("list databases and accounts", err)
	}
	instances := map[string]bool{}
	for _, row := range results[0].rows {
		instances[row[0]] = true
	}
	var accounts []string
	for _, row := range results[1].rows {
		switch row[1] {
		case definerHost:
			instances[row[0]] = true
		case anyHost:
			accounts = append(accounts, row[0])
		}
	}
	for name := range instances {
		if d.checkName(name) != nil {
			continue
		}
		if err := yield(bindery.Found{Name: name, Instance: true}); err != nil {
			return err
		}
	}
	for _, name := range accounts {
		if d.checkName(name) != nil {
			continue
		}
		if err := yield(bindery.Found{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// Ping implements [bindery.Pinger]: the server answers, is new enough, fences
// accounts, and was set up for Bindery.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, ping)
	if err != nil {
		return failed("ping", err)
	}
	version, settings := results[0].rows[0][0], map[string]string{}
	for _, row := range slices.Concat(results[1].rows, results[2].rows) {
		settings[row[0]] = row[1]
	}
	open := results[3].rows[0]
	wrong := []struct {
		bad bool
		why string
	}{
		{tooOld(version), "the server is older than MariaDB " + oldestMariaDB + " or MySQL " + oldestMySQL},
		{settings["partial_revokes"] == "ON", "partial_revokes is on, which takes the names in grants literally"},
		{d.public.TLS && settings["Ssl_server_not_after"] == "", "applications are told to use TLS, and the server has none"},
		{settings["mandatory_roles"] != "", "there are mandatory_roles, which every account has"},
		{settings["read_only"] == "ON" && flavorOf(version) == oracle, "the server is read_only"},
		{open[0] != "0", "there are anonymous accounts, and a login from their host is theirs"},
		{open[1] != "0", "there are databases that every account may use (mysql.db has rows for everybody)"},
		{!mayGrant(results[4].rows), "Bindery's account needs all privileges, with GRANT OPTION, on databases whose names begin with bdy_"},
	}
	var problems []string
	for _, w := range wrong {
		if w.bad {
			problems = append(problems, w.why)
		}
	}
	for _, wanted := range ownPrivileges(flavorOf(version)) {
		if !hasPrivilege(results[4].rows, wanted) {
			problems = append(problems, "Bindery's account needs "+strings.Join(wanted, " or "))
		}
	}
	if len(problems) > 0 {
		return bindery.Errorf(bindery.CodeUnavailable, "the database server is not set up for Bindery").
			Because(errors.New(strings.Join(problems, "; ")))
	}
	return nil
}

// ownPrivileges are what Bindery's account needs on everything, each in its spellings.
func ownPrivileges(f flavor) [][]string {
	if f == mariadb {
		return [][]string{{"CREATE USER"}, {"PROCESS"}, {"CONNECTION ADMIN"}, {"SET USER"}}
	}
	return [][]string{
		{"CREATE USER"},
		{"PROCESS"},
		{"CONNECTION_ADMIN"},
		{"SHOW_ROUTINE"},
		{"SET_USER_ID", "SET_ANY_DEFINER"},
		{"SET_USER_ID", "ALLOW_NONEXISTENT_DEFINER"},
	}
}

func hasPrivilege(rows [][]string, wanted []string) bool {
	return slices.ContainsFunc(rows, func(row []string) bool {
		return row[2] == "*" && slices.Contains(wanted, row[0])
	})
}

// mayGrant takes one privilege for all that are granted with it.
func mayGrant(rows [][]string) bool {
	return slices.ContainsFunc(rows, func(row []string) bool {
		return row[0] == "CREATE" && row[1] == "YES" && slices.Contains([]string{"*", `bdy\_%`, "bdy_%"}, row[2])
	})
}

// tooOld reads versions like "10.11.6-MariaDB-0+deb12u1" and "8.0.36".
func tooOld(version string) bool {
	oldest := oldestMySQL
	if flavorOf(version) == mariadb {
		oldest = oldestMariaDB
		version = strings.TrimPrefix(version, "5.5.5-") // how replication was told of versions with two digits
	}
	version, _, _ = strings.Cut(version, "-")
	return slices.Compare(numbers(version), numbers(oldest)) < 0
}

func numbers(version string) []int {
	var list []int
	for _, part := range strings.Split(version, ".") {
		n, _ := strconv.Atoi(part) // 0, an old version, for what is no number
		list = append(list, n)
	}
	return list
}
