package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
	results, err := d.pool.exec(ctx, dropAccount(account.Name))
	if s := state(err); s == stateDependentObjects || s == stateLockTimeout {
		return d.revokeHolder(ctx, spec.Name, account.Name, known)
	}
	if err != nil {
		return failed("drop a role", err)
	}
	return d.endDropped(ctx, account.Name, known, oids(results))
}

// endDropped ends the sessions of a role that was dropped.
func (d *driver) endDropped(ctx context.Context, name string, known details, found []uint32) error {
	if known.OID != 0 {
		found = append(found, known.OID)
	}
	if err := d.endSessions(ctx, name, found); err != nil {
		return failed("end sessions", err)
	}
	return nil
}

// openingLimit is how long a session that is being opened is waited for. It
// takes a server a few milliseconds from the look at the role to the entry in
// the list of sessions. What takes longer has not been given its password yet,
// and will find that there is no such role.
const openingLimit = 100 * time.Millisecond

// endSessions ends the sessions that oids opened, and returns when they have
// ended and none is being opened. Without an oid, the role was dropped by a call
// that could not tell of it: then what ends is every session of a role that no
// longer exists, in all databases of this installation.
func (d *driver) endSessions(ctx context.Context, name string, oids []uint32) error {
	sql := endSessions(name, oids, len(oids) == 0, d.prefix)
	started := time.Now()
	var opening map[string]bool // at the first look; later ones found no role
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		results, err := d.pool.exec(ctx, sql)
		if err != nil {
			return err
		}
		now := map[string]bool{}
		for _, row := range results[0].Rows {
			now[string(row[0])] = true
		}
		shown := results[1].Rows[0]
		for _, pid := range strings.Split(strings.Trim(string(shown[0]), "{}"), ",") {
			delete(now, pid)
		}
		if opening == nil {
			opening = now
		}
		for pid := range opening {
			if !now[pid] {
				delete(opening, pid)
			}
		}
		open := number(shown[1])
		if open == 0 && (len(opening) == 0 || time.Since(started) > openingLimit) {
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("%d sessions do not end: %w", open, err)
		}
	}
}

// revokeHolder removes a role that something depends on, because a client left
// its group, or another tenant gave it something, or a transaction of its own
// holds it. First nobody can use it any more; then what depends on it is moved
// or taken away; if that is not possible, the role stays as an empty shell, and
// this is an error: the account is stuck, not gone.
func (d *driver) revokeHolder(ctx context.Context, instance, name string, known details) error {
	results, err := d.pool.exec(ctx, lockAccount(name))
	if state(err) == stateUndefinedObject { // dropped by somebody else meanwhile
		return d.endDropped(ctx, name, known, nil)
	}
	if err != nil {
		return failed("lock a role", err)
	}
	oid := oids(results)
	if err := d.endSessions(ctx, name, oid); err != nil {
		return failed("end sessions", err)
	}
	groups, err := d.groups(ctx, name)
	if err != nil {
		return failed("find the instance of a role", err)
	}
	if instance == "" && len(groups) > 0 {
		instance = strings.TrimSuffix(groups[0], readersSuffix)
	}

	clearing := d.clear(ctx, instance, name)
	_, err = d.pool.exec(ctx, dropAccount(name))
	if err == nil {
		return d.endDropped(ctx, name, known, oid)
	}
	if state(err) != stateDependentObjects {
		return failed("drop a role", err)
	}
	err = errors.Join(err, clearing)
	if len(groups) > 0 {
		if _, failure := d.pool.exec(ctx, leave(name, groups)); failure != nil {
			err = errors.Join(err, failure)
		}
	}
	return bindery.Errorf(bindery.CodeUnavailable,
		"the account is locked, and cannot be removed while something else refers to it").Because(err)
}
