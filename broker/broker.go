// Package broker is the life of service instances and service bindings:
// provision, update, bind, rotate, unbind, deprovision.
//
// Every change goes the same way. The request is checked and, with the
// operation that will carry it out, recorded in one transaction; the queue runs
// the operation; one more transaction records its end. The request waits for
// that, as long as its caller can. There is no second, synchronous path.
//
// What must be undone (a create that failed for good, that took longer than its
// caller could wait, or that was overtaken by a delete) is superseded: its
// operation fails and, in the same transaction, another one begins that removes
// whatever there may be. Only then does anybody hear of the failure.
package broker

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

// A Queue runs operations that were recorded; package queue is the one there is.
type Queue interface {
	Owner() int64
	Full(server string) bool
	Crowded(server string) bool
	Submit(bindery.Operation)
	Interrupt(row int64)
	Watch(row int64) (ended <-chan bindery.Operation, stop func())
	Ended(bindery.Operation)
	Wake()
}

// A Broker answers platforms. Its fields are set before its first use.
type Broker struct {
	Store bindery.Store
	Queue Queue
	// Drivers finds the driver of a server; ok is false for one that is not configured.
	Drivers func(server string) (d bindery.Driver, ok bool)
	// Current is the catalog as it is now.
	Current func() *bindery.Catalog
	Now     func() time.Time
	Log     *slog.Logger

	// SyncBudget is how long a caller that can poll waits before it gets 202,
	// RequestWait how long any other waits before its work is undone.
	SyncBudget, RequestWait time.Duration
	// CreateDeadline is how long a create or an update is tried. A plan's
	// maximum polling duration may end it earlier.
	CreateDeadline time.Duration
	// RefuseBindings makes a deprovision with bindings left an error; otherwise
	// they are removed first.
	RefuseBindings bool
	// Ended is told of every operation that ended; may be nil.
	Ended func(bindery.Operation)
	// Unproven is told of a server that has new accounts to be proven dead; may be nil.
	Unproven func(server string)
	// Stocked is told how much is left of a server's stock; may be nil.
	Stocked func(server string, s Stocked)

	expiries, stocks bell

	jobs sync.Map // what an operation of this process needs, by row: *job
}

// A job is what an operation works on, kept from the transaction that recorded
// it, so that the hot path reads nothing back.
type job struct {
	plan     *bindery.Plan
	instance bindery.Instance
	binding  bindery.Binding
	account  bindery.Account   // of a bind
	accounts []bindery.Account // of an unbind
	taking   *taking           // of a bind; nil: the account is not out of a stock
	recorder bindery.Recorder  // of a bind; nil: its driver keeps nothing in the store
	// live is what the worker recorded, for the request that waits; everything else
	// is only read once both have the job.
	live atomic.Pointer[live]
}

// What is live is a binding that is ready and its account.
type live struct {
	binding bindery.Binding
	account bindery.Account
}

// Catalog is what platforms may ask for.
func (b *Broker) Catalog() *bindery.Catalog { return b.Current() }

var (
	errBusy = bindery.Errorf(bindery.CodeBusy, "another operation is in progress; try again when it has ended")
	errGone = bindery.Errorf(bindery.CodeGone, "it was removed")
	errFull = bindery.Errorf(bindery.CodeUnavailable, "too much work waits for this service; try again later")
	errPoll = bindery.Errorf(bindery.CodeAsyncRequired, "this takes longer than one request; ask with accepts_incomplete=true")
	errLate = bindery.Errorf(bindery.CodeTimeout, "the work took too long and is being undone")
)

func unknownInstance(id string) error {
	return bindery.Errorf(bindery.CodeNotFound, "there is no service instance %q", id)
}

func unknownBinding(id string) error {
	return bindery.Errorf(bindery.CodeNotFound, "there is no service binding %q", id)
}

// driver finds the driver of a server.
func (b *Broker) driver(server string) (bindery.Driver, error) {
	if d, ok := b.Drivers(server); ok {
		return d, nil
	}
	return nil, bindery.Errorf(bindery.CodeUnavailable, "the server of this instance is not configured at the moment")
}

// plan finds the plan that an instance has. A reload does not lose one with instances.
func (b *Broker) plan(offeringID, planID string) (*bindery.Offering, *bindery.Plan, error) {
	if o, p := b.Current().Plan(offeringID, planID); p != nil {
		return o, p, nil
	}
	return nil, nil, bindery.Errorf(bindery.CodeUnavailable, "the plan of this instance is not configured at the moment")
}

// Spec is what a driver is told of an instance that has this plan.
func Spec(i bindery.Instance, p *bindery.Plan) bindery.InstanceSpec {
	s := bindery.InstanceSpec{Name: i.Name, Settings: p.Settings, Aliases: p.CredentialAliases}
	if !i.Parameters.Empty() {
		s.Parameters = []byte(i.Parameters.Reveal())
	}
	return s
}

// operation makes one that is in progress and belongs to this process.
func (b *Broker) operation(row int64, kind bindery.OperationKind, c Caller, i bindery.Instance, binding int64) bindery.Operation {
	now := b.Now()
	return bindery.Operation{
		Row: row, Kind: kind, Platform: i.Platform, InstanceRow: i.Row, BindingRow: binding, Server: i.Server,
		State: bindery.OpInProgress, Actor: c.Actor, RequestID: c.RequestID,
		Owner: b.Queue.Owner(), Fence: 1, Due: now, Created: now,
	}
}

