package main

import (
	"net"
	"strings"
)

// notifySystemd tells systemd what this process does, where it was started by
// it with Type=notify: READY=1, RELOADING=1, STOPPING=1. Anywhere else it does nothing.
func notifySystemd(st streams, state string) {
	socket := st.Env("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	if strings.HasPrefix(socket, "@") {
		socket = "\x00" + socket[1:] // an abstract one
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return // nobody listens any more
	}
	defer conn.Close() //nolint:errcheck // a datagram is sent or not
	_, _ = conn.Write([]byte(state))
}
