package broker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/devserver/servertest"
)

// replica starts a second process on the store of the first, straight to the server.
func (w *world) replica() *world {
	w.Helper()
	e := brokertest.New(w.T, w.store, w.catalog.Load, func(string) (bindery.Driver, bool) { return w.driver, true })
	e.Start(w.T)
	return &world{T: w.T, Engine: e, store: w.store, driver: w.driver}
}

// A late is a driver whose Ensure begins when the test says so.
type late struct {
	bindery.Driver
	began, release chan struct{}
}

func (l late) Ensure(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (bindery.Ensured, error) {
	l.began <- struct{}{}
	<-l.release
	return l.Driver.Ensure(ctx, spec, a)
}

func TestWhatAnotherReplicaRemovedStaysRemoved(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 10), make(chan struct{})
	var ahead atomic.Int64
	w := newWorld(t, func(w *world) {
		w.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		w.Queue.Workers, w.SyncBudget = 1, 50*time.Millisecond
		w.Drivers = func(string) (bindery.Driver, bool) { return late{w.driver, began, release}, true }
	})
	other := w.replica()
	w.provision("i", "small")
	bind := func(id string) {
		r, err := w.Bind(t.Context(), polls, bindRequest("i", id))
		if err != nil || r.Outcome != broker.Accepted {
			t.Fatalf("got %v and %v, want it accepted", r.Outcome, err)
		}
	}
	bind("running")
	<-began
	bind("waiting") // for the only worker
	for _, id := range []string{"running", "waiting"} {
		other.unbind("i", id)
	}
	w.empty()
	ahead.Store(int64(2 * time.Second)) // it has waited for long
	close(release)
	w.SyncBudget = patience
	w.bind(bindRequest("i", "last")) // after those two, on the only worker
	if names := w.onServer(t.Context()); len(names) != 1 {
		t.Errorf("the server has %v, want the last account only", names)
	}
	if n := len(began); n != 1 {
		t.Errorf("%d more calls made an account, want the last one's only", n)
	}
}

// Whoever ends an operation ends its context too, which can be while what it
// made too late is being taken back.
func TestATakingBackOutlivesItsOperation(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 10), make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.Queue.Workers, w.SyncBudget = 1, 50*time.Millisecond
		w.Drivers = func(string) (bindery.Driver, bool) { return late{w.driver, began, release}, true }
	})
	other := w.replica()
	w.provision("i", "small")
	r, err := w.Bind(t.Context(), polls, bindRequest("i", "b"))
	if err != nil || r.Outcome != broker.Accepted {
		t.Fatalf("got %v and %v, want it accepted", r.Outcome, err)
	}
	row, _ := bindery.ParseToken(r.Operation)
	<-began
	other.unbind("i", "b")
	var interrupted atomic.Bool
	w.failStore(func(table, method string) error {
		// The only one that looks them up in this process.
		if table == "accounts" && method == "OfBinding" {
			w.Queue.Interrupt(row)
			interrupted.Store(true)
		}
		return nil
	})
	close(release)
	w.SyncBudget = patience
	w.bind(bindRequest("i", "last")) // after that one, on the only worker
	if !interrupted.Load() {
		t.Error("nothing was taken back")
	}
	if names := w.onServer(t.Context()); len(names) != 1 {
		t.Errorf("the server has %v, want the last account only", names)
	}
}

func TestARestoreMakesTheSameCredentialWorkAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.provision("i", "small")
	r := w.bind(bindRequest("i", "b"))
	b, accounts := w.binding("i", "b")
	if err := w.driver.Revoke(t.Context(), bindery.InstanceSpec{Name: i.Name}, accounts[0]); err != nil {
		t.Fatal(err)
	}
	if err := w.Restore(t.Context(), b.Row); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if err := w.login(r.Credential); err != nil {
		t.Error(err)
	}
	s, err := w.LastOperation(t.Context(), polls, "i", "b", "")
	if err != nil || s.Kind != bindery.OpBind {
		t.Errorf("the platform sees %+v (%v), want its own bind", s, err)
	}
	w.unbind("i", "b")
	w.refused(w.Restore(t.Context(), b.Row), bindery.CodeBusy)
}

func TestAHungServerHoldsUpItsOwnWorkOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.SyncBudget = 50 * time.Millisecond
		through, direct := w.Drivers, w.open(servertest.SharedRedis(t).Addr)
		w.Drivers = func(server string) (bindery.Driver, bool) {
			if server == "x1" {
				return direct, true
			}
			return through(server)
		}
	})
	w.proxy.Hold()
	w.proxy.Cut()
	slow, err := w.Provision(t.Context(), polls, provisionRequest("slow", "small"))
	if err != nil || slow.Outcome != broker.Accepted {
		t.Fatalf("got %v and %v, want it accepted", slow.Outcome, err)
	}
	fast, err := w.Provision(t.Context(), waits, provisionRequest("fast", "alone"))
	if err != nil || fast.Instance.Server != "x1" {
		t.Fatalf("on %q: %v", fast.Instance.Server, err)
	}
	w.proxy.Release()
	if o := w.finishToken(slow.Operation); o.State != bindery.OpSucceeded {
		t.Errorf("the slow one is %q", o.State)
	}
}
