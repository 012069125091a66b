package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/test/poll"
)

// tardy is generous for what has to happen within a second on a machine with nothing else to do.
const tardy = 10 * time.Second

// limited gives the small plan a lifetime.
func limited(l bindery.Lifetime) func(*world) {
	return func(w *world) {
		c := catalog()
		c.Offerings[0].Plans[0].Lifetime = l
		w.catalog.Store(c)
	}
}

// clocked gives the engine a clock that forward puts forward.
func clocked() (set func(*world), forward func(time.Duration)) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return func(w *world) { w.Now, w.Queue.Now = now, now }, func(d time.Duration) { ahead.Add(int64(d)) }
}

// ended waits for the event that says how a binding ended.
func (w *world) ended(binding string) (end bindery.Event) {
	w.Helper()
	poll.Until(w.T, "the end of binding "+binding, func() bool {
		w.view(func(tx bindery.Tx) error {
			events, err := tx.Events().List(w.Context(), bindery.EventFilter{BindingID: binding}, bindery.Page{})
			for _, e := range events {
				if e.Action == string(bindery.OpExpire) && e.Result == string(bindery.OpSucceeded) {
					end = e
				}
			}
			return err
		})
		return end.Action != ""
	})
	return end
}

func TestABindingEndsAtItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(bindery.Lifetime{Default: 2 * time.Second, Max: time.Hour, RenewBefore: 500 * time.Millisecond}))
	in(t, w.RunExpiry)
	w.provision("i", "small")
	r := w.bind(bindRequest("i", "brief"))
	b, accounts := w.binding("i", "brief")
	if left := time.Until(b.Expires); left <= 0 || left > 2*time.Second || !accounts[0].Expires.Equal(b.Expires) ||
		!r.Binding.Expires.Equal(b.Expires) || b.Expires.Sub(b.RenewBefore) != 500*time.Millisecond {
		t.Fatalf("expires in %v, to be renewed %v before; its account at %v, the answer says %v",
			left, b.Expires.Sub(b.RenewBefore), accounts[0].Expires, r.Binding.Expires)
	}
	// One that is shorter must not wait for one that is longer.
	long := bindRequest("i", "long")
	long.Parameters = []byte(`{"lifetime":"30m"}`)
	if l := w.bind(long); time.Until(l.Binding.Expires) < 29*time.Minute {
		t.Errorf("what was asked for is not what was given: %v", l.Binding.Expires)
	}
	if err := w.login(r.Credential); err != nil {
		t.Fatalf("before its time: %v", err)
	}
	end := w.ended("brief")
	if end.At.Before(b.Expires) || end.At.After(b.Expires.Add(tardy)) || end.Actor != "bindery" {
		t.Errorf("ended %v after its time, by %q", end.At.Sub(b.Expires), end.Actor)
	}
	if err := w.login(r.Credential); err == nil {
		t.Error("it still lets somebody in")
	}
	_, err := w.Unbind(t.Context(), waits, removeRequest("i", "brief"))
	w.refused(err, bindery.CodeGone)
}

func TestWhatExpiredMeanwhileEndsAtTheStart(t *testing.T) {
	t.Parallel()
	const many = 40
	clock, forward := clocked()
	w := newWorld(t, clock, limited(bindery.Lifetime{Default: time.Minute}))
	w.provision("i", "small")
	for n := range many {
		w.bind(bindRequest("i", fmt.Sprint("b", n)))
	}
	forward(time.Minute)
	ready := w.Now()
	in(t, w.RunExpiry)
	for n := range many {
		if end := w.ended(fmt.Sprint("b", n)); end.At.After(ready.Add(tardy)) {
			t.Errorf("b%d ended %v after the start", n, end.At.Sub(ready))
		}
	}
	w.empty()
}

func TestASuccessorHasALifetimeOfItsOwn(t *testing.T) {
	t.Parallel()
	clock, forward := clocked()
	w := newWorld(t, clock, limited(bindery.Lifetime{Max: time.Hour}))
	w.provision("i", "small")
	old := bindRequest("i", "web")
	old.Parameters = []byte(`{"lifetime":"10m"}`)
	first := w.bind(old)
	forward(200 * time.Millisecond)
	next := w.bind(broker.BindRequest{InstanceID: "i", BindingID: "web-2", Predecessor: "web"})
	if a, b := first.Binding.Expires, next.Binding.Expires; !b.After(a) || b.Sub(a) > time.Minute {
		t.Errorf("the old one ends at %v, the new one at %v", a, b)
	}
	if plain := w.bind(bindRequest("i", "plain")); !plain.Binding.Expires.IsZero() || !plain.Binding.RenewBefore.IsZero() {
		t.Errorf("nobody asked for an end, and it is %v", plain.Binding.Expires)
	}
}

