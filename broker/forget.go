package broker

import (
	"context"

	"bindery"
)

// Forget ends, with a reason in the audit, what is left of a binding whose
// removal cannot be confirmed or proven. Where an account reappears on its
// server, reconcile still removes it. Errors: CodeNotFound; CodeConflict for a
// binding that nobody unbound, or of which nothing is left.
func (b *Broker) Forget(ctx context.Context, row int64, reason string) error {
	var ended []bindery.Operation
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		ended = nil
		binding, err := tx.Bindings().Get(ctx, row)
		if err != nil {
			return notFound(err, bindery.Errorf(bindery.CodeNotFound, "there is no such service binding"))
		}
		if binding.State != bindery.StateRemoving && binding.State != bindery.StateRemoved {
			return bindery.Errorf(bindery.CodeConflict, "service binding %q is in use: unbind it first", binding.ID)
		}
		var left int
		ended, left, err = b.forgetBinding(ctx, tx, binding, reason)
		if err == nil && binding.State == bindery.StateRemoved && left == 0 {
			return bindery.Errorf(bindery.CodeConflict, "nothing is left of service binding %q", binding.ID)
		}
		return err
	})
	if err == nil {
		b.givenUp(ended)
	}
	return err
}

// ForgetInstance ends, with a reason in the audit, an instance whose removal
// cannot be confirmed, and what is left of its bindings: the request for its
// removal condemned them with it, whether or not that was canceled. Where any of
// it reappears on its server, reconcile still removes it.
//
// Each step is a transaction of its own and buries so many bindings, the last one
// the instance as well. One that was cut short is carried on by a repeat. Errors:
// CodeNotFound; CodeConflict for an instance that nobody deprovisioned, or of
// which nothing is left.
func (b *Broker) ForgetInstance(ctx context.Context, row int64, reason string) error {
	for some := false; ; some = true {
		var i bindery.Instance
		var ended []bindery.Operation
		var left int
		err := b.Store.Update(ctx, func(tx bindery.Tx) (err error) {
			if i, err = tx.Instances().Get(ctx, row); err != nil {
				return notFound(err, bindery.Errorf(bindery.CodeNotFound, "there is no such service instance"))
			}
			if i.State != bindery.StateRemoving && i.State != bindery.StateRemoved {
				return bindery.Errorf(bindery.CodeConflict, "service instance %q is in use: deprovision it first", i.ID)
			}
			ended, left, err = b.forgetSome(ctx, tx, i, reason)
			return err
		})
		switch {
		case err != nil:
			return err
		case i.State == bindery.StateRemoved && left == 0 && !some:
			return bindery.Errorf(bindery.CodeConflict, "nothing is left of service instance %q", i.ID)
		}
		b.givenUp(ended)
		if left < page {
			return nil
		}
	}
}

// forgetSome is one step of [Broker.ForgetInstance]. It returns of how many
// bindings something was left; fewer than a page were the last.
func (b *Broker) forgetSome(ctx context.Context, tx bindery.Tx, i bindery.Instance, reason string) (ended []bindery.Operation, left int, err error) {
	// At every step, as the platform may have asked again.
	if ended, err = b.stopRemoval(ctx, tx, i, bindery.Binding{}, reason); err != nil {
		return nil, 0, err
	}
	// First what is live, then what is removed and yet to be proven dead.
	for _, f := range []bindery.BindingFilter{{InstanceRow: i.Row}, {InstanceRow: i.Row, Removed: true, Pending: true}} {
		if left == page {
			return ended, left, nil
		}
		bindings, err := tx.Bindings().List(ctx, f, bindery.Page{Limit: page - left})
		if err != nil {
			return nil, 0, err
		}
		for _, binding := range bindings {
			stopped, _, err := b.forgetBinding(ctx, tx, binding, reason)
			if err != nil {
				return nil, 0, err
			}
			ended = append(ended, stopped...)
		}
		left += len(bindings)
	}
	if left == page || i.State == bindery.StateRemoved {
		return ended, left, nil
	}
	i.State, i.Parameters, i.Updated = bindery.StateRemoved, bindery.Secret{}, b.Now()
	if err := tx.Instances().Save(ctx, i, bindery.StateRemoving); err != nil {
		return nil, 0, err
	}
	return ended, left, tx.Events().Add(ctx, bindery.Event{
		At: i.Updated, Platform: i.Platform, Actor: "operator", Action: "forget", InstanceID: i.ID,
		Result: string(bindery.OpSucceeded), Message: reason,
	})
}

// givenUp tells of the operations that a transaction ended.
func (b *Broker) givenUp(ended []bindery.Operation) {
	for _, o := range ended {
		b.announce(o)
		b.Queue.Interrupt(o.Row)
	}
}

// forgetBinding buries a binding that was condemned. It returns the operation that
// this ended, if any, and how many of its accounts were not gone.
func (b *Broker) forgetBinding(ctx context.Context, tx bindery.Tx, binding bindery.Binding, reason string) (ended []bindery.Operation, left int, err error) {
	if binding.State != bindery.StateRemoved {
		i := bindery.Instance{Row: binding.InstanceRow, ID: binding.InstanceID}
		if ended, err = b.stopRemoval(ctx, tx, i, binding, reason); err != nil {
			return nil, 0, err
		}
	}
	left, err = b.forgetAccounts(ctx, tx, binding, reason)
	if err != nil || binding.State == bindery.StateRemoved {
		return ended, left, err
	}
	from := binding.State
	binding.State, binding.Parameters, binding.Updated = bindery.StateRemoved, bindery.Secret{}, b.Now()
	return ended, left, tx.Bindings().Save(ctx, binding, from)
}

// stopRemoval ends the removal that is under way of a binding, or with the zero
// Binding of its instance, if any.
func (b *Broker) stopRemoval(ctx context.Context, tx bindery.Tx, i bindery.Instance, binding bindery.Binding, reason string) ([]bindery.Operation, error) {
	o, err := tx.Operations().Active(ctx, i.Row, binding.Row)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o = b.fail(o, bindery.CodeUnavailable, "an operator gave it up: "+reason)
	return []bindery.Operation{o}, b.end(ctx, tx, o, i.ID, binding.ID, "")
}

// forgetAccounts ends a binding's accounts, and returns how many were not gone.
func (b *Broker) forgetAccounts(ctx context.Context, tx bindery.Tx, binding bindery.Binding, reason string) (left int, err error) {
	accounts, err := tx.Accounts().OfBinding(ctx, binding.Row)
	if err != nil {
		return 0, err
	}
	now := b.Now()
	for _, a := range accounts {
		from := a.State
		if from == bindery.AccountGone {
			continue
		}
		left++
		a.State, a.Material, a.Updated = bindery.AccountGone, bindery.Secret{}, now
		a.Proof = "forgotten by an operator: " + reason
		if err := tx.Accounts().Save(ctx, a, from); err != nil {
			return left, err
		}
		if err := quarantine(ctx, tx, a, now); err != nil {
			return left, err
		}
		if err := tx.Events().Add(ctx, bindery.Event{
			At: now, Platform: binding.Platform, Actor: "operator", Action: "forget", InstanceID: binding.InstanceID,
			BindingID: binding.ID, Account: a.Name, Result: string(bindery.OpSucceeded), Message: reason,
		}); err != nil {
			return left, err
		}
	}
	return left, nil
}
