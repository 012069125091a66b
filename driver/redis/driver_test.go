package redis_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/redis"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// callTimeout is long for a call and short for a test of a hung server.
const callTimeout = 2 * time.Second

// configured is what the configuration says of a test's server.
func configured(r *devserver.Redis, installation string) bindery.Server {
	return bindery.Server{
		Name: "r", Kind: "redis", Installation: installation,
		Address: r.Addr, Username: r.User, Password: r.Password, Timeout: callTimeout,
	}
}

func openDriver(t testing.TB, s bindery.Server) bindery.Driver {
	t.Helper()
	d, err := redis.Kind.Open(s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// promise describes a server to the suite. Adjust may change how Bindery logs in.
func promise(r *devserver.Redis, adjust func(*bindery.Server)) drivertest.Server {
	return drivertest.Server{
		Open: func(t testing.TB, installation string) bindery.Driver {
			s := configured(r, installation)
			if adjust != nil {
				adjust(&s)
			}
			return openDriver(t, s)
		},
		Timeout:           callTimeout,
		Login:             login,
		IsAuthFailure:     isAuthFailure,
		Trespass:          trespass,
		BindingParameters: json.RawMessage(`{"access":"read-write"}`),
		ReadOnly:          json.RawMessage(`{"access":"read-only"}`),
		Aliases:           redis.Kind.Aliases,
		HidesInstances:    true,
		Kill:              r.Kill,
		Restart:           r.Restart,
		Pause:             r.Pause,
		Resume:            r.Resume,
	}
}

func TestDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t,
		func(t *testing.T) drivertest.Server { return promise(servertest.SharedRedis(t), nil) },
		func(t *testing.T) drivertest.Server { return promise(servertest.Redis(t), nil) })
}

