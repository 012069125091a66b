package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// clear moves what a role owns to its instance, and takes away what it was
// granted, in every database of this installation that has any of it.
func (d *driver) clear(ctx context.Context, instance, name string) error {
	results, err := d.pool.exec(ctx, dependents(name))
	if err != nil {
		return err
	}
	var all error
	for _, row := range results[0].Rows {
		database, owns := string(row[0]), string(row[1]) == "t"
		switch {
		case database == instance:
			err = d.reassign(ctx, instance, name)
		case !strings.HasPrefix(database, d.prefix):
			err = errors.New("what depends on the role is in no database of this installation")
		case owns:
			// To drop it could lose another tenant's data.
			err = errors.New("the role owns something in another instance's database")
		default:
			err = d.dropGranted(ctx, database, name)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("database %q: %w", database, err))
		}
	}
	return all
}

// reassign gives what a role owns in its instance's database to the instance.
func (d *driver) reassign(ctx context.Context, instance, name string) error {
	unlock, err := d.locks.lock(ctx, instance)
	if err != nil {
		return err
	}
	defer unlock()
	return d.in(ctx, instance, func(c *conn) error {
		_, err := d.pool.run(ctx, c, reassign(c.major(), name, instance))
		return err
	})
}

// dropGranted takes away what a role was granted in another instance's database.
func (d *driver) dropGranted(ctx context.Context, database, name string) error {
	unlock, err := d.locks.lock(ctx, database)
	if err != nil {
		return err
	}
	defer unlock()
	return d.in(ctx, database, func(c *conn) error {
		results, err := d.pool.run(ctx, c, grantors(name))
		if err != nil {
			return err
		}
		var owners []string
		for _, row := range results[0].Rows {
			// Bindery acts as its own roles, never as somebody else's.
			if owner := string(row[0]); strings.HasPrefix(owner, d.prefix) {
				owners = append(owners, owner)
			}
		}
		_, err = d.pool.run(ctx, c, dropGranted(c.major(), name, owners))
		return err
	})
}

// in runs something in an instance's own database, also when the instance's
// clients have taken all the connections that its plan allows.
func (d *driver) in(ctx context.Context, database string, use func(*conn) error) error {
	err := d.pool.in(ctx, database, use)
	if state(err) != stateTooManyClients {
		return err
	}
	results, failure := d.pool.exec(ctx, databaseState(database))
	if failure != nil || len(results[0].Rows) == 0 {
		return errors.Join(err, failure)
	}
	limit := int(number(results[0].Rows[0][0]))
	if limit < 0 {
		return err // it is the server that is full
	}
	if _, failure := d.pool.exec(ctx, limitDatabase(database, -1)); failure != nil {
		return errors.Join(err, failure)
	}
	err = d.pool.in(ctx, database, use)
	if _, failure := d.pool.exec(ctx, limitDatabase(database, limit)); failure != nil {
		return errors.Join(err, failure)
	}
	return err
}
