package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"bindery"
)

// Work does what an operation says and records its end. It can be repeated at
// any point, by any process. An error means that it must be: then nothing of it
// counts. It returns nil for an operation that somebody else ended.
func (b *Broker) Work(ctx context.Context, o bindery.Operation) error {
	err := b.work(ctx, o)
	if err == nil {
		return nil
	}
	b.jobs.Delete(o.Row)
	if ctx.Err() != nil {
		return err
	}
	if now, looked := b.look(ctx, o.Row); looked == nil && (now.State != bindery.OpInProgress || now.Fence != o.Fence) {
		return nil // a delete or an operator was faster, or another process claimed it
	}
	late := !o.Deadline.IsZero() && !b.Now().Before(o.Deadline)
	if o.Undo || o.Kind.Removes() || !final(err) && !late {
		return err
	}
	cause := bindery.Errorf(bindery.CodeOf(err), "%s", bindery.MessageOf(err))
	if !final(err) {
		cause = bindery.Errorf(bindery.CodeTimeout, "it did not succeed in time (%s)", bindery.MessageOf(err))
	}
	b.Log.WarnContext(ctx, "operation failed for good", "operation", o.Token(), "kind", string(o.Kind), "error", err.Error())
	if o.Kind == bindery.OpRestore {
		return b.abandon(ctx, o, cause)
	}
	return b.undo(ctx, o, cause)
}

func (b *Broker) work(ctx context.Context, o bindery.Operation) (err error) {
	defer b.guard(ctx, o, &err)
	j, err := b.job(ctx, o)
	if err != nil {
		return err
	}
	d, err := b.driver(o.Server)
	if err != nil {
		return err
	}
	switch o.Kind {
	case bindery.OpProvision:
		return b.provision(ctx, d, j, o)
	case bindery.OpUpdate:
		return b.update(ctx, d, j, o)
	case bindery.OpBind, bindery.OpRestore:
		return b.ensure(ctx, d, j, o)
	case bindery.OpUnbind, bindery.OpExpire:
		return b.unbind(ctx, d, j, o)
	case bindery.OpDeprovision:
		return b.deprovision(ctx, d, j, o)
	}
	return bindery.Errorf(bindery.CodeInternal, "unknown kind of operation")
}

// guard turns a panic into an error, so that a create that panics is undone like
// any other that fails, and none takes the process with it.
func (b *Broker) guard(ctx context.Context, o bindery.Operation, err *error) {
	if p := recover(); p != nil {
		b.Log.ErrorContext(ctx, "operation panicked", "operation", o.Token(), "kind", string(o.Kind),
			"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = errors.New("panic")
	}
}

// fresh is how long what a request recorded counts as what there is. An operation
// that waited longer for a worker may have been ended meanwhile, by a delete that
// another process answered.
const fresh = time.Second

// job finds what an operation works on: kept by the request that recorded it, else read.
func (b *Broker) job(ctx context.Context, o bindery.Operation) (*job, error) {
	if kept, ok := b.jobs.Load(o.Row); ok && o.Attempts == 0 && b.Now().Sub(o.Created) < fresh {
		return kept.(*job), nil
	}
	j := &job{}
	err := b.Store.View(ctx, func(tx bindery.Tx) error {
		now, err := tx.Operations().Get(ctx, o.Row)
		if err != nil {
			return err
		}
		if now.State != bindery.OpInProgress || now.Fence != o.Fence {
			return errEnded() // nothing may be made for it any more
		}
		j.binding, j.account = bindery.Binding{}, bindery.Account{}
		if o.BindingRow != 0 {
			if j.binding, err = tx.Bindings().Get(ctx, o.BindingRow); err != nil {
				return err
			}
		}
		return j.load(ctx, tx, o.InstanceRow)
	})
	if err != nil {
		return nil, err
	}
	_, j.plan, err = b.plan(j.instance.OfferingID, j.instance.PlanID)
	return j, err
}

func (b *Broker) provision(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) error {
	if err := d.Provision(ctx, Spec(j.instance, j.plan)); err != nil {
		return err
	}
	o, i := b.succeed(o), j.instance
	i.State, i.Updated = bindery.StateReady, o.Finished
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.end(ctx, tx, o, i.ID, "", ""); err != nil {
			return err
		}
		return tx.Instances().Save(ctx, i, bindery.StateCreating)
	})
	if err == nil {
		b.announce(o)
	}
	if bindery.CodeOf(err) == bindery.CodeBusy {
		b.outrun(ctx, d, j, o)
	}
	return err
}

// outrunLimit bounds the taking back: whoever waits for the worker waits for it.
const outrunLimit = 15 * time.Second

