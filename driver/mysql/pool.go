package mysql

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/go-sql-driver/mysql"
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

// change is exec for what changes a server.
func (p *pool) change(ctx context.Context, sql string) ([]result, error) {
	f, err := p.server(ctx)
	if err != nil {
		return nil, err
	}
	return p.exec(ctx, refuseReadOnly(f)+sql)
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
