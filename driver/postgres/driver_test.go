package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/postgres"
)

func TestDriver(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		drivertest.Run(t,
			func(t *testing.T) drivertest.Server { return suite(servertest.SharedPostgres(t, v)) },
			func(t *testing.T) drivertest.Server {
				p := servertest.Postgres(t, v)
				s := suite(p)
				s.Kill, s.Pause, s.Resume = p.Kill, p.Pause, p.Resume
				s.Restart = func(ctx context.Context) error {
					if err := p.Kill(); err != nil {
						return err
					}
					return p.Start(ctx)
				}
				return s
			})
	})
}

// callTimeout bounds a call in the suite, which waits for hung servers.
const callTimeout = 3 * time.Second

func suite(p *devserver.Postgres) drivertest.Server {
	offered, always, parameters := `["citext","pgcrypto","hstore"]`, `["pg_trgm"]`, `{"extensions":["pgcrypto","hstore","citext"]}`
	if p.Version < trustedExtensions {
		offered, always, parameters = `[]`, `[]`, `{}`
	}
	return drivertest.Server{
		Open: func(t testing.TB, installation string) bindery.Driver {
			return openDriver(t, p, installation, callTimeout)
		},
		Kind:          postgres.Kind,
		Timeout:       callTimeout,
		Login:         login,
		IsAuthFailure: isAuthFailure,
		Trespass:      trespass,
		Settings: json.RawMessage(`{"extensions":` + offered + `,"default_extensions":` + always + `,
			"connection_limit":50,"max_connection_limit":10,"statement_timeout":"30s",
			"lock_timeout":"20s","idle_in_transaction_session_timeout":"40s"}`),
		InstanceParameters: json.RawMessage(parameters),
		BindingParameters:  json.RawMessage(`{"access":"read-only","connection_limit":10}`),
		ReadOnly:           json.RawMessage(`{"access":"read-only"}`),
		Aliases:            postgres.Kind.Aliases,
	}
}

func serverOf(p *devserver.Postgres, installation string, timeout time.Duration) bindery.Server {
	return bindery.Server{
		Name: "test", Kind: "postgresql", Installation: installation,
		Address: p.Addr, Username: p.User, Password: p.Password, Timeout: timeout,
	}
}

func openDriver(t testing.TB, p *devserver.Postgres, installation string, timeout time.Duration) bindery.Driver {
	t.Helper()
	return drivertest.Open(t, postgres.Kind, serverOf(p, installation, timeout))
}

// A session is a client that has logged in with a credential. Keys are tables,
// so that what one account makes is what another may or may not read.
type session struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

func login(ctx context.Context, c bindery.Credential) (drivertest.Session, error) {
	conn, err := pgx.Connect(ctx, c.Object["uri"].(string))
	if err != nil {
		return nil, err
	}
	return &session{conn: conn}, nil
}

func (s *session) Write(ctx context.Context, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Exec(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %[1]s (v text);
		TRUNCATE %[1]s; INSERT INTO %[1]s VALUES ('%[2]s')`, pgx.Identifier{key}.Sanitize(), value))
	return err
}

func (s *session) Read(ctx context.Context, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var v string
	err := s.conn.QueryRow(ctx, "SELECT v FROM "+pgx.Identifier{key}.Sanitize()).Scan(&v)
	if sqlState(err) == "42P01" {
		return "", drivertest.ErrMissing
	}
	return v, err
}

func (s *session) Alive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.Ping(ctx)
}

func (s *session) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.conn.Close(ctx)
}

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

func isAuthFailure(err error) bool {
	s := sqlState(err)
	return s == "28P01" || s == "28000"
}

// trespass tries the other's database, and the databases of the server itself.
func trespass(ctx context.Context, mine, theirs bindery.Credential, key string) error {
	var all []error
	for _, database := range []string{theirs.Object["database"].(string), "postgres", "template1"} {
		config, err := pgx.ParseConfig(mine.Object["uri"].(string))
		if err != nil {
			return err
		}
		config.Database = database
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			all = append(all, err)
			continue
		}
		_ = conn.Close(ctx)
		return nil
	}
	if len(all) == 0 {
		return nil
	}
	return errors.Join(all...)
}

// newInstallation returns an id that no other test uses.
func newInstallation() string { return strings.ToLower(rand.Text()[:6]) }