// outrun takes back what was made for an operation that somebody else had ended
// meanwhile, where that was a removal: it may have looked before. Where this
// fails, reconcile finds what is left.
func (b *Broker) outrun(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) {
	// Whoever ended the operation has ended its context as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outrunLimit)
	defer cancel()
	var i bindery.Instance
	var accounts []bindery.Account
	err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
		if o.BindingRow != 0 {
			accounts, err = tx.Accounts().OfBinding(ctx, o.BindingRow)
			return err
		}
		i, err = tx.Instances().Get(ctx, o.InstanceRow)
		return err
	})
	if err == nil && removing(i) {
		err = d.Deprovision(ctx, Spec(j.instance, j.plan))
	}
	for _, a := range accounts {
		if err == nil && (a.State == bindery.AccountRemoving || a.State == bindery.AccountGone || a.State.Pending()) {
			if a.Row == j.account.Row && a.Material.Empty() {
				a.Material = j.account.Material // it was proven dead, and is alive again
			}
			err = d.Revoke(ctx, Spec(j.instance, j.plan), a)
		}
	}
	if err != nil {
		b.Log.WarnContext(ctx, "what was made too late may be left", "operation", o.Token(), "error", err.Error())
	}
}

// ensure makes a binding's account, for the first time or again.
func (b *Broker) ensure(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) error {
	wanted := j.account
	wanted.Tries = max(o.Attempts, int(o.Fence)-1) // each run has claimed it, or failed
	made, err := d.Ensure(ctx, Spec(j.instance, j.plan), wanted)
	if err != nil {
		return err
	}
	o, a, binding := b.succeed(o), j.account, j.binding
	from := a.State
	a.State, a.Details, a.Updated = bindery.AccountLive, made.Details, o.Finished
	if !made.Expires.IsZero() {
		a.Expires = made.Expires
	}
	if !made.Material.Empty() {
		a.Material = made.Material
	}
	ready := binding
	ready.State, ready.Updated = bindery.StateReady, o.Finished
	ready = sooner(j.plan, ready, made.Expires)
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.end(ctx, tx, o, binding.InstanceID, binding.ID, a.Name); err != nil {
			return err
		}
		if err := b.orphans(ctx, tx, d, o, binding, j.account); err != nil {
			return err
		}
		if binding.State == bindery.StateCreating {
			if err := tx.Bindings().Save(ctx, ready, bindery.StateCreating); err != nil {
				return err
			}
		}
		return tx.Accounts().Save(ctx, a, from)
	})
	if err == nil {
		j.live.Store(&live{ready, a})
		b.announce(o)
		if !ready.Expires.IsZero() && ready.Expires.Sub(b.Now()) < expiryIdle { // else the expirer looks in time
			b.expiries.ring()
		}
	}
	if bindery.CodeOf(err) == bindery.CodeBusy {
		b.outrun(ctx, d, j, o)
	}
	return err
}

func (b *Broker) unbind(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) error {
	gone, err := b.revoke(ctx, d, j, j.accounts)
	if err != nil {
		return err
	}
	o = b.succeed(o)
	u := undertakerOf(d, j.plan)
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.end(ctx, tx, o, j.binding.InstanceID, j.binding.ID, names(gone)); err != nil {
			return err
		}
		if err := b.orphans(ctx, tx, d, o, j.binding, neverLive(gone)...); err != nil {
			return err
		}
		return b.bury(ctx, tx, u, j.binding, gone)
	})
	if err == nil {
		b.announce(o)
		b.buried(u, o.Server)
	}
	return err
}

// neverLive are the accounts that no backend confirmed.
func neverLive(accounts []bindery.Account) (out []bindery.Account) {
	for _, a := range accounts {
		if len(a.Details) == 0 {
			out = append(out, a)
		}
	}
	return out
}

// orphans records what calls for these accounts may have left on a server that
// names accounts itself.
func (b *Broker) orphans(
	ctx context.Context, tx bindery.Tx, d bindery.Driver, o bindery.Operation, binding bindery.Binding, accounts ...bindery.Account,
) error {
	names, ok := bindery.Capability[bindery.Orphaner](d)
	if !ok {
		return nil
	}
	for _, a := range accounts {
		left := names.Orphan(a)
		if left == "" {
			continue
		}
		if err := tx.Events().Add(ctx, bindery.Event{
			At: b.Now(), Platform: o.Platform, Actor: "bindery", RequestID: o.RequestID, Action: "orphan",
			InstanceID: binding.InstanceID, BindingID: binding.ID, Account: a.Name,
			Result: string(bindery.OpFailed), Message: left,
		}); err != nil {
			return err
		}
	}
	return nil
}