// A plan that allows less by now makes successors that live as long as it allows: who
// rotates names no parameters, and could not name others.
func TestASuccessorLivesNoLongerThanItsPlanAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(bindery.Lifetime{Max: time.Hour}))
	w.provision("i", "small")
	old := bindRequest("i", "web")
	old.Parameters = []byte(`{"lifetime":"30m"}`)
	w.bind(old)
	limited(bindery.Lifetime{Max: 10 * time.Minute})(w)
	next := w.bind(broker.BindRequest{InstanceID: "i", BindingID: "web-2", Predecessor: "web"})
	if left := time.Until(next.Binding.Expires); left > 10*time.Minute || left < 9*time.Minute {
		t.Errorf("the successor lives %v", left)
	}
	_, err := w.Bind(t.Context(), waits, broker.BindRequest{
		InstanceID: "i", BindingID: "web-3", Predecessor: "web", Parameters: old.Parameters,
	})
	w.refused(err, bindery.CodeInvalid)
}

// What an instance is at work on for long excludes the end of its bindings, and of no others.
func TestABusyInstanceHoldsUpNoOthersEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(bindery.Lifetime{Default: time.Second}))
	for _, i := range []string{"busy", "idle"} {
		w.provision(i, "small")
	}
	w.bind(bindRequest("busy", "held"))
	busy := w.instance("busy")
	began, release := make(chan struct{}, 1), make(chan struct{})
	w.failDriver(func(method string, spec bindery.InstanceSpec) error {
		if method == "Provision" && spec.Name == busy.Name {
			began <- struct{}{}
			<-release
		}
		return nil
	})
	updated := make(chan error, 1)
	go func() {
		_, err := w.Update(context.WithoutCancel(t.Context()), waits, broker.UpdateRequest{InstanceID: "busy", OfferingID: "redis", PlanID: "big"})
		updated <- err
	}()
	<-began
	w.bind(bindRequest("idle", "free"))
	in(t, w.RunExpiry)
	w.ended("free")
	if b, _ := w.binding("busy", "held"); b.State != bindery.StateReady {
		t.Errorf("it is %s amid the update of its instance", b.State)
	}
	close(release)
	if err := <-updated; err != nil {
		t.Error(err)
	}
	w.ended("held")
}

