package mysql_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"bindery"
	"bindery/devserver"
)

// A lab is a real server and a driver for an installation of its own.
type lab struct {
	testing.TB
	m            *devserver.MySQL
	installation string
	driver       bindery.Driver
	row          atomic.Int64
}

// labTimeout is generous: only what hangs reaches it.
const labTimeout = 30 * time.Second

func newLab(t testing.TB, m *devserver.MySQL) *lab {
	l := &lab{TB: t, m: m, installation: newInstallation()}
	l.driver = openDriver(t, serverOf(m, l.installation, labTimeout))
	return l
}

// either returns what to say to this server: MariaDB, or MySQL itself.
func (l *lab) either(mariadb, mysql string) string {
	if l.m.MariaDB {
		return mariadb
	}
	return mysql
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
		d := openDriver(l, serverOf(l.m, l.installation, labTimeout))
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
	_, err = l.driver.Ensure(l.Context(), spec, account)
	l.must("ensure", err)
	return account
}

func (l *lab) revoke(spec bindery.InstanceSpec, account bindery.Account) {
	l.Helper()
	l.must("revoke", l.driver.Revoke(l.Context(), spec, account))
	if l.count("SELECT COUNT(*) FROM mysql.user WHERE User = ?", account.Name) != 0 {
		l.Fatal("the account is still there")
	}
}

func (l *lab) credential(spec bindery.InstanceSpec, account bindery.Account) bindery.Credential {
	l.Helper()
	c, err := l.driver.Render(spec, account)
	l.must("render", err)
	return c
}

// login logs in with a credential, if the server lets it.
func (l *lab) login(spec bindery.InstanceSpec, account bindery.Account) (*session, error) {
	l.Helper()
	s, err := dial(l.Context(), l.credential(spec, account), spec.Name)
	if err == nil {
		l.Cleanup(func() { _ = s.Close() }) // often ended by the server
	}
	return s, err
}

// client logs in with a credential.
func (l *lab) client(spec bindery.InstanceSpec, account bindery.Account) *session {
	l.Helper()
	s, err := l.login(spec, account)
	l.must("log in", err)
	return s
}

// super logs in as the superuser.
func (l *lab) super() *session {
	l.Helper()
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.Logger = "tcp", l.m.Addr, l.m.Superuser, l.m.SuperPassword.Reveal(), &driver.NopLogger{}
	s, err := open(l.Context(), c)
	l.must("log in", err)
	l.Cleanup(func() { _ = s.Close() }) // a test may have stopped the server
	return s
}

// do runs statements one after the other.
func (l *lab) do(s *session, statements ...string) {
	l.Helper()
	l.must("run", s.do(l.Context(), statements...))
}

// text asks for one value.
func (l *lab) text(s *session, sql string, args ...any) string {
	l.Helper()
	var v string
	l.must(sql, s.conn.QueryRowContext(l.Context(), sql, args...).Scan(&v))
	return v
}

// count asks the superuser for a number.
func (l *lab) count(sql string, args ...any) int {
	l.Helper()
	s := l.super()
	defer func() { _ = s.Close() }() // read only
	var n int
	l.must(sql, s.conn.QueryRowContext(l.Context(), sql, args...).Scan(&n))
	return n
}
