package mysql_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/mysql"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t,
		func(t *testing.T) drivertest.Server { return suite(servertest.SharedMySQL(t)) },
		func(t *testing.T) drivertest.Server {
			m := servertest.MySQL(t)
			s := suite(m)
			s.Kill, s.Pause, s.Resume = m.Kill, m.Pause, m.Resume
			s.Restart = func(ctx context.Context) error {
				if err := m.Kill(); err != nil {
					return err
				}
				return m.Start(ctx)
			}
			return s
		})
}

// callTimeout bounds a call in the suite, which waits for hung servers.
const callTimeout = 3 * time.Second

func suite(m *devserver.MySQL) drivertest.Server {
	return drivertest.Server{
		Open: func(t testing.TB, installation string) bindery.Driver {
			return openDriver(t, serverOf(m, installation, callTimeout))
		},
		Address: m.Addr,
		OpenAt: func(t testing.TB, installation, address string) bindery.Driver {
			s := serverOf(m, installation, callTimeout)
			s.Address = address
			return openDriver(t, s)
		},
		Kind:              mysql.Kind,
		Timeout:           callTimeout,
		Login:             login,
		IsAuthFailure:     isAuthFailure,
		Trespass:          trespass,
		Settings:          json.RawMessage(`{"character_set":"utf8mb4","collation":"utf8mb4_bin","max_connection_limit":10}`),
		BindingParameters: json.RawMessage(`{"access":"read-only","connection_limit":10}`),
		ReadOnly:          json.RawMessage(`{"access":"read-only"}`),
		Aliases:           mysql.Kind.Aliases,
	}
}

func serverOf(m *devserver.MySQL, installation string, timeout time.Duration) bindery.Server {
	return bindery.Server{
		Name: "test", Kind: "mysql", Installation: installation,
		Address: m.Addr, Username: m.User, Password: m.Password, Timeout: timeout,
	}
}

func openDriver(t testing.TB, s bindery.Server) bindery.Driver {
	t.Helper()
	return drivertest.Open(t, mysql.Kind, s)
}

// A session is a client that has logged in with a credential. Keys are tables,
// so that what one account makes is what another may or may not read.
type session struct {
	db   *sql.DB
	conn *sql.Conn
}

// dial logs in with the discrete keys of a credential.
func dial(ctx context.Context, c bindery.Credential, database string) (*session, error) {
	config := driver.NewConfig()
	config.Net, config.Logger = "tcp", &driver.NopLogger{}
	config.Addr = net.JoinHostPort(c.Object["host"].(string), strconv.Itoa(c.Object["port"].(int)))
	config.User, config.Passwd = c.Object["username"].(string), c.Object["password"].(string)
	config.DBName = database
	return open(ctx, config)
}

func open(ctx context.Context, config *driver.Config) (*session, error) {
	connector, err := driver.NewConnector(config)
	if err != nil {
		return nil, err
	}
	s := &session{db: sql.OpenDB(connector)}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func login(ctx context.Context, c bindery.Credential) (drivertest.Session, error) {
	s, err := dial(ctx, c, c.Object["database"].(string))
	if err != nil {
		return nil, err // and no session that is nil
	}
	return s, nil
}

func (s *session) do(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

func (s *session) Write(ctx context.Context, key, value string) error {
	t := quoted(key)
	return s.do(ctx, "CREATE TABLE IF NOT EXISTS "+t+" (v TEXT)", "DELETE FROM "+t, "INSERT INTO "+t+" VALUES ('"+value+"')")
}

func (s *session) Read(ctx context.Context, key string) (v string, err error) {
	err = s.conn.QueryRowContext(ctx, "SELECT v FROM "+quoted(key)).Scan(&v)
	if number(err) == 1146 {
		return "", drivertest.ErrMissing
	}
	return v, err
}

func quoted(key string) string { return "`" + strings.ReplaceAll(key, "`", "``") + "`" }

func (s *session) Alive(ctx context.Context) error { return s.do(ctx, "DO 1") }

func (s *session) Close() error {
	_ = s.conn.Close() // often ended by the server
	return s.db.Close()
}

// isAuthFailure: the second is how MariaDB refuses some names of nobody.
func isAuthFailure(err error) bool { return number(err) == 1045 || number(err) == 1698 }

func number(err error) uint16 {
	if e, ok := errors.AsType[*driver.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// trespass tries the other's database, those of the server itself, and a look at
// the list of databases.
func trespass(ctx context.Context, mine, theirs bindery.Credential, _ string) error {
	other := theirs.Object["database"].(string)
	var all []error
	for _, database := range []string{other, "mysql", "sys", "test"} {
		s, err := dial(ctx, mine, database)
		if err == nil {
			_ = s.Close() // it got in
			return nil
		}
		all = append(all, err)
	}
	s, err := dial(ctx, mine, "")
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // read only
	var n int
	if err := s.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", other).Scan(&n); err != nil || n > 0 {
		return err
	}
	return errors.Join(all...)
}

// newInstallation returns an id that no other test uses.
func newInstallation() string { return strings.ToLower(rand.Text()[:6]) }