func isAuthFailure(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGPASS ") }

// A session is an application's connection, the only one of its client.
type session struct {
	client *goredis.Client
	conn   *goredis.Conn
	prefix string
}

// connect logs in with a credential's uri alone, as most clients do.
func connect(ctx context.Context, c bindery.Credential) (*session, error) {
	uri, _ := c.Object["uri"].(string)
	prefix, _ := c.Object["prefix"].(string)
	o, err := goredis.ParseURL(uri)
	if err != nil {
		return nil, err
	}
	if o.TLSConfig != nil {
		o.TLSConfig = &tls.Config{RootCAs: pool(c), MinVersion: tls.VersionTLS12, ServerName: o.TLSConfig.ServerName}
	}
	o.MaxRetries, o.DialerRetries, o.PoolSize, o.PipelinePoolSize = -1, 1, 1, -1
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s := &session{client: goredis.NewClient(o), prefix: prefix}
	s.conn = s.client.Conn()
	if err := s.conn.Ping(ctx).Err(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func login(ctx context.Context, c bindery.Credential) (drivertest.Session, error) {
	s, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *session) Write(ctx context.Context, key, value string) error {
	return s.conn.Set(ctx, s.prefix+key, value, 0).Err()
}

func (s *session) Read(ctx context.Context, key string) (string, error) {
	v, err := s.conn.Get(ctx, s.prefix+key).Result()
	if errors.Is(err, goredis.Nil) {
		return "", drivertest.ErrMissing
	}
	return v, err
}

func (s *session) Alive(ctx context.Context) error { return s.conn.Ping(ctx).Err() }

func (s *session) Close() error { return errors.Join(s.conn.Close(), s.client.Close()) }

// trespass tries the ways to another's key that Redis has had.
func trespass(ctx context.Context, mine, theirs bindery.Credential, key string) error {
	s, err := connect(ctx, mine)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	own, other := s.prefix, theirs.Object["prefix"].(string)
	target := other + key
	if err := s.conn.RPush(ctx, own+"list", key).Err(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	attempts := [][]any{
		{"GET", target}, {"SET", target, "x"}, {"DEL", target}, {"TYPE", target}, {"EXISTS", target}, {"DUMP", target},
		{"RENAME", own + "list", target}, {"MGET", own + "list", target}, {"OBJECT", "ENCODING", target},
		{"MEMORY", "USAGE", target}, {"WATCH", target}, {"LCS", own + "list", target},
		{"COPY", target, own + "copy"}, {"COPY", own + "list", own + "list", "DB", "1"}, {"MOVE", own + "list", "1"},
		{"SORT", own + "list", "BY", "nosort", "GET", other + "*"}, {"SORT", own + "list", "STORE", target},
		{"SORT_RO", own + "list", "BY", other + "*"}, {"BITOP", "AND", own + "b", target},
		{"GEORADIUS", own + "geo", 0, 0, 1, "m", "STORE", target}, {"XREAD", "STREAMS", target, "0"},
		{"EVAL", "return redis.call('GET', KEYS[1])", 1, target},
		{"EVAL", "return redis.call('GET', ARGV[1])", 0, target},
		{"EVAL_RO", "return redis.call('GET', ARGV[1])", 0, target},
		{"EVAL", "return redis.call('KEYS', '*')", 0},
		{"SUBSCRIBE", other + "channel"}, {"PSUBSCRIBE", "*"}, {"PSUBSCRIBE", other + "*"}, {"SSUBSCRIBE", other + "c"},
		{"PUBLISH", other + "channel", "x"}, {"SPUBLISH", other + "c", "x"}, {"SUBSCRIBE", "__keyevent@0__:set"},
		{"SCAN", 0}, {"KEYS", "*"}, {"RANDOMKEY"}, {"DBSIZE"}, {"INFO"}, {"SELECT", 1}, {"SWAPDB", 0, 1},
		{"FLUSHALL"}, {"FLUSHDB"}, {"MONITOR"}, {"CONFIG", "GET", "*"}, {"DEBUG", "SLEEP", 0}, {"SHUTDOWN", "NOSAVE"},
		{"ACL", "LIST"}, {"ACL", "USERS"}, {"ACL", "WHOAMI"}, {"ACL", "SETUSER", "x"}, {"ACL", "LOG"}, {"ACL", "DRYRUN", "x", "get"},
		{"CLIENT", "LIST"}, {"CLIENT", "KILL", "ID", 1}, {"CLIENT", "PAUSE", 0}, {"CLIENT", "UNBLOCK", 1},
		{"CLIENT", "TRACKING", "ON", "BCAST"}, {"CLIENT", "TRACKINGINFO"}, {"CLIENT", "NO-EVICT", "on"},
		{"SCRIPT", "FLUSH"}, {"SCRIPT", "KILL"}, {"SCRIPT", "DEBUG", "YES"}, {"FUNCTION", "LIST"}, {"FUNCTION", "FLUSH"},
		{"FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"}, {"FCALL", "f", 0},
		{"PUBSUB", "CHANNELS"}, {"PUBSUB", "NUMPAT"}, {"SLOWLOG", "GET"}, {"LATENCY", "RESET"}, {"MEMORY", "STATS"},
		{"MODULE", "LIST"}, {"CLUSTER", "INFO"}, {"ROLE"}, {"REPLICAOF", "NO", "ONE"}, {"FAILOVER"}, {"SAVE"}, {"BGSAVE"},
		{"BGREWRITEAOF"}, {"LASTSAVE"}, {"SYNC"}, {"PSYNC", "?", -1}, {"REPLCONF", "x", "y"}, {"RESTORE", own + "r", 0, "x"},
		{"MIGRATE", "127.0.0.1", 1, own + "list", 0, 1}, {"PFDEBUG", "ENCODING", own + "list"},
	}
	for _, args := range attempts {
		err := s.conn.Do(ctx, args...).Err()
		if err == nil || errors.Is(err, goredis.Nil) {
			return nil
		}
		// A command that this server does not have is refused as well, and so are
		// scripts that ask for what their caller may not.
		if text := err.Error(); !strings.HasPrefix(text, "NOPERM ") && !strings.Contains(text, "unknown ") &&
			!strings.Contains(text, "ACL failure") && !strings.Contains(text, "insufficient ACL permissions") &&
			!strings.Contains(text, "can't run this command or subcommand") &&
			!strings.Contains(text, "No permissions to access") {
			return fmt.Errorf("%v: not refused for lack of rights, which proves nothing: %w: %w", args, err, errUnproven)
		}
	}
	return errors.New("every attempt was refused")
}

// errUnproven shows a mistake in the test.
var errUnproven = errors.New("unproven")
