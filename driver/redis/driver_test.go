package redis_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
	return drivertest.Open(t, redis.Kind, s)
}

// promise describes a server to the suite. Adjust may change how Bindery logs in.
func promise(t *testing.T, r *devserver.Redis, adjust func(*bindery.Server)) drivertest.Server {
	openAt := func(t testing.TB, installation, address string) bindery.Driver {
		s := configured(r, installation)
		s.Address, s.Public = address, bindery.PublicAddress{Host: r.Host, Port: r.Port}
		if adjust != nil {
			adjust(&s)
		}
		return openDriver(t, s)
	}
	return drivertest.Server{
		Address: r.Addr,
		OpenAt:  openAt,
		Open: func(t testing.TB, installation string) bindery.Driver {
			return openAt(t, installation, r.Addr)
		},
		Kind:          redis.Kind,
		Timeout:       callTimeout,
		Login:         login,
		IsAuthFailure: isAuthFailure,
		Trespass: func(ctx context.Context, mine, theirs bindery.Credential, key string) error {
			return trespass(t, ctx, mine, theirs, key)
		},
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
		func(t *testing.T) drivertest.Server { return promise(t, servertest.SharedRedis(t), nil) },
		func(t *testing.T) drivertest.Server { return promise(t, servertest.Redis(t), nil) })
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
	s.conn = s.client.EphemeralConn()
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
