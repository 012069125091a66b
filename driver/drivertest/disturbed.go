package drivertest

import (
	"context"
	"runtime"
	"time"

	"bindery"
	"bindery/devserver/servertest"
)

// hung is how many calls a hung server gets at once.
const hung = 4

// warm opens connections, so that what is sent next reaches the hung server's
// sockets instead of waiting for a login.
func (f *fixture) warm(spec bindery.InstanceSpec) {
	f.Helper()
	each(2*hung, func(int) {
		if err := f.driver.Provision(f.ctx, spec); err != nil {
			f.Errorf("provision: %v", err)
		}
	})
}

func (f *fixture) pause() {
	f.Helper()
	f.must("pause", f.Pause())
	// A case that failed meanwhile must not leave a stopped process behind.
	f.Cleanup(func() { _ = f.Resume() })
}

// abandon sends ensures to a hung server until they time out.
func (f *fixture) abandon(spec bindery.InstanceSpec, accounts []bindery.Account) {
	f.Helper()
	started := time.Now()
	errs := make([]error, len(accounts))
	each(len(accounts), func(i int) { _, errs[i] = f.driver.Ensure(f.ctx, spec, accounts[i]) })
	for _, err := range errs {
		f.unavailable("ensure on a hung server", started, err)
	}
}

func hungEnsure(f *fixture) {
	spec := f.instance()
	accounts := make([]bindery.Account, hung)
	for i := range accounts {
		accounts[i] = f.prepare(spec, nil)
	}
	f.warm(spec)
	f.pause()
	f.abandon(spec, accounts)

	// A caller's own end comes before the driver's.
	ctx, cancel := context.WithTimeout(f.ctx, f.Timeout/4)
	defer cancel()
	started := time.Now()
	_, err := f.driver.Ensure(ctx, spec, accounts[0])
	f.unavailable("ensure with a short deadline", started, err)

	// So does a cancellation, which no deadline announced.
	ctx, cancel = context.WithCancel(f.ctx)
	defer cancel()
	time.AfterFunc(f.Timeout/8, cancel)
	started = time.Now()
	_, err = f.driver.Ensure(ctx, spec, accounts[0])
	f.unavailable("a canceled ensure", started, err)
	if took := time.Since(started); took >= f.Timeout {
		f.Fatalf("a canceled ensure took %s", took)
	}

	f.must("resume", f.Resume())
	for _, a := range accounts {
		f.revoke(spec, a)
		f.staysGone(spec, a)
	}
	f.ensure(spec, &accounts[0])
	f.write(f.login(spec, accounts[0]), "k", "v")
}

func hungPredecessor(f *fixture) {
	spec := f.instance()
	accounts := make([]bindery.Account, hung)
	for i := range accounts {
		accounts[i] = f.prepare(spec, nil)
	}
	f.warm(spec)
	f.pause()
	f.abandon(spec, accounts)

	f.driver = f.Open(f, f.installation) // the next process knows nothing of those calls
	f.must("resume", f.Resume())
	for _, a := range accounts {
		f.revoke(spec, a)
		f.staysGone(spec, a)
	}
}

func hungRevoke(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	s := f.login(spec, account)
	f.warm(spec)
	f.pause()
	started := time.Now()
	f.unavailable("revoke on a hung server", started, f.driver.Revoke(f.ctx, spec, account))
	if !f.dataless {
		started = time.Now()
		f.unavailable("deprovision on a hung server", started, f.driver.Deprovision(f.ctx, spec))
	}
	if p, ok := f.driver.(bindery.Pinger); ok {
		started = time.Now()
		f.unavailable("ping of a hung server", started, p.Ping(f.ctx))
	}
	f.must("resume", f.Resume())
	f.revoke(spec, account)
	f.ended(s)
	f.staysGone(spec, account)

	// The revocation that nobody waited for must not take a later account with it.
	f.ensure(spec, &account)
	s = f.login(spec, account)
	for range manyTrips {
		f.must("alive", s.Alive(f.ctx))
	}
}

