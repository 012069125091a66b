package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"bindery"
	"bindery/devserver"
)

// The kinds as the configuration names them.
const (
	kindPostgres = "postgresql"
	kindRedis    = "redis"
	kindMySQL    = "mysql"
	kindRabbitMQ = "rabbitmq"
	kindNATS     = "nats"
	kindOAuth    = "oauth"
	kindMTLS     = "mtls"
	kindStatic   = "static"
	kindPool     = "pool"

	platform = "bench"
)

// A kind is how one is measured.
type kind struct {
	name, title string
	clients     []int // unless others are asked for; nil: as many as the flag has
	connects    bool  // Bindery keeps connections, as many as -workers says
	// start starts what the kind needs, and says what it is compared with. Where a
	// program is not installed, the error is [devserver.ErrMissing].
	start func(*kind, context.Context, *bench) (*backend, error)
	note  string // to be read with its rows
}

// few are the clients that the table has for most kinds, so that a run takes minutes.
var few = []int{8}

var kinds = []*kind{
	{name: kindPostgres, title: "PostgreSQL", connects: true, start: (*kind).startPostgres},
	{name: kindRedis, title: "Redis", connects: true, start: (*kind).startRedis},
	{name: kindMySQL, title: "MariaDB", clients: few, connects: true, start: (*kind).startMySQL},
	{name: kindRabbitMQ, title: "RabbitMQ", clients: few, connects: true, start: (*kind).startRabbitMQ},
	{name: kindNATS, title: "NATS", clients: few, start: (*kind).startNATS},
	{name: kindOAuth, title: "OAuth", clients: few, connects: true, start: (*kind).startOAuth},
	{
		name: kindMTLS, title: "Certificate", clients: few, start: (*kind).startMTLS,
		note: "Certificates need no server but the store. Beside: a P-256 key and a signature by another, and one transaction that writes the " +
			"serial number down; for an unbind one that marks it. The transactions go to an SQLite file that flushes as the store does, and callers that wait share a flush there, too.",
	},
	{name: kindStatic, title: "Static", clients: few, start: (*kind).startStatic, note: noServer},
	{name: kindPool, title: "Pool", clients: few, start: (*kind).startPool, note: noServer},
}

const noServer = "Static and pool have no server: a bind is two transactions of the store, and so is an unbind. Beside: two transactions of one row each, " +
	"to an SQLite file that flushes as the store does, and where callers that wait share a flush, too."

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

func kindNamed(name string) *kind {
	return kinds[slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })]
}

// What the catalog has of a kind: the number is the kind's place.
func (k *kind) id(n int64) string { return guid(int64(10*(1+slices.Index(kinds, k))) + n) }
func (k *kind) offering() string  { return k.id(0) }
func (k *kind) plan() string      { return k.id(1) }

// parkedPlan is the plan of what the store is filled with. It is parked on a server at an
// address where nobody answers: Bindery would make the accounts again that a server has lost.
func (k *kind) parkedPlan() string { return k.id(2) }
func (k *kind) parked() string     { return k.name + "-parked" }

// parkedKinds are those that the store is filled with.
var parkedKinds = []string{kindPostgres, kindRedis}

// A backend is a kind's server that runs, or what stands for one.
type backend struct {
	*kind
	fact    string // for the head of the table
	servers []configuredServer
	beside  []beside
	stop    func() error
}

// A configuredServer is what the configuration says of a server.
type configuredServer struct {
	Name, Kind, Address, Username string
	Password                      bindery.Secret
	Public, Settings              map[string]any
	Secrets                       map[string]bindery.Secret
}