// However many bindings end at once on a server that hangs, there is room for requests:
// most of their removals wait in the store, and not in the queue.
func TestWhatExpiresAtOnceLeavesRoomForRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	i := w.provision("i", "small")
	release := make(chan struct{})
	defer close(release)
	w.failDriver(func(method string, _ bindery.InstanceSpec) error {
		if method == "Revoke" {
			<-release
		}
		return nil
	})
	const many, most = 1400, 300 // the queue is crowded from 256 on, and 16 are recorded beside each other
	rows := make([]int64, 2*many)
	var err error
	for n := range rows {
		if rows[n], err = w.store.NewID(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	err = w.store.Update(t.Context(), func(tx bindery.Tx) error {
		for n := 0; n < len(rows); n += 2 {
			b := bindery.Binding{
				Row: rows[n], InstanceRow: i.Row, Platform: "p", InstanceID: "i", ID: fmt.Sprint("b", n), OfferingID: "redis",
				PlanID: "small", State: bindery.StateReady, Created: now, Updated: now, Expires: now,
			}
			if err := tx.Bindings().Add(t.Context(), b); err != nil {
				return err
			}
			a := bindery.Account{
				Row: rows[n+1], BindingRow: b.Row, InstanceRow: i.Row, Kind: "redis", Server: "r",
				Name: bindery.Name(w.store.Installation(), rows[n+1]), State: bindery.AccountLive, Created: now, Updated: now,
			}
			if err := tx.Accounts().Add(t.Context(), a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	in(t, w.RunExpiry)
	poll.Until(t, "all begin to end", func() bool {
		var due []bindery.Binding
		w.view(func(tx bindery.Tx) (err error) {
			due, err = tx.Bindings().Expiring(t.Context(), time.Now(), 1000)
			return err
		})
		return len(due) == 0
	})
	queued := 0
	w.view(func(tx bindery.Tx) error {
		for p := (bindery.Page{Limit: 1000}); ; {
			all, err := tx.Operations().List(t.Context(), bindery.OperationFilter{State: bindery.OpInProgress}, p)
			if err != nil || len(all) == 0 {
				return err
			}
			for _, o := range all {
				if p.After = o.Row; o.Owner != 0 {
					queued++
				}
			}
		}
	})
	if queued == 0 || queued > most {
		t.Errorf("%d of %d removals are in the queue, want at most %d", queued, many, most)
	}
	if r, err := w.Bind(t.Context(), polls, bindRequest("i", "another")); err != nil || r.Outcome != broker.Accepted {
		t.Errorf("got %v, %v, want a place in the queue", r.Outcome, err)
	}
}

// A removal that an operator canceled leaves the credential as it is, but not beyond its time.
func TestACanceledRemovalEndsAtItsTime(t *testing.T) {
	t.Parallel()
	clock, forward := clocked()
	w := newWorld(t, clock, limited(bindery.Lifetime{Default: time.Minute, Max: time.Hour}), func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	w.provision("i", "small")
	long := bindRequest("i", "canceled")
	long.Parameters = []byte(`{"lifetime":"2m"}`)
	canceled := w.bind(long)
	w.bind(bindRequest("i", "another"))
	w.refuseRevoke()
	w.canceled(w.Unbind(t.Context(), polls, removeRequest("i", "canceled")))
	w.driverFault.Store(nil)
	forward(time.Minute)
	in(t, w.RunExpiry)
	w.ended("another")
	if b, _ := w.binding("i", "canceled"); b.State != bindery.StateRemoving {
		t.Errorf("it is %s before its time", b.State)
	}
	if err := w.login(canceled.Credential); err != nil {
		t.Errorf("before its time: %v", err)
	}
	forward(time.Minute)
	in(t, w.RunExpiry) // one that looks at once, beside one that waits
	w.ended("canceled")
	if err := w.login(canceled.Credential); err == nil {
		t.Error("it still lets somebody in")
	}
	w.empty()
}

// The removal of an instance takes over what expires there. Where it is canceled, that goes on.
func TestWhatACanceledRemovalTookOverEnds(t *testing.T) {
	t.Parallel()
	clock, forward := clocked()
	w := newWorld(t, clock, limited(bindery.Lifetime{Default: time.Minute}), func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	w.provision("i", "small")
	w.bind(bindRequest("i", "b"))
	w.refuseRevoke()
	forward(time.Minute)
	in(t, w.RunExpiry)
	poll.Until(t, "its end begins", func() bool { b, _ := w.binding("i", "b"); return b.State == bindery.StateRemoving })
	w.canceled(w.Deprovision(t.Context(), polls, removeRequest("i", "")))
	w.driverFault.Store(nil)
	w.ended("b")
	w.empty()
}

// refuseRevoke lets no removal end until driverFault is taken away.
func (w *world) refuseRevoke() {
	w.failDriver(func(method string, _ bindery.InstanceSpec) error {
		if method == "Revoke" {
			return errors.New("no")
		}
		return nil
	})
}

// canceled cancels a removal that has begun.
func (w *world) canceled(r broker.Result, err error) {
	w.Helper()
	if err != nil || r.Outcome != broker.Accepted {
		w.Fatalf("got %v and %v, want it accepted", r.Outcome, err)
	}
	row, _ := bindery.ParseToken(r.Operation)
	if err := w.Cancel(w.Context(), row, "it must stay"); err != nil {
		w.Fatal(err)
	}
}

// expiring is a driver whose server says how long a credential lives.
type expiring struct {
	bindery.Driver
	expires func() time.Time
}

func (e expiring) Ensure(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (bindery.Ensured, error) {
	made, err := e.Driver.Ensure(ctx, spec, a)
	made.Expires = e.expires()
	return made, err
}

func TestACredentialThatHasEndedIsNotOneWithoutEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(bindery.Lifetime{Default: time.Hour}), func(w *world) {
		d := expiring{w.driver, func() time.Time { return time.Now().Add(-time.Minute) }}
		w.Drivers = func(string) (bindery.Driver, bool) { return d, true }
	})
	w.provision("i", "small")
	if r := w.bind(bindRequest("i", "b")); r.Binding.Expires.IsZero() || r.Binding.Expires.After(time.Now()) {
		t.Errorf("it expires at %v", r.Binding.Expires)
	}
	in(t, w.RunExpiry)
	w.ended("b")
	w.empty()
}

func TestLifetimesThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(bindery.Lifetime{Default: time.Minute, Max: time.Hour}))
	w.provision("i", "small")
	for name, parameters := range map[string]string{
		"too long": `{"lifetime":"61m"}`, "too short": `{"lifetime":"1ms"}`, "negative": `{"lifetime":"-5m"}`,
		"a number": `{"lifetime":90}`, "words": `{"lifetime":"soon"}`, "nothing": `{"lifetime":""}`,
	} {
		r := bindRequest("i", "b")
		r.Parameters = []byte(parameters)
		if _, err := w.Bind(t.Context(), waits, r); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Where the plan takes none, the driver is told, and refuses it.
	w = newWorld(t, limited(bindery.Lifetime{Default: time.Minute}))
	w.provision("i", "small")
	r := bindRequest("i", "b")
	r.Parameters = []byte(`{"lifetime":"5s"}`)
	if _, err := w.Bind(t.Context(), waits, r); bindery.CodeOf(err) != bindery.CodeInvalid {
		t.Errorf("got %v", err)
	}
}
