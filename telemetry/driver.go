package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bindery"
)

// Driver returns d with its calls counted and measured. Its capabilities are
// found with [bindery.Capability], and are not measured.
func (m *Metrics) Driver(kind, server string, d bindery.Driver) bindery.Driver {
	return &driver{Driver: d, m: m, kind: kind, server: server, busy: m.driverBusy.WithLabelValues(kind, server)}
}

type driver struct {
	bindery.Driver
	m            *Metrics
	kind, server string
	busy         prometheus.Gauge
}

// Unwrap is for [bindery.Capability].
func (d *driver) Unwrap() bindery.Driver { return d.Driver }

// measure is deferred with what it returns when a call begins.
func (d *driver) measure(method string, err *error) func() {
	begun := time.Now()
	d.busy.Inc()
	return func() {
		d.busy.Dec()
		d.m.driverCalls.WithLabelValues(d.kind, d.server, method, outcome(*err)).Inc()
		d.m.driverSeconds.WithLabelValues(d.kind, d.server, method).Observe(time.Since(begun).Seconds())
	}
}

func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) (err error) {
	defer d.measure("provision", &err)()
	return d.Driver.Provision(ctx, spec)
}

func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) (err error) {
	defer d.measure("deprovision", &err)()
	return d.Driver.Deprovision(ctx, spec)
}

func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (_ bindery.Ensured, err error) {
	defer d.measure("ensure", &err)()
	return d.Driver.Ensure(ctx, spec, a)
}

func (d *driver) Revoke(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (err error) {
	defer d.measure("revoke", &err)()
	return d.Driver.Revoke(ctx, spec, a)
}

func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) (err error) {
	defer d.measure("inventory", &err)()
	return d.Driver.Inventory(ctx, yield)
}
