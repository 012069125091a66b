package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"bindery"
)

// Revoke implements [bindery.AccountDriver]. The role is dropped first, so that
// nobody can log in any more, and its sessions are ended then: dropping a role
// does not end them, and one that acts as its group could do so forever.
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
	var known details
	if len(account.Details) > 0 {
		if err := json.Unmarshal(account.Details, &known); err != nil {
			return fmt.Errorf("revoke: details: %w", err)
		}
	}
	m := &removal{name: account.Name, targets: targetsOf(account.Name, known.oids())}
	if err := d.removals.do(ctx, m); err == nil {
		return d.endDropped(ctx, spec.Name, account.Name, known, m)
	}
	// By itself, so that what is wrong is said of the role that it is wrong with.
	results, err := d.pool.exec(ctx, dropAccount(account.Name))
	if s := state(err); s == stateDependentObjects || s == stateLockTimeout {
		return d.revokeHolder(ctx, spec.Name, account.Name, known)
	}
	if err != nil {
		return failed("drop a role", err)
	}
	return d.endFound(ctx, spec.Name, account.Name, known, oids(results), nil)
}

// endDropped ends the sessions of a role that a batch dropped. Nothing is left to
// do where the batch's own look saw no session of the role.
func (d *driver) endDropped(ctx context.Context, instance, name string, known details, m *removal) error {
	var found []uint32
	if m.oid != 0 {
		found = []uint32{m.oid}
	}
	first := m.seen
	if known.OID == 0 && m.oid == 0 || first.open[known.OID] || first.open[m.oid] {
		first = nil
	}
	return d.endFound(ctx, instance, name, known, found, first)
}

// endFound ends the sessions of a role that was dropped, after a first look that
// may have been taken already. Without an oid, the role was dropped by a call that
// could not tell of it: then what is waited for is the end of every session of a role
// that no longer exists, in all databases of this installation.
func (d *driver) endFound(ctx context.Context, instance, name string, known details, found []uint32, first *seen) error {
	for _, oid := range known.oids() {
		if !slices.Contains(found, oid) {
			found = append(found, oid)
		}
	}
	targets := targetsOf(name, found)
	look := func(ctx context.Context) (*seen, error) {
		s := first
		first = nil
		if s != nil {
			return s, nil
		}
		return d.lookTogether(ctx, targets)
	}
	if err := endAll(ctx, instance, found, look); err != nil {
		return failed("end sessions", err)
	}
	return nil
}

// revokeHolder removes a role that something depends on, because a client left
// its group, or another tenant gave it something, or a transaction of its own
// holds it. First nobody can use it any more; then what depends on it is moved
// or taken away; if that is not possible, the role stays as an empty shell, and
// this is an error: the account is stuck, not gone.
func (d *driver) revokeHolder(ctx context.Context, instance, name string, known details) error {
	results, err := d.pool.exec(ctx, lockAccount(name))
	if state(err) == stateUndefinedObject { // dropped by somebody else meanwhile
		return d.endFound(ctx, instance, name, known, nil, nil)
	}
	if err != nil {
		return failed("lock a role", err)
	}
	oid := oids(results)
	if err := d.endLive(ctx, instance, name, oid); err != nil {
		return failed("end sessions", err)
	}
	groups, err := d.groups(ctx, name)
	if err != nil {
		return failed("find the groups of a role", err)
	}

	clearing := d.clear(ctx, name)
	_, err = d.pool.exec(ctx, dropAccount(name))
	if err == nil {
		return d.endFound(ctx, instance, name, known, oid, nil)
	}
	if state(err) != stateDependentObjects {
		return failed("drop a role", err)
	}
	err = errors.Join(err, clearing)
	if len(groups) > 0 {
		_, failure := d.pool.exec(ctx, leave([]string{name}, groups))
		if failure == nil { // those who came by way of it have to go, too
			failure = d.endLive(ctx, instance, name, oid)
		}
		err = errors.Join(err, failure)
	}
	return bindery.Errorf(bindery.CodeUnavailable,
		"the account is locked, and cannot be removed while something else refers to it").Because(err)
}
