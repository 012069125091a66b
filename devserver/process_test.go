package devserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"bindery/devserver"
	"bindery/devserver/natsd"
	"bindery/devserver/servertest"
)

func TestMain(m *testing.M) {
	natsd.Main()
	if dir := os.Getenv("DEVSERVER_TEST_PARENT"); dir != "" {
		parent(dir)
		return
	}
	servertest.Main(m)
}

// A running is a private server of any kind, as these tests see it.
type running struct {
	*devserver.Process
	addr    string
	write   func(context.Context) error // writes something
	written func(context.Context) error // finds it again
	again   func(context.Context, string) (*devserver.Process, error)
}

var kinds = map[string]func(t *testing.T) running{
	"redis": func(t *testing.T) running {
		r := servertest.Redis(t, func(o *devserver.RedisOptions) { o.AppendOnly = true })
		return runningRedis(t, r)
	},
	"nats":            func(t *testing.T) running { return runningNATS(t, servertest.NATS(t)) },
	"postgres oldest": func(t *testing.T) running { return runningPostgres(servertest.Postgres(t, servertest.Oldest)) },
	"postgres newest": func(t *testing.T) running { return runningPostgres(servertest.Postgres(t, servertest.Newest)) },
}

func runningRedis(t *testing.T, r *devserver.Redis) running {
	c := redisClient(t, r)
	return running{
		Process: r.Process, addr: r.Addr,
		write: func(ctx context.Context) error { return c.Set(ctx, "key", "value", 0).Err() },
		written: func(ctx context.Context) error {
			v, err := c.Get(ctx, "key").Result()
			if err == nil && v != "value" {
				err = fmt.Errorf("got %q", v)
			}
			return err
		},
		again: func(ctx context.Context, dir string) (*devserver.Process, error) {
			s, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: dir, ACLFile: true, AppendOnly: true})
			if err != nil {
				return nil, err
			}
			if s.Addr != r.Addr || !s.Password.Equal(r.Password) {
				err = fmt.Errorf("the address was %s and is %s, or the password has changed", r.Addr, s.Addr)
			}
			return s.Process, err
		},
	}
}

func redisClient(t *testing.T, r *devserver.Redis) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(r.URL().Reveal())
	if err != nil {
		t.Fatal("the URL cannot be read")
	}
	o.MaxRetries = -1
	o.ContextTimeoutEnabled = true
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func runningPostgres(p *devserver.Postgres) running {
	return running{
		Process: p.Process, addr: p.Addr,
		write: func(ctx context.Context) error {
			return execPostgres(ctx, p.SuperURL("postgres").Reveal(), "CREATE TABLE kept AS SELECT 1")
		},
		written: func(ctx context.Context) error {
			return execPostgres(ctx, p.SuperURL("postgres").Reveal(), "SELECT * FROM kept")
		},
		again: func(ctx context.Context, dir string) (*devserver.Process, error) {
			s, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: dir, BinDir: p.BinDir(), NoFsync: true})
			if err != nil {
				return nil, err
			}
			if s.Addr != p.Addr || !s.Password.Equal(p.Password) || !s.SuperPassword.Equal(p.SuperPassword) {
				err = fmt.Errorf("the address was %s and is %s, or a password has changed", p.Addr, s.Addr)
			}
			return s.Process, err
		},
	}
}

func execPostgres(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s, err), conn.Close(ctx))
		}
	}
	return conn.Close(ctx)
}

func eachKind(t *testing.T, test func(t *testing.T, s running)) {
	t.Helper()
	for kind, start := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		_ = conn.Close()
		t.Fatalf("%s still accepts connections", addr)
	}
}

func TestKilledServerStartsAgainWithItsData(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		ctx := t.Context()
		must(t, s.write(ctx))
		exited := s.Exited()
		must(t, s.Kill())
		<-exited
		refused(t, s.addr)
		must(t, s.Start(ctx))
		must(t, s.written(ctx))
		must(t, s.Start(ctx)) // nothing to do
		must(t, s.Restart(ctx))
		must(t, s.written(ctx))
		must(t, s.Stop(ctx))
		must(t, s.Stop(ctx)) // nothing to do
		refused(t, s.addr)
		must(t, s.Start(ctx))
		must(t, s.written(ctx))
	})
}

func TestPausedServerAnswersNothing(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		ctx := t.Context()
		must(t, s.write(ctx))
		must(t, s.Pause())
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if err := s.written(short); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v from a paused server, want no answer", err)
		}
		must(t, s.Resume())
		must(t, s.written(ctx))

		// A paused server can be stopped and killed.
		must(t, s.Pause())
		must(t, s.Stop(ctx))
		refused(t, s.addr)
		must(t, s.Start(ctx))
		must(t, s.Pause())
		must(t, s.Kill())
		refused(t, s.addr)
		must(t, s.Start(ctx))
		must(t, s.written(ctx))
	})
}

func TestStopKillsInTheEnd(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		exited := s.Exited()
		if err := s.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		<-exited
		refused(t, s.addr)
	})
}

func TestDirectoryBelongsToOneProcess(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		ctx := t.Context()
		must(t, s.write(ctx))
		if _, err := s.again(ctx, s.Dir()); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Fatalf("got %v, want that the directory is in use", err)
		}
		must(t, s.written(ctx)) // undisturbed
		must(t, s.Stop(ctx))
		p, err := s.again(ctx, s.Dir())
		must(t, err)
		must(t, s.written(ctx))
		if err := s.Start(ctx); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Fatalf("got %v, want that the directory is in use", err)
		}
		must(t, s.Kill()) // not its server any more
		must(t, s.written(ctx))
		must(t, p.Stop(ctx))
	})
}

