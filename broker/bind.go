package broker

import (
	"bytes"
	"context"
	"errors"

	"bindery"
)

// attempts bounds how often a request starts over because something else
// changed between its look and its transaction.
const attempts = 8

// Bind makes a binding and its account, or, with a predecessor, rotates one. A
// repeat gets the same credential; other attributes under the same id are
// CodeConflict. Other errors: CodeInvalid, CodeNotFound, CodeGone, CodeQuota,
// CodeBusy, CodeRequiresApp, CodeAsyncRequired, CodeUnavailable, CodeTimeout.
func (b *Broker) Bind(ctx context.Context, c Caller, r BindRequest) (Result, error) {
	parameters, err := canonical(r.Parameters)
	if err != nil {
		return Result{}, err
	}
	resource, err := bindery.Canonical(r.BindResource)
	if err != nil {
		return Result{}, bindery.Errorf(bindery.CodeInvalid, "bind_resource: not a JSON object").Because(err)
	}
	r.BindResource = resource
	stale := false
	for range attempts {
		s, err := b.survey(ctx, c, r)
		if err != nil {
			return Result{}, err
		}
		if s.there {
			return b.bound(ctx, c, r, parameters, s)
		}
		j, rows, err := b.draft(ctx, c, r, parameters, s)
		if err != nil {
			return Result{}, err
		}
		op, err := b.record(ctx, c, j, rows)
		if stale = errors.Is(err, errStale); stale || bindery.CodeOf(err) == bindery.CodeConflict {
			continue // the id was taken meanwhile: by a repeat of this request, or by another instance
		}
		if err != nil {
			return Result{}, err
		}
		b.jobs.Store(op.Row, j)
		now, done, err := b.begin(ctx, c, op)
		switch {
		case err != nil:
			return Result{}, err
		case !done:
			return Result{Outcome: Accepted, Operation: op.Token()}, nil
		}
		if err := failure(now); err != nil {
			return Result{}, err
		}
		return b.credential(ctx, c, r, j, Done)
	}
	if stale {
		return Result{}, errBusy
	}
	return Result{}, bindery.Errorf(bindery.CodeConflict, "service binding %q exists under another instance", r.BindingID)
}

// errStale says that an instance was updated between a look and a transaction.
var errStale = bindery.Errorf(bindery.CodeConflict, "the instance has changed meanwhile")

// A survey is what a bind finds.
type survey struct {
	instance    bindery.Instance
	there       bool // the binding exists
	binding     bindery.Binding
	predecessor *bindery.Binding
}

func (b *Broker) survey(ctx context.Context, c Caller, r BindRequest) (s survey, err error) {
	err = b.Store.View(ctx, func(tx bindery.Tx) error {
		s = survey{}
		if s.instance, err = tx.Instances().Find(ctx, c.Platform, r.InstanceID); err != nil {
			if bindery.CodeOf(err) == bindery.CodeNotFound {
				return unknownInstance(r.InstanceID)
			}
			return err
		}
		if s.instance.State == bindery.StateRemoved {
			return unknownInstance(r.InstanceID)
		}
		s.binding, err = tx.Bindings().Find(ctx, c.Platform, r.InstanceID, r.BindingID)
		if err != nil && bindery.CodeOf(err) != bindery.CodeNotFound {
			return err
		}
		s.there = err == nil && s.binding.State != bindery.StateRemoved
		if s.there || r.Predecessor == "" {
			return nil
		}
		p, err := tx.Bindings().Find(ctx, c.Platform, r.InstanceID, r.Predecessor)
		if err != nil && bindery.CodeOf(err) != bindery.CodeNotFound {
			return err
		}
		if err == nil {
			s.predecessor = &p
		}
		return nil
	})
	return s, err
}

