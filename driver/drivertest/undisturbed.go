package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"bindery"
)

func lifeAndDeath(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	s := f.login(spec, account)
	f.write(s, "k", "v")
	f.reads(s, "k", "v")
	f.must("alive", s.Alive(f.ctx))

	f.revoke(spec, account)
	f.refused(spec, account)
	f.ended(s)
	f.staysGone(spec, account)
	f.must("deprovision", f.driver.Deprovision(f.ctx, spec))
}

func sharedData(f *fixture) {
	spec := f.instance()
	first, second := f.account(spec, nil), f.account(spec, nil)
	f.write(f.login(spec, first), "k", "from the first")
	s := f.login(spec, second)
	f.reads(s, "k", "from the first")

	f.revoke(spec, first)
	f.reads(s, "k", "from the first") // the same session: another's end is not its own
	f.write(s, "k", "from the second")
	f.reads(f.login(spec, f.account(spec, nil)), "k", "from the second")

	f.must("provision again", f.driver.Provision(f.ctx, spec))
	f.reads(s, "k", "from the second")
}

func isolation(f *fixture) {
	ours, theirs := f.instance(), f.instance()
	mine, other := f.account(ours, nil), f.account(theirs, nil)
	f.write(f.login(theirs, other), "k", "theirs")
	f.write(f.login(ours, mine), "k", "ours")

	f.reads(f.login(theirs, other), "k", "theirs")
	f.reads(f.login(ours, mine), "k", "ours")
	for _, pair := range [][2]bindery.Credential{
		{f.render(ours, mine), f.render(theirs, other)},
		{f.render(theirs, other), f.render(ours, mine)},
	} {
		if err := f.Trespass(f.ctx, pair[0], pair[1], "k"); err == nil {
			f.Fatal("one instance's credential reached another instance's data")
		}
	}
}

func readOnly(f *fixture) {
	if f.ReadOnly == nil {
		f.Skip("this kind has no read-only accounts")
	}
	spec := f.instance()
	writer := f.login(spec, f.account(spec, nil))
	f.write(writer, "k", "v")
	reader := f.login(spec, f.account(spec, f.ReadOnly))
	f.reads(reader, "k", "v")
	f.write(writer, "later", "w") // made after the reader was
	f.reads(reader, "later", "w")
	for _, key := range []string{"k", "new"} {
		if err := reader.Write(f.ctx, key, "x"); err == nil {
			f.Fatal("a read-only account wrote")
		}
	}
	f.reads(f.login(spec, f.account(spec, nil)), "k", "v")
}

func twice(f *fixture) {
	spec := f.spec()
	for range 2 {
		f.must("provision", f.driver.Provision(f.ctx, spec))
	}
	account := f.prepare(spec, nil)
	for range 2 {
		f.ensure(spec, &account)
	}
	f.write(f.login(spec, account), "k", "v")
	for range 2 {
		f.revoke(spec, account)
	}
	f.refused(spec, account)
	for range 2 {
		f.must("deprovision", f.driver.Deprovision(f.ctx, spec))
	}
}

func atOnce(f *fixture) {
	const n = 8
	spec := f.spec()
	all := func(what string, call func() error) {
		f.Helper()
		errs := make([]error, n)
		each(n, func(i int) { errs[i] = call() })
		f.must(what, errors.Join(errs...))
	}
	all("provision", func() error { return f.driver.Provision(f.ctx, spec) })
	account := f.prepare(spec, nil)
	var kept sync.Mutex
	wanted := account
	all("ensure", func() error {
		made, err := f.driver.Ensure(f.ctx, spec, wanted)
		kept.Lock()
		defer kept.Unlock()
		keep(&account, made)
		return err
	})
	s := f.login(spec, account)
	f.write(s, "k", "v")
	all("revoke", func() error { return f.driver.Revoke(f.ctx, spec, account) })
	f.refused(spec, account)
	f.ended(s)
	f.staysGone(spec, account)

	accounts := make([]bindery.Account, n) // different ones, all at once
	for i := range accounts {
		accounts[i] = f.prepare(spec, nil)
	}
	errs := make([]error, n)
	each(n, func(i int) {
		var made bindery.Ensured
		made, errs[i] = f.driver.Ensure(f.ctx, spec, accounts[i])
		keep(&accounts[i], made)
	})
	f.must("ensure", errors.Join(errs...))
	for _, a := range accounts {
		f.login(spec, a)
	}
	each(n, func(i int) { errs[i] = f.driver.Revoke(f.ctx, spec, accounts[i]) })
	f.must("revoke", errors.Join(errs...))
	for _, a := range accounts {
		f.refused(spec, a)
	}
	all("deprovision", func() error { return f.driver.Deprovision(f.ctx, spec) })
}

