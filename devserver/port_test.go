package devserver_test

import (
	"net"
	"sync"
	"testing"

	"bindery/devserver"
)

func TestPortsAreGivenOutOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[int]bool{}
	var work sync.WaitGroup
	for range 100 {
		work.Go(func() {
			port, err := devserver.FreePort()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[port] {
				t.Errorf("got port %d (%v), which was given out before or is none", port, err)
			}
			seen[port] = true
		})
	}
	work.Wait()
	for port := range seen {
		// How other processes see that it is taken.
		if l, err := net.ListenPacket("udp", devserver.Loopback(port)); err == nil {
			_ = l.Close()
			t.Errorf("port %d has no mark", port)
		}
		devserver.ReturnPort(port)
	}
}
