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
	var ended bindery.Operation
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		ended = bindery.Operation{}
		binding, err := tx.Bindings().Get(ctx, row)
		if err != nil {
			return notFound(err, bindery.Errorf(bindery.CodeNotFound, "there is no such service binding"))
		}
		switch binding.State {
		case bindery.StateRemoved:
		case bindery.StateRemoving:
			if ended, err = b.stopRemoval(ctx, tx, binding, reason); err != nil {
				return err
			}
		default:
			return bindery.Errorf(bindery.CodeConflict, "service binding %q is in use: unbind it first", binding.ID)
		}
		left, err := b.forgetAccounts(ctx, tx, binding, reason)
		if err != nil {
			return err
		}
		if binding.State == bindery.StateRemoved {
			if left == 0 {
				return bindery.Errorf(bindery.CodeConflict, "nothing is left of service binding %q", binding.ID)
			}
			return nil
		}
		binding.State, binding.Parameters, binding.Updated = bindery.StateRemoved, bindery.Secret{}, b.Now()
		return tx.Bindings().Save(ctx, binding, bindery.StateRemoving)
	})
	if err == nil && ended.Row != 0 {
		b.announce(ended)
		b.Queue.Interrupt(ended.Row)
	}
	return err
}

// stopRemoval ends the removal of a binding that is under way, if any.
func (b *Broker) stopRemoval(ctx context.Context, tx bindery.Tx, binding bindery.Binding, reason string) (bindery.Operation, error) {
	o, err := tx.Operations().Active(ctx, binding.InstanceRow, binding.Row)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return bindery.Operation{}, nil
	}
	if err != nil {
		return o, err
	}
	o = b.fail(o, bindery.CodeUnavailable, "an operator gave it up: "+reason)
	return o, b.end(ctx, tx, o, binding.InstanceID, binding.ID, "")
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
