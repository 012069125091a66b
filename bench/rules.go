package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"bindery"
	"bindery/devserver"
	"bindery/driver"
)

// driverRules finds out which commands the driver allows a user: the bare
// statement has to carry the same. It listens to what the driver sends, for a
// server asked for a user's rules answers with shorter ones that mean the same.
func driverRules(ctx context.Context, r *devserver.Redis) (rules []any, err error) {
	relay, err := newRelay(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	defer relay.close()
	const installation = "bench0"
	d, err := driver.Kinds[kindRedis].Open(bindery.Server{
		Name: "relay", Kind: kindRedis, Installation: installation, Address: relay.listener.Addr().String(), Username: r.User, Password: r.Password,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	spec := bindery.InstanceSpec{Name: bindery.Name(installation, 1)}
	account := bindery.Account{Name: bindery.Name(installation, 2)}
	if account.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: account.Name}); err != nil {
		return nil, err
	}
	if _, err = d.Ensure(ctx, spec, account); err != nil {
		return nil, err
	}
	for _, command := range relay.commands() {
		if len(command) < 3 || !strings.EqualFold(command[0]+command[1], "aclsetuser") {
			continue
		}
		for _, rule := range command[3:] {
			if strings.HasPrefix(rule, "+") {
				rules = append(rules, rule)
			}
		}
	}
	if len(rules) == 0 {
		return nil, errors.New("the driver sent no rules")
	}
	return rules, d.Revoke(ctx, spec, account)
}

// A relay passes connections on to a server, and keeps what clients send.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	sent     []*bytes.Buffer // one for each connection
	conns    []net.Conn
}

func newRelay(ctx context.Context, target string) (*relay, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return // closed
			}
			var d net.Dialer
			out, err := d.DialContext(ctx, "tcp", target)
			if err != nil {
				_ = in.Close() // which the client will report
				continue
			}
			r.mu.Lock()
			kept := &bytes.Buffer{}
			r.sent, r.conns = append(r.sent, kept), append(r.conns, in, out)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(io.MultiWriter(r.keep(kept), out), in) }() // ends with either
			go func() { _, _ = io.Copy(in, out) }()
		}
	}()
	return r, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (r *relay) keep(b *bytes.Buffer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return b.Write(p)
	})
}

func (r *relay) close() {
	_ = r.listener.Close() // nothing is lost
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// commands are all that was sent whole.
func (r *relay) commands() (all [][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.sent {
		in := bufio.NewReader(bytes.NewReader(b.Bytes()))
		for {
			command, err := readCommand(in)
			if err != nil {
				break
			}
			all = append(all, command)
		}
	}
	return all
}

// readCommand reads one command as clients send them: an array of strings, each
// with its length before it.
func readCommand(in *bufio.Reader) ([]string, error) {
	number := func(mark byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != mark {
			return 0, fmt.Errorf("%q is not the beginning of %q", line, mark)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		command[i] = string(text[:size])
	}
	return command, nil
}
