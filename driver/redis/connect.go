package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
)

// facts are what is known of one run of a server.
type facts struct {
	run     string // its id, new after every start
	version version
	rights  map[rightsKey][]string
}

// dial opens the network connection. Certificates are read every time, so that
// a renewed one is used.
func (p *pool) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	host, _, _ := net.SplitHostPort(p.server.Address)
	config, err := p.server.TLS.Config(host)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return d.DialContext(ctx, "tcp", p.server.Address)
	}
	return (&tls.Dialer{NetDialer: &d, Config: config}).DialContext(ctx, "tcp", p.server.Address)
}

// introduce logs in, names the connection and learns what calls depend on.
// Nothing that changes the server is sent before the connection has its name
// and its id is known.
func (p *pool) introduce(ctx context.Context, s *session) error {
	pipe := s.conn.Pipeline()
	pipe.ClientSetName(ctx, p.name)
	id := pipe.ClientID(ctx)
	info := pipe.Info(ctx, "server")
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	s.id = id.Val()
	if err := p.learn(ctx, s, info.Val()); err != nil {
		return err
	}
	return p.sweepConnections(ctx, s)
}

// exec runs commands outside of [pool.send].
func exec(ctx context.Context, pipe goredis.Pipeliner) error {
	commands, err := pipe.Exec(ctx)
	if err != nil && !isReply(err) {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return silent(err)
	}
	return refusal(commands, err)
}

// learn gives the session what is known of this run of the server.
func (p *pool) learn(ctx context.Context, s *session, info string) error {
	said := lines(info)
	p.mu.Lock()
	known := p.facts
	p.mu.Unlock()
	if known != nil && known.run == said["run_id"] {
		s.facts = known
		return nil
	}
	v, err := parseVersion(said["redis_version"])
	if err == nil && !v.atLeast(6, 2, 0) {
		err = fmt.Errorf("its version is %s, and 6.2 is the first that fences channels", v)
	}
	if err == nil && said["run_id"] == "" {
		err = errors.New("it does not tell its run_id")
	}
	if err != nil {
		return bindery.Errorf(bindery.CodeUnavailable, "the Redis server cannot be administered").Because(err)
	}
	commands, err := knownCommands(ctx, s, v)
	if err != nil {
		return err
	}
	s.facts = &facts{run: said["run_id"], version: v, rights: rights(v, commands)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.facts = s.facts
	return nil
}

// knownCommands asks the server which of the commands it knows. A rule with one
// that it does not know would be refused.
func knownCommands(ctx context.Context, s *session, v version) (func(string) bool, error) {
	names := allCommands()
	args := []any{"COMMAND", "INFO"}
	for i, name := range names {
		// Subcommands are commands from 7.0 on; before, any first argument can be allowed.
		if !v.atLeast(7, 0, 0) {
			names[i], _, _ = strings.Cut(name, "|")
		}
		args = append(args, names[i])
	}
	pipe := s.conn.Pipeline()
	reply := pipe.Do(ctx, args...)
	if err := exec(ctx, pipe); err != nil {
		return nil, err
	}
	answers, err := reply.Slice()
	if err != nil || len(answers) != len(names) {
		return nil, bindery.Errorf(bindery.CodeUnavailable, "the Redis server cannot be administered").
			Because(fmt.Errorf("it describes %d of %d commands: %w", len(answers), len(names), err))
	}
	known := make(map[string]bool, len(names))
	for i, answer := range answers {
		if description, _ := answer.([]any); len(description) > 0 {
			known[allCommands()[i]] = true
		}
	}
	return func(name string) bool { return known[name] }, nil
}

// sweepConnections kills, once, the connections that an earlier process of this
// installation left: what it sent last may not have been executed yet. That one
// process at a time works for an installation is promised by its store; a second
// one would only lose its connections, once, and repeat its calls.
func (p *pool) sweepConnections(ctx context.Context, s *session) error {
	p.mu.Lock()
	swept := p.swept
	p.mu.Unlock()
	if swept {
		return nil
	}
	pipe := s.conn.Pipeline()
	list := pipe.ClientList(ctx)
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	pipe = s.conn.Pipeline()
	for id := range p.predecessors(list.Val()) {
		pipe.Do(ctx, killConnection(id)...)
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swept = true
	return nil
}

// predecessors returns the ids of the connections in a CLIENT LIST that another
// process made for this installation.
func (p *pool) predecessors(list string) map[int64]struct{} {
	ids := make(map[int64]struct{})
	for line := range strings.Lines(list) {
		var id, name string
		for _, field := range strings.Fields(line) {
			switch key, value, _ := strings.Cut(field, "="); key {
			case "id":
				id = value
			case "name":
				name = value
			}
		}
		if !strings.HasPrefix(name, p.family) || name == p.name {
			continue
		}
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			ids[n] = struct{}{}
		}
	}
	return ids
}

// lines reads what INFO answers.
func lines(info string) map[string]string {
	said := make(map[string]string)
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			said[key] = value
		}
	}
	return said
}

// pairs reads what HELLO answers.
func pairs(reply any) map[string]any {
	said := make(map[string]any)
	list, _ := reply.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		if key, ok := list[i].(string); ok {
			said[key] = list[i+1]
		}
	}
	return said
}
