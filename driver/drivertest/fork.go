package drivertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A fork is an address whose new connections can be led elsewhere, while those
// that exist stay where they are.
type fork struct {
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  []net.Conn
}

func newFork(t testing.TB, target string) *fork {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &fork{listener: l, target: target}
	k.work.Go(k.accept)
	t.Cleanup(func() {
		_ = l.Close() // nothing depends on how it went
		k.mu.Lock()
		for _, c := range k.conns {
			_ = c.Close() // likewise
		}
		k.mu.Unlock()
		k.work.Wait()
	})
	return k
}

func (k *fork) address() string { return k.listener.Addr().String() }

// turn leads new connections to another address.
func (k *fork) turn(target string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.target = target
}

func (k *fork) accept() {
	for {
		client, err := k.listener.Accept()
		if err != nil {
			return // closed
		}
		k.mu.Lock()
		target := k.target
		k.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close() // the client sees a server that is not there
			continue
		}
		k.mu.Lock()
		k.conns = append(k.conns, client, server)
		k.mu.Unlock()
		k.work.Go(func() { carry(server, client) })
		k.work.Go(func() { carry(client, server) })
	}
}

// carry passes on what comes, and then that nothing more will.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from) // a broken connection is an end as well
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite() // the other side may be gone
	}
}