func resets(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	s := f.login(spec, account)
	f.write(s, "k", "v")

	f.ensure(spec, &account)
	f.ended(s)
	s = f.login(spec, account)
	f.write(s, "k", "w")

	old := f.render(spec, account)
	account.Material = f.material(spec, account.Name, f.ReadOnly)
	f.ensure(spec, &account)
	f.ended(s)
	f.refusedCredential(old)
	s = f.login(spec, account)
	f.reads(s, "k", "w")
	if f.ReadOnly == nil {
		return
	}
	if err := s.Write(f.ctx, "k", "x"); err == nil {
		f.Fatal("an account that became read-only wrote")
	}
	account.Material = f.material(spec, account.Name, nil)
	f.ensure(spec, &account)
	f.ended(s)
	f.write(f.login(spec, account), "k", "x")
}

// canceled stops every call in its middle, at points that the run time of a
// whole one says, and expects a repeat to find nothing in its way.
func canceled(f *fixture) {
	const rounds = 12
	var longest time.Duration // of a call that was left alone
	interrupted := func(call func(context.Context) error) {
		f.Helper()
		if longest > 0 {
			ctx, cancel := context.WithTimeout(f.ctx, rand.N(longest))
			if rand.N(2) == 0 { // half of them by cancellation, half by deadline
				var stop context.CancelFunc
				ctx, stop = context.WithCancel(f.ctx)
				time.AfterFunc(rand.N(longest), stop)
				defer stop()
			}
			f.discreet(call(ctx))
			cancel()
		}
		started := time.Now()
		f.must("a repeated call", call(f.ctx))
		longest = max(longest, time.Since(started))
	}
	for range rounds {
		spec := f.spec()
		interrupted(func(ctx context.Context) error { return f.driver.Provision(ctx, spec) })
		account := f.prepare(spec, nil)
		interrupted(func(ctx context.Context) error {
			made, err := f.driver.Ensure(ctx, spec, account)
			if err == nil {
				keep(&account, made)
			}
			return err
		})
		s := f.login(spec, account)
		f.write(s, "k", "v")
		f.must("alive", s.Alive(f.ctx)) // what the interrupted call left behind must not end it
		interrupted(func(ctx context.Context) error { return f.driver.Revoke(ctx, spec, account) })
		f.ended(s)
		f.refused(spec, account)
		interrupted(func(ctx context.Context) error { return f.driver.Deprovision(ctx, spec) })
	}
	// An interrupted ensure that nobody repeats: what comes next is the revocation.
	spec := f.instance()
	for range rounds {
		account := f.prepare(spec, nil)
		ctx, cancel := context.WithTimeout(f.ctx, rand.N(longest))
		_, err := f.driver.Ensure(ctx, spec, account)
		cancel()
		f.discreet(err)
		f.revoke(spec, account)
		f.staysGone(spec, account)
	}
	over, cancel := context.WithCancel(f.ctx)
	cancel()
	if err := f.driver.Provision(over, f.spec()); err == nil {
		f.Fatal("a call went through whose context had ended before")
	}
}

func missing(f *fixture) {
	never := f.spec()
	f.revoke(never, bindery.Account{Name: f.name()})
	f.must("deprovision", f.driver.Deprovision(f.ctx, never))
	spec := f.instance()
	f.revoke(spec, f.prepare(spec, nil))
	f.must("deprovision", f.driver.Deprovision(f.ctx, spec))
	f.revoke(spec, bindery.Account{Name: f.name()}) // of an instance that is gone
}

