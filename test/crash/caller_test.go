package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"bindery"
	"bindery/client"
)

// An outcome is how a call ended, after all its repetitions.
type outcome string

const (
	done    outcome = "done"    // acknowledged
	gone    outcome = "gone"    // 410: there is none (any more)
	refused outcome = "refused" // for good
	failed  outcome = "failed"  // the operation ended so
	lost    outcome = "lost"    // the caller gave up without knowing
	stuck   outcome = "stuck"   // no end within callLimit
)

// callLimit is how long a caller repeats one call.
const callLimit = 3 * time.Minute

// A caller calls as platforms do: again and again until it knows, or it gives up.
type caller struct {
	*world
	last   error       // why the last try was not the last
	unsure bool        // some try of this call ended without an answer
	giveUp func() bool // asked after such a try; nil: never
	// syncOnly leaves accepts_incomplete away.
	syncOnly bool
}

// carry makes a call until it has ended.
func (k *caller) carry(ctx context.Context, p client.Pending, call func(context.Context, *client.OSB) (client.Answer, error)) outcome {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	k.last, k.unsure = nil, false
	for {
		osb := k.osb()
		osb.SyncOnly = k.syncOnly
		answer, err := call(ctx, osb)
		if err == nil && answer.InProgress() {
			p.Operation = answer.Operation
			err = k.follow(ctx, p)
		}
		if err == nil {
			return done
		}
		k.last = err
		_, isFailed := errors.AsType[*client.FailedError](err)
		e, isAnswer := errors.AsType[*client.Error](err)
		switch {
		case ctx.Err() != nil:
			return stuck
		case isFailed:
			return failed
		case !isAnswer:
			return refused
		case e.Status == http.StatusInternalServerError:
			k.Errorf("%s %s answered 500: %v", e.Method, e.Path, err)
		case e.Code() == bindery.CodeGone:
			return gone
		case e.Code() == bindery.CodeBusy: // the try before goes on
		case e.Status != 0 && !e.Malformed && e.Status < 500 && e.Status != http.StatusTooManyRequests:
			return refused
		default:
			k.unsure = true
			if k.giveUp != nil && k.giveUp() {
				return lost
			}
		}
		select {
		case <-ctx.Done():
			return stuck
		case <-tick.C:
		}
	}
}

// follow asks about an operation until it has ended.
func (k *caller) follow(ctx context.Context, p client.Pending) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last, err := k.osb().LastOperation(ctx, p)
		e, isAnswer := errors.AsType[*client.Error](err)
		switch {
		case err == nil && last.State == bindery.OpSucceeded:
			return nil
		case err == nil && last.State == bindery.OpFailed:
			return &client.FailedError{Pending: p, Last: last}
		case err == nil:
		case p.Removing && bindery.CodeOf(err) == bindery.CodeGone:
			return nil
		case !isAnswer || e.Status != 0 && !e.Malformed && e.Status < 500:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, and the last answer was %s %s", ctx.Err(), last.State, last.Description)
		case <-tick.C:
		}
	}
}

func (k *caller) provision(ctx context.Context, service, id string) outcome {
	return k.carry(ctx, client.Pending{InstanceID: id}, func(ctx context.Context, osb *client.OSB) (client.Answer, error) {
		a, err := osb.Provision(ctx, id, client.ProvisionRequest{
			ServiceID: service, PlanID: planOf(service), OrganizationGUID: "org", SpaceGUID: "space",
		})
		return a.Answer, err
	})
}

func (k *caller) deprovision(ctx context.Context, service, id string) outcome {
	return k.carry(ctx, client.Pending{InstanceID: id, Removing: true}, func(ctx context.Context, osb *client.OSB) (client.Answer, error) {
		return osb.Deprovision(ctx, id, service, planOf(service))
	})
}

func (k *caller) unbind(ctx context.Context, service, instance, id string) outcome {
	p := client.Pending{InstanceID: instance, BindingID: id, Removing: true}
	return k.carry(ctx, p, func(ctx context.Context, osb *client.OSB) (client.Answer, error) {
		return osb.Unbind(ctx, instance, id, service, planOf(service))
	})
}

// bind makes a binding; with a predecessor it is a rotation.
func (k *caller) bind(ctx context.Context, service, instance, id, predecessor string) (outcome, client.Credentials) {
	var b client.Binding
	p := client.Pending{InstanceID: instance, BindingID: id}
	got := k.carry(ctx, p, func(ctx context.Context, osb *client.OSB) (client.Answer, error) {
		r := client.BindRequest{ServiceID: service, PlanID: planOf(service)}
		if predecessor != "" {
			r = client.BindRequest{PredecessorBindingID: predecessor}
		}
		var err error
		b, err = osb.Bind(ctx, instance, id, r)
		return b.Answer, err
	})
	if got != done || !b.Credentials.IsZero() {
		return got, b.Credentials
	}
	fetched, err := k.fetch(ctx, instance, id)
	if err != nil {
		k.last = err
		return refused, b.Credentials
	}
	return done, fetched
}

// fetch gets a binding that is there.
func (k *caller) fetch(ctx context.Context, instance, id string) (client.Credentials, error) {
	var c client.Credentials
	got := k.carry(ctx, client.Pending{}, func(ctx context.Context, osb *client.OSB) (client.Answer, error) {
		b, err := osb.Binding(ctx, instance, id)
		c = b.Credentials
		return client.Answer{Status: http.StatusOK}, err
	})
	switch {
	case got != done:
		return c, fmt.Errorf("fetch %s: %s: %w", id, got, k.last)
	case c.IsZero():
		return c, fmt.Errorf("fetch %s: no credentials", id)
	}
	return c, nil
}
