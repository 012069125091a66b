package broker

import (
	"cmp"
	"context"

	"bindery"
)

// Unbind removes a binding: its account and the sessions that it has. One that
// is being created is stopped and removed. Errors: CodeNotFound, CodeGone,
// CodeInvalid, CodeBusy, CodeAsyncRequired, CodeUnavailable, CodeTimeout (the
// removal goes on).
func (b *Broker) Unbind(ctx context.Context, c Caller, r RemoveRequest) (Result, error) {
	row, err := b.Store.NewID(ctx)
	if err != nil {
		return Result{}, err
	}
	j := &job{}
	var op, old, running bindery.Operation
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		op, old, running = bindery.Operation{}, bindery.Operation{}, bindery.Operation{}
		binding, err := tx.Bindings().Find(ctx, c.Platform, r.InstanceID, r.BindingID)
		switch {
		case bindery.CodeOf(err) == bindery.CodeNotFound:
			return unknownBinding(r.BindingID)
		case err != nil:
			return err
		case binding.State == bindery.StateRemoved:
			return errGone
		case binding.OfferingID != r.OfferingID:
			return bindery.Errorf(bindery.CodeInvalid, "service_id is not that of service binding %q", r.BindingID)
		}
		i, err := tx.Instances().Get(ctx, binding.InstanceRow)
		if err != nil {
			return err
		}
		var joins bool
		if old, joins, err = b.overtake(ctx, tx, i, binding); err != nil {
			return err
		}
		if joins {
			running, old = old, bindery.Operation{}
			return b.mayPoll(c, binding.OfferingID, binding.PlanID)
		}
		if err := free(ctx, tx, i); err != nil {
			return err
		}
		if err := b.mayPoll(c, binding.OfferingID, binding.PlanID); err != nil {
			return err
		}
		if j.binding, j.accounts, err = b.condemnBinding(ctx, tx, binding); err != nil {
			return err
		}
		j.instance = i
		op = b.operation(row, bindery.OpUnbind, c, i, binding.Row)
		return tx.Operations().Add(ctx, op)
	})
	if err == nil && running.Row == 0 {
		// Without the plan the worker looks for it itself, until it is there.
		if _, plan, missing := b.plan(j.instance.OfferingID, j.instance.PlanID); missing == nil {
			j.plan = plan
			b.jobs.Store(op.Row, j)
		}
	}
	return b.removal(ctx, c, op, old, running, err)
}

// Deprovision removes an instance, its bindings first. One that is being
// created is stopped and removed. Errors: those of Unbind.
func (b *Broker) Deprovision(ctx context.Context, c Caller, r RemoveRequest) (Result, error) {
	row, err := b.Store.NewID(ctx)
	if err != nil {
		return Result{}, err
	}
	var op, old, running bindery.Operation
	var stopped []bindery.Operation
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		op, old, running, stopped = bindery.Operation{}, bindery.Operation{}, bindery.Operation{}, nil
		i, err := tx.Instances().Find(ctx, c.Platform, r.InstanceID)
		switch {
		case bindery.CodeOf(err) == bindery.CodeNotFound:
			return unknownInstance(r.InstanceID)
		case err != nil:
			return err
		case i.State == bindery.StateRemoved:
			return errGone
		case i.OfferingID != r.OfferingID:
			return bindery.Errorf(bindery.CodeInvalid, "service_id is not that of service instance %q", r.InstanceID)
		}
		var joins bool
		if old, joins, err = b.overtake(ctx, tx, i, bindery.Binding{}); err != nil {
			return err
		}
		if err := b.mayPoll(c, i.OfferingID, i.PlanID); err != nil {
			return err
		}
		if joins {
			running, old = old, bindery.Operation{}
			return nil
		}
		if b.RefuseBindings {
			if err := refuseBindings(ctx, tx, i.Row); err != nil {
				return err
			}
		}
		if stopped, err = b.stopBindings(ctx, tx, i); err != nil {
			return err
		}
		if err := b.condemnInstance(ctx, tx, i); err != nil {
			return err
		}
		op = b.operation(row, bindery.OpDeprovision, c, i, 0)
		return tx.Operations().Add(ctx, op)
	})
	if err == nil {
		for _, o := range stopped {
			b.announce(o)
			b.Queue.Interrupt(o.Row)
		}
	}
	return b.removal(ctx, c, op, old, running, err)
}

// removal waits for a removal that was recorded, or joins the one that runs.
func (b *Broker) removal(ctx context.Context, c Caller, op, old, running bindery.Operation, err error) (Result, error) {
	var done bool
	switch {
	case err != nil:
		return Result{}, err
	case running.Row != 0:
		op = running
		running, done, err = b.joined(ctx, c, op)
	default:
		if old.Row != 0 {
			b.announce(old)
			b.Queue.Interrupt(old.Row)
		}
		running, done, err = b.begin(ctx, c, op)
	}
	switch {
	case err != nil:
		return Result{}, err
	case !done:
		return Result{Outcome: Accepted, Operation: op.Token()}, nil
	}
	return Result{Outcome: Done}, failure(running)
}

// free refuses where an operation on an instance excludes what is asked on a
// binding. An instance whose removal was canceled is not ready, and is free.
func free(ctx context.Context, tx bindery.Tx, i bindery.Instance) error {
	if i.State == bindery.StateReady {
		return nil
	}
	_, err := tx.Operations().Active(ctx, i.Row, 0)
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound:
		return nil
	case err != nil:
		return err
	}
	return errBusy
}

// mayPoll refuses callers that cannot poll where the plan always works longer.
func (b *Broker) mayPoll(c Caller, offeringID, planID string) error {
	if _, p := b.Current().Plan(offeringID, planID); p != nil && p.AsyncRequired && !c.CanPoll {
		return errPoll
	}
	return nil
}

func refuseBindings(ctx context.Context, tx bindery.Tx, row int64) error {
	const most = 1000
	n, err := tx.Bindings().Count(ctx, row, most)
	if err != nil || n == 0 {
		return err
	}
	text := "bindings"
	if n == most {
		text = "bindings or more"
	}
	return bindery.Errorf(bindery.CodeInvalid, "the instance has %d %s; unbind them first", n, text)
}

// stopBindings ends the engine's own work on an instance's bindings, which the
// removal of the instance does as well. A platform's work there is CodeBusy.
func (b *Broker) stopBindings(ctx context.Context, tx bindery.Tx, i bindery.Instance) ([]bindery.Operation, error) {
	const most = 1000
	active, err := tx.Operations().ActiveOfBindings(ctx, i.Row, most)
	if err != nil || len(active) == most {
		return nil, cmp.Or(err, error(errBusy))
	}
	for n, o := range active {
		if !o.Internal {
			return nil, errBusy
		}
		binding, err := tx.Bindings().Get(ctx, o.BindingRow)
		if err != nil {
			return nil, err
		}
		if err := giveUp(ctx, tx, binding); err != nil {
			return nil, err
		}
		active[n] = b.fail(o, bindery.CodeBusy, "the removal of the instance took over")
		if err := b.end(ctx, tx, active[n], i.ID, binding.ID, ""); err != nil {
			return nil, err
		}
	}
	return active, nil
}
