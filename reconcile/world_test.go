package reconcile_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/redis"
	"bindery/reconcile"
)

func TestMain(m *testing.M) { servertest.Main(m) }

var caller = broker.Caller{Platform: "p", RequestID: "request"}

// later is when records of now count as settled.
func later() time.Time { return time.Now().Add(time.Minute) }

// A world is a Bindery with one server, named "s", and its reconciler.
type world struct {
	*testing.T
	store      bindery.Store
	engine     brokertest.Engine
	driver     bindery.Driver
	reconciler *reconcile.Reconciler
	kind       string
}

func openRedis(t *testing.T, r *devserver.Redis, installation string) bindery.Driver {
	t.Helper()
	return openRedisAt(t, r, r.Addr, installation)
}

// openRedisAt makes a driver of a server, at an address that leads there.
func openRedisAt(t *testing.T, r *devserver.Redis, address, installation string) bindery.Driver {
	t.Helper()
	d, err := redis.Kind.Open(bindery.Server{
		Name: "s", Kind: "redis", Installation: installation, Address: address, Username: r.User, Password: r.Password,
		Public: bindery.PublicAddress{Host: r.Host, Port: r.Port},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func redisWorld(t *testing.T, r *devserver.Redis) *world {
	t.Helper()
	return newWorld(t, "redis", func(installation string) bindery.Driver { return openRedis(t, r, installation) })
}

func newWorld(t *testing.T, kind string, open func(installation string) bindery.Driver) *world {
	t.Helper()
	s := brokertest.OpenStore(t)
	w := &world{T: t, store: s, driver: open(s.Installation()), kind: kind}
	catalog := &bindery.Catalog{Offerings: []*bindery.Offering{{ID: "o", Name: "o", Bindable: true, Plans: []*bindery.Plan{
		{ID: "p", Name: "p", Kind: kind, Servers: []string{"s"}, Settings: json.RawMessage(`{}`)},
	}}}}
	w.engine = brokertest.New(t, s, func() *bindery.Catalog { return catalog }, func(string) (bindery.Driver, bool) { return w.driver, true })
	t.Cleanup(w.sweep)
	w.engine.Start(t)
	w.reconciler = &reconcile.Reconciler{
		Store: s, Servers: func() map[string]reconcile.Server { return map[string]reconcile.Server{"s": w.server()} },
		Restore: w.engine.Restore, Interval: time.Hour, Now: later, Log: brokertest.Log(t),
	}
	return w
}

func (w *world) server() reconcile.Server { return reconcile.Server{Kind: w.kind, Driver: w.driver} }

// sweep leaves nothing on a shared server.
func (w *world) sweep() {
	for name, instance := range w.found(context.Background()) {
		var err error
		if instance {
			err = w.driver.Deprovision(context.Background(), bindery.InstanceSpec{Name: name})
		} else {
			err = w.driver.Revoke(context.Background(), bindery.InstanceSpec{}, bindery.Account{Name: name})
		}
		if err != nil {
			w.Error(err)
		}
	}
}

// found is what the server has: true for an instance.
func (w *world) found(ctx context.Context) map[string]bool {
	w.Helper()
	out := map[string]bool{}
	if err := w.driver.Inventory(ctx, func(f bindery.Found) error { out[f.Name] = f.Instance; return nil }); err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) provision(id string) bindery.Instance {
	w.Helper()
	r, err := w.engine.Provision(w.Context(), caller, broker.ProvisionRequest{InstanceID: id, OfferingID: "o", PlanID: "p", Organization: "o", Space: "s"})
	if err != nil {
		w.Fatal(err)
	}
	return r.Instance
}

func (w *world) bind(instance, id string) (bindery.Account, bindery.Credential) {
	w.Helper()
	r, err := w.engine.Bind(w.Context(), caller, broker.BindRequest{InstanceID: instance, BindingID: id, OfferingID: "o", PlanID: "p"})
	if err != nil {
		w.Fatal(err)
	}
	return w.account(r.Binding.Row), r.Credential
}

func (w *world) account(bindingRow int64) (a bindery.Account) {
	w.Helper()
	w.update(func(tx bindery.Tx) error {
		all, err := tx.Accounts().OfBinding(w.Context(), bindingRow)
		if err == nil {
			a = all[0]
		}
		return err
	})
	return a
}

func (w *world) unbind(instance, id string) {
	w.Helper()
	_, err := w.engine.Unbind(w.Context(), caller, broker.RemoveRequest{InstanceID: instance, BindingID: id, OfferingID: "o", PlanID: "p"})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) update(f func(bindery.Tx) error) {
	w.Helper()
	if err := w.store.Update(w.Context(), f); err != nil {
		w.Fatal(err)
	}
}

// ensure makes an account on the server, past the store.
func (w *world) ensure(i bindery.Instance, a bindery.Account) {
	w.Helper()
	if _, err := w.driver.Ensure(w.Context(), bindery.InstanceSpec{Name: i.Name, Settings: json.RawMessage(`{}`)}, a); err != nil {
		w.Fatal(err)
	}
}

// prepare makes an account that nobody has recorded.
func (w *world) prepare(i bindery.Instance) bindery.Account {
	w.Helper()
	row, err := w.store.NewID(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	a := bindery.Account{
		Row: row, InstanceRow: i.Row, Kind: w.kind, Server: "s", Name: bindery.Name(w.store.Installation(), row),
		State: bindery.AccountWanted, Created: time.Now(), Updated: time.Now(),
	}
	a.Material, err = w.driver.Prepare(bindery.InstanceSpec{Name: i.Name, Settings: json.RawMessage(`{}`)}, bindery.AccountRequest{Name: a.Name})
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func (w *world) compare(wish reconcile.Wish) reconcile.Report {
	w.Helper()
	report, err := w.reconciler.Compare(w.Context(), "s", w.server(), wish)
	if err != nil {
		w.Fatal(err)
	}
	return report
}

func (w *world) settle() {
	w.Helper()
	w.engine.Settle(w.T, w.store)
}

func (w *world) login(c bindery.Credential) error {
	w.Helper()
	return brokertest.Login(w.T, c)
}

func deprovision(w *world, id string) {
	w.Helper()
	if _, err := w.engine.Deprovision(w.Context(), caller, broker.RemoveRequest{InstanceID: id, OfferingID: "o", PlanID: "p"}); err != nil {
		w.Fatal(err)
	}
}
