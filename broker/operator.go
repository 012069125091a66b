package broker

import (
	"context"

	"bindery"
)

// Retry makes an operation that waits for its next attempt due now. Errors:
// CodeNotFound, CodeConflict for one that has ended.
func (b *Broker) Retry(ctx context.Context, row int64) error {
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		o, err := inProgress(ctx, tx, row)
		if err != nil || o.Owner != 0 {
			return err // one that runs needs no push
		}
		o.Due = b.Now()
		return tx.Operations().Save(ctx, o)
	})
	if err == nil {
		b.Queue.Wake()
	}
	return err
}

// Cancel ends an operation, with the reason in the audit. A create or an update
// is undone. A removal stays unfinished: what it was to remove may still be
// there, and the platform may ask for the removal again. A binding is removed at
// the end of its lifetime all the same. Errors: CodeNotFound, CodeConflict for one
// that has ended, CodeUnsupported for an undo.
func (b *Broker) Cancel(ctx context.Context, row int64, reason string) error {
	o, err := b.look(ctx, row)
	if err != nil {
		return notFound(err, unknownOperation())
	}
	switch {
	case o.State != bindery.OpInProgress:
		return errEnded()
	case o.Internal && o.Kind != bindery.OpRestore:
		return bindery.Errorf(bindery.CodeUnsupported, "Bindery's own removals cannot be canceled: what they remove would be left behind")
	}
	// Not CodeGone: a platform would take a canceled removal for a removal.
	cause := bindery.Errorf(bindery.CodeUnavailable, "an operator canceled it: %s", reason)
	if o.Kind.Creates() || o.Kind == bindery.OpUpdate {
		err = b.undo(ctx, o, cause)
	} else {
		err = b.abandon(ctx, o, cause)
	}
	if bindery.CodeOf(err) == bindery.CodeBusy {
		return errEnded()
	}
	return err
}

// abandon ends an operation and begins nothing in its place.
func (b *Broker) abandon(ctx context.Context, o bindery.Operation, cause *bindery.Error) error {
	var failed bindery.Operation
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		now, err := inProgress(ctx, tx, o.Row)
		if err != nil {
			return err
		}
		i, err := tx.Instances().Get(ctx, now.InstanceRow)
		if err != nil {
			return err
		}
		bindingID := ""
		if now.BindingRow != 0 {
			binding, err := tx.Bindings().Get(ctx, now.BindingRow)
			if err != nil {
				return err
			}
			bindingID = binding.ID
			if err := giveUp(ctx, tx, binding); err != nil {
				return err
			}
		}
		failed = b.fail(now, cause.Code, cause.Message)
		return b.end(ctx, tx, failed, i.ID, bindingID, "")
	})
	if err == nil {
		b.announce(failed)
		b.Queue.Interrupt(failed.Row)
	}
	return err
}

// Restore makes a live account again that its server lost. CodeBusy where
// something else is in progress on the binding or its instance, which will do
// as well; nobody waits for the end.
func (b *Broker) Restore(ctx context.Context, bindingRow int64) error {
	row, err := b.Store.NewID(ctx)
	if err != nil {
		return err
	}
	var op bindery.Operation
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		binding, err := tx.Bindings().Get(ctx, bindingRow)
		if err != nil {
			return err
		}
		i, err := tx.Instances().Get(ctx, binding.InstanceRow)
		if err != nil {
			return err
		}
		if binding.State != bindery.StateReady || i.State != bindery.StateReady {
			return errBusy
		}
		op = b.operation(row, bindery.OpRestore, Caller{}, i, binding.Row)
		op.Internal = true
		if b.Queue.Crowded(i.Server) {
			op.Owner = 0 // to be claimed when there is room
		}
		return tx.Operations().Add(ctx, op)
	})
	if err == nil {
		b.Queue.Submit(op)
	}
	return err
}

func inProgress(ctx context.Context, tx bindery.Tx, row int64) (bindery.Operation, error) {
	o, err := tx.Operations().Get(ctx, row)
	switch {
	case err != nil:
		return o, notFound(err, unknownOperation())
	case o.State != bindery.OpInProgress:
		return o, errEnded()
	}
	return o, nil
}

func unknownOperation() error {
	return bindery.Errorf(bindery.CodeNotFound, "there is no such operation")
}
func errEnded() error { return bindery.Errorf(bindery.CodeConflict, "the operation has ended") }

// giveUp lets a binding whose removal goes on no more end at its time all the same.
func giveUp(ctx context.Context, tx bindery.Tx, binding bindery.Binding) error {
	if binding.State != bindery.StateRemoving {
		return nil
	}
	return tx.Bindings().Save(ctx, binding, bindery.StateRemoving)
}