// bound answers a bind whose id exists.
func (b *Broker) bound(ctx context.Context, c Caller, r BindRequest, parameters bindery.Secret, s survey) (Result, error) {
	have := s.binding
	same := have.Predecessor == r.Predecessor &&
		(have.OfferingID == r.OfferingID || r.OfferingID == "" && r.Predecessor != "") &&
		(have.PlanID == r.PlanID || r.PlanID == "" && r.Predecessor != "")
	if r.Predecessor == "" || len(r.Parameters) > 0 {
		same = same && have.Parameters.Equal(parameters)
	}
	if r.Predecessor == "" || r.AppGUID != "" || len(r.BindResource) > 0 {
		same = same && have.AppGUID == r.AppGUID && bytes.Equal(have.BindResource, r.BindResource)
	}
	switch {
	case !same:
		return Result{}, bindery.Errorf(bindery.CodeConflict, "service binding %q exists with other attributes", r.BindingID)
	case have.State == bindery.StateRemoving || removing(s.instance) || have.State == bindery.StateReady && b.expired(have):
		return Result{}, errBusy
	case have.State == bindery.StateCreating:
		var running bindery.Operation
		err := b.Store.View(ctx, func(tx bindery.Tx) (err error) {
			running, err = tx.Operations().Active(ctx, have.InstanceRow, have.Row)
			return err
		})
		if bindery.CodeOf(err) == bindery.CodeNotFound {
			return b.Bind(ctx, c, r) // it ended between the two looks
		}
		if err != nil {
			return Result{}, err
		}
		if err := b.mayPoll(c, have.OfferingID, have.PlanID); err != nil {
			return Result{}, err
		}
		now, done, err := b.joined(ctx, c, running)
		switch {
		case err != nil:
			return Result{}, err
		case !done:
			return Result{Outcome: Accepted, Operation: running.Token()}, nil
		}
		if err := failure(now); err != nil {
			return Result{}, err
		}
	}
	return b.Binding(ctx, c, r.InstanceID, r.BindingID)
}

// draft checks a new binding and prepares its account. Nothing is recorded.
func (b *Broker) draft(ctx context.Context, c Caller, r BindRequest, parameters bindery.Secret, s survey) (*job, [3]int64, error) {
	var rows [3]int64
	i := s.instance
	if i.State != bindery.StateReady {
		return nil, rows, errBusy
	}
	if r.Predecessor != "" {
		if err := inherit(&r, &parameters, s.predecessor, i, b); err != nil {
			return nil, rows, err
		}
	}
	if r.OfferingID != i.OfferingID || r.PlanID != i.PlanID {
		return nil, rows, bindery.Errorf(bindery.CodeInvalid, "service_id and plan_id are not those of service instance %q", r.InstanceID)
	}
	offering, plan, err := b.plan(i.OfferingID, i.PlanID)
	switch {
	case err != nil:
		return nil, rows, err
	case !plan.CanBind(offering):
		return nil, rows, bindery.Errorf(bindery.CodeInvalid, "plan %s cannot be bound", plan.Name)
	case r.Predecessor != "" && !plan.BindingRotatable:
		return nil, rows, bindery.Errorf(bindery.CodeInvalid, "bindings of plan %s cannot be rotated", plan.Name)
	case offering.RequiresApp && r.AppGUID == "":
		return nil, rows, bindery.Errorf(bindery.CodeRequiresApp, "this service binds to applications only: bind_resource.app_guid is missing")
	}
	if err := check(plan.Schemas.BindingCreate, parameters); err != nil {
		return nil, rows, err
	}
	switch {
	case plan.AsyncRequired && !c.CanPoll:
		return nil, rows, errPoll
	case b.Queue.Full(i.Server):
		return nil, rows, errFull
	}
	if rows, err = b.ids(ctx); err != nil {
		return nil, rows, err
	}
	d, err := b.driver(i.Server)
	if err != nil {
		return nil, rows, err
	}
	now := b.Now()
	inherited := r.Predecessor != "" && len(r.Parameters) == 0
	expires, renewBefore, drivers, err := limits(plan, parameters, inherited, now)
	if err != nil {
		return nil, rows, err
	}
	name := bindery.Name(b.Store.Installation(), rows[1])
	request := bindery.AccountRequest{Name: name, Parameters: raw(drivers), Expires: expires}
	j := &job{plan: plan, instance: i}
	j.recorder, _ = bindery.Capability[bindery.Recorder](d)
	var material bindery.Secret
	if stock, ok := bindery.Capability[bindery.Stocker](d); ok {
		j.taking = &taking{driver: d, items: stock.Stock(), spec: Spec(i, plan), request: request}
	} else if material, err = d.Prepare(Spec(i, plan), request); err != nil {
		return nil, rows, err
	}
	j.binding = bindery.Binding{
		Row: rows[0], InstanceRow: i.Row, Platform: c.Platform, InstanceID: i.ID, ID: r.BindingID,
		OfferingID: i.OfferingID, PlanID: i.PlanID, AppGUID: r.AppGUID, BindResource: r.BindResource,
		Context: r.Context, Parameters: parameters, Predecessor: r.Predecessor,
		Expires: expires, RenewBefore: renewBefore,
		State: bindery.StateCreating, Created: now, Updated: now,
	}
	j.account = bindery.Account{
		Row: rows[1], BindingRow: rows[0], InstanceRow: i.Row, Kind: i.Kind, Server: i.Server, Name: name,
		Material: material, Expires: expires, State: bindery.AccountWanted, Created: now, Updated: now,
	}
	return j, rows, nil
}

