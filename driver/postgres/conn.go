package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// A pool keeps a bounded number of connections to the administration database,
// opens others, and remembers each that may have left a statement running.
//
// Every connection has an application name that no other has:
//
//	bindery <installation> <process> <number>
//
// A call that gave up, and a process that died, may have left a statement to the
// server. Its session is found by that name, and ended, before anything else is
// sent: a late statement cannot undo what a later call confirmed.
type pool struct {
	config       *pgconn.Config // of the administration database
	installation string         // what the application names of this installation begin with
	process      string         // what those of this process begin with
	prepare      string         // what a connection to the administration database is told first
	slots        chan struct{}

	mu        sync.Mutex
	closed    bool
	serial    int
	idle      []*conn             // the last one used comes last
	abandoned map[string]struct{} // application names of sessions that may still be executing
	greeted   bool                // the sessions of earlier processes have ended
}

// A conn is one connection.
type conn struct {
	*pgconn.PgConn
	name string // its application name
	used bool   // it was idle before, and may have died meanwhile
}

func newPool(config *pgconn.Config, installation, prepare string, size int) *pool {
	p := &pool{
		config:       config,
		prepare:      prepare,
		installation: "bindery " + installation + " ",
		slots:        make(chan struct{}, size),
		abandoned:    map[string]struct{}{},
	}
	p.process = p.installation + rand.Text()[:processChars] + " "
	return p
}

// idle is the transaction status of a connection that is in none.
const idle = 'I'

// processChars keeps an application name below the 63 bytes that the server keeps of it.
const processChars = 16

var errClosed = errors.New("the driver is closed")

// exec sends statements in one round trip and one transaction, and returns the
// result of each. A connection that died while it was idle is replaced once:
// all that is sent here can be repeated.
func (p *pool) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	defer p.leave()
	for {
		c, err := p.take(ctx)
		if err != nil {
			return nil, err
		}
		used := c.used
		results, err := p.run(ctx, c, sql)
		p.give(c)
		if err == nil || !used || !c.IsClosed() || ctx.Err() != nil {
			return results, err
		}
		p.dropIdle()
	}
}

func (p *pool) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) leave() { <-p.slots }

// take returns an idle connection or a new one, once no statement that was sent
// before can still take effect.
func (p *pool) take(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	quiet := p.greeted && len(p.abandoned) == 0
	p.mu.Unlock()
	if !quiet {
		if err := p.settle(ctx); err != nil {
			return nil, err
		}
	}
	return p.any(ctx)
}

func (p *pool) any(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		c.used = true
		return c, nil
	}
	p.mu.Unlock()
	return p.connect(ctx, "")
}

// connect opens a connection to a database, by default the administration database.
func (p *pool) connect(ctx context.Context, database string) (*conn, error) {
	p.mu.Lock()
	closed := p.closed
	p.serial++
	name := p.process + strconv.Itoa(p.serial)
	p.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	config := p.config.Copy()
	config.RuntimeParams["application_name"] = name
	if database != "" {
		config.Database = database
	} else {
		config.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
			return c.Exec(ctx, p.prepare).Close()
		}
	}
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &conn{PgConn: c, name: name}, nil
}

// run sends statements. What it cannot see the end of is remembered as abandoned.
func (p *pool) run(ctx context.Context, c *conn, sql string) ([]*pgconn.Result, error) {
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil && !c.IsClosed() && c.TxStatus() != idle {
		if _, undo := c.Exec(ctx, "ROLLBACK").ReadAll(); undo != nil {
			p.hangUp(c) // never again with what is left of a transaction
		}
	}
	if err != nil && c.IsClosed() {
		p.mu.Lock()
		p.abandoned[c.name] = struct{}{}
		p.mu.Unlock()
		if state(err) == "" {
			err = fmt.Errorf("%w: %w", errBroken, err)
		}
	}
	return results, err
}

