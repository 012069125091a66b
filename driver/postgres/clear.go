package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// clear gives what a role owns in the databases of this installation to the
// instances that they are, and takes away what it was granted there.
func (d *driver) clear(ctx context.Context, name string) error {
	results, err := d.pool.exec(ctx, dependents(name))
	if err != nil {
		return err
	}
	var all error
	for _, row := range results[0].Rows {
		database := string(row[0])
		if strings.HasPrefix(database, d.prefix) {
			err = d.release(ctx, database, name)
		} else {
			err = errors.New("what depends on the role is in no database of this installation")
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("database %q: %w", database, err))
		}
	}
	return all
}

// release frees a role from the database of an instance, its own or another: what
// it made there is the instance's.
func (d *driver) release(ctx context.Context, instance, name string) error {
	unlock, err := d.locks.Lock(ctx, instance)
	if err != nil {
		return err
	}
	defer unlock()
	return d.in(ctx, instance, func(c *conn) error {
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
		_, err = d.pool.run(ctx, c, release(c.major(), name, instance, owners))
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