func removedData(f *fixture) {
	spec, neighbour := f.instance(), f.instance()
	account, other := f.account(spec, nil), f.account(neighbour, nil)
	s, o := f.login(spec, account), f.login(neighbour, other)
	const keys = 50
	for i := range keys {
		f.write(s, "k"+string(rune('0'+i)), strings.Repeat("v", 100))
	}
	f.write(o, "k0", "theirs")
	f.revoke(spec, account)
	f.must("deprovision", f.driver.Deprovision(f.ctx, spec))
	f.reads(o, "k0", "theirs")

	// Names are not used twice; here it is, to see what would be left.
	f.must("provision", f.driver.Provision(f.ctx, spec))
	s = f.login(spec, f.account(spec, nil))
	for i := range keys {
		if _, err := s.Read(f.ctx, "k"+string(rune('0'+i))); !errors.Is(err, ErrMissing) {
			f.Fatalf("read after the instance was removed: got %v, want ErrMissing", err)
		}
	}
}

func worst(f *fixture) {
	spec := bindery.InstanceSpec{
		Name: f.longestName(0), Settings: f.Settings, Parameters: f.InstanceParameters, Aliases: f.Aliases,
	}
	f.must("provision", f.driver.Provision(f.ctx, spec))
	f.Cleanup(func() { f.tidy(spec) })
	account := bindery.Account{Name: f.longestName(1)}
	account.Material = f.material(spec, account.Name, f.BindingParameters)
	f.ensure(spec, &account)
	s := f.login(spec, account)
	f.must("alive", s.Alive(f.ctx))
	f.ensure(spec, &account)
	f.ended(s)
	s = f.login(spec, account)
	f.revoke(spec, account)
	f.ended(s)
	f.refused(spec, account)
}

func inventory(f *fixture) {
	// An installation whose id begins alike, as far as ids of one length can.
	last := "a"
	if f.installation[5:] == last {
		last = "b"
	}
	neighbour := &fixture{T: f.T, Server: f.Server, ctx: f.ctx, dataless: f.dataless, installation: f.installation[:5] + last}
	neighbour.driver = f.Open(f, neighbour.installation)
	spec, theirs := f.instance(), neighbour.instance()
	mine := []string{f.account(spec, nil).Name, f.account(spec, nil).Name}
	other := neighbour.account(theirs, nil)
	slices.Sort(mine)

	accounts, instances := f.found(f.driver)
	if !slices.Equal(accounts, mine) {
		f.Fatalf("accounts: got %q, want %q", accounts, mine)
	}
	if want := []string{spec.Name}; !f.HidesInstances && !slices.Equal(instances, want) {
		f.Fatalf("instances: got %q, want %q", instances, want)
	}
	if f.HidesInstances && len(instances) > 0 {
		f.Fatalf("instances: got %q, want none", instances)
	}

	enough := errors.New("enough")
	yields := 0
	err := f.driver.Inventory(f.ctx, func(bindery.Found) error { yields++; return enough })
	if !errors.Is(err, enough) || yields != 1 {
		f.Fatalf("inventory whose yield fails: got %v after %d calls, want that error after one", err, yields)
	}

	for _, name := range mine {
		f.revoke(spec, bindery.Account{Name: name})
	}
	f.must("deprovision", f.driver.Deprovision(f.ctx, spec))
	if accounts, instances := f.found(f.driver); len(accounts)+len(instances) > 0 {
		f.Fatalf("after everything was removed: accounts %q, instances %q", accounts, instances)
	}
	s := neighbour.login(theirs, other)
	neighbour.write(s, "k", "v")
	neighbour.reads(s, "k", "v")
	if accounts, _ := neighbour.found(neighbour.driver); !slices.Equal(accounts, []string{other.Name}) {
		f.Fatalf("the other installation's accounts: got %q, want %q", accounts, other.Name)
	}
}

func nameAlone(f *fixture) {
	spec := f.instance()
	account := f.account(spec, f.BindingParameters)
	s := f.login(spec, account)
	f.must("revoke", f.driver.Revoke(f.ctx, bindery.InstanceSpec{}, bindery.Account{Name: account.Name}))
	f.ended(s)
	f.refused(spec, account)

	account = f.account(spec, nil)
	s = f.login(spec, account)
	f.must("revoke", f.driver.Revoke(f.ctx, spec, bindery.Account{Name: account.Name, Material: account.Material}))
	f.ended(s)
	f.refused(spec, account)
}