// revoke removes accounts from the backend, and returns those that were not gone
// before. Nothing is recorded.
func (b *Broker) revoke(ctx context.Context, d bindery.Driver, j *job, accounts []bindery.Account) (gone []bindery.Account, err error) {
	for _, a := range accounts {
		if a.State == bindery.AccountGone || a.State.Pending() {
			continue
		}
		if err := d.Revoke(ctx, Spec(j.instance, j.plan), a); err != nil {
			return nil, err
		}
		gone = append(gone, a)
	}
	return gone, nil
}

func names(accounts []bindery.Account) string {
	if len(accounts) == 0 {
		return ""
	}
	return accounts[0].Name
}

const (
	// cascade is how many bindings of an instance are removed beside each other.
	cascade = 4
	// page is how many are read at once.
	page = 200
)

func (b *Broker) deprovision(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) error {
	for {
		var left []bindery.Binding
		if err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
			left, err = tx.Bindings().List(ctx, bindery.BindingFilter{InstanceRow: o.InstanceRow}, bindery.Page{Limit: page})
			return err
		}); err != nil {
			return err
		}
		if len(left) == 0 {
			break
		}
		g, part := errgroup.WithContext(ctx)
		g.SetLimit(cascade)
		for _, binding := range left {
			g.Go(func() error { return b.cascadeOne(part, d, j, o, binding) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	if err := d.Deprovision(ctx, Spec(j.instance, j.plan)); err != nil {
		return err
	}
	o, i := b.succeed(o), j.instance
	i.State, i.Parameters, i.Updated = bindery.StateRemoved, bindery.Secret{}, o.Finished
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.end(ctx, tx, o, i.ID, "", ""); err != nil {
			return err
		}
		return tx.Instances().Save(ctx, i, bindery.StateRemoving)
	})
	if err == nil {
		b.announce(o)
	}
	return err
}

// cascadeOne removes one binding that a deprovision found left.
func (b *Broker) cascadeOne(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation, binding bindery.Binding) (err error) {
	defer b.guard(ctx, o, &err)
	var accounts []bindery.Account
	if err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
		accounts, err = tx.Accounts().OfBinding(ctx, binding.Row)
		return err
	}); err != nil {
		return err
	}
	gone, err := b.revoke(ctx, d, j, accounts)
	if err != nil {
		return err
	}
	u := undertakerOf(d, j.plan)
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.orphans(ctx, tx, d, o, binding, neverLive(gone)...); err != nil {
			return err
		}
		if err := b.bury(ctx, tx, u, binding, gone); err != nil {
			return err
		}
		return tx.Events().Add(ctx, bindery.Event{
			At: b.Now(), Platform: o.Platform, Actor: o.Actor, RequestID: o.RequestID, Action: string(bindery.OpUnbind),
			InstanceID: binding.InstanceID, BindingID: binding.ID, Account: names(gone),
			Result: string(bindery.OpSucceeded), Message: "removed with its instance",
		})
	})
	if err == nil {
		b.buried(u, o.Server)
	}
	return err
}

// wish is what an update asks for, as it is kept in its operation.
type wish struct {
	PlanID       string          `json:"plan_id"`
	Parameters   json.RawMessage `json:"parameters,omitempty"`
	Context      json.RawMessage `json:"context,omitempty"`
	Maintenance  string          `json:"maintenance,omitempty"`
	DashboardURL string          `json:"dashboard_url,omitempty"` // of another plan; empty: as it is
}

// grant is the instance as the wish would have it.
func (w wish) grant(i bindery.Instance) bindery.Instance {
	i.PlanID, i.MaintenanceVersion, i.Parameters = w.PlanID, w.Maintenance, bindery.Secret{}
	if len(w.Parameters) > 0 {
		i.Parameters = bindery.NewSecret(string(w.Parameters))
	}
	if len(w.Context) > 0 {
		i.Context = w.Context
	}
	if w.DashboardURL != "" {
		i.DashboardURL = w.DashboardURL
	}
	return i
}

func (b *Broker) update(ctx context.Context, d bindery.Driver, j *job, o bindery.Operation) error {
	i, plan := j.instance, j.plan
	if !o.Undo {
		var w wish
		if err := json.Unmarshal([]byte(o.Request.Reveal()), &w); err != nil {
			return err
		}
		i = w.grant(i)
		var err error
		if _, plan, err = b.plan(i.OfferingID, i.PlanID); err != nil {
			return err
		}
	}
	if err := d.Provision(ctx, Spec(i, plan)); err != nil {
		return err
	}
	o = b.succeed(o)
	i.State, i.Updated = bindery.StateReady, o.Finished
	err := b.Store.Update(ctx, func(tx bindery.Tx) error {
		if err := b.end(ctx, tx, o, i.ID, "", ""); err != nil {
			return err
		}
		return tx.Instances().Save(ctx, i, bindery.StateUpdating)
	})
	if err == nil {
		b.announce(o)
	}
	return err
}
