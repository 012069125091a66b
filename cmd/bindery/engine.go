package main

import (
	"context"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/admin"
	"bindery/api/osb"
	"bindery/broker"
)

// An engine is what does the work between the listeners and the backends.
type engine struct {
	osb, admin api.Face
	// runs are everything that runs in the background, by name. Each ends with
	// its context, after it has drained.
	runs map[string]func(context.Context) error
}

// newEngine wires the broker, its queue and the reconciler to the store and
// the drivers.
func newEngine(s *service) (*engine, error) {
	measured := s.metrics.Store(s.store)
	b := &unwired{catalog: s.catalog.Load}
	o := &osb.Handler{
		Broker: b, Platforms: &s.platforms, Now: time.Now,
		MissingVersion: s.cfg.Options.MissingVersionStatus,
	}
	a := &admin.Handler{Store: s.store, Sealer: adminSealer{s.store}, Tokens: &s.tokens, Now: time.Now}
	keep := &pruner{store: measured, retention: s.cfg.Retention, log: s.log, now: time.Now}
	runs := map[string]func(context.Context) error{"retention": keep.Run}
	return &engine{osb: o.Face(), admin: a.Face(), runs: runs}, nil
}

// unwired stands where the broker will.
type unwired struct {
	osb.Broker
	catalog func() *bindery.Catalog
}

func (u *unwired) Catalog() *bindery.Catalog { return u.catalog() }

var errUnwired = bindery.Errorf(bindery.CodeUnavailable, "the broker is not there yet")

func (*unwired) Provision(context.Context, broker.Caller, broker.ProvisionRequest) (broker.Result, error) {
	return broker.Result{}, errUnwired
}
