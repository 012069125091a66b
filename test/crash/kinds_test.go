package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver"
)

// A further is a service of a world beside Redis and PostgreSQL. It has the name of its kind.
type further struct {
	backend backend        // nil: there is no server to kill
	reach   bindery.Server // of a driver that the test has for itself
	// Extra is what else the configuration says of the server, Plan of the plan: YAML.
	Extra, Plan string
	// listed returns the instances and accounts that the server has. Where it is nil,
	// credentials that log in or not are all there is to look at.
	listed func(ctx context.Context, id string) (instances, accounts []string, err error)
	// mayKeep returns names that the server may have without a live account: those that
	// the audit calls possible orphans.
	mayKeep func(ctx context.Context) ([]string, error)
	// released says that a credential lives on when its binding ends.
	released bool
}

// furtherServices are all that a test may ask for.
var furtherServices = []string{"mysql", "rabbitmq", "nats", "oauth", "mtls", "static", poolService}

// provable are those of them whose revocation is proven.
var provable = []string{"mysql", "rabbitmq", "nats", "oauth", "mtls"}

// everything asks for all services whose programs are there; with BINDERY_TEST_ALL=1,
// as in `make test`, for all.
func everything(s *settings) { s.Further = furtherServices }

// available says whether there is a program for a service, which the log then tells.
func available(t *testing.T, service string) bool {
	t.Helper()
	var err error
	switch service {
	case "mysql":
		_, err = devserver.FindMySQL()
	case "rabbitmq":
		_, err = devserver.FindRabbitMQ()
	case "oauth":
		err = servertest.HasOIDC()
	}
	if err == nil || os.Getenv("BINDERY_TEST_ALL") == "1" {
		return true
	}
	t.Logf("without %s: %v", service, err)
	return false
}

// addFurther starts the servers of the services that the settings ask for, at once.
func (w *world) addFurther() {
	w.Helper()
	w.services, w.further = slices.Clone(services), map[string]*further{}
	start := map[string]func() *further{
		"mysql": w.addMySQL, "rabbitmq": w.addRabbitMQ, "nats": w.addNATS, "oauth": w.addOAuth,
		"mtls": w.addMTLS, "static": w.addStatic, poolService: w.addPool,
	}
	for _, name := range w.settings.Further {
		if available(w.T, name) {
			w.services, w.further[name] = append(w.services, name), start[name]()
		}
	}
}

// furtherConfig is what the configuration says of them.
func (w *world) furtherConfig() (servers, catalog string) {
	for _, name := range w.services {
		f := w.further[name]
		if f == nil {
			continue
		}
		servers += fmt.Sprintf("  - {name: %s, kind: %s, timeout: %s", name, name, w.settings.Timeout)
		if f.reach.Address != "" {
			servers += fmt.Sprintf(", address: '%s'", f.reach.Address)
		}
		if f.reach.Username != "" {
			w.keep(name, f.reach.Password.Reveal())
			servers += fmt.Sprintf(", username: %s, password: {file: %s}", f.reach.Username, name)
		}
		if len(f.reach.Secrets) > 0 {
			var all []string
			for key, value := range f.reach.Secrets {
				w.keep(name+"-"+key, value.Reveal())
				all = append(all, fmt.Sprintf("{name: %s, value: {file: %s-%s}}", key, name, key))
			}
			slices.Sort(all)
			servers += ", secrets: [" + strings.Join(all, ", ") + "]"
		}
		servers += f.Extra + "}\n"
		catalog += fmt.Sprintf("  - {id: %s, name: %s, description: %s, plans: [{id: %s, name: shared, description: One, servers: [%s]%s}]}\n",
			name, name, name, planOf(name), name, f.Plan+w.settings.Plans)
	}
	return servers, catalog
}

// victims are the services whose server can be killed.
func (w *world) victims() (all []string) {
	for _, s := range w.services {
		if f := w.further[s]; f == nil || f.backend != nil {
			all = append(all, s)
		}
	}
	return all
}

// lives says whether a credential lives on when its binding ends.
func (w *world) lives(service string) bool {
	f := w.further[service]
	return f != nil && f.released
}

// rotates says whether a binding of a service can succeed another.
func rotates(service string) bool { return service != "static" }

func (w *world) addMySQL() *further {
	m := servertest.MySQL(w.T)
	f := &further{backend: m, reach: bindery.Server{Address: m.Addr, Username: m.User, Password: m.Password}}
	f.listed = w.byDriver("mysql", f)
	return f
}

func (w *world) addRabbitMQ() *further {
	r := servertest.RabbitMQ(w.T)
	return &further{
		backend: r, reach: bindery.Server{Address: r.Addr, Username: r.User, Password: r.Password},
		Extra: fmt.Sprintf(", public: {host: %s, port: %d}", r.Host, r.Port),
		// Asked directly: a driver would make a user of its own for each look.
		listed: func(ctx context.Context, id string) (instances, accounts []string, err error) {
			names := func(what string) ([]string, error) {
				var list []struct{ Name string }
				err := w.getJSON(ctx, r.URL()+"/api/"+what, r.Superuser, r.SuperPassword.Reveal(), &list)
				var all []string
				for _, i := range list {
					if bindery.IsName(id, i.Name) {
						all = append(all, i.Name)
					}
				}
				return all, err
			}
			if instances, err = names("vhosts"); err == nil {
				accounts, err = names("users")
			}
			return instances, accounts, err
		},
	}
}

