package given

import (
	"context"
	"errors"
	"fmt"

	"bindery"
)

// nothing is the part of a driver that has nothing to do on a server. It checks
// what it is told like any other, so that a defect elsewhere is found out.
type nothing struct{ installation string }

func (n nothing) checkName(name string) error {
	if !bindery.IsName(n.installation, name) {
		return fmt.Errorf("%q is not a name of this installation", name)
	}
	return nil
}

// Provision implements [bindery.InstanceDriver].
func (n nothing) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := errors.Join(ctx.Err(), n.checkName(spec.Name)); err != nil {
		return err
	}
	return noParameters(spec.Parameters)
}

// Deprovision implements [bindery.InstanceDriver].
func (n nothing) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	return errors.Join(ctx.Err(), n.checkName(spec.Name))
}

// Ensure implements [bindery.AccountDriver].
func (n nothing) Ensure(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	return bindery.Ensured{}, errors.Join(ctx.Err(), n.checkName(account.Name))
}

// Revoke implements [bindery.AccountDriver]. The set lives on.
func (n nothing) Revoke(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) error {
	return errors.Join(ctx.Err(), n.checkName(account.Name))
}

// Inventory implements [bindery.Driver]: whoever made the sets knows of no binding.
func (nothing) Inventory(context.Context, func(bindery.Found) error) error {
	return bindery.ErrNoInventory
}

// Close implements [bindery.Driver].
func (nothing) Close() error { return nil }
