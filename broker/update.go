package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"bindery"
)

// Update changes an instance's plan, parameters, context or maintenance level.
// What a request does not name stays; parameters that it names are merged over
// those that there are, by their top-level keys. A repeat joins the wait of the
// one that runs. Errors: CodeNotFound, CodeGone, CodeInvalid, CodeUnsupported,
// CodeQuota, CodeBusy, CodeMaintenanceConflict, CodeAsyncRequired, CodeTimeout.
// After an error nothing is changed, or it is being changed back.
func (b *Broker) Update(ctx context.Context, c Caller, r UpdateRequest) (Result, error) {
	sent, err := canonical(r.Parameters)
	if err != nil {
		return Result{}, err
	}
	for range attempts {
		i, running, err := b.surveyUpdate(ctx, c, r)
		if err != nil {
			return Result{}, err
		}
		w, target, err := b.plead(c, r, sent, i)
		if err != nil {
			return Result{}, err
		}
		request, err := json.Marshal(w)
		if err != nil {
			return Result{}, err
		}
		// The first answer, 202 too, says where the dashboard will be.
		shown := i
		shown.DashboardURL = w.grant(i).DashboardURL
		if running.Row != 0 {
			if running.Internal || running.Kind != bindery.OpUpdate || running.Request.Reveal() != string(request) {
				return Result{}, errBusy
			}
			return b.instanceResult(ctx, shown, running, true)(b.joined(ctx, c, running))
		}
		if i.State != bindery.StateReady {
			return Result{}, errBusy
		}
		if nothing(i, w.grant(i)) {
			return b.note(ctx, i, w)
		}
		op, err := b.recordUpdate(ctx, c, i, target, bindery.NewSecret(string(request)))
		if bindery.CodeOf(err) == bindery.CodeConflict {
			continue
		}
		if err != nil {
			return Result{}, err
		}
		return b.instanceResult(ctx, shown, op, false)(b.begin(ctx, c, op))
	}
	return Result{}, errBusy
}

func (b *Broker) surveyUpdate(ctx context.Context, c Caller, r UpdateRequest) (i bindery.Instance, running bindery.Operation, err error) {
	err = b.Store.View(ctx, func(tx bindery.Tx) error {
		running = bindery.Operation{}
		if i, err = tx.Instances().Find(ctx, c.Platform, r.InstanceID); err != nil {
			return notFound(err, unknownInstance(r.InstanceID))
		}
		if i.State == bindery.StateRemoved {
			return unknownInstance(r.InstanceID)
		}
		running, err = tx.Operations().Active(ctx, i.Row, 0)
		if bindery.CodeOf(err) == bindery.CodeNotFound {
			return nil
		}
		return err
	})
	return i, running, err
}

// plead checks an update against the catalog and the driver, and says what it
// would make of the instance.
func (b *Broker) plead(c Caller, r UpdateRequest, sent bindery.Secret, i bindery.Instance) (w wish, target *bindery.Plan, err error) {
	if r.OfferingID != i.OfferingID {
		return w, nil, bindery.Errorf(bindery.CodeInvalid, "service_id is not that of service instance %q, and cannot be changed", r.InstanceID)
	}
	offering, current, err := b.plan(i.OfferingID, i.PlanID)
	if err != nil {
		return w, nil, err
	}
	target = current
	if r.PlanID != "" && r.PlanID != i.PlanID {
		if target, err = changedPlan(offering, current, r.PlanID, i.Server); err != nil {
			return w, nil, err
		}
	}
	if err := check(target.Schemas.InstanceUpdate, sent); err != nil && !sent.Empty() {
		return w, nil, err
	}
	merged, err := merge(i.Parameters, sent)
	if err != nil {
		return w, nil, err
	}
	w = wish{PlanID: target.ID, Parameters: raw(merged), Context: r.Context, Maintenance: i.MaintenanceVersion}
	if target != current {
		w.Maintenance, w.DashboardURL = target.MaintenanceVersion, dashboard(offering, target, i.ID)
	}
	if r.MaintenanceVersion != nil {
		if *r.MaintenanceVersion != target.MaintenanceVersion {
			return w, nil, maintenanceConflict()
		}
		w.Maintenance = target.MaintenanceVersion
	}
	d, err := b.driver(i.Server)
	if err != nil {
		return w, nil, err
	}
	if changer, ok := bindery.Capability[bindery.Changer](d); ok {
		if err := changer.CanChange(Spec(i, current), Spec(w.grant(i), target)); err != nil {
			return w, nil, err
		}
	}
	if (current.AsyncRequired || target.AsyncRequired) && !c.CanPoll && !nothing(i, w.grant(i)) {
		return w, nil, errPoll
	}
	return w, target, nil
}

