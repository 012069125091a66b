package mysql

import (
	"context"

	"bindery"
)

// Provision implements [bindery.InstanceDriver].
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	settings, err := parseInstance(spec)
	if err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, spec.Name)
	if err != nil {
		return failed("provision", err)
	}
	defer end()
	f, err := d.pool.server(ctx)
	if err != nil {
		return failed("look at the server", err)
	}
	make := makeInstance(f, spec.Name, settings)
	_, err = d.pool.change(ctx, make)
	if n := number(err); n == errNoSuchUser || n == errNoUserToGrant || n == errCannotUser {
		// A crash can leave the rights of an account whose other half is gone, which
		// hides that it is missing; dropping it takes both.
		_, err = d.pool.change(ctx, dropAccount(spec.Name, definerHost)+"; "+make)
	}
	if n := number(err); n == errUnknownCharacterSet || n == errUnknownCollation || n == errCollationMismatch {
		return bindery.Errorf(bindery.CodeUnsupported, "the database server does not have the plan's character set or collation").Because(err)
	}
	if err != nil {
		return failed("make a database", err)
	}
	return nil
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
	if _, err := d.pool.change(ctx, dropInstance(spec.Name)); err != nil {
		return failed("remove a database", err)
	}
	// An event that ran as the definer, or an instance's own session, is over too.
	if err := d.endSessions(ctx, spec.Name); err != nil {
		return failed("end sessions", err)
	}
	return nil
}