func (w *world) addNATS() *further {
	n, err := devserver.StartNATS(w.Context(), devserver.NATSOptions{Dir: filepath.Join(w.dir, "nats-server"), Program: w.program})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := n.Remove(); err != nil {
			w.Error(err)
		}
	})
	f := &further{backend: n, reach: bindery.Server{
		Address: n.Addr,
		Secrets: map[string]bindery.Secret{"operator_seed": n.OperatorSeed, "system_creds": n.SystemCreds},
	}}
	f.listed = w.byDriver("nats", f)
	return f
}

func (w *world) addOAuth() *further {
	p := servertest.OIDC(w.T, func(o *devserver.OIDCOptions) { o.TLS = nil })
	return &further{
		backend: p,
		reach: bindery.Server{
			Address: p.Addr, Secrets: map[string]bindery.Secret{"initial_access_token": p.InitialToken},
		},
		Extra:   fmt.Sprintf(", settings: {issuer: '%s'}", p.Issuer),
		listed:  func(context.Context, string) (_, accounts []string, err error) { accounts, err = clientsOf(p); return },
		mayKeep: w.orphans,
	}
}

// addMTLS adds an authority: there is no server beside Bindery.
func (w *world) addMTLS() *further {
	return &further{Extra: ", settings: {public_url: 'http://127.0.0.1:9'}"}
}

func (w *world) addStatic() *further {
	return &further{
		released: true, Plan: ", binding_rotatable: false",
		reach: bindery.Server{Secrets: map[string]bindery.Secret{"credential": bindery.NewSecret(`{"credentials":{"key":"given"}}`)}},
	}
}

// addPool adds a stock that lasts: what was given back waits for somebody to release it.
func (w *world) addPool() *further {
	var stock []string
	for n := range 1300 {
		stock = append(stock, fmt.Sprintf(`{"name":"i%d","credentials":{"key":"k%d"}}`, n, n))
	}
	return &further{
		released: true,
		reach:    bindery.Server{Secrets: map[string]bindery.Secret{"stock": bindery.NewSecret("[" + strings.Join(stock, ",") + "]")}},
	}
}

// byDriver lists with a driver of the test's own.
func (w *world) byDriver(kind string, f *further) func(ctx context.Context, id string) (instances, accounts []string, err error) {
	return func(ctx context.Context, id string) (instances, accounts []string, err error) {
		s := f.reach
		s.Name, s.Kind, s.Installation, s.Timeout = kind, kind, id, 20*time.Second
		return list(ctx, s)
	}
}

// list asks a driver what its server has.
func list(ctx context.Context, s bindery.Server) (instances, accounts []string, err error) {
	d, err := driver.Kinds[s.Kind].Open(s)
	if err != nil {
		return nil, nil, err
	}
	err = d.Inventory(ctx, func(f bindery.Found) error {
		if f.Instance {
			instances = append(instances, f.Name)
		} else {
			accounts = append(accounts, f.Name)
		}
		return nil
	})
	return instances, accounts, errors.Join(err, d.Close())
}

// clientsOf reads the names of registered clients from the file in which the provider
// keeps them: its protocol has no list.
func clientsOf(p *devserver.OIDC) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(p.Dir(), "records.jsonl"))
	if err != nil {
		return nil, err
	}
	clients := map[string]string{}
	for line := range strings.Lines(string(b)) {
		var r struct {
			Key     string
			Payload *struct {
				Name string `json:"client_name"`
			}
		}
		if json.Unmarshal([]byte(line), &r) != nil || !strings.HasPrefix(r.Key, "Client:") {
			continue // a kill cut it short, so it was not acknowledged
		}
		delete(clients, r.Key)
		if r.Payload != nil {
			clients[r.Key] = r.Payload.Name
		}
	}
	var names []string
	for _, name := range clients {
		names = append(names, name)
	}
	return names, nil
}

// orphans are the accounts of which the audit says that the server may have something left.
func (w *world) orphans(ctx context.Context) (names []string, err error) {
	for e, err := range w.admin().Events(ctx, clientEvents) {
		if err != nil {
			return nil, err
		}
		if e.Action == "orphan" {
			names = append(names, e.Account)
		}
	}
	return names, nil
}

// compareFurther says where the store and a further server differ.
func (w *world) compareFurther(ctx context.Context, service, id string, instances, live []string) error {
	f := w.further[service]
	if f.listed == nil {
		return nil
	}
	foundInstances, accounts, err := f.listed(ctx, id)
	if err != nil {
		return err
	}
	if f.mayKeep != nil {
		orphans, err := f.mayKeep(ctx)
		if err != nil {
			return err
		}
		accounts = without(accounts, orphans, live)
	} else if diff := difference(instances, foundInstances); diff != "" {
		return fmt.Errorf("instances (-) and what %s has (+):\n%s", service, diff)
	}
	if diff := difference(live, accounts); diff != "" {
		return fmt.Errorf("accounts (-) and what %s has (+):\n%s", service, diff)
	}
	return nil
}

// without takes from a list what may be there, and what is there again: of two of a
// name that is live, one is the orphan.
func without(all, mayBe, live []string) (rest []string) {
	for _, name := range all {
		if slices.Contains(mayBe, name) && (!slices.Contains(live, name) || slices.Contains(rest, name)) {
			continue
		}
		rest = append(rest, name)
	}
	return rest
}
