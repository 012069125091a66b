package mysql

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"bindery"
)

// A pool keeps a bounded number of connections, and remembers each that may have
// left a statement running.
//
// Every session holds a named lock of the server (GET_LOCK) that no other has:
//
//	bindery <installation> <number>
//
// A call that gave up, and a process that died, may have left a statement to the
// server. Whoever holds such a lock is that session, idle or not: it is ended,
// and the lock seen free, before anything else is sent. So a late statement
// cannot undo what a later call confirmed. The lock goes when the session has
// ended, after its last statement.
type pool struct {
	options connOptions
	locks   string // what the names of locks begin with
	slots   chan struct{}
	settles chan struct{} // one at a time

	mu      sync.Mutex
	closed  bool
	next    int
	idle    []*conn           // the last one used comes last
	names   map[string]bool   // locks of this process; true: abandoned, its session may still be executing
	ids     map[string]string // the sessions of those that are not
	greeted bool              // the sessions of earlier processes have ended
	flavor  flavor            // of the server that answered last
}

// connOptions say how Bindery's own connections are made.
type connOptions struct {
	address, user string
	password      bindery.Secret
	tls           *bindery.ServerTLS
	timeout       time.Duration
	size          int
}

// lockNames is how many sessions one installation can have at once.
const lockNames = 256

// A flavor is one of the two servers of this kind, or none.
type flavor int

const (
	unknown flavor = iota
	mariadb
	oracle // MySQL itself
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

var errClosed = errors.New("the driver is closed")

func newPool(o connOptions, installation string) *pool {
	return &pool{
		options: o,
		locks:   "bindery " + installation + " ",
		slots:   make(chan struct{}, o.size),
		settles: make(chan struct{}, 1),
		names:   map[string]bool{},
		ids:     map[string]string{},
		next:    rand.IntN(lockNames), //nolint:gosec // so that processes seldom try each other's
	}
}

// exec sends statements in one round trip, and returns the answer to each that
// has one. They end at the first that fails; those before have taken effect. A
// connection that died while it was idle is replaced once: all that is sent
// here can be repeated.
func (p *pool) exec(ctx context.Context, sql string) ([]result, error) {
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
		if err == nil || !used || !c.broken || ctx.Err() != nil {
			return results, err
		}
		p.dropIdle()
	}
}

// in opens a connection whose session's settings may be changed, and closes it
// when use returns.
func (p *pool) in(ctx context.Context, use func(*conn) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
	if len(p.unsettled()) > 0 {
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer p.hangUp(c)
	return use(c)
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
	if len(p.unsettled()) > 0 {
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
	return p.connect(ctx)
}

// connect opens a connection, and takes the first free lock.
func (p *pool) connect(ctx context.Context) (*conn, error) {
	config, err := p.options.config()
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(ctx)
	if err != nil {
		return nil, broken(err)
	}
	c := &conn{raw: raw}
	sql := setSession(p.options.timeout) + "; "
	for range lockNames {
		if c.name, err = p.candidate(); err != nil {
			break
		}
		if c.name == "" {
			continue
		}
		var results []result
		if results, err = p.run(ctx, c, sql+takeLock(c.name)); err != nil {
			p.hangUp(c)
			return nil, err
		}
		row := results[0].rows[0]
		if row[0] == "1" {
			c.id = row[1]
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ids[c.name] = c.id
			p.flavor = flavorOf(row[2])
			return c, nil
		}
		p.forget(c.name)
		sql = ""
	}
	_ = raw.Close() // it holds no lock, and nothing was done with it
	if err == nil { // somebody took them all; whoever that is goes
		p.mu.Lock()
		p.greeted = false
		p.mu.Unlock()
		err = errLocks
	}
	return nil, err
}

var errLocks = fmt.Errorf("%w: all named locks of the installation are taken", errBroken)

// candidate reserves the next lock that this process does not have; empty where it has it.
func (p *pool) candidate() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", errClosed
	}
	p.next = (p.next + 1) % lockNames
	name := p.locks + strconv.Itoa(p.next)
	if _, ours := p.names[name]; ours {
		return "", nil
	}
	p.names[name] = false
	return name, nil
}

