package broker_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/redis"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

const patience = brokertest.Patience

// The callers of the tests.
var (
	polls = broker.Caller{Platform: "p", RequestID: "request", CanPoll: true}
	waits = broker.Caller{Platform: "p", RequestID: "request"}
)

// A world is a broker with its queue, on a store that may fail, in front of a
// Redis that may hang.
type world struct {
	*testing.T
	brokertest.Engine
	store   bindery.Store // without faults
	proxy   *devserver.Proxy
	catalog atomic.Pointer[bindery.Catalog]
	driver  bindery.Driver // without faults
	// fault is asked before each call of the store, driverFault before each of the driver.
	fault       atomic.Pointer[func(table, method string) error]
	driverFault atomic.Pointer[func(method string, spec bindery.InstanceSpec) error]
}

// A faulty driver is a real one that is asked whether it may.
type faulty struct {
	bindery.Driver
	w *world
}

func (f faulty) ask(method string, spec bindery.InstanceSpec) error {
	if fault := f.w.driverFault.Load(); fault != nil {
		return (*fault)(method, spec)
	}
	return nil
}

func (f faulty) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := f.ask("Provision", spec); err != nil {
		return err
	}
	return f.Driver.Provision(ctx, spec)
}

func (f faulty) Ensure(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) (bindery.Ensured, error) {
	if err := f.ask("Ensure", spec); err != nil {
		return bindery.Ensured{}, err
	}
	return f.Driver.Ensure(ctx, spec, a)
}

func (f faulty) Revoke(ctx context.Context, spec bindery.InstanceSpec, a bindery.Account) error {
	if err := f.ask("Revoke", spec); err != nil {
		return err
	}
	return f.Driver.Revoke(ctx, spec, a)
}

func newWorld(t *testing.T, set ...func(*world)) *world {
	t.Helper()
	w := &world{T: t, store: brokertest.OpenStore(t)}
	w.proxy = servertest.Proxy(t, servertest.SharedRedis(t).Addr)
	w.driver = w.open(w.proxy.Addr())
	w.catalog.Store(catalog())
	faults := storetest.Faulty(w.store, func(table, method string) error {
		if f := w.fault.Load(); f != nil {
			return (*f)(table, method)
		}
		return nil
	})
	w.Engine = brokertest.New(t, faults, w.catalog.Load, func(string) (bindery.Driver, bool) { return faulty{w.driver, w}, true })
	for _, f := range set {
		f(w)
	}
	t.Cleanup(w.sweep)
	w.Start(t)
	t.Cleanup(func() {
		w.fault.Store(nil)
		w.proxy.Release()
	})
	return w
}

// open makes a driver of the shared server, at an address that leads there.
func (w *world) open(address string) bindery.Driver {
	w.Helper()
	server := servertest.SharedRedis(w.T)
	d, err := redis.Kind.Open(bindery.Server{
		Name: "r", Kind: "redis", Installation: w.store.Installation(), Address: address, Username: server.User,
		Password: server.Password, Timeout: 2 * time.Second, Public: bindery.PublicAddress{Host: server.Host, Port: server.Port},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = d.Close() })
	return d
}

// sweep leaves nothing on the shared server.
func (w *world) sweep() {
	for _, name := range w.onServer(context.Background()) {
		if err := w.driver.Revoke(context.Background(), bindery.InstanceSpec{}, bindery.Account{Name: name}); err != nil {
			w.Error(err)
		}
	}
}

func catalog() *bindery.Catalog {
	plan := func(id string, set func(*bindery.Plan)) *bindery.Plan {
		p := &bindery.Plan{ID: id, Name: id, Kind: "redis", Servers: []string{"r"}, Settings: json.RawMessage(`{}`), BindingRotatable: true}
		set(p)
		return p
	}
	return &bindery.Catalog{Offerings: []*bindery.Offering{{
		ID: "redis", Name: "redis", Bindable: true, PlanUpdateable: true,
		Plans: []*bindery.Plan{
			plan("small", func(*bindery.Plan) {}),
			plan("big", func(p *bindery.Plan) { p.Settings = json.RawMessage(`{"scripts":false}`) }),
			plan("few", func(p *bindery.Plan) { p.Quota = bindery.Quota{Instances: 1, BindingsPerInstance: 1} }),
			plan("alone", func(p *bindery.Plan) { p.Servers, p.Exclusive = []string{"x1", "x2"}, true }),
		},
	}}}
}

