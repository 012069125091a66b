package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"bindery"
)

// A pool keeps connections to one server, and remembers which of them were
// given up with a call under way.
//
// go-redis has a pool of its own, but does not say over which connection a call
// went. Here every connection is a client with room for one.
type pool struct {
	server bindery.Server
	// name is what the server calls the connections of this pool: the
	// installation, and a part that no other pool has, this process's or another's.
	family, name string
	slots        chan struct{} // as many tokens as connections may be in use

	mu     sync.Mutex
	closed bool
	all    map[*session]struct{}
	idle   []*session // the one used last comes last
	facts  *facts     // of the server's run seen last
	swept  bool       // what earlier processes left has been killed
	// abandoned are connections whose last call may still be executed.
	abandoned map[abandoned]struct{}
}

// A connection's id means something in one run of a server only.
type abandoned struct {
	run string
	id  int64
}

var errClosed = bindery.Errorf(bindery.CodeUnavailable, "the driver is closed")

func newPool(server bindery.Server, size int) *pool {
	family := "bindery:" + server.Installation + ":"
	return &pool{
		server: server, family: family, name: family + rand.Text(),
		slots: make(chan struct{}, size), all: make(map[*session]struct{}), abandoned: make(map[abandoned]struct{}),
	}
}

// call sends what build adds in one round trip. It succeeds if every command
// did. Build may be called twice.
func (p *pool) call(ctx context.Context, build func(goredis.Pipeliner, *session)) error {
	return p.do(ctx, (*goredis.Conn).Pipeline, build)
}

// transaction is call, with everything or nothing executed.
func (p *pool) transaction(ctx context.Context, build func(goredis.Pipeliner, *session)) error {
	return p.do(ctx, (*goredis.Conn).TxPipeline, build)
}

func (p *pool) do(
	ctx context.Context, begin func(*goredis.Conn) goredis.Pipeliner, build func(goredis.Pipeliner, *session),
) error {
	if err := ctx.Err(); err != nil {
		return silent(err)
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return silent(context.Cause(ctx))
	}
	for {
		s, fresh, err := p.get(ctx)
		if err != nil {
			return err
		}
		err = p.send(ctx, s, begin(s.conn), build)
		if err == nil || !errors.Is(err, errBroken) || errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		// What broke one connection has most likely broken those beside it.
		p.dropIdle()
		// An idle connection may have died long ago. Calls can be repeated, and the
		// repeat ends what this attempt may have started.
		if fresh || ctx.Err() != nil || isTimeout(err) {
			return err
		}
	}
}

// errBroken is in the chain of errors after which it is not known what was executed.
var errBroken = errors.New("the connection broke")

func (p *pool) send(
	ctx context.Context, s *session, pipe goredis.Pipeliner, build func(goredis.Pipeliner, *session),
) error {
	kill := p.doomed(s.facts.run)
	for _, id := range kill {
		pipe.Do(ctx, killConnection(id)...)
	}
	build(pipe, s)
	stop := context.AfterFunc(ctx, s.hangUp)
	commands, err := pipe.Exec(ctx)
	whole := stop() // false: the connection is being closed
	if err != nil && !isReply(err) {
		p.give(s, true)
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return silent(fmt.Errorf("%w: %w", errBroken, err))
	}
	if whole && usable(commands) {
		p.keep(s)
	} else {
		p.give(s, false)
	}
	if err := refusal(commands, err); err != nil {
		return err
	}
	p.killed(s.facts.run, kill)
	return nil
}

// usable reports whether go-redis goes on with a connection after these answers:
// after some (READONLY, for example) it does not.
func usable(commands []goredis.Cmder) bool {
	return !slices.ContainsFunc(commands, func(c goredis.Cmder) bool {
		err := c.Err()
		return err != nil && !errors.Is(err, goredis.Nil) && !strings.HasPrefix(err.Error(), "ERR ")
	})
}

// refusal returns the first error that the server answered with.
func refusal(commands []goredis.Cmder, first error) error {
	if errors.Is(first, goredis.Nil) {
		first = nil
	}
	for _, c := range commands {
		err := c.Err()
		// In a transaction each command that was not at fault says EXECABORT.
		if err != nil && !errors.Is(err, goredis.Nil) && !strings.HasPrefix(err.Error(), "EXECABORT") {
			return refused(fmt.Errorf("%s: %w", commandName(c), err))
		}
	}
	if first != nil {
		return refused(first)
	}
	return nil
}

