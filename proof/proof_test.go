package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/redis"
	"bindery/proof"
	"bindery/test/poll"
)

func TestMain(m *testing.M) { servertest.Main(m) }

var caller = broker.Caller{Platform: "p", RequestID: "request"}

// A world is a Bindery in front of a Redis that may lie, and its prover.
type world struct {
	*testing.T
	brokertest.Engine
	store  bindery.Store
	proxy  *devserver.Proxy
	driver bindery.Driver
	prover *proof.Prover
	// lies makes the server confirm removals and remove nothing.
	lies atomic.Bool
	// vague are the accounts of which the server says nothing.
	vague sync.Map
	mu    sync.Mutex
	tries map[string]int
}

type liar struct {
	bindery.Driver
	w *world
}

func (l liar) Unwrap() bindery.Driver { return l.Driver }

func (l liar) Revoke(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) error {
	if l.w.lies.Load() {
		return nil
	}
	return l.Driver.Revoke(ctx, spec, a)
}

func (l liar) Prove(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (string, error) {
	if _, ok := l.w.vague.Load(a.Name); ok {
		return "", errors.New("nobody can say")
	}
	prover, _ := bindery.Capability[bindery.Prover](l.Driver)
	return prover.Prove(ctx, spec, a)
}

func newWorld(t *testing.T, set ...func(*world)) *world {
	t.Helper()
	w := &world{T: t, store: brokertest.OpenStore(t), tries: map[string]int{}}
	server := servertest.SharedRedis(t)
	w.proxy = servertest.Proxy(t, server.Addr)
	real, err := redis.Kind.Open(bindery.Server{
		Name: "r", Kind: "redis", Installation: w.store.Installation(), Address: w.proxy.Addr(), Username: server.User,
		Password: server.Password, Timeout: 2 * time.Second, Public: bindery.PublicAddress{Host: server.Host, Port: server.Port},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = real.Close() })
	w.driver = liar{real, w}
	plan := &bindery.Plan{
		ID: "small", Name: "small", Kind: "redis", Servers: []string{"r"}, Settings: json.RawMessage(`{}`), Revocation: bindery.RevocationProven,
	}
	catalog := &bindery.Catalog{Offerings: []*bindery.Offering{{ID: "redis", Name: "redis", Bindable: true, Plans: []*bindery.Plan{plan}}}}
	w.Engine = brokertest.New(t, w.store, func() *bindery.Catalog { return catalog }, func(string) (bindery.Driver, bool) { return w.driver, true })
	w.prover = &proof.Prover{
		Store: w.store, Busy: w.Queue.Busy, Now: time.Now, Log: brokertest.Log(t),
		Drivers: func() map[string]bindery.Driver { return map[string]bindery.Driver{"r": w.driver} },
		Spec:    func(i bindery.Instance) bindery.InstanceSpec { return broker.Spec(i, plan) },
		Tried: func(_, outcome string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tries[outcome]++
		},
	}
	w.Unproven = w.prover.Wake
	for _, f := range set {
		f(w)
	}
	w.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.prover.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	t.Cleanup(w.proxy.Release)
	if _, err := w.Provision(t.Context(), caller, broker.ProvisionRequest{InstanceID: "i", OfferingID: "redis", PlanID: "small", Organization: "o", Space: "s"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) bind(id string) bindery.Credential {
	w.Helper()
	r, err := w.Bind(w.Context(), caller, broker.BindRequest{InstanceID: "i", BindingID: id, OfferingID: "redis", PlanID: "small"})
	if err != nil {
		w.Fatal(err)
	}
	return r.Credential
}

func (w *world) unbind(id string) {
	w.Helper()
	if _, err := w.Unbind(w.Context(), caller, broker.RemoveRequest{InstanceID: "i", BindingID: id, OfferingID: "redis", PlanID: "small"}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) account(id string) (b bindery.Binding, a bindery.Account) {
	w.Helper()
	if err := w.store.View(w.Context(), func(tx bindery.Tx) (err error) {
		if b, err = tx.Bindings().Find(w.Context(), "p", "i", id); err != nil {
			return err
		}
		accounts, err := tx.Accounts().OfBinding(w.Context(), b.Row)
		if err == nil {
			a = accounts[0]
		}
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return b, a
}

// becomes waits until the binding's account is in a state.
func (w *world) becomes(id string, state bindery.AccountState) bindery.Account {
	w.Helper()
	var a bindery.Account
	poll.Until(w.T, fmt.Sprintf("the account of %s is %s", id, state), func() bool {
		_, a = w.account(id)
		return a.State == state
	})
	return a
}

// events are the results of the audit's lines about an action on a binding.
func (w *world) events(id, action string) (results []string) {
	w.Helper()
	if err := w.store.View(w.Context(), func(tx bindery.Tx) error {
		results = nil
		all, err := tx.Events().List(w.Context(), bindery.EventFilter{BindingID: id}, bindery.Page{})
		for _, e := range all {
			if e.Action == action {
				results = append(results, e.Result)
			}
		}
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return results
}

func TestWhatWasRemovedIsProvenDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c"} {
		w.bind(id)
	}
	for _, id := range []string{"a", "b"} {
		w.unbind(id)
	}
	for _, id := range []string{"a", "b"} {
		a := w.becomes(id, bindery.AccountGone)
		if a.Proof == "" || a.Proven.IsZero() || !a.Material.Empty() || a.Attempts != 0 {
			t.Errorf("%s: proof %q at %v after %d tries, secret left: %v", id, a.Proof, a.Proven, a.Attempts, !a.Material.Empty())
		}
		if got := w.events(id, "prove"); len(got) != 1 || got[0] != string(bindery.OpSucceeded) {
			t.Errorf("%s: the audit has %v", id, got)
		}
	}
	if _, a := w.account("c"); a.State != bindery.AccountLive || a.Material.Empty() {
		t.Errorf("another binding's account is %q", a.State)
	}
}

func TestAServerThatLiesIsFoundOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	credential := w.bind("b")
	w.lies.Store(true)
	w.unbind("b") // the server says that it is done
	a := w.becomes("b", bindery.AccountStuck)
	if !a.Proven.IsZero() || a.Material.Empty() || a.Attempts == 0 || a.Retry.IsZero() {
		t.Errorf("stuck after %d tries, proven %v, to be tried again at %v", a.Attempts, a.Proven, a.Retry)
	}
	if err := brokertest.Login(t, credential); err != nil {
		t.Fatalf("the server did not lie: %v", err)
	}
	if got := w.events("b", "prove"); len(got) != 1 || got[0] != string(bindery.OpFailed) {
		t.Errorf("the audit has %v", got)
	}
	poll.Until(t, "the backlog is that", func() bool {
		b := w.prover.Backlog()
		return len(b) == 1 && b[0].Server == "r" && b[0].State == bindery.AccountStuck && b[0].Count == 1
	})
	var stuck []bindery.Binding
	if err := w.store.View(t.Context(), func(tx bindery.Tx) (err error) {
		stuck, err = tx.Bindings().List(t.Context(), bindery.BindingFilter{Stuck: true, Removed: true}, bindery.Page{})
		return err
	}); err != nil || len(stuck) != 1 || stuck[0].ID != "b" {
		t.Errorf("stuck bindings: %v (%v)", stuck, err)
	}

	w.lies.Store(false) // and is removed again, and proven
	if a = w.becomes("b", bindery.AccountGone); a.Proof == "" || a.Proven.IsZero() || !a.Material.Empty() {
		t.Errorf("proof %q at %v", a.Proof, a.Proven)
	}
	if brokertest.Login(t, credential) == nil {
		t.Error("it still lets somebody in")
	}
	if got := w.events("b", "prove"); len(got) != 2 || got[1] != string(bindery.OpSucceeded) {
		t.Errorf("the audit has %v", got)
	}
}

func TestWhereNobodyCanSayItIsStuckAfterAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.prover.Bound = 2 * time.Second })
	w.bind("b")
	// The removal gets through, what comes after it does not.
	w.Unproven = nil
	down := sync.OnceFunc(func() {
		if err := w.proxy.Refuse(true); err != nil {
			t.Error(err)
		}
		w.proxy.Cut()
	})
	w.Ended = func(o bindery.Operation) {
		if o.Kind == bindery.OpUnbind {
			down()
		}
	}
	w.unbind("b")
	if a := w.becomes("b", bindery.AccountStuck); a.Attempts == 0 || a.Material.Empty() {
		t.Errorf("stuck after %d tries", a.Attempts)
	}
	w.mu.Lock()
	if w.tries["alive"] > 0 || w.tries["unknown"] == 0 {
		t.Errorf("the tries found %v", w.tries)
	}
	w.mu.Unlock()
	if err := w.proxy.Refuse(false); err != nil {
		t.Fatal(err)
	}
	if a := w.becomes("b", bindery.AccountGone); a.Proof == "" || a.Proven.IsZero() {
		t.Errorf("proof %q at %v", a.Proof, a.Proven)
	}
}

// Where a server answers, those of which it tells nothing say nothing of the others.
func TestWhatIsVagueCountsForNoNeighbour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Unproven = nil
	const vague = 6
	for n := range vague {
		id := fmt.Sprint("vague-", n)
		w.bind(id)
		_, a := w.account(id)
		w.vague.Store(a.Name, true)
	}
	w.bind("plain")
	for n := range vague {
		w.unbind(fmt.Sprint("vague-", n))
	}
	w.unbind("plain")
	w.prover.Wake("r")
	if a := w.becomes("plain", bindery.AccountGone); a.Attempts != 0 {
		t.Errorf("it was counted as tried %d times before", a.Attempts)
	}
	if _, a := w.account("vague-0"); a.State != bindery.AccountUnproven || a.Attempts == 0 {
		t.Errorf("what is vague is %s after %d tries", a.State, a.Attempts)
	}
}

// A clock that was ahead for a while delays no proof by as much.
func TestAClockThatGoesBackDelaysNoProof(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	ahead.Store(int64(1000 * time.Hour))
	w := newWorld(t, func(w *world) {
		w.prover.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	w.bind("b")
	w.lies.Store(true)
	w.unbind("b")
	if a := w.becomes("b", bindery.AccountStuck); time.Until(a.Retry) < time.Hour {
		t.Fatalf("to be tried again at %v", a.Retry)
	}
	ahead.Store(0)
	w.lies.Store(false)
	w.becomes("b", bindery.AccountGone)
}

// Where a process and its servers start together after a long night, what nobody
// tried meanwhile is not stuck at the first try that tells nothing.
func TestAFirstTryMakesNothingStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.prover.Bound = time.Nanosecond
		w.Unproven = nil
		w.Ended = func(o bindery.Operation) {
			if o.Kind == bindery.OpUnbind {
				if err := w.proxy.Refuse(true); err != nil {
					t.Error(err)
				}
				w.proxy.Cut()
			}
		}
	})
	w.bind("b")
	w.unbind("b")
	if a := w.becomes("b", bindery.AccountStuck); a.Attempts < 3 {
		t.Errorf("stuck after %d tries", a.Attempts)
	}
	if err := w.proxy.Refuse(false); err != nil {
		t.Fatal(err)
	}
	w.becomes("b", bindery.AccountGone)
}

func TestAnOperatorForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bind("b")
	live, _ := w.account("b")
	if err := w.Forget(t.Context(), live.Row, "no reason"); bindery.CodeOf(err) != bindery.CodeConflict {
		t.Fatalf("forgot a binding that is in use: %v", err)
	}
	w.lies.Store(true)
	w.unbind("b")
	w.becomes("b", bindery.AccountStuck)
	if err := w.Forget(t.Context(), live.Row, "the server was scrapped"); err != nil {
		t.Fatal(err)
	}
	_, a := w.account("b")
	if a.State != bindery.AccountGone || !a.Proven.IsZero() || !a.Material.Empty() || a.Proof != "forgotten by an operator: the server was scrapped" {
		t.Errorf("its account is %q, proof %q at %v", a.State, a.Proof, a.Proven)
	}
	if got := w.events("b", "forget"); len(got) != 1 {
		t.Errorf("the audit has %v", got)
	}
	if err := w.Forget(t.Context(), live.Row, "again"); bindery.CodeOf(err) != bindery.CodeConflict {
		t.Errorf("forgot it twice: %v", err)
	}
	if err := w.Forget(t.Context(), 1<<40, "what?"); bindery.CodeOf(err) != bindery.CodeNotFound {
		t.Errorf("forgot what never was: %v", err)
	}
}

// TestARemovalThatNeverEndsIsForgotten: its server is gone for good.
func TestARemovalThatNeverEndsIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bind("b")
	w.proxy.Hold()
	ended := make(chan error, 1)
	go func() {
		_, err := w.Unbind(context.WithoutCancel(t.Context()), caller, broker.RemoveRequest{InstanceID: "i", BindingID: "b", OfferingID: "redis", PlanID: "small"})
		ended <- err
	}()
	var b bindery.Binding
	poll.Until(t, "the removal begins", func() bool {
		b, _ = w.account("b")
		return b.State == bindery.StateRemoving
	})
	if err := w.Forget(t.Context(), b.Row, "scrapped"); err != nil {
		t.Fatal(err)
	}
	// Nobody is told that the server confirmed it.
	if err := <-ended; bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("whoever waits for the unbind gets %v", err)
	}
	b, a := w.account("b")
	if b.State != bindery.StateRemoved || a.State != bindery.AccountGone || !a.Proven.IsZero() {
		t.Errorf("binding %q, account %q", b.State, a.State)
	}
	w.proxy.Release()
	if err := w.driver.Revoke(t.Context(), bindery.InstanceSpec{}, a); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err) // the shared server is left as it was
	}
}
