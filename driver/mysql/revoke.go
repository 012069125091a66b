package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"bindery"
)

// Revoke implements [bindery.AccountDriver]. What the account is the definer of
// goes to the instance's definer first, so that it works all the time. Then the
// account is dropped, so that nobody can log in any more, and its sessions are
// ended: dropping an account does not end them.
func (d *driver) Revoke(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) error {
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	if spec.Name != "" {
		if err := d.checkName(spec.Name); err != nil {
			return err
		}
	}
	ctx, end, err := d.begin(ctx, account.Name)
	if err != nil {
		return failed("revoke", err)
	}
	defer end()
	databases, err := d.databases(ctx, spec.Name, account)
	if err != nil {
		return failed("find the database of an account", err)
	}
	owns, err := d.owns(ctx, databases, account.Name)
	if err != nil {
		return failed("look for stored objects", err)
	}
	if owns {
		if err := d.disown(ctx, databases, account.Name); err != nil {
			return err
		}
	}
	f, err := d.pool.server(ctx)
	if err != nil {
		return failed("look at the server", err)
	}
	looks := []string{sessions(f, account.Name)}
	for _, database := range databases {
		looks = append(looks, stored(database, account.Name))
	}
	results, err := d.pool.change(ctx, dropAccount(account.Name, anyHost)+"; "+strings.Join(looks, "; "))
	if err != nil {
		return failed("drop an account", err)
	}
	if !slices.ContainsFunc(results, func(r result) bool { return len(r.rows) > 0 }) {
		return nil
	}
	if err := d.endSessions(ctx, account.Name); err != nil {
		return failed("end sessions", err)
	}
	// A session may have made something between the look and the drop.
	return d.moveRest(ctx, databases, account.Name)
}

// databases are those in which an account may have made something: the
// instance's, or, where that is not known, those that it was made for or has rights on.
func (d *driver) databases(ctx context.Context, instance string, account bindery.Account) ([]string, error) {
	if instance != "" {
		return []string{instance}, nil
	}
	var known details
	if len(account.Details) > 0 {
		if err := json.Unmarshal(account.Details, &known); err != nil {
			return nil, err
		}
	}
	results, err := d.pool.exec(ctx, databasesOf(account.Name))
	if err != nil {
		return nil, err
	}
	names := []string{known.Database}
	for _, row := range results[0].rows {
		names = append(names, unpattern(row[0]))
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return d.checkName(name) != nil }), nil
}

// disown moves everything away from an account that nobody can use any more
// meanwhile. What cannot be moved keeps it there, locked: it is stuck, not gone.
func (d *driver) disown(ctx context.Context, databases []string, name string) error {
	if _, err := d.pool.change(ctx, lockAccount(name)); err != nil {
		return failed("lock an account", err)
	}
	// While somebody else's session runs a routine, the server lists it under the
	// routine's definer. So the routines move before the account's sessions are ended:
	// to be made again, each waits until nobody runs it. What does not move in time, as
	// the account itself runs it, moves afterwards.
	first, cancel := context.WithTimeout(ctx, moveLimit)
	_ = d.moveRest(first, databases, name) // what is left is moved below, or said there
	cancel()
	if err := d.endSessions(ctx, name); err != nil {
		return failed("end sessions", err)
	}
	return d.moveRest(ctx, databases, name)
}

// moveLimit is how long the objects of an account are moved before its sessions are ended.
const moveLimit = 2 * time.Second

// loginLimit is how long others' logins may take that one of the account may be among.
const loginLimit = time.Second

// endSessions ends the sessions of an account, those included whose login is
// under way, and returns when none is left. Where the server does not say whose
// login one is, those that have begun are waited for, and ended when they take long.
func (d *driver) endSessions(ctx context.Context, name string) error {
	f, err := d.pool.server(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var underWay []string // nil before the first look
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		results, err := d.pool.exec(ctx, sessions(f, name))
		if err != nil {
			return err
		}
		kill, still := []string{}, []string{}
		for _, row := range results[0].rows {
			switch id, mine := row[0], row[1] == "1"; {
			case mine:
				kill = append(kill, id)
			case underWay == nil || slices.Contains(underWay, id):
				still = append(still, id)
			}
		}
		if underWay = still; len(kill)+len(underWay) == 0 {
			return nil
		}
		if time.Since(began) > loginLimit {
			kill = append(kill, underWay...)
		}
		if err := d.endAll(ctx, kill); err != nil {
			return err
		}
		if err := bindery.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("sessions do not end: %w", err)
		}
	}
}

func (d *driver) endAll(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := d.pool.exec(ctx, killSessions(ids))
	if number(err) == errNoSuchThread {
		return nil
	}
	return err
}
