package reconcile_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/devserver/servertest"
	"bindery/driver/postgres"
	"bindery/reconcile"
	"bindery/store/storetest"
)

// check compares a report with what is wanted.
func (w *world) check(got, want reconcile.Report) {
	w.Helper()
	want.Server, want.Kind, want.Checked = "s", w.kind, got.Checked
	for _, list := range [][]string{got.Removed, got.Restored, got.Unknown, got.Failed, want.Removed, want.Restored, want.Unknown} {
		slices.Sort(list)
	}
	if d := cmp.Diff(want, got); d != "" {
		w.Fatalf("report (-want +got):\n%s", d)
	}
}

func TestWhatAgreesIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	w.provision("i")
	_, c := w.bind("i", "b")
	got := w.compare(reconcile.Wish{Apply: true})
	w.check(got, reconcile.Report{})
	if got.Checked != 1 {
		t.Errorf("%d names were checked, want 1", got.Checked)
	}
	if err := w.login(c); err != nil {
		t.Error(err)
	}
}

func TestATombstoneThatReappearsIsRemoved(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	i := w.provision("i")
	a, c := w.bind("i", "b")
	w.unbind("i", "b")
	w.ensure(i, a)
	if err := w.login(c); err != nil {
		t.Fatalf("it is not back: %v", err)
	}
	w.check(w.compare(reconcile.Wish{DryRun: true}), reconcile.Report{Removed: []string{a.Name}})
	if w.login(c) != nil {
		t.Fatal("a dry run removed it")
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Removed: []string{a.Name}})
	if w.login(c) == nil {
		t.Error("it still lets in")
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{})
	w.update(func(tx bindery.Tx) error {
		events, err := tx.Events().List(t.Context(), bindery.EventFilter{InstanceID: "i"}, bindery.Page{})
		if err != nil {
			return err
		}
		if last := events[len(events)-1]; last.Action != "reconcile" || last.Account != a.Name || last.Platform != "p" ||
			last.Message != "removed an account that had been removed before and was there again" {
			t.Errorf("the last event is %+v", last)
		}
		return nil
	})
}

// TestWhatWasForgottenIsRemovedWhereItReappears: a server that was given up is back.
func TestWhatWasForgottenIsRemovedWhereItReappears(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRedis(t)
	proxy := servertest.Proxy(t, r.Addr)
	w := newWorld(t, "redis", func(installation string) bindery.Driver { return openRedisAt(t, r, proxy.Addr(), installation) })
	i := w.provision("i")
	a, c := w.bind("i", "b")
	refuse := func(yes bool) {
		t.Helper()
		if err := proxy.Refuse(yes); err != nil {
			t.Fatal(err)
		}
		proxy.Cut()
	}
	refuse(true)
	w.engine.SyncBudget = time.Millisecond
	polls := caller
	polls.CanPoll = true
	if _, err := w.engine.Deprovision(t.Context(), polls, broker.RemoveRequest{InstanceID: "i", OfferingID: "o", PlanID: "p"}); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.ForgetInstance(t.Context(), i.Row, "scrapped"); err != nil {
		t.Fatal(err)
	}
	refuse(false)
	if err := w.login(c); err != nil {
		t.Fatalf("it is not back: %v", err)
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Removed: []string{a.Name}})
	if w.login(c) == nil {
		t.Error("it still lets in")
	}
}

func TestWhatGoesDuringTheInventoryIsNoStray(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	i := w.provision("i")
	a, _ := w.bind("i", "b")
	w.unbind("i", "b")
	w.ensure(i, a)
	w.reconciler.Now = func() time.Time { return a.Created } // the unbind came after the comparison began
	w.check(w.compare(reconcile.Wish{Apply: true}), reconcile.Report{})
}

func TestALostAccountIsRestored(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	i := w.provision("i")
	a, c := w.bind("i", "b")
	if err := w.driver.Revoke(t.Context(), bindery.InstanceSpec{Name: i.Name}, a); err != nil {
		t.Fatal(err)
	}
	w.reconciler.Now = func() time.Time { return time.Now().Add(-time.Minute) }
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{}) // made after the inventory began
	w.reconciler.Now = time.Now
	w.check(w.compare(reconcile.Wish{DryRun: true}), reconcile.Report{Restored: []string{a.Name}})
	if w.login(c) == nil {
		t.Fatal("a dry run restored it")
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Restored: []string{a.Name}})
	w.settle()
	if err := w.login(c); err != nil {
		t.Errorf("the credential that was handed out: %v", err)
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{})
}

