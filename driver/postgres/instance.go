package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// Provision implements [bindery.InstanceDriver]. Each step finds out what an
// earlier attempt has left to do; none can be skipped, because CREATE DATABASE
// cannot be part of a transaction.
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	settings, extensions, err := parseInstance(spec)
	if err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, spec.Name)
	if err != nil {
		return failed("provision", err)
	}
	defer end()
	if err := d.makeGroups(ctx, spec.Name); err != nil {
		return failed("make groups", err)
	}
	if err := d.makeDatabase(ctx, spec.Name); err != nil {
		return failed("make a database", err)
	}
	if _, err := d.pool.exec(ctx, shareDatabase(spec.Name, settings)); err != nil {
		return failed("set up a database", err)
	}
	err = d.in(ctx, spec.Name, func(c *conn) error {
		_, err := d.pool.run(ctx, c, furnishDatabase(c.major(), spec.Name, extensions))
		return err
	})
	if len(extensions) > 0 && refusedExtension(err) {
		return bindery.Errorf(bindery.CodeUnsupported, "the database server does not offer one of the extensions").Because(err)
	}
	if err != nil {
		return failed("furnish a database", err)
	}
	return nil
}

// refusedExtension reports whether an extension is not installed on the server,
// or can be created by superusers only.
func refusedExtension(err error) bool {
	switch state(err) {
	case stateNotSupported, stateUndefinedFile, stateInvalidParameter:
		return true
	case stateNoPrivilege:
		pg, ok := errors.AsType[*pgconn.PgError](err)
		return ok && pg.Routine == "execute_extension_script"
	}
	return false
}

func (d *driver) makeGroups(ctx context.Context, name string) error {
	results, err := d.pool.exec(ctx, groupsOf(name))
	if err != nil {
		return err
	}
	missing := []string{name, readers(name)}
	for _, row := range results[0].Rows {
		missing = slices.DeleteFunc(missing, func(g string) bool { return g == string(row[0]) })
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = d.pool.exec(ctx, createGroups(missing))
	return err
}

func (d *driver) makeDatabase(ctx context.Context, name string) error {
	results, err := d.pool.exec(ctx, databaseState(name))
	if err != nil {
		return err
	}
	if rows := results[0].Rows; len(rows) > 0 {
		if string(rows[0][0]) != invalidDatabase {
			return nil
		}
		if _, err := d.pool.exec(ctx, dropDatabase(name)); err != nil {
			return err
		}
	}
	err = d.whileInUse(ctx, createDatabase(name))
	if state(err) == stateDuplicateDatabase || state(err) == stateUniqueViolation {
		return nil
	}
	return err
}

// whileInUse repeats a statement while a database is in use that it needs to
// itself: the template, for a moment, or the one that is to be dropped.
func (d *driver) whileInUse(ctx context.Context, statement string) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_, err := d.pool.exec(ctx, statement)
		if state(err) != stateObjectInUse {
			return err
		}
		if bindery.Sleep(ctx, wait) != nil {
			return err
		}
	}
}

// Deprovision implements [bindery.InstanceDriver].
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, spec.Name)
	if err != nil {
		return failed("deprovision", err)
	}
	defer end()
	if err := d.removeDatabase(ctx, spec.Name); err != nil {
		return failed("remove a database", err)
	}
	if err := d.removeGroups(ctx, spec.Name); err != nil {
		return failed("remove groups", err)
	}
	return nil
}

func (d *driver) removeDatabase(ctx context.Context, name string) error {
	results, err := d.pool.exec(ctx, databaseState(name))
	if err != nil || len(results[0].Rows) == 0 {
		return err
	}
	if string(results[0].Rows[0][0]) != invalidDatabase {
		if _, err := d.pool.exec(ctx, closeDatabase(name)); err != nil && state(err) != stateUndefinedDatabase {
			return err
		}
		// FORCE would refuse as a whole where one session is a superuser's.
		for wait := firstWait; ; wait = min(2*wait, longestWait) {
			results, err := d.pool.exec(ctx, endDatabase(name))
			if err != nil {
				return err
			}
			if len(results[0].Rows) == 0 {
				break
			}
			if err := bindery.Sleep(ctx, wait); err != nil {
				return fmt.Errorf("sessions do not end: %w", err)
			}
		}
	}
	return d.whileInUse(ctx, dropDatabase(name))
}

func (d *driver) removeGroups(ctx context.Context, name string) error {
	_, err := d.pool.exec(ctx, dropGroups(name))
	if state(err) != stateDependentObjects {
		return err
	}
	// Another tenant gave one of them something, in its own database.
	results, err := d.pool.exec(ctx, groupsOf(name))
	if err != nil {
		return err
	}
	var clearing error
	for _, row := range results[0].Rows {
		clearing = errors.Join(clearing, d.clear(ctx, string(row[0])))
	}
	if _, err = d.pool.exec(ctx, dropGroups(name)); state(err) == stateDependentObjects {
		return bindery.Errorf(bindery.CodeUnavailable,
			"the database is gone, and its group cannot be removed while something else refers to it").
			Because(errors.Join(err, clearing))
	}
	return err
}

// CanChange implements [bindery.Changer]. An extension cannot be taken away:
// data may depend on it.
func (d *driver) CanChange(from, to bindery.InstanceSpec) error {
	_, before, err := parseInstance(from)
	if err != nil {
		before = nil // a plan that has changed meanwhile: what is there is left as it is
	}
	_, after, err := parseInstance(to)
	if err != nil {
		return err
	}
	for _, x := range before {
		if !slices.Contains(after, x) {
			return bindery.Errorf(bindery.CodeUnsupported, "extensions can be added, and not be taken away")
		}
	}
	return nil
}