// JSON is YAML as well.
func (configuredServer) flow(v map[string]any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// PublicYAML and SettingsYAML are for the template.
func (c configuredServer) PublicYAML() (string, error)   { return c.flow(c.Public) }
func (c configuredServer) SettingsYAML() (string, error) { return c.flow(c.Settings) }

// A beside is a bare contender, and what it does in the words of the table.
type beside struct {
	contender
	bind, unbind string // empty: there is no such row
}

// start starts a kind's server. It is stopped at the end of the run, unless before.
func (b *bench) start(ctx context.Context, name string) (*backend, error) {
	k := kindNamed(name)
	started, err := k.start(k, ctx, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.title, err)
	}
	started.kind = k
	stop, stopped := started.stop, false
	started.stop = func() error {
		if stopped || stop == nil {
			return nil
		}
		stopped = true
		return stop()
	}
	b.closers = append(b.closers, started.stop)
	if started.fact != "" && !slices.Contains(b.facts, started.fact) {
		b.facts = append(b.facts, started.fact)
	}
	if k.connects && b.workers != 0 {
		for i := range started.servers {
			settings := map[string]any{"max_connections": b.workers}
			maps.Copy(settings, started.servers[i].Settings)
			started.servers[i].Settings = settings
		}
	}
	return started, nil
}

// directory is a new one for each start.
func (b *bench) directory(name string) string {
	b.started++
	return filepath.Join(b.dir, name+"-"+strconv.Itoa(b.started))
}

// server describes the one server of a kind.
func (k *kind) server(address, username string, password bindery.Secret) configuredServer {
	return configuredServer{Name: k.name + "-1", Kind: k.name, Address: address, Username: username, Password: password}
}

// launchPostgres starts a PostgreSQL that flushes to disk, the oldest that is installed.
func (b *bench) launchPostgres(ctx context.Context) (*devserver.Postgres, string, error) {
	found := devserver.FindPostgres()
	if len(found) == 0 {
		return nil, "", fmt.Errorf("postgresql: %w", devserver.ErrMissing)
	}
	p, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{
		Dir: b.directory(kindPostgres), BinDir: found[0].BinDir, Settings: map[string]string{"max_connections": "200"},
	})
	return p, "PostgreSQL " + found[0].Full + " with fsync", err
}

func (k *kind) startPostgres(ctx context.Context, b *bench) (*backend, error) {
	p, fact, err := b.launchPostgres(ctx)
	if err != nil {
		return nil, err
	}
	return &backend{
		fact: fact, servers: []configuredServer{k.server(p.Addr, p.User, p.Password)}, stop: p.Remove,
		beside: []beside{
			{&barePostgres{server: p, verifier: true}, "CREATE ROLE with a verifier", "DROP ROLE"},
			{&barePostgres{server: p}, "CREATE ROLE with a plain password", ""},
		},
	}, nil
}

func (k *kind) startRedis(ctx context.Context, b *bench) (*backend, error) {
	r, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: b.directory(k.name)})
	if err != nil {
		return nil, err
	}
	rules, err := driverRules(ctx, r)
	if err != nil {
		return nil, errors.Join(err, r.Remove())
	}
	return &backend{
		fact:    "Redis " + r.Version() + " without an ACL file",
		servers: []configuredServer{k.server(r.Addr, r.User, r.Password)}, stop: r.Remove,
		beside: []beside{{&bareRedis{server: r, rules: rules}, "ACL SETUSER", "ACL DELUSER"}},
	}, nil
}

func (k *kind) startMySQL(ctx context.Context, b *bench) (*backend, error) {
	m, err := devserver.StartMySQL(ctx, devserver.MySQLOptions{Dir: b.directory(k.name)})
	if err != nil {
		return nil, err
	}
	return &backend{
		fact:    "MariaDB " + m.Version() + ", flushing to disk",
		servers: []configuredServer{k.server(m.Addr, m.User, m.Password)}, stop: m.Remove,
		beside: []beside{{&bareMySQL{server: m}, "CREATE USER and GRANT, the same hash", "DROP USER"}},
	}, nil
}

func (k *kind) startRabbitMQ(ctx context.Context, b *bench) (*backend, error) {
	r, err := devserver.StartRabbitMQ(ctx, devserver.RabbitMQOptions{Dir: b.directory(k.name)})
	if err != nil {
		return nil, err
	}
	server := k.server(r.Addr, r.User, r.Password)
	server.Public = map[string]any{"host": r.Host, "port": r.Port}
	return &backend{
		fact: "RabbitMQ " + r.Version(), servers: []configuredServer{server}, stop: r.Remove,
		beside: []beside{{&bareRabbitMQ{server: r}, "PUT user and PUT permissions, the same hash", "DELETE user"}},
	}, nil
}

