package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bindery"
	"bindery/api"
	"bindery/api/admin"
	"bindery/api/osb"
	"bindery/broker"
	"bindery/proof"
	"bindery/queue"
	"bindery/reconcile"
)

// An engine is what does the work between the listeners and the backends.
type engine struct {
	osb, admin api.Face
	// runs are everything that runs in the background, by name. Each ends with
	// its context, after it has drained.
	runs map[string]func(context.Context) error
	// stuck is an error where accounts that were to be dead are not.
	stuck func() error
}

// newEngine wires the broker, its queue and the reconciler to the store and
// the drivers.
func newEngine(ctx context.Context, s *service) (*engine, error) {
	measured := s.metrics.Store(s.store)
	limits := s.cfg.Limits
	q := &queue.Queue{
		Store: measured, Workers: limits.WorkersPerServer, Drain: limits.Drain / 2,
		Now: time.Now, Log: s.log, Retried: s.metrics.Retry,
	}
	b := &broker.Broker{
		Store: measured, Queue: q, Drivers: s.backends.Driver, Current: s.catalog.Load, Now: time.Now, Log: s.log,
		SyncBudget: limits.SyncBudget, RequestWait: limits.RequestWait, CreateDeadline: limits.CreateDeadline,
		RefuseBindings: s.cfg.Options.DeprovisionWithBindings == "refuse", Ended: s.metrics.Operation,
	}
	q.Work = b.Work
	prover := newProver(s, measured, q)
	b.Unproven = prover.Wake
	b.Stocked = func(server string, counts broker.Stocked) { s.metrics.Pool(server, counts) }
	if err := q.Start(ctx); err != nil {
		return nil, err
	}
	r := &reconcile.Reconciler{
		Store: measured, Servers: s.backends.compared, Restore: b.Restore,
		Interval: s.cfg.Reconcile.Interval, Now: time.Now, Log: s.log,
		Compared: func(p reconcile.Report, err error) {
			s.metrics.Reconciled(p.Server, len(p.Removed), len(p.Restored), len(p.Unknown), err)
		},
	}
	keep := &pruner{store: measured, retention: s.cfg.Retention, log: s.log, now: time.Now}
	o := &osb.Handler{
		Broker: b, Platforms: &s.platforms, Now: time.Now, MissingVersion: s.cfg.Options.MissingVersionStatus,
	}
	a := &admin.Handler{
		Store: s.store, Operator: b, Stocks: b, Reconciler: comparer{r, s.catalog.Load}, Sealer: adminSealer{s.store},
		Tokens: &s.tokens, Now: time.Now,
	}
	runs := map[string]func(context.Context) error{
		"queue": q.Run, "reconcile": r.Run, "retention": keep.Run,
		"expiry": b.RunExpiry, "stock": b.RunStock, "proof": prover.Run,
	}
	return &engine{osb: o.Face(), admin: a.Face(), runs: runs, stuck: func() error { return stuck(prover.Backlog()) }}, nil
}

func newProver(s *service, st bindery.Store, q *queue.Queue) *proof.Prover {
	return &proof.Prover{
		Store: st, Busy: q.Busy, Now: time.Now, Log: s.log, Tried: s.metrics.Proof,
		Drivers: func() map[string]bindery.Driver {
			out := map[string]bindery.Driver{}
			for _, o := range s.backends.all() {
				out[o.server.Name] = o.driver
			}
			return out
		},
		Spec: func(i bindery.Instance) bindery.InstanceSpec {
			_, plan := s.catalog.Load().Plan(i.OfferingID, i.PlanID)
			if plan == nil { // it may go when its last instance did
				return bindery.InstanceSpec{Name: i.Name}
			}
			return broker.Spec(i, plan)
		},
		Pending: func(backlog []bindery.Backlog) {
			var names []string
			for _, o := range s.backends.all() {
				names = append(names, o.server.Name)
			}
			s.metrics.Pending(names, backlog)
		},
	}
}

// stuck says where accounts are stuck; nil: nowhere.
func stuck(backlog []bindery.Backlog) error {
	var where []string
	for _, b := range backlog {
		if b.State == bindery.AccountStuck {
			where = append(where, fmt.Sprintf("%d on %s", b.Count, b.Server))
		}
	}
	if where == nil {
		return nil
	}
	return bindery.Errorf(bindery.CodeConflict, "accounts that were removed are stuck: %s; see bindery bindings --stuck", strings.Join(where, ", "))
}

// compared are the servers that a reconcile looks at.
func (b *backends) compared() map[string]reconcile.Server {
	out := map[string]reconcile.Server{}
	for _, o := range b.all() {
		s := o.slot
		out[o.server.Name] = reconcile.Server{
			Kind: o.server.Kind, Driver: o.driver,
			Incarnation: func(ctx context.Context) (string, error) {
				return call(s, func(d bindery.Driver) (string, error) {
					if r, ok := bindery.Capability[bindery.Restarter](d); ok {
						return r.Incarnation(ctx)
					}
					return "", nil
				})
			},
		}
	}
	return out
}

// A comparer reconciles for the admin face.
type comparer struct {
	reconciler *reconcile.Reconciler
	catalog    func() *bindery.Catalog
}

// Reconcile compares the servers of one offering, or all, beside each other.
func (c comparer) Reconcile(ctx context.Context, wish admin.Reconcile) (admin.Report, error) {
	servers := c.reconciler.Servers()
	names := offeringServers(c.catalog(), wish.Service)
	if wish.Service == "" {
		for name := range servers {
			names = append(names, name)
		}
	} else if names == nil {
		return admin.Report{}, bindery.Errorf(bindery.CodeNotFound, "there is no service %q", wish.Service)
	}
	slices.Sort(names)
	report := admin.Report{DryRun: wish.DryRun, Servers: make([]admin.ServerReport, len(names))}
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			p, err := c.reconciler.Compare(ctx, name, servers[name], reconcile.Wish{DryRun: wish.DryRun, Apply: wish.Apply})
			one := admin.ServerReport{
				Server: p.Server, Kind: p.Kind, Checked: p.Checked,
				Removed: p.Removed, Unknown: p.Unknown, Restored: p.Restored, Failed: p.Failed,
			}
			if err != nil {
				one.Error = bindery.MessageOf(err)
			}
			report.Servers[i] = one
			return nil
		})
	}
	return report, g.Wait()
}

// offeringServers lists the servers of an offering's plans, each once; nil where there
// is no such offering.
func offeringServers(c *bindery.Catalog, offering string) []string {
	for _, o := range c.Offerings {
		if o.Name != offering {
			continue
		}
		names := []string{}
		for _, p := range o.Plans {
			for _, s := range p.Servers {
				if !slices.Contains(names, s) {
					names = append(names, s)
				}
			}
		}
		return names
	}
	return nil
}
