package broker

import (
	"context"

	"bindery"
)

// Provision makes an instance. A repeat of a request is answered as the request
// was, or joins its wait; other attributes under the same id are CodeConflict.
// Other errors: CodeInvalid, CodeQuota, CodeBusy, CodeMaintenanceConflict,
// CodeAsyncRequired, CodeUnavailable, CodeTimeout.
func (b *Broker) Provision(ctx context.Context, c Caller, r ProvisionRequest) (Result, error) {
	parameters, err := canonical(r.Parameters)
	if err != nil {
		return Result{}, err
	}
	offering, plan, refused := b.admit(c, r, parameters)
	rows, err := b.ids(ctx)
	if err != nil {
		return Result{}, err
	}
	now := b.Now()
	i := bindery.Instance{
		Row: rows[0], Platform: c.Platform, ID: r.InstanceID, Name: bindery.Name(b.Store.Installation(), rows[0]),
		OfferingID: r.OfferingID, PlanID: r.PlanID, Organization: r.Organization, Space: r.Space,
		Parameters: parameters, Context: r.Context, State: bindery.StateCreating, Created: now, Updated: now,
	}
	if refused == nil {
		i.Kind, i.MaintenanceVersion, i.DashboardURL = plan.Kind, plan.MaintenanceVersion, dashboard(offering, plan, r.InstanceID)
	}
	var op, running bindery.Operation
	var there bindery.Instance
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		there, running = bindery.Instance{}, bindery.Operation{}
		found, err := tx.Instances().Find(ctx, c.Platform, r.InstanceID)
		switch {
		case err == nil && found.State != bindery.StateRemoved:
			there = found
			if !sameInstance(found, i) {
				return bindery.Errorf(bindery.CodeConflict, "service instance %q exists with other attributes", r.InstanceID)
			}
			switch found.State {
			case bindery.StateRemoving:
				return errBusy
			case bindery.StateCreating:
				running, err = tx.Operations().Active(ctx, found.Row, 0)
			default:
			}
			return err
		case err != nil && bindery.CodeOf(err) != bindery.CodeNotFound:
			return err
		case refused != nil:
			return refused
		}
		if i.Server, err = freeServer(ctx, tx, plan, i.Row); err != nil {
			return err
		}
		if err := instanceQuota(ctx, tx, c.Platform, plan); err != nil {
			return err
		}
		if b.Queue.Full(i.Server) {
			return errFull
		}
		op = b.operation(rows[1], bindery.OpProvision, c, i, 0)
		op.Deadline = b.deadline(plan)
		if err := tx.Instances().Add(ctx, i); err != nil {
			return err
		}
		return tx.Operations().Add(ctx, op)
	})
	switch {
	case err != nil:
		return Result{}, err
	case running.Row != 0:
		if err := b.mayPoll(c, there.OfferingID, there.PlanID); err != nil {
			return Result{}, err
		}
		return b.instanceResult(ctx, there, running, true)(b.joined(ctx, c, running))
	case there.Row != 0:
		return Result{Outcome: Same, Instance: there}, nil
	}
	b.jobs.Store(op.Row, &job{plan: plan, instance: i})
	return b.instanceResult(ctx, i, op, false)(b.begin(ctx, c, op))
}

// admit checks what a new instance must meet. It reads nothing but the catalog,
// and its refusal counts only where the id is new.
func (b *Broker) admit(c Caller, r ProvisionRequest, parameters bindery.Secret) (*bindery.Offering, *bindery.Plan, error) {
	o, p := b.Current().Plan(r.OfferingID, r.PlanID)
	switch {
	case p == nil:
		return nil, nil, bindery.Errorf(bindery.CodeInvalid, "there is no such service_id and plan_id in the catalog")
	case p.Retired:
		return nil, nil, bindery.Errorf(bindery.CodeInvalid, "plan %s is retired and takes no new instances", p.Name)
	}
	if err := check(p.Schemas.InstanceCreate, parameters); err != nil {
		return nil, nil, err
	}
	if r.MaintenanceVersion != nil && *r.MaintenanceVersion != p.MaintenanceVersion {
		return nil, nil, maintenanceConflict()
	}
	if p.AsyncRequired && !c.CanPoll {
		return nil, nil, errPoll
	}
	return o, p, nil
}

