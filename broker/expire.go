package broker

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bindery"
)

const (
	// expiryIdle bounds the pause of the expirer: other processes make bindings too.
	expiryIdle = 5 * time.Second
	// expiryBatch is how many bindings are looked at together, expiryWidth how many
	// operations are recorded beside each other, so that they share commits.
	expiryBatch = 1000
	expiryWidth = 16
	// expiryBusy is the pause where something else is in progress on an instance.
	expiryBusy = 250 * time.Millisecond
)

// RunExpiry unbinds every binding at the end of its lifetime, until ctx ends.
// The queue bounds how many end at once.
func (b *Broker) RunExpiry(ctx context.Context) error {
	for sleep(ctx, b.expireDue(ctx), b.expiries.rung()) {
	}
	return nil
}

// expireDue begins the end of what is due, and returns how long nothing else is.
func (b *Broker) expireDue(ctx context.Context) time.Duration {
	var due []bindery.Binding
	var next time.Time
	var some bool
	err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
		if due, err = tx.Bindings().Expiring(ctx, b.Now().Add(time.Microsecond), expiryBatch); err != nil || len(due) > 0 {
			return err
		}
		next, some, err = tx.Bindings().NextExpiry(ctx)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			b.Log.WarnContext(ctx, "looking for what expires", "error", err.Error())
		}
		return time.Second
	}
	if len(due) == 0 {
		left := next.Sub(b.Now())
		switch {
		case !some:
			return expiryIdle
		case left <= 0:
			return expiryBusy
		}
		return min(left, expiryIdle)
	}
	var left atomic.Int32
	var g errgroup.Group
	g.SetLimit(expiryWidth)
	for _, binding := range due {
		g.Go(func() error {
			err := b.expire(ctx, binding.Row)
			if err == nil {
				return nil
			}
			left.Add(1)
			if ctx.Err() == nil && bindery.CodeOf(err) != bindery.CodeBusy {
				b.Log.WarnContext(ctx, "binding not expired yet", "instance", binding.InstanceID, "binding", binding.ID, "error", err.Error())
			}
			return nil
		})
	}
	_ = g.Wait()
	if left.Load() > 0 {
		return expiryBusy
	}
	return 0
}

// expire begins the end of a binding whose time has come; nobody waits for it.
// CodeBusy: something else is in progress on its instance.
func (b *Broker) expire(ctx context.Context, row int64) error {
	id, err := b.Store.NewID(ctx)
	if err != nil {
		return err
	}
	j := &job{}
	var op, old bindery.Operation
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		op, old = bindery.Operation{}, bindery.Operation{}
		binding, err := tx.Bindings().Get(ctx, row)
		if err != nil || !b.expired(binding) {
			return err
		}
		if left, err := leftAlone(ctx, tx, binding); err != nil || !left {
			return err // another process was faster
		}
		if j.instance, err = tx.Instances().Get(ctx, binding.InstanceRow); err != nil {
			return err
		}
		if old, _, err = b.overtake(ctx, tx, j.instance, binding); err != nil {
			return err
		}
		if err := free(ctx, tx, j.instance); err != nil {
			return err
		}
		if j.binding, j.accounts, err = b.condemnBinding(ctx, tx, binding); err != nil {
			return err
		}
		op = b.operation(id, bindery.OpExpire, Caller{Actor: "bindery"}, j.instance, binding.Row)
		op.Internal = true
		if b.Queue.Crowded(op.Server) {
			op.Owner = 0 // to be claimed when there is room
		}
		return tx.Operations().Add(ctx, op)
	})
	if err != nil || op.Row == 0 {
		return err
	}
	if _, plan, missing := b.plan(j.instance.OfferingID, j.instance.PlanID); missing == nil && op.Owner != 0 {
		j.plan = plan
		b.jobs.Store(op.Row, j)
	}
	if old.Row != 0 {
		b.announce(old)
		b.Queue.Interrupt(old.Row)
	}
	b.Queue.Submit(op)
	return nil
}

// leftAlone reports whether nobody removes a binding: it is ready, or an operator
// canceled its removal, or that of its instance which took it over.
func leftAlone(ctx context.Context, tx bindery.Tx, binding bindery.Binding) (bool, error) {
	if binding.State != bindery.StateRemoving {
		return binding.State == bindery.StateReady, nil
	}
	_, err := tx.Operations().Active(ctx, binding.InstanceRow, binding.Row)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return true, nil
	}
	return false, err
}