func (k *kind) startNATS(ctx context.Context, b *bench) (*backend, error) {
	n, err := devserver.StartNATS(ctx, devserver.NATSOptions{Dir: b.directory(k.name), NoJetStream: true})
	if err != nil {
		return nil, err
	}
	server := k.server(n.Addr, "", bindery.Secret{})
	server.Secrets = map[string]bindery.Secret{"operator_seed": n.OperatorSeed, "system_creds": n.SystemCreds}
	return &backend{
		fact: "a NATS server, which CPU times call bench", servers: []configuredServer{server}, stop: n.Remove,
		beside: []beside{{&bareNATS{server: n}, "account update with one more key", "account update with one key less"}},
	}, nil
}

func (k *kind) startOAuth(ctx context.Context, b *bench) (*backend, error) {
	p, err := devserver.StartOIDC(ctx, devserver.OIDCOptions{Dir: b.directory(k.name)})
	if err != nil {
		return nil, err
	}
	server := k.server(p.Addr, "", bindery.Secret{})
	server.Settings = map[string]any{"issuer": p.Issuer}
	server.Secrets = map[string]bindery.Secret{"initial_access_token": p.InitialToken}
	return &backend{
		fact: "npm's oidc-provider, with everything in memory", servers: []configuredServer{server}, stop: p.Remove,
		beside: []beside{{&bareOAuth{server: p}, "POST of RFC 7591", "DELETE of RFC 7592"}},
	}, nil
}

// startMTLS starts nothing: the authority is in the store.
func (k *kind) startMTLS(_ context.Context, b *bench) (*backend, error) {
	server := k.server("", "", bindery.Secret{})
	server.Settings = map[string]any{"public_url": "http://127.0.0.1:1"} // stands in certificates only
	return &backend{
		servers: []configuredServer{server},
		beside:  []beside{{&bareAuthority{bareStore: b.bareStore(k, 1)}, "key, signature, one transaction", "one transaction"}},
	}, nil
}

func (k *kind) startStatic(_ context.Context, b *bench) (*backend, error) {
	server := k.server("", "", bindery.Secret{})
	server.Secrets = map[string]bindery.Secret{"credential": bindery.NewSecret(`{"credentials":{"api-key":"` + newPassword() + `"}}`)}
	return &backend{servers: []configuredServer{server}, beside: b.twoTransactions(k)}, nil
}

// The stock of a pool has a bound, and nothing comes back from quarantine by
// itself, so there are pools enough for each number of clients.
const (
	poolItems = 10_000
	pools     = 11
)

func (k *kind) startPool(_ context.Context, b *bench) (*backend, error) {
	started := &backend{beside: b.twoTransactions(k)}
	for n := range pools * len(b.clientsOf(k)) {
		stock := make([]map[string]any, poolItems)
		for i := range stock {
			stock[i] = map[string]any{"name": "seat-" + strconv.Itoa(i), "credentials": map[string]string{"password": newPassword()}}
		}
		secret, err := json.Marshal(stock)
		if err != nil {
			return nil, err
		}
		server := k.server("", "", bindery.Secret{})
		server.Name = k.name + "-" + strconv.Itoa(n+1)
		server.Secrets = map[string]bindery.Secret{"stock": bindery.NewSecret(string(secret))}
		started.servers = append(started.servers, server)
	}
	return started, nil
}

func (b *bench) twoTransactions(k *kind) []beside {
	return []beside{{b.bareStore(k, 2), "two transactions", "two transactions"}}
}

// clientsOf are the numbers of clients that a kind is measured with.
func (b *bench) clientsOf(k *kind) []int {
	if b.clientsGiven || k.clients == nil {
		return b.clients
	}
	return k.clients
}
