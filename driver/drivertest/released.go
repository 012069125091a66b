package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"bindery"
)

// RunReleased runs the suite of kinds that hand out what they were given: nothing
// is made, and nothing ends with a binding but the binding. Login must log in
// to the real service that the set is for.
func RunReleased(t *testing.T, open func(t *testing.T) Server) {
	for name, test := range releasedCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newFixture(t, open(t)))
		})
	}
}

var releasedCases = map[string]func(*fixture){
	"a set lets its binding in and lives on after it":      livesOn,
	"every call can be made twice":                         releasedTwice,
	"a call whose context has ended does nothing":          releasedOver,
	"what is missing is removed already":                   missing,
	"a credential can be delivered anywhere":               releasedCredential,
	"a name that is not this installation's is left alone": foreignNames,
	"parameters that mean nothing are refused":             badParameters,
	"it says that it cannot list accounts":                 noInventory,
}

// item takes the next one of the driver's stock, as the engine does; none where it has no stock.
func (f *fixture) item() bindery.StockItem {
	f.Helper()
	s, ok := bindery.Capability[bindery.Stocker](f.driver)
	if !ok {
		return bindery.StockItem{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	names := s.Stock()
	f.taken++
	if f.taken > len(names) {
		f.Fatal("the stock of this test is too small")
	}
	return bindery.StockItem{Name: names[f.taken-1], State: bindery.StockTaken}
}

func livesOn(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	s := f.login(spec, account)
	f.write(s, "k", "v")
	f.reads(s, "k", "v")
	if got := f.Kind.Revocation(spec.Settings); got != bindery.RevocationReleased {
		f.Errorf("it promises %q", got)
	}
	f.revoke(spec, account)
	f.must("a session after the unbind", s.Alive(f.ctx))
	f.reads(f.login(spec, account), "k", "v")
	if _, ok := bindery.Capability[bindery.Prover](f.driver); ok {
		f.Error("it promises nothing and proves it")
	}
}

func releasedTwice(f *fixture) {
	spec := f.spec()
	account := f.prepare(spec, nil)
	for _, call := range []func() error{
		func() error { return f.driver.Provision(f.ctx, spec) },
		func() error { _, err := f.driver.Ensure(f.ctx, spec, account); return err },
		func() error { return f.driver.Revoke(f.ctx, spec, account) },
		func() error { return f.driver.Deprovision(f.ctx, spec) },
	} {
		for range 2 {
			f.must("call", call())
		}
	}
}

func releasedOver(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	spec := f.spec()
	if err := f.driver.Provision(ctx, spec); !errors.Is(err, context.Canceled) {
		f.Errorf("provision: got %v", err)
	}
	if _, err := f.driver.Ensure(ctx, spec, f.prepare(spec, nil)); !errors.Is(err, context.Canceled) {
		f.Errorf("ensure: got %v", err)
	}
}

func releasedCredential(f *fixture) {
	spec := f.instance()
	c := f.render(spec, f.account(spec, nil))
	raw, err := json.Marshal(c.Object)
	f.must("encode", err)
	f.validate(f.schema(f.Kind.CredentialSchema(spec.Settings, nil)), raw)
	for key := range c.Object {
		if !deliverable.MatchString(key) {
			f.Errorf("the key %q cannot be delivered as a file", key)
		}
	}
}

func noInventory(f *fixture) {
	err := f.driver.Inventory(f.ctx, func(bindery.Found) error { return nil })
	if !errors.Is(err, bindery.ErrNoInventory) {
		f.Errorf("got %v", err)
	}
}