// A server left behind is one that nobody in this process has started.
func TestServerLeftBehindIsEnded(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		ctx := t.Context()
		must(t, s.write(ctx))
		must(t, s.Stop(ctx))
		left := s.LeaveBehind(t)
		for s.written(ctx) != nil { // it starts
			select {
			case <-left:
				t.Fatalf("the server to be left behind ended: %s", s.Output())
			case <-time.After(time.Millisecond):
			}
		}
		innocent := exec.Command("sleep", "1000")
		innocent.Dir = s.WorkDir()
		must(t, innocent.Start())
		defer func() { _ = innocent.Wait() }()
		defer func() { _ = innocent.Process.Kill() }()

		p, err := s.again(ctx, s.Dir())
		must(t, err)
		<-left
		must(t, s.written(ctx))
		must(t, p.Stop(ctx))
		if err := innocent.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("another program in the same directory was killed: %v", err)
		}
	})
}

func TestFailedStartShowsWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	start := map[string]func(ctx context.Context, dir string) error{
		"redis": func(ctx context.Context, dir string) error {
			_, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: dir, Settings: []string{"no-such-setting 1"}})
			return err
		},
		"postgres": func(ctx context.Context, dir string) error {
			_, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: dir, Settings: map[string]string{"no_such_setting": "1"}})
			return err
		},
	}
	for kind, start := range start {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			t.Cleanup(func() { must(t, devserver.RemoveCluster(dir)) })
			for range 2 { // the first leaves nothing that changes the second
				err := start(t.Context(), dir)
				if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "_", "-"), "no-such-setting") {
					t.Fatalf("got %v, want the server's own words", err)
				}
			}
			canceled, cancel := context.WithCancel(t.Context())
			cancel()
			if err := start(canceled, dir); err == nil {
				t.Fatal("started without the time to do so")
			}
		})
	}
}

func TestStartIsGivenUpWithItsContext(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		must(t, s.Stop(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Start(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		refused(t, s.addr)
	})
}

func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, s running) {
		secrets := stateSecrets(t, s.Dir())
		if len(secrets) == 0 {
			t.Fatal("found no secrets to look for")
		}
		for _, name := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.Pid()), name))
			must(t, err)
			for _, secret := range secrets {
				if strings.Contains(string(b), secret) {
					t.Errorf("%s of the server contains a secret", name)
				}
			}
		}
		log, err := os.ReadFile(filepath.Join(s.Dir(), "output.log"))
		must(t, err)
		for _, secret := range secrets {
			if strings.Contains(string(log), secret) {
				t.Error("the server's output contains a secret")
			}
		}
		must(t, filepath.WalkDir(s.Dir(), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, os.ErrNotExist) {
				return nil // the server's own temporary file
			}
			if err == nil && d.Type().IsRegular() && info.Mode().Perm()&0o077 != 0 && filepath.Dir(path) == s.Dir() {
				t.Errorf("%s can be read by others: %v", path, info.Mode())
			}
			return err
		}))
	})
}

// stateSecrets returns the passwords that a server's state file holds.
func stateSecrets(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	must(t, err)
	var secrets []string
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(line, ":")
		if ok && (strings.Contains(name, "password") || strings.Contains(name, "seed")) {
			secrets = append(secrets, strings.Trim(strings.TrimSpace(value), `",`))
		}
	}
	return secrets
}

func TestServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"redis", "postgres"} {
		for _, state := range []string{"running", "paused"} {
			t.Run(kind+" "+state, func(t *testing.T) {
				t.Parallel()
				if kind == "redis" {
					_, err := devserver.FindRedis()
					servertest.Check(t, err)
				} else if len(devserver.FindPostgres()) == 0 {
					servertest.Check(t, devserver.ErrMissing)
				}
				dir := t.TempDir()
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "DEVSERVER_TEST_PARENT="+dir, "DEVSERVER_TEST_KIND="+kind, "DEVSERVER_TEST_STATE="+state)
				cmd.Stderr = os.Stderr
				// In a session of its own, as under a terminal or a service manager: the kernel goes on with
				// a paused group whose parent died where whoever adopts it is of another session.
				// The first process of a container may be of this one.
				cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				line, err := bufio.NewReader(out).ReadString('\n')
				must(t, err)
				pid, workDir, _ := strings.Cut(strings.TrimSpace(line), " ")
				must(t, cmd.Process.Kill())
				_ = cmd.Wait() // killed
				deadline := time.After(20 * time.Second)
				for devserver.Runs(t, workDir) {
					select {
					case <-deadline:
						t.Fatalf("server %s in %s outlives its parent", pid, workDir)
					case <-time.After(time.Millisecond):
					}
				}
				must(t, devserver.RemoveCluster(dir))
			})
		}
	}
}

// parent is another process that starts a server and is killed.
func parent(dir string) {
	ctx := context.Background()
	var p *devserver.Process
	switch os.Getenv("DEVSERVER_TEST_KIND") {
	case "redis":
		r, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: dir})
		if err != nil {
			panic(err)
		}
		p = r.Process
	case "postgres":
		r, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: dir})
		if err != nil {
			panic(err)
		}
		p = r.Process
	}
	if os.Getenv("DEVSERVER_TEST_STATE") == "paused" {
		if err := p.Pause(); err != nil {
			panic(err)
		}
	}
	fmt.Println(p.Pid(), p.WorkDir())
	select {}
}
