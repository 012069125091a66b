package crash_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
	"bindery/client"
)

// errRefused: the server says that user and password let nobody in.
var errRefused = errors.New("refused")

// login uses a credential as an application does, and does something with it.
// The error is errRefused where the server refuses the user, and for no other reason.
func login(ctx context.Context, service string, c client.Credentials) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if service == redisService {
		return loginRedis(ctx, c)
	}
	return loginPostgres(ctx, c)
}

func loginPostgres(ctx context.Context, c client.Credentials) error {
	conn, err := pgx.Connect(ctx, c.Text("uri"))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "28P01" || pg.Code == "28000") {
		return errRefused
	}
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TEMPORARY TABLE crash (v int); INSERT INTO crash VALUES (1)")
	return err
}

func loginRedis(ctx context.Context, c client.Credentials) error {
	r, err := dialRedis(ctx, net.JoinHostPort(c.Text("host"), c.Text("port")))
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.do("AUTH", c.Text("username"), c.Text("password")); err != nil {
		if strings.HasPrefix(err.Error(), "WRONGPASS") {
			return errRefused
		}
		return err
	}
	_, err = r.do("SET", c.Text("prefix")+"crash", "1")
	return err
}

// A redisConn speaks as much of Redis's protocol as these tests need.
type redisConn struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(ctx context.Context, address string) (*redisConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &redisConn{Conn: conn, in: bufio.NewReader(conn)}, nil
}

// do sends a command and returns the strings of the answer, flat.
func (r *redisConn) do(words ...string) ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(r, b.String()); err != nil {
		return nil, err
	}
	return r.read()
}

func (r *redisConn) read() ([]string, error) {
	line, err := r.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '-':
		return nil, errors.New(line[1:])
	case '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil {
			return nil, err
		}
		var all []string
		for range n {
			one, err := r.read()
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		return all, nil
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(r.in, text); err != nil {
			return nil, err
		}
		return []string{string(text[:n])}, nil
	}
	return []string{line[1:]}, nil
}

// redisDo sends one command as the administrator.
func (w *world) redisDo(ctx context.Context, words ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := dialRedis(ctx, w.redis.Addr)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := r.do("AUTH", w.redis.User, w.redis.Password.Reveal()); err != nil {
		return nil, err
	}
	return r.do(words...)
}

// postgresQuery returns the first column of a query that the superuser sends.
func (w *world) postgresQuery(ctx context.Context, query string, args ...any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.postgres.SuperURL("postgres").Reveal())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// onServers returns the names that the servers have, asked directly: accounts of
// Redis, accounts of PostgreSQL, databases of PostgreSQL.
func (w *world) onServers(ctx context.Context, prefix string) (accounts map[string][]string, databases []string, err error) {
	users, err := w.redisDo(ctx, "ACL", "USERS")
	if err != nil {
		return nil, nil, err
	}
	accounts = map[string][]string{}
	for _, u := range users {
		if strings.HasPrefix(u, prefix) {
			accounts[redisService] = append(accounts[redisService], u)
		}
	}
	accounts[postgresService], err = w.postgresQuery(ctx,
		"SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1) AND rolcanlogin", prefix)
	if err != nil {
		return nil, nil, err
	}
	databases, err = w.postgresQuery(ctx, "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)", prefix)
	return accounts, databases, err
}

// installation reads this store's own id from the name of an instance.
func installation(name string) (id string, ok bool) {
	id, _, ok = strings.Cut(strings.TrimPrefix(name, "bdy_"), "_")
	return id, ok && bindery.NamePrefix(id) == name[:len("bdy_")+len(id)+1]
}