func maintenanceConflict() error {
	return bindery.Errorf(bindery.CodeMaintenanceConflict, "the maintenance_info version is not the one of the plan in the catalog")
}

// sameInstance compares what a request asks with what there is now.
func sameInstance(have, want bindery.Instance) bool {
	return have.OfferingID == want.OfferingID && have.PlanID == want.PlanID &&
		have.Organization == want.Organization && have.Space == want.Space && have.Parameters.Equal(want.Parameters)
}

// freeServer chooses where a new instance goes: spread over the plan's servers,
// or, where an instance takes a server to itself, on the first that has none.
func freeServer(ctx context.Context, tx bindery.Tx, p *bindery.Plan, row int64) (string, error) {
	if len(p.Servers) == 0 {
		return "", bindery.Errorf(bindery.CodeUnavailable, "plan %s has no server", p.Name)
	}
	if !p.Exclusive {
		return p.Servers[row%int64(len(p.Servers))], nil
	}
	for _, s := range p.Servers {
		taken, err := tx.Instances().OnServer(ctx, s)
		if err != nil {
			return "", err
		}
		if !taken {
			return s, nil
		}
	}
	return "", bindery.Errorf(bindery.CodeQuota, "every server of plan %s is taken", p.Name)
}

func instanceQuota(ctx context.Context, tx bindery.Tx, platform string, p *bindery.Plan) error {
	if p.Quota.Instances == 0 {
		return nil
	}
	n, err := tx.Instances().Count(ctx, platform, p.ID, p.Quota.Instances)
	if err != nil {
		return err
	}
	if n >= p.Quota.Instances {
		return bindery.Errorf(bindery.CodeQuota, "the quota of %d instances of plan %s is used up", p.Quota.Instances, p.Name)
	}
	return nil
}

// ids takes the rows that one request may need.
func (b *Broker) ids(ctx context.Context) (rows [3]int64, err error) {
	for i := range rows {
		if rows[i], err = b.Store.NewID(ctx); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// begin submits an operation that was just recorded and waits for it. Where the
// caller cannot wait longer and cannot poll, a create or update is undone.
func (b *Broker) begin(ctx context.Context, c Caller, o bindery.Operation) (bindery.Operation, bool, error) {
	ended, stop := b.Queue.Watch(o.Row)
	defer stop()
	b.Queue.Submit(o)
	now, done, err := b.await(ctx, c, o, ended)
	if err != nil || done || c.CanPoll {
		return now, done, err
	}
	if o.Kind.Removes() {
		return o, false, bindery.Errorf(bindery.CodeTimeout, "the removal goes on; ask again later")
	}
	return b.giveUp(ctx, o)
}

// giveUp undoes a create or update whose caller cannot wait longer.
func (b *Broker) giveUp(ctx context.Context, o bindery.Operation) (bindery.Operation, bool, error) {
	err := b.undo(ctx, o, errLate)
	if bindery.CodeOf(err) == bindery.CodeBusy { // it ended at the last moment
		if now, err := b.look(ctx, o.Row); err == nil && now.State != bindery.OpInProgress {
			return now, true, nil
		}
	}
	if err != nil {
		return o, false, bindery.Errorf(bindery.CodeTimeout, "%s", errLate.Message).Because(err)
	}
	return b.fail(o, errLate.Code, errLate.Message), true, nil
}

// instanceResult turns the end of a wait into the answer to a call on an instance.
func (b *Broker) instanceResult(ctx context.Context, i bindery.Instance, o bindery.Operation, repeated bool) func(bindery.Operation, bool, error) (Result, error) {
	return func(now bindery.Operation, done bool, err error) (Result, error) {
		switch {
		case err != nil:
			return Result{}, err
		case !done:
			return Result{Outcome: Accepted, Operation: o.Token(), Instance: i}, nil
		}
		if err := failure(now); err != nil {
			return Result{}, err
		}
		outcome := Done
		if repeated {
			outcome = Same
		}
		if o.Kind == bindery.OpUpdate { // its values are known now
			err = b.Store.View(ctx, func(tx bindery.Tx) error {
				i, err = tx.Instances().Get(ctx, i.Row)
				return err
			})
		}
		return Result{Outcome: outcome, Instance: i}, err
	}
}