func down(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	other := f.prepare(spec, nil)
	f.must("kill", f.Kill())
	calls := map[string]func(context.Context) error{
		"provision":   func(ctx context.Context) error { return f.driver.Provision(ctx, spec) },
		"deprovision": func(ctx context.Context) error { return f.driver.Deprovision(ctx, spec) },
		"ensure":      func(ctx context.Context) error { _, err := f.driver.Ensure(ctx, spec, other); return err },
		"revoke":      func(ctx context.Context) error { return f.driver.Revoke(ctx, spec, account) },
		"inventory": func(ctx context.Context) error {
			return f.driver.Inventory(ctx, func(bindery.Found) error { return nil })
		},
	}
	if p, ok := f.driver.(bindery.Pinger); ok {
		calls["ping"] = p.Ping
	}
	if f.dataless { // nothing is on the server, perhaps, that these would have to ask it for
		delete(calls, "deprovision")
		delete(calls, "inventory")
	}
	for what, call := range calls {
		started := time.Now()
		f.unavailable(what, started, call(f.ctx))
	}
	f.must("restart", f.Restart(f.ctx))
	// The connections of before are dead; the first call after must not trip over them.
	f.ensure(spec, &other)
	f.login(spec, other)
	f.revoke(spec, account)
	f.refused(spec, account)
}

func suddenDeath(f *fixture) {
	spec := f.instance()
	gone, live, earlier := f.account(spec, nil), f.account(spec, nil), f.account(spec, nil)
	f.login(spec, gone)
	// Where the server saves accounts by and by, this makes sure that all three
	// have been saved, and that the next one has to be taken out again.
	f.revoke(spec, earlier)
	f.revoke(spec, gone)
	f.must("restart", f.Restart(f.ctx))
	f.refused(spec, gone)
	f.staysGone(spec, gone)
	// A server may have forgotten what it confirmed; ensure restores it.
	f.ensure(spec, &live)
	f.login(spec, live)
}

// delayed: the bytes of a call are on their way while the driver gives it up,
// connects anew and revokes. They arrive after that.
func delayed(f *fixture) {
	delay(f, func(d bindery.Driver, _ string) bindery.Driver { return d })
}

// delayedPredecessor is delayed, with a new process that revokes.
func delayedPredecessor(f *fixture) {
	delay(f, func(_ bindery.Driver, address string) bindery.Driver {
		return f.OpenAt(f, f.installation, address)
	})
}

func delay(f *fixture, next func(before bindery.Driver, address string) bindery.Driver) {
	if f.OpenAt == nil {
		f.Skip("this kind's test does not say how to put a network in between")
	}
	slow := servertest.Proxy(f, f.Address)
	road := newFork(f, slow.Addr())
	f.driver = f.OpenAt(f, f.installation, road.address())
	spec := f.instance()
	accounts := make([]bindery.Account, hung)
	for i := range accounts {
		accounts[i] = f.prepare(spec, nil)
	}
	f.warm(spec)
	slow.Hold()
	f.abandon(spec, accounts)

	road.turn(f.Address)
	f.driver = next(f.driver, road.address())
	for _, a := range accounts {
		f.eventually("revoke", func() error { return f.driver.Revoke(f.ctx, spec, a) })
	}
	slow.Release()
	for slow.Connections() > 0 { // each ends once everything held has been delivered
		f.must("wait for the delayed calls", f.ctx.Err())
		runtime.Gosched()
	}
	for _, a := range accounts {
		f.staysGone(spec, a)
	}
	f.ensure(spec, &accounts[0])
	f.login(spec, accounts[0])
}

// eventually repeats a call as the engine does, while the server is unavailable.
func (f *fixture) eventually(what string, call func() error) {
	f.Helper()
	for {
		err := call()
		if err == nil {
			return
		}
		if f.ctx.Err() != nil || bindery.CodeOf(err) != bindery.CodeUnavailable {
			f.Fatalf("%s: %v", what, err)
		}
	}
}