func (w *world) provision(id, plan string) bindery.Instance {
	w.Helper()
	r, err := w.Provision(w.Context(), waits, provisionRequest(id, plan))
	if err != nil {
		w.Fatalf("provision %s: %v", id, err)
	}
	return r.Instance
}

func provisionRequest(id, plan string) broker.ProvisionRequest {
	return broker.ProvisionRequest{InstanceID: id, OfferingID: "redis", PlanID: plan, Organization: "o", Space: "s"}
}

func bindRequest(instance, binding string) broker.BindRequest {
	return broker.BindRequest{InstanceID: instance, BindingID: binding, OfferingID: "redis", PlanID: "small"}
}

func removeRequest(instance, binding string) broker.RemoveRequest {
	return broker.RemoveRequest{InstanceID: instance, BindingID: binding, OfferingID: "redis", PlanID: "small"}
}

func (w *world) bind(r broker.BindRequest) broker.Result {
	w.Helper()
	result, err := w.Bind(w.Context(), waits, r)
	if err != nil {
		w.Fatalf("bind %s: %v", r.BindingID, err)
	}
	return result
}

func (w *world) unbind(instance, binding string) {
	w.Helper()
	if _, err := w.Unbind(w.Context(), waits, removeRequest(instance, binding)); err != nil {
		w.Fatalf("unbind %s: %v", binding, err)
	}
}

func (w *world) finish(row int64) bindery.Operation {
	w.Helper()
	return w.Finish(w.T, w.store, row)
}

func (w *world) finishToken(token string) bindery.Operation {
	w.Helper()
	row, ok := bindery.ParseToken(token)
	if !ok {
		w.Fatalf("%q is no token", token)
	}
	return w.finish(row)
}

func (w *world) settle() {
	w.Helper()
	w.Settle(w.T, w.store)
}

func (w *world) view(f func(bindery.Tx) error) {
	w.Helper()
	if err := w.store.View(w.Context(), f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) binding(instance, id string) (b bindery.Binding, accounts []bindery.Account) {
	w.Helper()
	w.view(func(tx bindery.Tx) (err error) {
		if b, err = tx.Bindings().Find(w.Context(), "p", instance, id); err != nil {
			return err
		}
		accounts, err = tx.Accounts().OfBinding(w.Context(), b.Row)
		return err
	})
	return b, accounts
}

func (w *world) instance(id string) (i bindery.Instance) {
	w.Helper()
	w.view(func(tx bindery.Tx) (err error) {
		i, err = tx.Instances().Find(w.Context(), "p", id)
		return err
	})
	return i
}

// onServer lists the accounts that the server has.
func (w *world) onServer(ctx context.Context) (names []string) {
	w.Helper()
	err := w.driver.Inventory(ctx, func(f bindery.Found) error {
		if !f.Instance {
			names = append(names, f.Name)
		}
		return nil
	})
	if err != nil {
		w.Fatalf("inventory: %v", err)
	}
	return names
}

// empty checks that the server has no account left.
func (w *world) empty() {
	w.Helper()
	if left := w.onServer(w.Context()); len(left) > 0 {
		w.Fatalf("left on the server: %v", left)
	}
}

func (w *world) login(c bindery.Credential) error {
	w.Helper()
	return brokertest.Login(w.T, c)
}

func (w *world) refused(err error, want bindery.Code) {
	w.Helper()
	if bindery.CodeOf(err) != want {
		w.Fatalf("got %v, want code %q", err, want)
	}
}

func (w *world) failDriver(f func(method string, spec bindery.InstanceSpec) error) {
	w.driverFault.Store(&f)
}
func (w *world) failStore(f func(table, method string) error) { w.fault.Store(&f) }
