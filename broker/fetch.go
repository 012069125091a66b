package broker

import (
	"context"

	"bindery"
)

// Instance returns an instance that is ready, or being updated: then as it was.
// CodeNotFound for any other.
func (b *Broker) Instance(ctx context.Context, c Caller, instanceID string) (i bindery.Instance, err error) {
	err = b.Store.View(ctx, func(tx bindery.Tx) error {
		i, err = tx.Instances().Find(ctx, c.Platform, instanceID)
		return err
	})
	if bindery.CodeOf(err) == bindery.CodeNotFound || err == nil && i.State != bindery.StateReady && i.State != bindery.StateUpdating {
		return i, unknownInstance(instanceID)
	}
	return i, err
}

// Binding returns a binding that is ready, with its credential. CodeNotFound for
// any other, and for one whose instance is being removed: it goes with it.
func (b *Broker) Binding(ctx context.Context, c Caller, instanceID, bindingID string) (Result, error) {
	j := &job{}
	err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
		if j.binding, err = tx.Bindings().Find(ctx, c.Platform, instanceID, bindingID); err != nil {
			return err
		}
		return j.load(ctx, tx, j.binding.InstanceRow)
	})
	if bindery.CodeOf(err) == bindery.CodeNotFound || err == nil && (j.binding.State != bindery.StateReady || removing(j.instance) || b.expired(j.binding)) {
		return Result{}, unknownBinding(bindingID)
	}
	if err != nil {
		return Result{}, err
	}
	if _, j.plan, err = b.plan(j.instance.OfferingID, j.instance.PlanID); err != nil {
		return Result{}, err
	}
	return b.render(j, Same)
}

func removing(i bindery.Instance) bool {
	return i.State == bindery.StateRemoving || i.State == bindery.StateRemoved
}

// load reads the instance and, for a binding, its account.
func (j *job) load(ctx context.Context, tx bindery.Tx, instance int64) (err error) {
	if j.instance, err = tx.Instances().Get(ctx, instance); err != nil || j.binding.Row == 0 {
		return err
	}
	j.accounts, err = tx.Accounts().OfBinding(ctx, j.binding.Row)
	if err == nil && len(j.accounts) > 0 {
		j.account = j.accounts[0]
	}
	return err
}

// LastOperation reports the operation that the token names, or, where it is
// empty, the latest on the instance or, with a binding id, on the binding.
// CodeNotFound for what never was; CodeGone for what was removed and whose
// operations have been forgotten since.
func (b *Broker) LastOperation(ctx context.Context, c Caller, instanceID, bindingID, token string) (s Status, err error) {
	err = b.Store.View(ctx, func(tx bindery.Tx) error {
		i, err := tx.Instances().Find(ctx, c.Platform, instanceID)
		if err != nil {
			return notFound(err, unknownInstance(instanceID))
		}
		var binding bindery.Binding
		state := i.State
		if bindingID != "" {
			if binding, err = tx.Bindings().Find(ctx, c.Platform, instanceID, bindingID); err != nil {
				return notFound(err, unknownBinding(bindingID))
			}
			state = binding.State
		}
		o, err := b.named(ctx, tx, i, binding, token)
		switch {
		case err == nil:
			s = status(o)
			return nil
		case bindery.CodeOf(err) != bindery.CodeNotFound:
			return err
		case state == bindery.StateRemoved:
			return errGone
		case token != "":
			return bindery.Errorf(bindery.CodeNotFound, "there is no such operation")
		}
		s = Status{State: bindery.OpSucceeded}
		return nil
	})
	return s, err
}

func notFound(err, otherwise error) error {
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return otherwise
	}
	return err
}

// named finds the operation of the token, which may be on an earlier bearer of
// the same id, or the latest. CodeNotFound.
func (b *Broker) named(ctx context.Context, tx bindery.Tx, i bindery.Instance, binding bindery.Binding, token string) (bindery.Operation, error) {
	if token == "" {
		return tx.Operations().Latest(ctx, i.Row, binding.Row)
	}
	unknown := bindery.Errorf(bindery.CodeNotFound, "there is no such operation")
	row, ok := bindery.ParseToken(token)
	if !ok {
		return bindery.Operation{}, unknown
	}
	o, err := tx.Operations().Get(ctx, row)
	switch {
	case err != nil:
		return o, err
	case o.Platform != i.Platform || (o.BindingRow == 0) != (binding.Row == 0):
		return o, unknown
	case o.BindingRow != 0 && o.BindingRow != binding.Row:
		of, err := tx.Bindings().Get(ctx, o.BindingRow)
		if err != nil || of.ID != binding.ID || of.InstanceID != i.ID {
			return o, unknown
		}
	case o.BindingRow == 0 && o.InstanceRow != i.Row:
		of, err := tx.Instances().Get(ctx, o.InstanceRow)
		if err != nil || of.ID != i.ID {
			return o, unknown
		}
	}
	return o, nil
}

func status(o bindery.Operation) Status {
	s := Status{State: o.State, Kind: o.Kind, Description: o.Message}
	switch {
	case o.State == bindery.OpInProgress && o.Problem != "":
		s.Description = "trying again: " + o.Problem
	case o.State == bindery.OpFailed && o.BindingRow == 0 && o.Kind == bindery.OpUpdate:
		usable, repeatable := true, o.Code != bindery.CodeUnsupported && o.Code != bindery.CodeInvalid
		s.InstanceUsable, s.UpdateRepeatable = &usable, &repeatable
	case o.State == bindery.OpFailed && o.BindingRow == 0 && o.Kind == bindery.OpDeprovision:
		usable := false
		s.InstanceUsable = &usable
	}
	return s
}
