package devserver_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// askRabbitMQ sends one request to the management API, and returns the status and the answer.
func askRabbitMQ(t *testing.T, r *devserver.RabbitMQ, user string, password bindery.Secret, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL()+path, nil)
	must(t, err)
	req.SetBasicAuth(user, password.Reveal())
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { must(t, resp.Body.Close()) }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

func TestRabbitMQSetupIsTheOperators(t *testing.T) {
	t.Parallel()
	theirs, err := os.ReadFile("../driver/rabbitmq/setup.json")
	must(t, err)
	ours, err := os.ReadFile("rabbitmq-setup.json")
	must(t, err)
	if string(theirs) != string(ours) {
		t.Fatal("devserver/rabbitmq-setup.json is not driver/rabbitmq/setup.json: run go generate ./devserver")
	}
}

func TestRabbitMQHasNoGuest(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRabbitMQ(t)
	if code, _ := askRabbitMQ(t, r, "guest", bindery.NewSecret("guest"), http.MethodGet, "/api/whoami"); code != http.StatusUnauthorized {
		t.Errorf("guest gets %d", code)
	}
	code, said := askRabbitMQ(t, r, r.User, r.Password, http.MethodGet, "/api/users/"+r.User+"/permissions")
	if code != http.StatusOK || said != "[]" {
		t.Errorf("Bindery's user has permissions in vhosts: %d %s", code, said)
	}
	if r.Version() == "" {
		t.Error("the version is not known")
	}
}

// What a broker confirmed survives its sudden death, and a stop; and nothing
// but its directory knows of it: no port mapper is left behind.
func TestRabbitMQKeepsItsData(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := servertest.RabbitMQ(t)
	if code, said := askRabbitMQ(t, r, r.User, r.Password, http.MethodPut, "/api/vhosts/kept"); code != http.StatusCreated {
		t.Fatalf("make a vhost: %d %s", code, said)
	}
	kept := func(after string) {
		t.Helper()
		if code, _ := askRabbitMQ(t, r, r.User, r.Password, http.MethodGet, "/api/vhosts/kept"); code != http.StatusOK {
			t.Fatalf("the vhost after %s: %d", after, code)
		}
	}
	if programs := runningIn(t, r.Dir()); len(programs) != 1 {
		t.Errorf("there run %q, want the emulator alone", programs)
	}
	must(t, r.Kill())
	if programs := runningIn(t, r.Dir()); len(programs) > 0 {
		t.Errorf("after a kill there still run %q", programs)
	}
	must(t, r.Start(ctx))
	kept("a kill")
	must(t, r.Stop(ctx))
	again, err := devserver.StartRabbitMQ(ctx, devserver.RabbitMQOptions{Dir: r.Dir()})
	must(t, err)
	if again.Port != r.Port || again.Addr != r.Addr {
		t.Errorf("it moved from %s to %s", r.Addr, again.Addr)
	}
	kept("a stop")
	must(t, again.Pause())
	must(t, again.Resume())
	kept("a pause")
	must(t, again.Stop(ctx))
	if programs := runningIn(t, r.Dir()); len(programs) > 0 {
		t.Errorf("after a stop there still run %q", programs)
	}
}

// A broker looks for the port mapper once a minute, and would start it.
func TestRabbitMQNeverStartsAPortMapper(t *testing.T) {
	if os.Getenv("BINDERY_SOAK") != "1" {
		t.Skip("it takes more than a minute; BINDERY_SOAK=1 asks for it")
	}
	t.Parallel()
	r := servertest.RabbitMQ(t)
	tick, end := time.NewTicker(time.Second), time.After(75*time.Second)
	defer tick.Stop()
	for {
		for _, program := range runningIn(t, r.Dir()) {
			if filepath.Base(program) == "epmd" {
				t.Fatal("a port mapper runs")
			}
		}
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}

// runningIn returns the programs that run in a directory, or have it as their
// home, as Erlang's port mapper would that leaves the directory. The emulator's
// small helpers end by themselves, when they notice that it is gone.
func runningIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	var programs []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		// A process that has ended meanwhile, or is somebody else's, cannot be read.
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if cwd != dir && !slices.Contains(strings.Split(string(env), "\x00"), "HOME="+dir) {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		helper := strings.HasSuffix(exe, "/erl_child_setup") || strings.HasSuffix(exe, "/inet_gethost") || strings.HasSuffix(exe, "sh")
		if err == nil && !helper {
			programs = append(programs, exe)
		}
	}
	return programs
}

func TestRabbitMQNeedsItsProgram(t *testing.T) {
	t.Parallel()
	_, err := devserver.StartRabbitMQ(context.Background(), devserver.RabbitMQOptions{Dir: t.TempDir(), Home: "/no/such/place"})
	if !errors.Is(err, devserver.ErrMissing) {
		t.Errorf("got %v", err)
	}
	old := t.TempDir()
	for _, plugin := range []string{"rabbit-3.8.9", "rabbitmq_management-3.8.9"} {
		must(t, os.MkdirAll(filepath.Join(old, "plugins", plugin), 0o700))
	}
	_, err = devserver.StartRabbitMQ(context.Background(), devserver.RabbitMQOptions{Dir: t.TempDir(), Home: old})
	if !errors.Is(err, devserver.ErrMissing) || !strings.Contains(err.Error(), "3.8.9") {
		t.Errorf("got %v", err)
	}
}