// give takes a connection back.
func (p *pool) give(c *conn) {
	if c.IsClosed() {
		return
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if closed {
		p.hangUp(c)
	}
}

// in opens a connection to a database, and closes it when use returns. It is
// meant for the rare statements that must run in an instance's own database.
func (p *pool) in(ctx context.Context, database string, use func(*conn) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
	c, err := p.connect(ctx, database)
	if err != nil {
		return err
	}
	defer p.hangUp(c)
	return use(c)
}

// hangUp closes a connection politely, which no caller's end should prevent.
func (p *pool) hangUp(c *conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx) // it is of no more use either way
}

func (p *pool) dropIdle() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		p.hangUp(c)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.dropIdle()
}

// settle ends the sessions in which a statement of an earlier call or of an
// earlier process may still run, and waits until they have ended.
func (p *pool) settle(ctx context.Context) error {
	p.mu.Lock()
	names := make([]string, 0, len(p.abandoned))
	for name := range p.abandoned {
		names = append(names, name)
	}
	greet := !p.greeted
	p.mu.Unlock()

	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		c, err := p.any(ctx)
		if err != nil {
			return err
		}
		used := c.used
		results, err := p.run(ctx, c, endOwn(names, greet, p.installation, p.process))
		p.give(c)
		if err != nil && used && c.IsClosed() && ctx.Err() == nil {
			p.dropIdle()
			continue
		}
		if err != nil {
			return fmt.Errorf("end earlier sessions: %w", err)
		}
		if len(results[0].Rows) == 0 {
			break
		}
		if err := bindery.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("an earlier session does not end: %w", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.abandoned, name)
	}
	p.greeted = true
	return nil
}

// How long to wait before looking again whether something has ended.
const (
	firstWait   = time.Millisecond
	longestWait = 50 * time.Millisecond
)

// major is the server's major version, of which it tells in forms like "15.18
// (Debian 15.18-0)", "18beta1" and "19devel".
func (c *conn) major() int {
	version := c.ParameterStatus("server_version")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, _ := strconv.Atoi(version[:end]) // 0, an old version, for what is no version
	return n
}

// newConfig makes the configuration of connections. It is made by fields and
// not from text, so that no error of a parser can quote the password.
func newConfig(o connOptions) (*pgconn.Config, error) {
	host, service, err := net.SplitHostPort(o.address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", o.address, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("address %q: the port must be a number from 1 to 65535", o.address)
	}
	// A config can only be made by the parser. Whatever the environment adds is replaced.
	config, err := pgconn.ParseConfig("host=localhost port=5432 user=bindery dbname=postgres sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("a PostgreSQL variable in the environment: %w", err)
	}
	config.Host, config.Port = host, uint16(port)
	config.User, config.Password, config.Database = o.user, o.password.Reveal(), o.database
	config.TLSConfig, config.Fallbacks, config.ValidateConnect = nil, nil, nil
	if config.TLSConfig, err = o.tls.Config(host); err != nil {
		return nil, err
	}
	config.ConnectTimeout = o.timeout
	config.DialFunc = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	ms := func(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
	config.RuntimeParams = map[string]string{
		// What quoting and answers rely on. A tenant's database, in which some of
		// this runs, cannot put its own functions before the server's.
		"standard_conforming_strings": "on",
		"client_encoding":             "UTF8",
		"search_path":                 "pg_catalog, pg_temp",
		"DateStyle":                   "ISO",
		// Calls end on the server as well. A lock is waited for less long than
		// the call lasts, so that what holds it can be dealt with.
		"statement_timeout":                   ms(o.timeout),
		"lock_timeout":                        ms(o.timeout / 4),
		"idle_in_transaction_session_timeout": ms(o.timeout),
		"tcp_user_timeout":                    ms(o.timeout),
		"default_transaction_read_only":       "off",
		"default_transaction_isolation":       "read committed",
		"synchronous_commit":                  "on",
	}
	return config, nil
}

const keepAlive = 30 * time.Second
