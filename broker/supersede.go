package broker

import (
	"context"

	"bindery"
)

// undo ends a create or an update with cause and begins, in the same
// transaction, what takes it back. CodeBusy: somebody ended it before.
func (b *Broker) undo(ctx context.Context, o bindery.Operation, cause *bindery.Error) error {
	row, err := b.Store.NewID(ctx)
	if err != nil {
		return err
	}
	var failed, next bindery.Operation
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		now, err := tx.Operations().Get(ctx, o.Row)
		if err != nil {
			return err
		}
		if now.State != bindery.OpInProgress {
			return errBusy
		}
		i, err := tx.Instances().Get(ctx, o.InstanceRow)
		if err != nil {
			return err
		}
		bindingID, kind := "", bindery.OpDeprovision
		switch o.Kind {
		case bindery.OpUpdate:
			kind = bindery.OpUpdate
		case bindery.OpBind:
			kind = bindery.OpUnbind
			binding, err := tx.Bindings().Get(ctx, o.BindingRow)
			if err != nil {
				return err
			}
			bindingID = binding.ID
			if _, _, err := b.condemnBinding(ctx, tx, binding); err != nil {
				return err
			}
		default:
			if err := b.condemnInstance(ctx, tx, i); err != nil {
				return err
			}
		}
		failed = b.fail(now, cause.Code, cause.Message)
		if err := b.end(ctx, tx, failed, i.ID, bindingID, ""); err != nil {
			return err
		}
		next = b.operation(row, kind, Caller{RequestID: o.RequestID}, i, o.BindingRow)
		next.Internal, next.Undo = true, kind == bindery.OpUpdate
		return tx.Operations().Add(ctx, next)
	})
	if err != nil {
		return err
	}
	b.replaced(failed, next)
	return nil
}

// replaced hands over from an operation that was ended to the one that takes its place.
func (b *Broker) replaced(old, next bindery.Operation) {
	b.announce(old)
	b.Queue.Interrupt(old.Row)
	b.Queue.Submit(next)
}

// condemnBinding moves a binding and its accounts to removing, and returns them
// as they are then.
func (b *Broker) condemnBinding(ctx context.Context, tx bindery.Tx, binding bindery.Binding) (bindery.Binding, []bindery.Account, error) {
	if from := binding.State; from != bindery.StateRemoving {
		binding.State, binding.Updated = bindery.StateRemoving, b.Now()
		if err := tx.Bindings().Save(ctx, binding, from); err != nil {
			return binding, nil, err
		}
	}
	accounts, err := tx.Accounts().OfBinding(ctx, binding.Row)
	if err != nil {
		return binding, nil, err
	}
	for i := range accounts {
		a := &accounts[i]
		if from := a.State; from == bindery.AccountWanted || from == bindery.AccountLive {
			a.State, a.Updated = bindery.AccountRemoving, b.Now()
			if err := tx.Accounts().Save(ctx, *a, from); err != nil {
				return binding, nil, err
			}
		}
	}
	return binding, accounts, nil
}

func (b *Broker) condemnInstance(ctx context.Context, tx bindery.Tx, i bindery.Instance) error {
	from := i.State
	if from == bindery.StateRemoving {
		return nil
	}
	i.State, i.Updated = bindery.StateRemoving, b.Now()
	return tx.Instances().Save(ctx, i, from)
}

// overtake ends what is in progress on a subject that is about to be removed:
// a create, or the engine's own work; the zero Operation is nothing. A removal
// that the platform asked for before goes on: joins is true then. Anything else
// is CodeBusy.
func (b *Broker) overtake(ctx context.Context, tx bindery.Tx, i bindery.Instance, binding bindery.Binding) (_ bindery.Operation, joins bool, _ error) {
	o, err := tx.Operations().Active(ctx, i.Row, binding.Row)
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound:
		return bindery.Operation{}, false, nil
	case err != nil:
		return bindery.Operation{}, false, err
	case o.Kind.Removes() && !o.Internal:
		return o, true, nil
	case !o.Internal && !o.Kind.Creates():
		return bindery.Operation{}, false, errBusy
	}
	message := "it was deleted while it was being created"
	if o.Internal {
		message = "a request for the removal took over"
	}
	o = b.fail(o, bindery.CodeBusy, message)
	return o, false, b.end(ctx, tx, o, i.ID, binding.ID, "")
}
