package devserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ports are the ports that this process has given out. A server that is stopped
// for a while wants its own back, so nobody else may choose it meanwhile; for other
// processes, which choose in the same way, the sign is that the UDP port of the
// same number is taken.
var ports struct {
	sync.Mutex
	given map[int]net.PacketConn
}

// freePort returns a port of 127.0.0.1 that nobody listens on. It is below the
// range from which the kernel takes the ports of outgoing connections: such a
// connection could take the port of a server that restarts, and a client that
// dials a dead server in that range can even end up connected to itself.
func freePort() (int, error) {
	low := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if f := strings.Fields(string(b)); len(f) == 2 {
			if n, err := strconv.Atoi(f[0]); err == nil && n > 11000 {
				low = n
			}
		}
	}
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := 10000 + rand.IntN(low-10000) //nolint:gosec // a port is no secret
		if ports.given[port] == nil && !portInUse(port) && markPort(port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

// PickPort returns a port of 127.0.0.1 that nobody listens on: the earlier one, if
// there was one and it is free. Nobody else who chooses in this way gets it while
// this process lives.
func PickPort(ctx context.Context, earlier int) (int, error) {
	if earlier != 0 && becomesFree(ctx, earlier) {
		return earlier, nil
	}
	return freePort()
}

// keepPort reserves a certain port for this process, and reports whether it has it.
func keepPort(port int) bool {
	ports.Lock()
	defer ports.Unlock()
	return ports.given[port] != nil || markPort(port)
}

// markPort is called with the lock on ports held.
func markPort(port int) bool {
	mark, err := net.ListenPacket("udp", loopback(port))
	if err != nil {
		return false
	}
	if ports.given == nil {
		ports.given = map[int]net.PacketConn{}
	}
	ports.given[port] = mark
	return true
}

// returnPort ends a reservation.
func returnPort(port int) {
	ports.Lock()
	defer ports.Unlock()
	if mark := ports.given[port]; mark != nil {
		_ = mark.Close() // nothing was sent or received
		delete(ports.given, port)
	}
}

func portInUse(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return true
	}
	return l.Close() != nil
}

// becomesFree waits a moment for a port: the server that had it may just be ending.
func becomesFree(ctx context.Context, port int) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for portInUse(port) || !keepPort(port) {
		if pause(ctx) != nil {
			return false
		}
	}
	return true
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
