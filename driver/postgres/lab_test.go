package postgres_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// A lab is a real server and a driver for an installation of its own.
type lab struct {
	*testing.T
	p            *devserver.Postgres
	installation string
	driver       bindery.Driver
	row          atomic.Int64
}

// labTimeout is generous: only what hangs reaches it.
const labTimeout = 30 * time.Second

func newLab(t *testing.T, p *devserver.Postgres) *lab {
	l := &lab{T: t, p: p, installation: newInstallation()}
	l.driver = openDriver(t, p, l.installation, labTimeout)
	return l
}

// eachLab runs tests on the oldest and the newest server.
func eachLab(t *testing.T, tests map[string]func(*lab)) {
	t.Helper()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(newLab(t, servertest.SharedPostgres(t, v)))
			})
		}
	})
}

func (l *lab) name() string { return bindery.Name(l.installation, l.row.Add(1)) }

func (l *lab) must(what string, err error) {
	l.Helper()
	if err != nil {
		l.Fatalf("%s: %v", what, err)
	}
}

// wantCode checks an error's code.
func (l *lab) wantCode(what string, err error, want bindery.Code) {
	l.Helper()
	if got := bindery.CodeOf(err); got != want {
		l.Fatalf("%s: got %v with code %q, want code %q", what, err, got, want)
	}
}

func (l *lab) instance(settings string) bindery.InstanceSpec {
	l.Helper()
	spec := bindery.InstanceSpec{Name: l.name(), Settings: json.RawMessage(settings)}
	l.must("provision", l.driver.Provision(l.Context(), spec))
	l.Cleanup(func() {
		if l.Failed() {
			return
		}
		d := openDriver(l, l.p, l.installation, labTimeout)
		l.must("tidy up", d.Deprovision(context.Background(), spec))
	})
	return spec
}

func (l *lab) bind(spec bindery.InstanceSpec, parameters string) bindery.Account {
	l.Helper()
	account := bindery.Account{Name: l.name()}
	var err error
	account.Material, err = l.driver.Prepare(spec, bindery.AccountRequest{
		Name: account.Name, Parameters: json.RawMessage(parameters),
	})
	l.must("prepare", err)
	made, err := l.driver.Ensure(l.Context(), spec, account)
	account.Details = made.Details
	l.must("ensure", err)
	return account
}

func (l *lab) revoke(spec bindery.InstanceSpec, account bindery.Account) {
	l.Helper()
	l.must("revoke", l.driver.Revoke(l.Context(), spec, account))
	if l.count("SELECT count(*) FROM pg_roles WHERE rolname = $1", account.Name) != 0 {
		l.Fatal("the role is still there")
	}
}

// client logs in with a credential.
func (l *lab) client(spec bindery.InstanceSpec, account bindery.Account) *client {
	l.Helper()
	c, err := l.driver.Render(spec, account)
	l.must("render", err)
	return l.connect(c.Object["uri"].(string))
}

// super logs in as the superuser.
func (l *lab) super(database string) *client {
	l.Helper()
	return l.connect(l.p.SuperURL(database).Reveal())
}

func (l *lab) connect(uri string) *client {
	l.Helper()
	config, err := pgx.ParseConfig(uri)
	l.must("read the address", err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // nothing that DISCARD ALL would take away
	conn, err := pgx.ConnectConfig(l.Context(), config)
	l.must("log in", err)
	c := &client{lab: l, conn: conn}
	l.Cleanup(c.close)
	return c
}

// count asks the superuser, in the administration database, for a number.
func (l *lab) count(sql string, args ...any) int {
	l.Helper()
	c := l.super("postgres")
	defer c.close()
	var n int
	l.must(sql, c.conn.QueryRow(l.Context(), sql, args...).Scan(&n))
	return n
}

// A client is somebody's session.
type client struct {
	lab  *lab
	conn *pgx.Conn
}

// do runs statements one after the other.
func (c *client) do(statements ...string) {
	c.lab.Helper()
	for _, sql := range statements {
		_, err := c.conn.Exec(c.lab.Context(), sql)
		c.lab.must(sql, err)
	}
}

// text asks for one value.
func (c *client) text(sql string) string {
	c.lab.Helper()
	var s string
	c.lab.must(sql, c.conn.QueryRow(c.lab.Context(), sql).Scan(&s))
	return s
}

// denied checks that a statement is refused for want of a privilege.
func (c *client) denied(statements ...string) {
	c.lab.Helper()
	for _, sql := range statements {
		if _, err := c.conn.Exec(c.lab.Context(), sql); sqlState(err) != "42501" {
			c.lab.Errorf("%s: got %v, want a lack of privilege", sql, err)
		}
	}
}

// ended checks that the session is over.
func (c *client) ended() {
	c.lab.Helper()
	if err := c.conn.Ping(c.lab.Context()); err == nil {
		c.lab.Fatal("the session is still alive")
	}
}

func (c *client) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx) // often ended by the server
}
