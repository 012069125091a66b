package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"bindery"
	"bindery/devserver"
)

// A devKind is a kind of backend as dev offers it: an offering of the same name,
// and how its servers are started.
type devKind struct {
	Name        string // of the offering, and the kind's in the configuration
	Title       string
	Description string
	Updateable  bool // instances may change their plan
	Plans       []devPlan

	needs string // Debian's packages, where there are any
	start func(context.Context, *devDir, devOptions) ([]devBackend, error)
}

// A devPlan is a plan of a kind, on one of its servers.
type devPlan struct {
	Name, Description, Server string
	Settings                  string // YAML
	Fixed                     bool   // bindings cannot be rotated
}

// A devBackend is a server, and what the configuration says of it.
type devBackend struct {
	Name, Kind, Address string
	Username            string
	Password            bindery.Secret // of Username
	Public, Settings    string         // YAML
	Secrets             map[string]bindery.Secret

	process *devserver.Process // nil: nothing runs
}

// devKinds are the kinds that dev knows, in the catalog's order. To add one, add
// an entry and a function that starts it.
var devKinds = []devKind{
	{
		Name: "redis", Title: "Redis", Description: "Redis, an in-memory data store",
		needs: "redis-server", start: startDevRedis,
		Plans: []devPlan{
			{Name: "shared", Description: "A key prefix on a shared server", Server: "redis"},
			{
				Name: "whole-server", Description: "A server of its own, for applications that know no prefix; there is one",
				Server: "redis-whole", Settings: "{topology: whole-server}",
			},
		},
	},
	{
		Name: "postgresql", Title: "PostgreSQL", Description: "PostgreSQL, a relational database", Updateable: true,
		needs: "postgresql", start: startDevPostgres,
		Plans: []devPlan{
			{Name: "shared", Description: "A database on a shared server, 20 connections", Server: "postgresql", Settings: "{connection_limit: 20}"},
			{Name: "large", Description: "A database on a shared server, 60 connections", Server: "postgresql", Settings: "{connection_limit: 60}"},
		},
	},
	{
		Name: "mysql", Title: "MariaDB", Description: "MariaDB, a relational database that speaks MySQL",
		needs: "mariadb-server-core mariadb-client-core", start: startDevMySQL,
		Plans: []devPlan{{Name: "shared", Description: "A database on a shared server", Server: "mysql"}},
	},
	{
		Name: "rabbitmq", Title: "RabbitMQ", Description: "RabbitMQ, a message broker",
		needs: "rabbitmq-server", start: startDevRabbitMQ,
		Plans: []devPlan{
			{Name: "shared", Description: "A virtual host on a shared broker", Server: "rabbitmq", Settings: "{max_connections: 100, max_queues: 100}"},
			{Name: "managed", Description: "The same, with the management UI", Server: "rabbitmq", Settings: "{max_connections: 100, max_queues: 100, management: true}"},
		},
	},
	{
		Name: "nats", Title: "NATS", Description: "NATS, a message system", start: startDevNATS,
		Plans: []devPlan{
			{Name: "shared", Description: "An account on a shared server", Server: "nats"},
			{Name: "streams", Description: "The same, with 16 MiB for streams", Server: "nats", Settings: "{jetstream: {max_storage: 16777216}}"},
		},
	},
	{
		Name: "oauth", Title: "OAuth", Description: "Clients of an OAuth authorization server",
		needs: "nodejs", start: startDevOAuth,
		Plans: []devPlan{
			{Name: "client", Description: "A client that gets tokens by itself", Server: "oauth"},
			{Name: "token", Description: "An access token, without the client", Server: "oauth", Settings: "{mode: token}"},
		},
	},
	{
		Name: "mtls", Title: "Certificates", Description: "Client certificates of an authority in Bindery", start: startDevMTLS,
		Plans: []devPlan{{
			Name: "client", Description: "A certificate for 30 days, or for up to 90", Server: "mtls",
			Settings: "{organization: Bindery development, dns_suffixes: [localhost]}",
		}},
	},
	{
		Name: "static", Title: "A given set", Description: "One given credential that every binding gets", start: startDevStatic,
		Plans: []devPlan{{Name: "sample", Description: "A sample, in secrets/server-static-credential", Server: "static", Fixed: true}},
	},
	{
		Name: "pool", Title: "Given sets", Description: "Given credentials, one for each binding", start: startDevPool,
		Plans: []devPlan{{Name: "sample", Description: "Ten samples, in secrets/server-pool-stock", Server: "pool"}},
	},
}

// devServices are the names of kinds.
func devServices(kinds []devKind) (names []string) {
	for _, k := range kinds {
		names = append(names, k.Name)
	}
	return names
}

