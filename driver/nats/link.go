package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"

	"bindery"
)

// A link keeps the one connection that a driver has to the server's system account.
// Requests share it, and what is sent over it happens in order.
type link struct {
	server  bindery.Server
	secrets secrets
	system  string // the system account
	nobody  string // an account that there is not
	// Every process of an installation has connections that the server knows by
	// names of one family.
	family  string
	dialing chan struct{} // held by whoever connects
	asking  chan struct{} // held by whoever asks for the turn; see turn.go

	mu      sync.Mutex
	closed  bool
	current *conn
}

var errClosed = bindery.Errorf(bindery.CodeUnavailable, "the driver is closed")

// errBroken is in the chain of errors after which it is not known what was done,
// and another connection may do better.
var errBroken = errors.New("the connection broke")

func unavailable(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the NATS server is not available").Because(cause)
}

func newLink(server bindery.Server, s secrets) (*link, error) {
	token, err := jwt.ParseDecoratedJWT(s.System)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "%s has no user JWT", secretSystem)
	}
	l := &link{
		server: server, secrets: s, system: claims.IssuerAccount,
		family:  "bindery:" + server.Installation + ":",
		dialing: make(chan struct{}, 1), asking: make(chan struct{}, 1),
	}
	if l.system == "" {
		l.system = claims.Issuer
	}
	l.nobody, err = accountKey(l.family) // which is no instance's name
	return l, err
}

// A conn is one connection.
type conn struct {
	link   *link
	nc     *natsgo.Conn
	raw    net.Conn
	id     uint64 // which the server gave it
	server string // the run of the server that it is to
	// complaint is what the server said of something that was sent, if anything.
	complaint atomic.Pointer[error]
	turn      turn
}

// get returns the connection, which it makes if there is none.
func (l *link) get(ctx context.Context) (*conn, error) {
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
	l.mu.Lock()
	c, closed := l.current, l.closed
	l.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if c != nil && !c.nc.IsClosed() {
		return c, nil
	}
	c, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.drop()
		return nil, errClosed
	}
	l.current = c
	return c, nil
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.current != nil {
		l.current.drop()
	}
}

// dial connects as the system user.
func (l *link) dial(ctx context.Context) (*conn, error) {
	c := &conn{link: l}
	var err error
	c.nc, c.raw, err = l.connect(ctx, l.family+rand.Text(), natsgo.UserCredentialBytes(l.secrets.System),
		natsgo.CustomInboxPrefix(subjectPrefix+l.server.Installation+".inbox"),
		natsgo.PingInterval(10*time.Second),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			c.complaint.Store(&err)
			c.drop() // whoever waits for an answer will not get one
		}))
	if err != nil {
		return nil, unavailable(err)
	}
	c.server = c.nc.ConnectedServerId()
	if c.id, err = c.nc.GetClientID(); err == nil {
		err = c.listen()
	}
	if err != nil {
		c.drop()
		return nil, unavailable(err)
	}
	return c, nil
}

// connect connects as any user. Certificates are read every time, so that a
// renewed one is used.
func (l *link) connect(ctx context.Context, name string, options ...natsgo.Option) (*natsgo.Conn, net.Conn, error) {
	host, _, _ := net.SplitHostPort(l.server.Address)
	config, err := l.server.TLS.Config(host)
	if err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	d := &dialer{ctx: ctx}
	options = append(options,
		natsgo.Name(name), natsgo.SetCustomDialer(d), natsgo.Timeout(l.server.Timeout),
		natsgo.NoReconnect(), natsgo.IgnoreDiscoveredServers(),
	)
	if config != nil {
		options = append(options, natsgo.Secure(config))
	}
	// A connection whose maker has given up ends.
	stop := context.AfterFunc(ctx, d.hangUp)
	nc, err := natsgo.Connect(clientURL(l.server.Address, config != nil), options...)
	if !stop() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		d.hangUp()
		if nc != nil {
			nc.Close()
		}
		return nil, nil, errors.Join(err, d.err) // the library keeps that to itself
	}
	return nc, d.conn, nil
}

// A dialer opens the network connection, and keeps it.
type dialer struct {
	ctx  context.Context //nolint:containedctx // the library's dialers get none
	mu   sync.Mutex
	conn net.Conn
	err  error
}

// Dial implements [natsgo.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(d.ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn, d.err = c, err
	return c, err
}

func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.Close() // nothing depends on how it went
	}
}

// drop ends the connection; nothing that still waits to be sent is sent.
func (c *conn) drop() {
	_ = c.raw.Close() // before the library flushes; what was broken may not close well
	c.nc.Close()
}

// request sends a request and returns the answer's payload.
func (c *conn) request(ctx context.Context, subject string, payload []byte) ([]byte, error) {
	m, err := c.nc.RequestWithContext(ctx, subject, payload)
	if errors.Is(err, natsgo.ErrNoResponders) {
		return nil, unavailable(fmt.Errorf("%s: %w", subject, err))
	}
	if err != nil {
		return nil, c.failed(ctx, subject, err)
	}
	return m.Data, nil
}

// failed gives up a connection over which no answer came.
func (c *conn) failed(ctx context.Context, what string, err error) error {
	c.drop()
	if complaint := c.complaint.Load(); complaint != nil {
		return unavailable(fmt.Errorf("%s: %w", what, *complaint)) // it would say so again
	}
	if ctx.Err() != nil {
		return unavailable(fmt.Errorf("%s: %w", what, context.Cause(ctx)))
	}
	return unavailable(fmt.Errorf("%w: %s: %w", errBroken, what, err))
}

// again calls a function that needs a connection, once more where that broke.
func again(ctx context.Context, call func() error) error {
	const tries = 4 // an idle connection that had died, and others that take turns
	var err error
	for range tries {
		if err = call(); err == nil || !errors.Is(err, errBroken) || ctx.Err() != nil {
			return err
		}
	}
	return err
}
