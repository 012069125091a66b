package broker_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/broker"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/redis"
	"bindery/queue"
	"bindery/store"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// patience is long for anything that a test waits for.
const patience = 30 * time.Second

// The callers of the tests.
var (
	polls = broker.Caller{Platform: "p", RequestID: "request", CanPoll: true}
	waits = broker.Caller{Platform: "p", RequestID: "request"}
)

// A world is a broker with its queue, on a store that may fail, in front of a
// Redis that may hang.
type world struct {
	*testing.T
	*broker.Broker
	store   bindery.Store // without faults
	queue   *queue.Queue
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
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "b.db"), Keys: storetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: s}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.proxy = servertest.Proxy(t, servertest.SharedRedis(t).Addr)
	w.driver = w.open(w.proxy.Addr())
	w.catalog.Store(catalog())
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	faults := storetest.Faulty(s, func(table, method string) error {
		if f := w.fault.Load(); f != nil {
			return (*f)(table, method)
		}
		return nil
	})
	w.queue = &queue.Queue{Store: faults, Workers: 4, Drain: time.Second, Now: time.Now, Log: log}
	w.Broker = &broker.Broker{
		Store: faults, Queue: w.queue, Current: w.catalog.Load, Now: time.Now, Log: log,
		Drivers:    func(string) (bindery.Driver, bool) { return faulty{w.driver, w}, true },
		SyncBudget: patience, RequestWait: patience, CreateDeadline: time.Hour,
	}
	for _, f := range set {
		f(w)
	}
	w.queue.Work = w.Work
	if err := w.queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.queue.Run(ctx) }()
	t.Cleanup(func() {
		w.fault.Store(nil)
		w.proxy.Release()
		cancel()
		<-ended
		w.sweep()
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

// finish waits for the end of an operation.
func (w *world) finish(row int64) bindery.Operation {
	w.Helper()
	ended, stop := w.queue.Watch(row)
	defer stop()
	var o bindery.Operation
	w.view(func(tx bindery.Tx) (err error) {
		o, err = tx.Operations().Get(w.Context(), row)
		return err
	})
	if o.State != bindery.OpInProgress {
		return o
	}
	select {
	case o := <-ended:
		return o
	case <-time.After(patience):
		w.Fatalf("operation %d (%s) does not end", row, o.Kind)
	}
	return o
}

func (w *world) finishToken(token string) bindery.Operation {
	w.Helper()
	row, ok := bindery.ParseToken(token)
	if !ok {
		w.Fatalf("%q is no token", token)
	}
	return w.finish(row)
}

// settle waits for everything that is in progress to end.
func (w *world) settle() {
	w.Helper()
	for {
		var all []bindery.Operation
		w.view(func(tx bindery.Tx) (err error) {
			all, err = tx.Operations().List(w.Context(), bindery.OperationFilter{State: bindery.OpInProgress}, bindery.Page{})
			return err
		})
		if len(all) == 0 {
			return
		}
		w.finish(all[0].Row)
	}
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

// login tries a credential.
func (w *world) login(c bindery.Credential) error {
	w.Helper()
	uri, _ := c.Object["uri"].(string)
	o, err := goredis.ParseURL(uri)
	if err != nil {
		w.Fatal("the credential's uri cannot be read")
	}
	o.DisableIdentity = true
	client := goredis.NewClient(o)
	defer func() { _ = client.Close() }()
	return client.Echo(w.Context(), "hello").Err()
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
