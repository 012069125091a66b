package devserver_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bindery/devserver"
	"bindery/devserver/servertest"
)

// echo is a server that sends back what it gets, and counts what it got.
type echo struct {
	addr string
	got  chan string
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e := &echo{addr: l.Addr().String(), got: make(chan string, 1000)}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { _ = conn.Close() }()
				buf := make([]byte, 1024)
				for {
					n, err := conn.Read(buf)
					if n > 0 {
						e.got <- string(buf[:n])
						if _, err := conn.Write(buf[:n]); err != nil {
							e.got <- "broken"
							return
						}
					}
					if errors.Is(err, io.EOF) {
						e.got <- "end"
						return
					}
					if err != nil {
						e.got <- "broken"
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	return e
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("got a %T", conn)
	}
	return tcp
}

func send(t *testing.T, conn net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(conn, s)
	must(t, err)
}

func receive(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	_, err := io.ReadFull(conn, buf)
	must(t, err)
	if string(buf) != want {
		t.Fatalf("got %q, want %q", buf, want)
	}
}

func receiveNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes and %v, want nothing", n, err)
	}
	must(t, conn.SetReadDeadline(time.Time{}))
}

func (e *echo) gets(t *testing.T, want string) {
	t.Helper()
	if got := <-e.got; got != want {
		t.Fatalf("the server got %q, want %q", got, want)
	}
}

func TestProxyPassesOn(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	send(t, conn, "one")
	receive(t, conn, "one")
	e.gets(t, "one")
	must(t, conn.CloseWrite())
	e.gets(t, "end")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the end", err)
	}
}

func TestProxyCarriesMuch(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	go func() {
		for range e.got { // never full; ends with the test's process
		}
	}()
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	much := strings.Repeat("0123456789", 1<<17)
	done := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, much)
		done <- err
	}()
	receive(t, conn, much)
	must(t, <-done)
}

func TestProxyHolds(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	send(t, conn, "one")
	receive(t, conn, "one")
	e.gets(t, "one")

	p.Hold()
	send(t, conn, "two")
	receiveNothing(t, conn)
	later := dial(t, p.Addr()) // accepted, and just as silent
	send(t, later, "three")
	receiveNothing(t, later)
	if len(e.got) > 0 {
		t.Fatalf("the server got %q", <-e.got)
	}
	p.Release()
	receive(t, conn, "two")
	receive(t, later, "three")
	if got := map[string]bool{<-e.got: true, <-e.got: true}; !got["two"] || !got["three"] {
		t.Fatalf("the server got %v", got)
	}
}

func TestProxyHoldsReplies(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	p.HoldReplies()
	send(t, conn, "one")
	e.gets(t, "one")
	receiveNothing(t, conn)
	must(t, conn.CloseWrite()) // the client gives up
	e.gets(t, "end")
	p.Release()
	receive(t, conn, "one")
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*devserver.Proxy){
		"open": func(*devserver.Proxy) {}, "held": (*devserver.Proxy).Hold,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEcho(t)
			p := servertest.Proxy(t, e.addr)
			conn := dial(t, p.Addr())
			send(t, conn, "one")
			receive(t, conn, "one")
			e.gets(t, "one")
			before(p)
			p.Cut()
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("got %v, want a reset", err)
			}
			e.gets(t, "broken")
			p.Release()
			again := dial(t, p.Addr())
			send(t, again, "two")
			receive(t, again, "two")
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	send(t, conn, "one")
	receive(t, conn, "one")
	must(t, p.Refuse(true))
	must(t, p.Refuse(true))
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v, want a refusal", err)
	}
	send(t, conn, "two") // those that exist stay
	receive(t, conn, "two")
	must(t, p.Refuse(false))
	must(t, p.Refuse(false))
	again := dial(t, p.Addr())
	send(t, again, "three")
	receive(t, again, "three")
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	p.Delay(30 * time.Millisecond)
	start := time.Now()
	send(t, conn, "one")
	receive(t, conn, "one")
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("there and back took %v", took)
	}
}

func TestProxyAlters(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := servertest.Proxy(t, e.addr)
	conn := dial(t, p.Addr())
	send(t, conn, "DROP a")
	receive(t, conn, "DROP a")
	p.Alter(func(piece []byte) []byte { return bytes.ReplaceAll(piece, []byte("DROP"), []byte("LOOK AT")) })
	send(t, conn, "DROP a")
	receive(t, conn, "LOOK AT a")
	p.Alter(nil)
	send(t, conn, "DROP a")
	receive(t, conn, "DROP a")
}

func TestProxyToNobodyResets(t *testing.T) {
	t.Parallel()
	port, err := devserver.FreePort()
	must(t, err)
	p := servertest.Proxy(t, devserver.Loopback(port))
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestClosedProxy(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p, err := devserver.NewProxy(e.addr)
	must(t, err)
	conn := dial(t, p.Addr())
	send(t, conn, "one")
	receive(t, conn, "one")
	if p.Connections() != 1 {
		t.Errorf("%d connections, want 1", p.Connections())
	}
	p.Hold()
	held := dial(t, p.Addr())
	must(t, p.Close())
	for _, c := range []net.Conn{conn, held} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection is left")
		}
	}
	if p.Connections() != 0 {
		t.Errorf("%d connections, want none", p.Connections())
	}
	if err := p.Refuse(false); err == nil {
		t.Error("a closed proxy listens again")
	}
	must(t, p.Close())
}
