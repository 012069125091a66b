package devserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"bindery/devserver"
	"bindery/devserver/servertest"
)

func TestRedisIsProtectedByItsPassword(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRedis(t)
	for _, password := range []string{"", "wrong"} {
		c := redis.NewClient(&redis.Options{Addr: r.Addr, Password: password})
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Errorf("%q lets one in", password)
		}
		_ = c.Close()
	}
	if err := redisClient(t, r).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if r.Version() == "" {
		t.Error("the version is not known")
	}
}

func TestRedisKeepsUsersThatWereSaved(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file, save, want bool
	}{
		"saved to the file": {file: true, save: true, want: true},
		"not saved":         {file: true, save: false, want: false},
		"no file":           {file: false, save: true, want: false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			r := servertest.Redis(t, func(o *devserver.RedisOptions) { o.ACLFile = tt.file })
			c := redisClient(t, r)
			must(t, c.ACLSetUser(ctx, "app", "on", ">secret").Err())
			if tt.save {
				if err := c.Do(ctx, "ACL", "SAVE").Err(); (err == nil) != tt.file {
					t.Fatalf("got %v", err)
				}
			}
			must(t, r.Kill())
			must(t, r.Start(ctx))
			users, err := c.ACLList(ctx).Result()
			must(t, err)
			if got := strings.Contains(strings.Join(users, "\n"), "user app "); got != tt.want {
				t.Errorf("got %q", users)
			}
		})
	}
}

func TestRedisSpeaksTLS(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	r := servertest.Redis(t, func(o *devserver.RedisOptions) { o.TLS = &server })
	c := redis.NewClient(&redis.Options{
		Addr: r.TLSAddr, Password: r.Password.Reveal(), TLSConfig: clientTLS(t, client),
	})
	must(t, c.Ping(t.Context()).Err())
	must(t, c.Close())
	c = redis.NewClient(&redis.Options{Addr: r.TLSAddr, Password: r.Password.Reveal(), TLSConfig: &tls.Config{}, MaxRetries: -1})
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a certificate of nobody's is trusted")
	}
	must(t, c.Close())
}

func TestWantedPortIsUsedOrRefused(t *testing.T) {
	t.Parallel()
	port, err := devserver.FreePort()
	must(t, err)
	r := servertest.Redis(t, func(o *devserver.RedisOptions) { o.Port = port })
	if r.Port != port {
		t.Errorf("got port %d, want %d", r.Port, port)
	}
	_, err = devserver.StartRedis(t.Context(), devserver.RedisOptions{Dir: t.TempDir(), Port: port})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v, want that the port is in use", err)
	}

	// Without a wish the earlier port is only preferred.
	dir := r.Dir()
	must(t, r.Stop(t.Context()))
	proxy, err := devserver.NewProxyOn("127.0.0.1:1", port)
	must(t, err)
	defer func() { must(t, proxy.Close()) }()
	other, err := devserver.StartRedis(t.Context(), devserver.RedisOptions{Dir: dir})
	must(t, err)
	if other.Port == port {
		t.Errorf("port %d is used twice", port)
	}
	must(t, other.Stop(t.Context()))
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := devserver.StartRedis(t.Context(), devserver.RedisOptions{Dir: t.TempDir(), Program: "/no/such/redis"})
	if !errors.Is(err, devserver.ErrMissing) {
		t.Errorf("got %v", err)
	}
	_, err = devserver.StartPostgres(t.Context(), devserver.PostgresOptions{Dir: t.TempDir(), BinDir: "/no/such/place"})
	if !errors.Is(err, devserver.ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestOldRedisIsRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"6.0.16": false, "6.2.0": true, "8.0.1": true, "10.0.0": true} {
		program := filepath.Join(t.TempDir(), "redis-server")
		script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'Redis server v=" + version + " sha=0'; else echo 'started'; exit 7; fi\n"
		must(t, os.WriteFile(program, []byte(script), 0o700))
		ctx, cancel := context.WithCancel(t.Context())
		_, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: t.TempDir(), Program: program})
		cancel()
		if err == nil {
			t.Fatal("a script is no server")
		}
		if got := strings.Contains(err.Error(), "started"); got != want {
			t.Errorf("version %s: got %v", version, err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"6.2.0", "6.2.0", 0}, {"6.10.0", "6.2.0", 1}, {"6.2.0", "7.0", -1}, {"15.2", "15.10", -1}, {"15", "15.1", -1},
	} {
		if got := devserver.CompareVersions(tt.a, tt.b); got != tt.want {
			t.Errorf("%s against %s: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
