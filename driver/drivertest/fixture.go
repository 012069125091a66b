package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
)

// limit bounds one case; nothing comes near it unless it hangs.
const limit = 2 * time.Minute

// manyTrips is how many round trips a thing is watched that must not come back.
const manyTrips = 100

// A fixture is one case's server and its driver, for an installation of its own.
type fixture struct {
	*testing.T
	Server
	ctx          context.Context
	installation string
	driver       bindery.Driver
	dataless     bool // see [RunDataless]

	mu      sync.Mutex
	row     int64
	taken   int // of a stock
	secrets []string
}

func newFixture(t *testing.T, s Server) *fixture {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	f := &fixture{T: t, Server: s, ctx: ctx, installation: installation()}
	f.driver = s.Open(t, f.installation)
	return f
}

// installation returns an id that no other case uses.
func installation() string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, 6)
	for i := range id {
		id[i] = digits[rand.IntN(len(digits))]
	}
	return string(id)
}

// name returns a name that was not used before.
func (f *fixture) name() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row++
	return bindery.Name(f.installation, f.row)
}

// longestName returns the name of the last row that there can be.
func (f *fixture) longestName(back int64) string {
	return bindery.Name(f.installation, math.MaxInt64-back)
}

func (f *fixture) spec() bindery.InstanceSpec {
	return bindery.InstanceSpec{Name: f.name(), Settings: f.Settings}
}

// instance provisions a new instance.
func (f *fixture) instance() bindery.InstanceSpec {
	f.Helper()
	spec := f.spec()
	f.must("provision", f.driver.Provision(f.ctx, spec))
	f.Cleanup(func() { f.tidy(spec) })
	return spec
}

