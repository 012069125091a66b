package mysql

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"bindery"
)

// A conn is one connection.
type conn struct {
	raw    sqldriver.Conn
	name   string // its lock
	id     string
	used   bool // it was idle before, and may have died meanwhile
	broken bool
}

// A result is the answer to one statement that has one.
type result struct {
	columns []string
	rows    [][]string
}

func (c *conn) query(ctx context.Context, sql string) (results []result, err error) {
	defer func() {
		if err != nil && severed(err) {
			c.broken = true
		}
	}()
	q, ok := c.raw.(sqldriver.QueryerContext)
	if !ok {
		return nil, errors.New("the MySQL driver cannot query")
	}
	rows, err := q.QueryContext(ctx, sql, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for {
		r := result{columns: rows.Columns()}
		values := make([]sqldriver.Value, len(r.columns))
		for {
			if err := rows.Next(values); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return results, err
			}
			r.rows = append(r.rows, texts(values))
		}
		if len(r.columns) > 0 {
			results = append(results, r)
		}
		more, ok := rows.(sqldriver.RowsNextResultSet)
		if !ok || !more.HasNextResultSet() {
			return results, nil
		}
		if err := more.NextResultSet(); errors.Is(err, io.EOF) {
			return results, nil
		} else if err != nil {
			return results, err
		}
	}
}

// texts copies a row; NULL becomes empty.
func texts(values []sqldriver.Value) []string {
	row := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
		case []byte:
			row[i] = string(v)
		default:
			row[i] = fmt.Sprint(v)
		}
	}
	return row
}

// connOptions say how Bindery's own connections are made.
type connOptions struct {
	address, user string
	password      bindery.Secret
	tls           *bindery.ServerTLS
	timeout       time.Duration
	size          int
}

// config is made by fields and not from text, so that no error of a parser can
// quote the password.
func (o connOptions) config() (*mysql.Config, error) {
	host, _, err := net.SplitHostPort(o.address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", o.address, err)
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", o.address, o.user, o.password.Reveal()
	c.Timeout = o.timeout
	c.MultiStatements = true // Bindery's own, all of them built and quoted
	c.Logger = &mysql.NopLogger{}
	if c.TLS, err = o.tls.Config(host); err != nil {
		return nil, err
	}
	return c, nil
}

// A flavor is one of the two servers of this kind, or none.
type flavor int

const (
	unknown flavor = iota
	mariadb
	oracle // MySQL itself
)

func flavorOf(version string) flavor {
	if strings.Contains(version, "MariaDB") {
		return mariadb
	}
	return oracle
}