// deadline is when a create or an update that still has not succeeded is undone.
func (b *Broker) deadline(p *bindery.Plan) time.Time {
	d := b.CreateDeadline
	if p.MaximumPolling > 0 {
		d = min(d, p.MaximumPolling)
	}
	return b.Now().Add(d)
}

// await waits for an operation as long as its caller can: the end of it, or,
// where done is false, the end of the wait.
func (b *Broker) await(ctx context.Context, c Caller, o bindery.Operation, ended <-chan bindery.Operation) (_ bindery.Operation, done bool, _ error) {
	limit := b.RequestWait
	if c.CanPoll {
		limit = min(limit, b.SyncBudget)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	// What another process runs is not announced here.
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case o := <-ended:
			return o, true, nil
		case <-timer.C:
			return o, false, nil
		case <-ctx.Done():
			return o, false, bindery.Errorf(bindery.CodeTimeout, "the request ended before the work did").Because(ctx.Err())
		case <-look.C:
			if now, err := b.look(ctx, o.Row); err == nil && now.State != bindery.OpInProgress {
				b.jobs.Delete(o.Row)
				return now, true, nil
			}
		}
	}
}

const lookEvery = time.Second

func (b *Broker) look(ctx context.Context, row int64) (o bindery.Operation, err error) {
	err = b.Store.View(ctx, func(tx bindery.Tx) error {
		o, err = tx.Operations().Get(ctx, row)
		return err
	})
	return o, err
}

// joined waits for an operation that another request began. A caller that
// cannot poll and sees no end learns that it should; nothing is undone.
func (b *Broker) joined(ctx context.Context, c Caller, o bindery.Operation) (_ bindery.Operation, done bool, _ error) {
	ended, stop := b.Queue.Watch(o.Row)
	defer stop()
	if now, err := b.look(ctx, o.Row); err != nil {
		return o, false, err
	} else if now.State != bindery.OpInProgress {
		return now, true, nil
	}
	o, done, err := b.await(ctx, c, o, ended)
	if err == nil && !done && !c.CanPoll {
		err = errPoll
	}
	return o, done, err
}

// failure is the error that an operation ended with; nil if it succeeded.
func failure(o bindery.Operation) error {
	if o.State != bindery.OpFailed {
		return nil
	}
	return bindery.Errorf(o.Code, "%s", o.Message)
}

// final reports whether trying again cannot help.
func final(err error) bool {
	switch bindery.CodeOf(err) {
	case bindery.CodeInvalid, bindery.CodeUnsupported, bindery.CodeQuota:
		return true
	default:
		return false
	}
}

// fail gives an operation its end.
func (b *Broker) fail(o bindery.Operation, code bindery.Code, message string) bindery.Operation {
	o.State, o.Code, o.Message, o.Finished = bindery.OpFailed, code, message, b.Now()
	return o
}

// succeed gives an operation its end.
func (b *Broker) succeed(o bindery.Operation) bindery.Operation {
	o.State, o.Problem, o.Finished = bindery.OpSucceeded, "", b.Now()
	return o
}

// end saves the operation's end and its audit event.
func (b *Broker) end(ctx context.Context, tx bindery.Tx, o bindery.Operation, instanceID, bindingID, account string) error {
	if err := tx.Operations().Save(ctx, o); err != nil {
		return err
	}
	actor := o.Actor
	if actor == "" && o.Internal {
		actor = "bindery"
	}
	return tx.Events().Add(ctx, bindery.Event{
		At: o.Finished, Platform: o.Platform, Actor: actor, RequestID: o.RequestID, Action: string(o.Kind),
		InstanceID: instanceID, BindingID: bindingID, Account: account, Result: string(o.State), Message: o.Message,
	})
}

// announce tells of an end, after the transaction that recorded it.
func (b *Broker) announce(o bindery.Operation) {
	b.jobs.Delete(o.Row)
	b.Queue.Ended(o)
	if b.Ended != nil {
		b.Ended(o)
	}
	b.Log.Info("operation", "operation", o.Token(), "kind", string(o.Kind), "platform", o.Platform,
		"server", o.Server, "state", string(o.State), "internal", o.Internal, "code", string(o.Code),
		"attempts", o.Attempts, "request_id", o.RequestID, "duration_us", o.Finished.Sub(o.Created).Microseconds())
}

// canonical is the comparable form of parameters, as a secret.
func canonical(raw []byte) (bindery.Secret, error) {
	c, err := bindery.Canonical(raw)
	if err != nil {
		return bindery.Secret{}, bindery.Errorf(bindery.CodeInvalid, "parameters: not a JSON object").Because(err)
	}
	if len(c) == 0 || string(c) == "{}" {
		return bindery.Secret{}, nil
	}
	return bindery.NewSecret(string(c)), nil
}

// check validates parameters against a schema; absent ones count as an empty object.
func check(s *bindery.Schema, parameters bindery.Secret) error {
	if s == nil || s.Check == nil {
		return nil
	}
	if parameters.Empty() {
		return s.Check([]byte("{}"))
	}
	return s.Check([]byte(parameters.Reveal()))
}

func raw(s bindery.Secret) []byte {
	if s.Empty() {
		return nil
	}
	return []byte(s.Reveal())
}

// dashboard fills the offering's template for an instance.
func dashboard(o *bindery.Offering, p *bindery.Plan, instanceID string) string {
	return strings.NewReplacer(
		"{instance_id}", url.PathEscape(instanceID),
		"{plan}", url.PathEscape(p.Name),
		"{offering}", url.PathEscape(o.Name),
	).Replace(o.DashboardURL)
}
