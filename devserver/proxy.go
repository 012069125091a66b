package devserver

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Proxy stands between a client and a server on this machine, in this process,
// and makes the connection between them as bad as a test needs it. It knows
// nothing of what it carries, so TLS works through it.
//
// A new proxy passes everything on. Its methods may be called at any time, from
// several goroutines.
type Proxy struct {
	target string
	port   int
	addr   string

	requests, replies gate // towards the target, and back

	mu       sync.Mutex
	listener net.Listener // nil while refusing
	links    map[*link]struct{}
	delay    time.Duration
	alter    func(piece []byte) []byte
	closed   bool

	work sync.WaitGroup
}

// NewProxy starts a proxy to the target, a host and port, on a free port of
// 127.0.0.1. Close ends it.
func NewProxy(target string) (*Proxy, error) {
	for {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		p, err := newProxyOn(target, port)
		if err == nil {
			return p, nil
		}
		returnPort(port)
		if !errors.Is(err, syscall.EADDRINUSE) { // else somebody was quicker
			return nil, err
		}
	}
}

func newProxyOn(target string, port int) (*Proxy, error) {
	p := &Proxy{target: target, port: port, addr: loopback(port), links: map[*link]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p, p.listen()
}

// Addr is the host and port that clients connect to instead of the target.
func (p *Proxy) Addr() string { return p.addr }

// Hold lets nothing through in either direction, also on connections made from
// now on: they are accepted, take bytes until the buffers are full, and are
// not answered. That a side has closed its connection is held back as well.
func (p *Proxy) Hold() {
	p.requests.close()
	p.replies.close()
}

// HoldReplies lets requests through and holds the replies: the server does what
// it is asked, and the client never learns of it.
func (p *Proxy) HoldReplies() { p.replies.close() }

// Release delivers what was held, in order, and everything from now on.
func (p *Proxy) Release() {
	p.requests.open()
	p.replies.open()
}

// Delay makes each piece of data, in either direction, wait this long from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Alter lets a function change each piece of data on its way to the target from now
// on; nil changes nothing. What a client writes at once, and is not long, is one piece.
// The function may be called by several connections at a time.
func (p *Proxy) Alter(change func(piece []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alter = change
}

// Cut resets all connections, on both sides. What was held is lost.
func (p *Proxy) Cut() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

// Refuse makes new connections fail as if nobody were listening, or allows them
// again. Those that exist stay; Cut ends them.
func (p *Proxy) Refuse(refuse bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	switch {
	case refuse && p.listener != nil:
		err := closeListener(p.listener)
		p.listener = nil
		return err
	case !refuse && p.listener == nil:
		return p.listen()
	}
	return nil
}

// Connections is how many connections there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close ends the proxy and resets its connections, and returns when nothing of it runs any more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	var err error
	if p.listener != nil {
		err = closeListener(p.listener)
		p.listener = nil
	}
	p.mu.Unlock()
	p.Cut()
	p.work.Wait()
	returnPort(p.port)
	return err
}

// listen is called with mu held.
func (p *Proxy) listen() error {
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = l
	p.work.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL) { // closed, or about to be
				return
			}
			if err != nil {
				continue // the client was quicker to give up
			}
			p.work.Go(func() { p.serve(conn) })
		}
	})
	return nil
}

// serve carries one connection.
func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client, ended: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		l.reset()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()

	if !p.requests.wait(l.ended) {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil || !l.join(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(l, server, client, &p.requests) })
	both.Go(func() { p.carry(l, client, server, &p.replies) })
	both.Wait()
	l.close()
}

// carry passes on what comes from one side, until that side has closed.
func (p *Proxy) carry(l *link, to, from net.Conn, g *gate) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		delay, alter := p.delay, p.alter
		p.mu.Unlock()
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-l.ended:
			}
		}
		if !g.wait(l.ended) {
			return
		}
		if n > 0 {
			piece := buf[:n]
			if alter != nil && g == &p.requests {
				piece = alter(piece)
			}
			if _, err := to.Write(piece); err != nil {
				l.reset()
				return
			}
		}
		switch half, ok := to.(interface{ CloseWrite() error }); {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF) || !ok || half.CloseWrite() != nil:
			l.reset()
		}
		return
	}
}

// A link is one connection: a client's, and the one made for it.
type link struct {
	client net.Conn
	ended  chan struct{}

	mu     sync.Mutex
	server net.Conn
	done   bool
}

// join adds the server's side, unless the link has ended meanwhile.
func (l *link) join(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		abort(server)
		return false
	}
	l.server = server
	return true
}

// reset ends the link at once; both sides see their connection broken.
func (l *link) reset() { l.end(abort) }

// close ends a link whose sides have both closed.
func (l *link) close() {
	l.end(func(c net.Conn) { _ = c.Close() }) // both sides have said that they are done
}

func (l *link) end(how func(net.Conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	l.done = true
	close(l.ended)
	how(l.client)
	if l.server != nil {
		how(l.server)
	}
}

// abort closes a connection so that the other end sees a reset, not an end.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a dead connection, which is as good
	}
	_ = c.Close() // nothing is to be saved
}

// A gate is open or closed; the zero gate is open.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // nil while open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// wait returns true once the gate is open, and false if ended is closed before.
func (g *gate) wait(ended <-chan struct{}) bool {
	for {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened == nil {
			select {
			case <-ended:
				return false
			default:
				return true
			}
		}
		select {
		case <-opened:
		case <-ended:
			return false
		}
	}
}