var (
	deliverable = regexp.MustCompile(`^[a-z0-9._-]+$`)
	goodSecret  = regexp.MustCompile(`^[A-Za-z0-9_-]{32,}$`)
)

func credential(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	again := f.material(spec, account.Name, nil)
	if again.Equal(account.Material) {
		f.Fatal("two prepared accounts have the same material")
	}
	c := f.render(spec, account)
	if _, err := json.Marshal(c.Object); err != nil {
		f.Fatalf("the credential object is not JSON: %v", err)
	}
	reserved := []string{"name", "label", "plan", "tags", "type", "provider"}
	for key := range c.Object {
		if !deliverable.MatchString(key) || slices.Contains(reserved, key) {
			f.Errorf("the key %q cannot be delivered as a file", key)
		}
	}
	if p, ok := c.Object["password"]; ok {
		if s, _ := p.(string); !goodSecret.MatchString(s) {
			f.Error("the password is short, or has characters that an address would escape")
		}
	}
	if p, ok := c.Object["port"]; ok {
		if raw, _ := json.Marshal(p); len(raw) == 0 || raw[0] < '1' || raw[0] > '9' {
			f.Errorf("port: got %s, want a number", raw)
		}
	}
	for _, e := range c.Endpoints {
		if e.Host == "" || len(e.Ports) == 0 || e.Protocol == "" {
			f.Errorf("endpoint: got %+v, want host, ports and protocol", e)
		}
	}
	plain := len(c.Object)
	spec.Aliases = f.Aliases
	if aliased := f.render(spec, account); len(f.Aliases) > 0 && len(aliased.Object) <= plain {
		f.Error("the alias sets add no key")
	}
}

// foreignNames: a driver is given names that Bindery made. Should a defect give
// it another, it must not touch what that names.
func foreignNames(f *fixture) {
	for _, name := range []string{
		"", "default", "postgres", "root", "*", "bdy_", bindery.NamePrefix(f.installation),
		bindery.NamePrefix(f.installation) + "*", bindery.NamePrefix(f.installation) + "A b",
		bindery.NamePrefix(f.installation) + strings.Repeat("x", 64), bindery.Name("zzzzzz", 1),
	} {
		spec := bindery.InstanceSpec{Name: name, Settings: f.Settings}
		if f.driver.Provision(f.ctx, spec) == nil {
			f.Errorf("provision %q: no error", name)
		}
		if f.driver.Deprovision(f.ctx, spec) == nil {
			f.Errorf("deprovision %q: no error", name)
		}
		account := bindery.Account{Name: name, Material: bindery.NewSecret(`{}`)}
		if _, err := f.driver.Ensure(f.ctx, f.spec(), account); err == nil {
			f.Errorf("ensure %q: no error", name)
		}
		if f.driver.Revoke(f.ctx, f.spec(), account) == nil {
			f.Errorf("revoke %q: no error", name)
		}
	}
}

func badParameters(f *fixture) {
	spec := f.instance()
	for _, parameters := range []string{`{"no-such-parameter":"a secret value"}`, `[]`, `{`, `{} {}`, `1`} {
		_, err := f.driver.Prepare(spec, bindery.AccountRequest{Name: f.name(), Parameters: json.RawMessage(parameters)})
		if code := bindery.CodeOf(err); code != bindery.CodeInvalid {
			f.Errorf("prepare with %s: got code %q, want %q", parameters, code, bindery.CodeInvalid)
		}
		if err != nil && strings.Contains(err.Error(), "a secret value") {
			f.Error("an error repeats a parameter's value")
		}
	}
}

func ping(f *fixture) {
	p, ok := f.driver.(bindery.Pinger)
	if !ok {
		f.Skip("this kind cannot be pinged")
	}
	f.must("ping", p.Ping(f.ctx))
	if accounts, instances := f.found(f.driver); len(accounts)+len(instances) > 0 {
		f.Fatalf("a ping leaves behind: accounts %q, instances %q", accounts, instances)
	}
}