func (p *pool) forget(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.names, name)
		delete(p.ids, name)
	}
}

// run sends statements. What it cannot see the end of is remembered as abandoned.
func (p *pool) run(ctx context.Context, c *conn, sql string) ([]result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nothing was sent
	}
	results, err := c.query(ctx, sql)
	if err == nil || !c.broken {
		return results, err
	}
	_ = c.raw.Close() // it is of no more use either way
	p.mu.Lock()
	p.names[c.name] = true
	delete(p.ids, c.name)
	p.mu.Unlock()
	return nil, broken(err)
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

// give takes a connection back.
func (p *pool) give(c *conn) {
	if c.broken {
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

// hangUp closes a connection that is doing nothing.
func (p *pool) hangUp(c *conn) {
	if c.broken {
		return
	}
	c.broken = true
	_ = c.raw.Close() // it is of no more use either way
	p.forget(c.name)
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

// unsettled are the locks of sessions that may still execute something.
func (p *pool) unsettled() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for i := 0; i < lockNames && !p.greeted; i++ {
		if name := p.locks + strconv.Itoa(i); p.ids[name] == "" {
			names = append(names, name)
		}
	}
	for name, abandoned := range p.names {
		if abandoned && p.greeted {
			names = append(names, name)
		}
	}
	return names
}

// settle ends the sessions in which a statement of an earlier call or of an
// earlier process may still run, and waits until they have ended.
func (p *pool) settle(ctx context.Context) error {
	select {
	case p.settles <- struct{}{}:
		defer func() { <-p.settles }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		names := p.unsettled()
		if len(names) == 0 {
			return nil
		}
		c, err := p.any(ctx)
		if err != nil {
			return fmt.Errorf("end earlier sessions: %w", err)
		}
		used := c.used
		held, err := p.endHolders(ctx, c, names)
		p.give(c)
		if err != nil && used && c.broken && ctx.Err() == nil {
			p.dropIdle()
			continue
		}
		if err != nil {
			return fmt.Errorf("end earlier sessions: %w", err)
		}
		if !held {
			p.settled(names)
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("an earlier session does not end: %w", err)
		}
	}
}

func (p *pool) settled(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		if p.names[name] {
			delete(p.names, name)
		}
	}
	p.greeted = true
}

// endHolders ends the sessions that hold one of the locks, but for those that
// this process opened meanwhile.
func (p *pool) endHolders(ctx context.Context, c *conn, names []string) (held bool, err error) {
	results, err := p.run(ctx, c, lockHolders(names))
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	var ids []string
	for i, id := range results[0].rows[0] {
		if id != "" && p.ids[names[i]] != id {
			ids = append(ids, id)
		}
	}
	p.mu.Unlock()
	return len(ids) > 0, p.kill(ctx, c, ids)
}

// kill ends sessions. One that has ended by itself stops the statement there:
// whoever kills looks again until none is left.
func (p *pool) kill(ctx context.Context, c *conn, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := p.run(ctx, c, killSessions(ids))
	if number(err) == errNoSuchThread {
		return nil
	}
	return err
}

// server is which of the two servers answers.
func (p *pool) server(ctx context.Context) (flavor, error) {
	p.mu.Lock()
	f := p.flavor
	p.mu.Unlock()
	if f != unknown {
		return f, nil
	}
	if _, err := p.exec(ctx, "DO 0"); err != nil {
		return unknown, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flavor, nil
}

func flavorOf(version string) flavor {
	if strings.Contains(version, "MariaDB") {
		return mariadb
	}
	return oracle
}

// How long to wait before looking again whether something has ended.
const (
	firstWait   = time.Millisecond
	longestWait = 50 * time.Millisecond
)

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