// installHint says what to install for these kinds, in one line.
func installHint(kinds ...devKind) string {
	var packages []string
	for _, k := range kinds {
		packages = append(packages, k.needs)
	}
	hint := "on Debian: apt-get install " + strings.Join(packages, " ")
	if slices.ContainsFunc(kinds, func(k devKind) bool { return k.Name == "oauth" }) {
		hint += "; for oauth also npm's oidc-provider, in the folder that BINDERY_OIDC_MODULES names"
	}
	return hint
}

// server is where a server's files are.
func (d *devDir) server(name string) string { return d.file(filepath.Join("servers", name)) }

// startDevRedis starts two: one that instances share, one for an instance alone.
func startDevRedis(ctx context.Context, d *devDir, _ devOptions) (all []devBackend, err error) {
	for _, name := range []string{"redis", "redis-whole"} {
		r, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: d.server(name), ACLFile: true, AppendOnly: true})
		if err != nil {
			return all, err
		}
		all = append(all, devBackend{
			Name: name, Kind: "redis", Address: r.Addr, Username: r.User, Password: r.Password, process: r.Process,
		})
	}
	return all, nil
}

func startDevPostgres(ctx context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	p, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: d.server("postgresql")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		Name: "postgresql", Kind: "postgresql", Address: p.Addr, Username: p.User, Password: p.Password, process: p.Process,
	}}, nil
}

func startDevMySQL(ctx context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	m, err := devserver.StartMySQL(ctx, devserver.MySQLOptions{Dir: d.server("mysql")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		Name: "mysql", Kind: "mysql", Address: m.Addr, Username: m.User, Password: m.Password, process: m.Process,
	}}, nil
}

func startDevRabbitMQ(ctx context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	r, err := devserver.StartRabbitMQ(ctx, devserver.RabbitMQOptions{Dir: d.server("rabbitmq")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		Name: "rabbitmq", Kind: "rabbitmq", Address: r.Addr, Username: r.User, Password: r.Password, process: r.Process,
		Public:   fmt.Sprintf("{host: %s, port: %d}", r.Host, r.Port),
		Settings: fmt.Sprintf("{management_url: %q}", r.URL()),
	}}, nil
}

// startDevNATS starts this program once more, as the server.
func startDevNATS(ctx context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	n, err := devserver.StartNATS(ctx, devserver.NATSOptions{Dir: d.server("nats")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		Name: "nats", Kind: "nats", Address: n.Addr, process: n.Process,
		Secrets: map[string]bindery.Secret{"operator_seed": n.OperatorSeed, "system_creds": n.SystemCreds},
	}}, nil
}

func startDevOAuth(ctx context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	p, err := devserver.StartOIDC(ctx, devserver.OIDCOptions{Dir: d.server("oauth")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		Name: "oauth", Kind: "oauth", Address: p.Addr, process: p.Process,
		Settings: fmt.Sprintf("{issuer: %q}", p.Issuer),
		Secrets:  map[string]bindery.Secret{"initial_access_token": p.InitialToken},
	}}, nil
}

// startDevMTLS starts nothing: the authority is in the store, and published by the
// plain listener.
func startDevMTLS(_ context.Context, _ *devDir, o devOptions) ([]devBackend, error) {
	host, port, err := net.SplitHostPort(o.http)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return []devBackend{{
		Name: "mtls", Kind: "mtls",
		Settings: fmt.Sprintf("{public_url: %q, organization: Bindery development}", "http://"+net.JoinHostPort(host, port)),
	}}, nil
}

func startDevStatic(_ context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	return d.given("static", "credential", map[string]any{
		"credentials": map[string]string{"uri": "https://api.example.com", "api-key": rand.Text()},
	})
}

func startDevPool(_ context.Context, d *devDir, _ devOptions) ([]devBackend, error) {
	var stock []any
	for n := range 10 {
		stock = append(stock, map[string]any{
			"name":        fmt.Sprint("seat-", n+1),
			"credentials": map[string]string{"username": fmt.Sprint("seat-", n+1), "password": rand.Text()},
		})
	}
	return d.given("pool", "stock", stock)
}

// given returns a server that hands out a sample, which is made once and may be
// changed by whoever tries it out.
func (d *devDir) given(name, secret string, sample any) ([]devBackend, error) {
	b, err := json.MarshalIndent(sample, "", "  ")
	if err != nil {
		return nil, err
	}
	kept, err := d.secret("server-"+name+"-"+secret, func() string { return string(b) })
	return []devBackend{{Name: name, Kind: name, Secrets: map[string]bindery.Secret{secret: kept}}}, err
}