func TestTheUnknownIsReportedAndRemovedOnDemand(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRedis(t)
	w, other := redisWorld(t, r), redisWorld(t, r)
	i, j := w.provision("i"), other.provision("i")
	_, theirs := other.bind("i", "b")
	unknown, strange := w.prepare(i), other.prepare(j)
	w.ensure(i, unknown)
	other.ensure(j, strange)
	for range 2 {
		w.check(w.compare(reconcile.Wish{}), reconcile.Report{Unknown: []string{unknown.Name}})
	}
	w.check(w.compare(reconcile.Wish{Apply: true}), reconcile.Report{Removed: []string{unknown.Name}})
	if len(w.found(t.Context())) != 0 {
		t.Error("it is still there")
	}
	w.update(func(tx bindery.Tx) error {
		events, err := tx.Events().List(t.Context(), bindery.EventFilter{}, bindery.Page{Limit: 1000})
		if err == nil && events[len(events)-1].Message != "removed an account that the store never knew" {
			t.Errorf("the last event is %+v", events[len(events)-1])
		}
		return err
	})
	if err := other.login(theirs); err != nil {
		t.Errorf("another installation's account: %v", err)
	}
	other.check(other.compare(reconcile.Wish{}), reconcile.Report{Unknown: []string{strange.Name}})
}

func TestAnAccountInFlightIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, state := range []bindery.AccountState{bindery.AccountWanted, bindery.AccountRemoving} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			w := redisWorld(t, servertest.SharedRedis(t))
			i := w.provision("i")
			a := w.prepare(i)
			a.State = state
			w.update(func(tx bindery.Tx) error { return tx.Accounts().Add(t.Context(), a) })
			w.check(w.compare(reconcile.Wish{Apply: true}), reconcile.Report{}) // recorded before real
			w.ensure(i, a)
			w.check(w.compare(reconcile.Wish{Apply: true}), reconcile.Report{})
			if len(w.found(t.Context())) != 1 {
				t.Error("it was removed")
			}
		})
	}
}

func TestAServerRestartedFromAnOlderSave(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	w := redisWorld(t, r)
	w.provision("i")
	removed, dead := w.bind("i", "removed")
	admin := goredis.NewClient(&goredis.Options{Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), DisableIdentity: true})
	defer func() { _ = admin.Close() }()
	if err := admin.Do(t.Context(), "ACL", "SAVE").Err(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.Dir(), "users.acl")
	save, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.unbind("i", "removed")
	lost, alive := w.bind("i", "lost")
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, save, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.login(dead) != nil || w.login(alive) == nil {
		t.Fatal("the server did not forget")
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Removed: []string{removed.Name}, Restored: []string{lost.Name}})
	w.settle()
	if w.login(dead) == nil || w.login(alive) != nil {
		t.Error("want what was removed gone and what was lost back")
	}
}

func TestWhatCannotBeRemovedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	i := w.provision("i")
	a, _ := w.bind("i", "b")
	w.unbind("i", "b")
	w.ensure(i, a)
	broken := true
	w.reconciler.Store = storetest.Faulty(w.store, func(table, method string) error {
		if broken && table == "accounts" && method == "ByName" {
			return bindery.Errorf(bindery.CodeUnavailable, "the store is away")
		}
		return nil
	})
	if _, err := w.reconciler.Compare(t.Context(), "s", w.server(), reconcile.Wish{}); bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	broken = false
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Removed: []string{a.Name}})
}

func TestAServerThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	_, err := w.reconciler.Compare(t.Context(), "none", reconcile.Server{}, reconcile.Wish{})
	if bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestRunComparesAtOnceAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := redisWorld(t, servertest.SharedRedis(t))
	ctx, cancel := context.WithCancel(t.Context())
	compared := make(chan reconcile.Report, 1)
	w.reconciler.Compared = func(r reconcile.Report, err error) {
		if err != nil {
			t.Error(err)
		}
		compared <- r
	}
	ended := make(chan error, 1)
	go func() { ended <- w.reconciler.Run(ctx) }()
	select {
	case <-compared:
	case <-time.After(brokertest.Patience):
		t.Fatal("nothing was compared")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	p := servertest.SharedPostgres(t, servertest.Oldest)
	w := newWorld(t, "postgresql", func(installation string) bindery.Driver {
		d, err := postgres.Kind.Open(bindery.Server{
			Name: "s", Kind: "postgresql", Installation: installation, Address: p.Addr, Username: p.User, Password: p.Password,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	})
	kept, gone := w.provision("kept"), w.provision("gone")
	deprovision(w, "gone")
	row, err := w.store.NewID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unknown := bindery.Name(w.store.Installation(), row)
	for _, name := range []string{gone.Name, unknown} {
		if err := w.driver.Provision(t.Context(), bindery.InstanceSpec{Name: name, Settings: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	w.check(w.compare(reconcile.Wish{}), reconcile.Report{Removed: []string{gone.Name}, Unknown: []string{unknown}})
	w.check(w.compare(reconcile.Wish{Apply: true}), reconcile.Report{Removed: []string{unknown}})
	if left := w.found(t.Context()); len(left) != 1 || !left[kept.Name] {
		t.Errorf("left: %v", left)
	}
}