// commandName is for the operator: what was sent, without its arguments.
func commandName(c goredis.Cmder) string {
	args := c.Args()
	if len(args) > 1 && slices.Contains([]string{"acl", "client", "script", "function"}, c.Name()) {
		return fmt.Sprint(c.Name(), " ", args[1])
	}
	return c.Name()
}

// silent is the error of a server that did not answer.
func silent(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the Redis server does not answer").Because(cause)
}

// refused is the error of a server that answered with one. Loading, a runaway
// script, missing rights: all of it is worth another try later.
func refused(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the Redis server refused a command").Because(cause)
}

func isReply(err error) bool {
	_, ok := errors.AsType[goredis.Error](err)
	return ok
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// get takes an idle connection or opens one.
func (p *pool) get(ctx context.Context) (s *session, fresh bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, errClosed
	}
	if last := len(p.idle) - 1; last >= 0 {
		s = p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		return s, false, nil
	}
	p.mu.Unlock()
	s, err = p.connect(ctx)
	return s, true, err
}

// keep puts a connection back.
func (p *pool) keep(s *session) {
	p.mu.Lock()
	if !p.closed {
		p.idle = append(p.idle, s)
		s = nil
	}
	p.mu.Unlock()
	if s != nil {
		s.close()
	}
}

// give gives a connection up. Where calls may be under way on it, whatever is
// sent next kills it first.
func (p *pool) give(s *session, busy bool) {
	p.mu.Lock()
	delete(p.all, s)
	if busy {
		p.abandoned[abandoned{run: s.facts.run, id: s.id}] = struct{}{}
	}
	p.mu.Unlock()
	s.close()
}

func (p *pool) dropIdle() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, s := range idle {
		p.give(s, false)
	}
}

// doomed returns the ids of abandoned connections. Those of earlier runs of the
// server died with it, and their ids may be innocent connections' now.
func (p *pool) doomed(run string) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.abandoned) == 0 {
		return nil
	}
	maps.DeleteFunc(p.abandoned, func(a abandoned, _ struct{}) bool { return a.run != run })
	ids := make([]int64, 0, len(p.abandoned))
	for a := range p.abandoned {
		ids = append(ids, a.id)
	}
	return ids
}

func (p *pool) killed(run string, ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		delete(p.abandoned, abandoned{run: run, id: id})
	}
}

// describesOnce reports whether this server works out a user's rules when it
// saves the user for the first time, and then remembers them: from 7.0 on.
func (p *pool) describesOnce() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts != nil && p.facts.version.atLeast(7, 0, 0)
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.Collect(maps.Keys(p.all))
	p.all, p.idle = make(map[*session]struct{}), nil
	p.mu.Unlock()
	for _, s := range all {
		s.hangUp()
	}
}

// A session is one connection, used by one call at a time.
type session struct {
	net    net.Conn
	client *goredis.Client
	conn   *goredis.Conn
	id     int64 // by which the server knows it
	facts  *facts
}

// hangUp ends the connection under a call: go-redis looks at a context's
// deadline only, and a canceled call has to end too.
func (s *session) hangUp() { _ = s.net.Close() } // closed is closed

func (s *session) close() {
	s.hangUp()
	_ = s.conn.Close()   // nothing is left to be sent
	_ = s.client.Close() // likewise
}

// connect opens a connection that is ready for calls.
func (p *pool) connect(ctx context.Context) (*session, error) {
	raw, err := p.dial(ctx)
	if err != nil {
		return nil, silent(err)
	}
	s := &session{net: raw}
	stop := context.AfterFunc(ctx, s.hangUp)
	s.client = goredis.NewClient(p.options(ctx, raw))
	s.conn = s.client.EphemeralConn() // Conn would look at what is unread when it is closed, and log it
	err = p.introduce(ctx, s)
	if !stop() && err == nil {
		err = silent(context.Cause(ctx))
	}
	if err != nil {
		s.close()
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.close()
		return nil, errClosed
	}
	p.all[s] = struct{}{}
	return s, nil
}

// options make go-redis a protocol over one connection: everything that it does
// by itself beyond that is turned off.
func (p *pool) options(ctx context.Context, raw net.Conn) *goredis.Options {
	unused := make(chan net.Conn, 1)
	unused <- raw
	timeout := p.server.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Millisecond))
	}
	return &goredis.Options{
		Addr:     p.server.Address,
		Username: p.server.Username,
		Password: p.server.Password.Reveal(),
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-unused:
				return c, nil
			default:
				return nil, errBroken
			}
		},
		Protocol: 2, PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: timeout, ReadTimeout: p.server.Timeout, WriteTimeout: p.server.Timeout,
		ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