// inherit takes what a rotation does not say from the predecessor (OSB 2.17:
// the body may hold nothing else).
func inherit(r *BindRequest, parameters *bindery.Secret, p *bindery.Binding, i bindery.Instance, b *Broker) error {
	if p == nil || p.State != bindery.StateReady || b.expired(*p) {
		return bindery.Errorf(bindery.CodeInvalid, "predecessor_binding_id %q names no binding of this instance that could be rotated", r.Predecessor)
	}
	if r.OfferingID == "" {
		r.OfferingID = p.OfferingID
	}
	if r.PlanID == "" {
		r.PlanID = i.PlanID // which may have changed since the predecessor was made
	}
	if len(r.Parameters) == 0 {
		*parameters = p.Parameters
	}
	if r.AppGUID == "" && len(r.BindResource) == 0 {
		r.AppGUID, r.BindResource = p.AppGUID, p.BindResource
	}
	return nil
}

// record writes binding, account and operation down, before any backend hears of them.
func (b *Broker) record(ctx context.Context, c Caller, j *job, rows [3]int64) (op bindery.Operation, err error) {
	op = b.operation(rows[2], bindery.OpBind, c, j.instance, j.binding.Row)
	op.Deadline = b.deadline(j.plan)
	account := j.account
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		// A binding changes its instance: whatever else does excludes it.
		now, err := tx.Instances().Get(ctx, j.instance.Row)
		if err != nil {
			return err
		}
		if now.State != bindery.StateReady {
			return errBusy
		}
		if now.PlanID != j.instance.PlanID || !now.Parameters.Equal(j.instance.Parameters) {
			return errStale
		}
		// First, so that the quota never refuses a repeat of what used it up.
		if err := tx.Bindings().Add(ctx, j.binding); err != nil {
			return err
		}
		if q := j.plan.Quota.BindingsPerInstance; q > 0 {
			n, err := tx.Bindings().Count(ctx, j.instance.Row, q+1)
			if err != nil {
				return err
			}
			if n > q {
				return bindery.Errorf(bindery.CodeQuota, "the quota of %d bindings of this instance is used up", q)
			}
		}
		if j.taking != nil {
			if account, err = j.taking.take(ctx, tx, j.account); err != nil {
				return err
			}
		}
		if err := tx.Accounts().Add(ctx, account); err != nil {
			return err
		}
		if j.recorder != nil {
			if account.Recorded, err = j.recorder.Record(ctx, tx, account); err != nil {
				return err
			}
		}
		return tx.Operations().Add(ctx, op)
	})
	j.account = account
	if j.taking != nil {
		b.stocks.ring() // for the count of what is left
	}
	return op, err
}

// credential renders what a job's worker made, or what the store has of it.
func (b *Broker) credential(ctx context.Context, c Caller, r BindRequest, j *job, outcome Outcome) (Result, error) {
	live := j.live.Load()
	if live == nil { // another process ran it
		result, err := b.Binding(ctx, c, r.InstanceID, r.BindingID)
		result.Outcome = outcome
		return result, err
	}
	return b.render(&job{plan: j.plan, instance: j.instance, binding: live.binding, account: live.account}, outcome)
}

func (b *Broker) render(j *job, outcome Outcome) (Result, error) {
	d, err := b.driver(j.instance.Server)
	if err != nil {
		return Result{}, err
	}
	credential, err := d.Render(Spec(j.instance, j.plan), j.account)
	if err != nil {
		return Result{}, err
	}
	return Result{Outcome: outcome, Instance: j.instance, Binding: j.binding, Credential: credential}, nil
}