// tidy removes what a case left behind, so that a shared server does not fill up.
func (f *fixture) tidy(spec bindery.InstanceSpec) {
	if f.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	d := f.Open(f, f.installation)
	var accounts []string
	err := d.Inventory(ctx, func(found bindery.Found) error {
		if !found.Instance {
			accounts = append(accounts, found.Name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, bindery.ErrNoInventory) {
		f.Errorf("tidy up: inventory: %v", err)
	}
	for _, name := range accounts {
		if err := d.Revoke(ctx, bindery.InstanceSpec{}, bindery.Account{Name: name}); err != nil {
			f.Errorf("tidy up: revoke: %v", err)
		}
	}
	if err := d.Deprovision(ctx, spec); err != nil {
		f.Errorf("tidy up: deprovision: %v", err)
	}
}

// prepare makes an account that no backend has heard of.
func (f *fixture) prepare(spec bindery.InstanceSpec, parameters json.RawMessage) bindery.Account {
	f.Helper()
	account := bindery.Account{Name: f.name()}
	account.Material = f.material(spec, account.Name, parameters)
	return account
}

func (f *fixture) material(spec bindery.InstanceSpec, name string, parameters json.RawMessage) bindery.Secret {
	f.Helper()
	m, err := f.driver.Prepare(spec, bindery.AccountRequest{Name: name, Parameters: parameters, Item: f.item()})
	f.must("prepare", err)
	if !json.Valid([]byte(m.Reveal())) || !strings.HasPrefix(strings.TrimSpace(m.Reveal()), "{") {
		f.Fatal("the material is not a JSON object")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets = append(f.secrets, m.Reveal())
	return m
}

// account makes an account that can log in.
func (f *fixture) account(spec bindery.InstanceSpec, parameters json.RawMessage) bindery.Account {
	f.Helper()
	account := f.prepare(spec, parameters)
	f.ensure(spec, &account)
	return account
}

// ensure makes the account and keeps the details, as the engine does.
func (f *fixture) ensure(spec bindery.InstanceSpec, account *bindery.Account) {
	f.Helper()
	made, err := f.driver.Ensure(f.ctx, spec, *account)
	f.must("ensure", err)
	if len(made.Details) > 0 && !json.Valid(made.Details) {
		f.Fatal("the details are not JSON")
	}
	keep(account, made)
}

func (f *fixture) render(spec bindery.InstanceSpec, account bindery.Account) bindery.Credential {
	f.Helper()
	c, err := f.driver.Render(spec, account)
	f.must("render", err)
	if p, ok := c.Object["password"].(string); ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.secrets = append(f.secrets, p)
	}
	return c
}

// login logs in, and fails the case if that is refused.
func (f *fixture) login(spec bindery.InstanceSpec, account bindery.Account) Session {
	f.Helper()
	s, err := f.Login(f.ctx, f.render(spec, account))
	f.must("login", err)
	f.Cleanup(func() { _ = s.Close() }) // often ended by the server, which Close may complain of
	return s
}

// refused checks that a login fails because of the credential.
func (f *fixture) refused(spec bindery.InstanceSpec, account bindery.Account) {
	f.Helper()
	if f.dataless {
		if _, err := f.driver.Render(spec, account); err != nil {
			f.discreet(err) // the server has never given one out
			return
		}
	}
	f.refusedCredential(f.render(spec, account))
}

func (f *fixture) refusedCredential(c bindery.Credential) {
	f.Helper()
	s, err := f.Login(f.ctx, c)
	if err == nil {
		_ = s.Close()
		f.Fatal("the login went through")
	}
	if !f.IsAuthFailure(err) {
		f.Fatalf("the login failed, but not as an authentication failure: %v", err)
	}
}

// ended checks that a session is over.
func (f *fixture) ended(s Session) {
	f.Helper()
	if err := s.Alive(f.ctx); err == nil {
		f.Fatal("the session is still alive")
	}
}

func (f *fixture) write(s Session, key, value string) {
	f.Helper()
	if f.dataless {
		f.must("alive", s.Alive(f.ctx))
		return
	}
	f.must("write", s.Write(f.ctx, key, value))
}

func (f *fixture) reads(s Session, key, want string) {
	f.Helper()
	if f.dataless {
		f.must("alive", s.Alive(f.ctx))
		return
	}
	got, err := s.Read(f.ctx, key)
	f.must("read", err)
	if got != want {
		f.Fatalf("read %q, want %q", got, want)
	}
}

// revoke revokes, as the engine does it: with all that is known.
func (f *fixture) revoke(spec bindery.InstanceSpec, account bindery.Account) {
	f.Helper()
	f.must("revoke", f.driver.Revoke(f.ctx, spec, account))
}

// found returns the names that an inventory has, sorted.
func (f *fixture) found(d bindery.Driver) (accounts, instances []string) {
	f.Helper()
	err := d.Inventory(f.ctx, func(found bindery.Found) error {
		if found.Instance {
			instances = append(instances, found.Name)
		} else {
			accounts = append(accounts, found.Name)
		}
		return nil
	})
	if f.dataless && errors.Is(err, bindery.ErrNoInventory) {
		return nil, nil
	}
	f.must("inventory", err)
	slices.Sort(accounts)
	slices.Sort(instances)
	return accounts, instances
}

// staysGone checks that an account is away and, for many round trips, does not come back.
func (f *fixture) staysGone(spec bindery.InstanceSpec, account bindery.Account) {
	f.Helper()
	for range manyTrips {
		if accounts, _ := f.found(f.driver); slices.Contains(accounts, account.Name) {
			f.Fatal("the account is there")
		}
	}
	if !account.Material.Empty() {
		f.refused(spec, account)
	}
}

// unavailable checks how a call failed that the server did not answer, and how long that took.
func (f *fixture) unavailable(what string, started time.Time, err error) {
	f.Helper()
	if err == nil {
		f.Fatalf("%s: no error", what)
	}
	if code := bindery.CodeOf(err); code != bindery.CodeUnavailable {
		f.Fatalf("%s: got code %s (%v), want %s", what, code, err, bindery.CodeUnavailable)
	}
	// As much again for a machine that is busy with all the other cases.
	if took, most := time.Since(started), 2*f.Timeout+5*time.Second; took > most {
		f.Fatalf("%s: took %s, want no more than %s", what, took, most)
	}
	f.discreet(err)
}

// discreet checks that an error gives no secret away.
func (f *fixture) discreet(err error) {
	f.Helper()
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, text := range []string{fmt.Sprintf("%v", e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			for _, secret := range f.secrets {
				if secret != "" && strings.Contains(text, secret) {
					f.Fatal("an error carries a secret")
				}
			}
		}
	}
}

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.discreet(err)
		f.Fatalf("%s: %v", what, err)
	}
}

// each runs n calls at once and waits for all.
func each(n int, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i) })
	}
	wg.Wait()
}

// keep is what the engine does with what an ensure told.
func keep(account *bindery.Account, made bindery.Ensured) {
	account.Details = made.Details
	if !made.Material.Empty() {
		account.Material = made.Material
	}
}