// changedPlan finds the plan that an instance is to move to, if it may.
func changedPlan(o *bindery.Offering, from *bindery.Plan, id, server string) (*bindery.Plan, error) {
	to := o.Plan(id)
	switch {
	case to == nil:
		return nil, bindery.Errorf(bindery.CodeInvalid, "there is no such plan_id in the offering")
	case !from.CanChange(o):
		return nil, bindery.Errorf(bindery.CodeUnsupported, "instances of plan %s cannot change their plan", from.Name)
	case to.Retired:
		return nil, bindery.Errorf(bindery.CodeUnsupported, "plan %s is retired", to.Name)
	case to.Kind != from.Kind || to.Exclusive != from.Exclusive || !slices.Contains(to.Servers, server):
		return nil, bindery.Errorf(bindery.CodeUnsupported, "plan %s is not offered where this instance is", to.Name)
	}
	return to, nil
}

// merge lays the keys of an object over those of another.
func merge(have, sent bindery.Secret) (bindery.Secret, error) {
	if sent.Empty() || have.Empty() {
		if sent.Empty() {
			return have, nil
		}
		return sent, nil
	}
	var all, over map[string]json.RawMessage
	if json.Unmarshal(raw(have), &all) != nil || json.Unmarshal(raw(sent), &over) != nil {
		return have, bindery.Errorf(bindery.CodeInvalid, "parameters: not a JSON object")
	}
	for k, v := range over {
		all[k] = v
	}
	out, err := json.Marshal(all)
	if err != nil {
		return have, err
	}
	return canonical(out)
}

// nothing reports whether two forms of an instance differ in nothing that a backend knows.
func nothing(a, b bindery.Instance) bool {
	return a.PlanID == b.PlanID && a.MaintenanceVersion == b.MaintenanceVersion && a.Parameters.Equal(b.Parameters)
}

// note keeps a new context; nothing else is to be done.
func (b *Broker) note(ctx context.Context, i bindery.Instance, w wish) (Result, error) {
	if len(w.Context) > 0 && !bytes.Equal(w.Context, i.Context) {
		i.Context, i.Updated = w.Context, b.Now()
		err := b.Store.Update(ctx, func(tx bindery.Tx) error {
			now, err := tx.Instances().Get(ctx, i.Row)
			if err != nil {
				return err
			}
			now.Context, now.Updated = i.Context, i.Updated
			return tx.Instances().Save(ctx, now, bindery.StateReady)
		})
		if err != nil {
			return Result{}, err
		}
	}
	return Result{Outcome: Done, Instance: i}, nil
}

// recordUpdate writes an update down. CodeConflict: the instance is not what was
// checked any more.
func (b *Broker) recordUpdate(ctx context.Context, c Caller, seen bindery.Instance, target *bindery.Plan, request bindery.Secret) (op bindery.Operation, err error) {
	row, err := b.Store.NewID(ctx)
	if err != nil {
		return op, err
	}
	if b.Queue.Full(seen.Server) {
		return op, errFull
	}
	op = b.operation(row, bindery.OpUpdate, c, seen, 0)
	op.Request, op.Deadline = request, b.deadline(target)
	err = b.Store.Update(ctx, func(tx bindery.Tx) error {
		i, err := tx.Instances().Get(ctx, seen.Row)
		if err != nil {
			return err
		}
		if i.State != bindery.StateReady || !i.Updated.Equal(seen.Updated) {
			return bindery.Errorf(bindery.CodeConflict, "the instance has changed meanwhile")
		}
		// What changes the instance excludes work on its bindings.
		busy, err := tx.Operations().ActiveOfBindings(ctx, i.Row, 1)
		if err != nil {
			return err
		}
		if len(busy) > 0 {
			return errBusy
		}
		if target.ID != i.PlanID {
			if err := instanceQuota(ctx, tx, c.Platform, target); err != nil {
				return err
			}
		}
		i.State, i.Updated = bindery.StateUpdating, b.Now()
		if err := tx.Instances().Save(ctx, i, bindery.StateReady); err != nil {
			return err
		}
		return tx.Operations().Add(ctx, op)
	})
	return op, err
}
