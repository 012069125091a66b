package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bindery/devserver"
)

// The two targets. Dev is `bindery dev` as it comes; full is `bindery serve`
// with dev's configuration and a catalog in which every feature is used.
var dev, full *target

var buildFlags = []string{"build"}

// parallel is how many tests run at a time: most of them wait for a server.
const parallel = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if _, err := devserver.FindRedis(); err != nil || len(devserver.FindPostgres()) == 0 {
		if os.Getenv("BINDERY_TEST_ALL") == "1" {
			return 1, errors.New("redis-server or postgresql is not installed")
		}
		fmt.Fprintln(os.Stderr, "conformance: skipped, redis-server or postgresql is not installed")
		return 0, nil
	}
	// Servers that refuse root run as somebody else, who must reach this.
	dir, err := os.MkdirTemp("", "bindery-conformance-")
	if err != nil {
		return 1, err
	}
	var ends []func() error
	defer func() {
		for i := len(ends) - 1; i >= 0; i-- {
			err = errors.Join(err, ends[i]())
		}
		if err == nil && code == 0 {
			err = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(os.Stderr, "conformance: logs are kept in", dir)
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil {
		return 1, err
	}
	program := filepath.Join(dir, "bindery")
	if err := build(program); err != nil {
		return 1, err
	}
	devDir := filepath.Join(dir, "dev")
	binDir, err := chosenPostgres()
	if err != nil {
		return 1, err
	}
	if err := preparePostgres(filepath.Join(devDir, "servers", postgresKind), binDir); err != nil {
		return 1, err
	}
	started, err := start(program, dir, "dev", "dev", "--services", redisKind+","+postgresKind, "--dir", devDir, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0")
	if err != nil {
		return 1, err
	}
	ends = append(ends, started.stop)
	if dev, err = readReady(started, filepath.Join(devDir, "ready.json")); err != nil {
		return 1, err
	}
	stopLanes, err := startLanes(dir, binDir)
	ends = append(ends, stopLanes)
	if err != nil {
		return 1, err
	}
	if err := writeFullConfig(devDir); err != nil {
		return 1, err
	}
	started, err = start(program, dir, "full", "serve", "-c", filepath.Join(devDir, fullConfig))
	if err != nil {
		return 1, err
	}
	ends = append(ends, started.stop)
	full = &target{username: dev.username, password: dev.password, token: dev.token, process: started, config: filepath.Join(devDir, fullConfig)}
	if full.url, err = started.listening(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// TestTheResultIsOfTheseSources reads the folders of the source tree. Go test
// keeps results, and sees neither what a child process reads nor what is
// read before the first test.
func TestTheResultIsOfTheseSources(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != "../.." && (strings.HasPrefix(e.Name(), ".") || e.Name() == "bin") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func build(program string) error {
	out, err := exec.Command("go", append(buildFlags, "-o", program, "bindery/cmd/bindery")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// A process is a running bindery.
type process struct {
	cmd    *exec.Cmd
	name   string
	log    string
	exited chan struct{}
	err    error // after exited
}

func start(program, dir, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), name: name, log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	f, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the process has its own copy
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the test, which ends it in order
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// stop ends it as an operator does: it drains, and says that all went well.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.exited
		return fmt.Errorf("%s did not end within a minute\n%s", p.name, p.tail())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.tail())
	}
	log, err := os.ReadFile(p.log)
	if n := leaks(log); n > 0 {
		return fmt.Errorf("%d secrets are in the log of %s", n, p.name)
	}
	if err != nil || bytes.Contains(log, []byte("WARNING: DATA RACE")) || bytes.Contains(log, []byte(`"panic`)) {
		return fmt.Errorf("%s had a race or a panic: %w\n%s", p.name, err, p.tail())
	}
	return nil
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.log) // what there is
	return string(b[max(0, len(b)-4000):])
}

// wait tries until it succeeds; the process's end is an error.
func (p *process) wait(try func() (bool, error)) error {
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(90*time.Second)
	defer tick.Stop()
	for {
		if ok, err := try(); ok || err != nil {
			return err
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.tail())
		case <-deadline:
			return fmt.Errorf("%s is not ready\n%s", p.name, p.tail())
		case <-tick.C:
		}
	}
}

// listening is the URL of the first listener, which port 0 left open: the log says it.
func (p *process) listening() (url string, err error) {
	err = p.wait(func() (bool, error) {
		log, err := os.ReadFile(p.log)
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(log)) {
			var l struct {
				Msg string `json:"msg"`
				URL string `json:"url"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && strings.HasPrefix(l.URL, "http://") && url == "" {
				url = l.URL
			}
		}
		return url != "", nil
	})
	return url, err
}

func readReady(p *process, file string) (*target, error) {
	var r struct {
		HTTP   string
		Config string
		OSB    struct{ Username, Password string }
		Admin  struct{ Token string }
	}
	err := p.wait(func() (bool, error) {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return true, errors.Join(err, json.Unmarshal(b, &r))
	})
	return &target{url: r.HTTP, username: r.OSB.Username, password: r.OSB.Password, token: r.Admin.Token, process: p, config: r.Config}, err
}

// A lane is a server of its own behind a proxy, so that a test can stop it
// without harm to another. One test has it at a time.
type lane struct {
	name   string // of the server in the configuration
	kind   string
	plan   string // ids of its plans
	other  string
	async  string // for those who can poll
	proxy  *devserver.Proxy
	target string // the server's own address
	port   int

	user, password string // of Bindery's account there
	database       string
}

var (
	allLanes []*lane
	lanes    = map[string]chan *lane{redisKind: make(chan *lane, 8), postgresKind: make(chan *lane, 8)}
)

const (
	redisLanes    = 3
	postgresLanes = 3
)

func startLanes(dir, binDir string) (stop func() error, err error) {
	var processes []*devserver.Process
	stop = func() error {
		var err error
		for _, l := range allLanes {
			err = errors.Join(err, l.proxy.Close())
		}
		for _, p := range processes {
			err = errors.Join(err, p.Remove())
		}
		return err
	}
	add := func(l *lane, p *devserver.Process) (err error) {
		processes = append(processes, p)
		l.plan, l.other, l.async = "plan-"+l.name, "plan-"+l.name+"-other", "plan-"+l.name+"-async"
		if l.proxy, err = devserver.NewProxy(l.target); err != nil {
			return err
		}
		allLanes = append(allLanes, l)
		lanes[l.kind] <- l
		return nil
	}
	for i := range redisLanes {
		l := &lane{kind: redisKind, name: redisKind + "-lane-" + strconv.Itoa(i)}
		r, err := devserver.StartRedis(context.Background(), devserver.RedisOptions{Dir: filepath.Join(dir, l.name), ACLFile: true})
		if err != nil {
			return stop, err
		}
		l.target, l.port, l.user, l.password = r.Addr, r.Port, r.User, r.Password.Reveal()
		if err := add(l, r.Process); err != nil {
			return stop, err
		}
	}
	for i := range postgresLanes {
		l := &lane{kind: postgresKind, name: postgresKind + "-lane-" + strconv.Itoa(i)}
		p, err := devserver.StartPostgres(context.Background(), devserver.PostgresOptions{Dir: filepath.Join(dir, l.name), BinDir: binDir, NoFsync: true})
		if err != nil {
			return stop, err
		}
		l.target, l.port, l.user, l.password, l.database = p.Addr, p.Port, p.User, p.Password.Reveal(), p.Database
		if err := add(l, p.Process); err != nil {
			return stop, err
		}
	}
	return stop, nil
}

// takeLane gives the test a lane until its end.
func takeLane(t *testing.T, s *service) *lane {
	t.Helper()
	l := <-lanes[s.kind]
	t.Cleanup(func() {
		l.proxy.Release()
		lanes[s.kind] <- l
	})
	return l
}

// reload changes the configuration of the full target, as an operator does.
func reload(t *testing.T, retired, maturing string) {
	t.Helper()
	if err := editFullConfig(filepath.Dir(full.config), retired, maturing); err != nil {
		t.Fatal(err)
	}
	if err := full.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}
