package devserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bindery"
)

//go:embed rabbitmq-setup.json
var rabbitMQSetup string

// RabbitMQOptions say how to start a RabbitMQ.
type RabbitMQOptions struct {
	// Dir is where all files are. It is created; a broker that was there before is continued.
	Dir string
	// Home is the directory with the broker's plugins; empty means what [FindRabbitMQ] finds.
	Home string
	// Port is the AMQP port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// TLS, where it is set, makes the broker and its management API speak TLS, and nothing else.
	TLS *CertFiles
	// Settings are further lines of rabbitmq.conf.
	Settings []string
}

// A RabbitMQ is a private broker with its management API, set up for Bindery by
// the definitions that operators use (driver/rabbitmq/setup.json). It has no user guest.
type RabbitMQ struct {
	*Process
	Host     string // 127.0.0.1
	Port     int    // of AMQP
	AMQPAddr string // Host and Port
	Addr     string // host and port of the management API, by which Bindery administers

	User     string         // Bindery's own, with the rights that it needs
	Password bindery.Secret // of User

	Superuser     string // may do everything, also in the vhost /
	SuperPassword bindery.Secret

	version string
	client  *http.Client
	state   rabbitMQState
	scheme  string
}

// A RabbitMQBinary is an installed broker, and the Erlang that it runs on.
type RabbitMQBinary struct {
	Home    string // has the folder plugins
	Version string // such as 3.10.8
	erts    string // the directory with beam.smp
}

const (
	// oldestRabbitMQ is the first version whose management API lists and closes
	// connections by user without asking the statistics, and that is tested.
	oldestRabbitMQ = "3.10.8"
	// beam is the Erlang emulator, by which a broker's process is known.
	beam = "beam.smp"
)

var rabbitMQPlugin = regexp.MustCompile(`^rabbit-(\d+\.\d+\.\d+)(\.ez)?$`)

// FindRabbitMQ finds the broker to start: the one in the directory that
// BINDERY_RABBITMQ_HOME names, else the newest of those where Debian's package puts
// them and of the PATH's. Where there is none, or no Erlang, the error is [ErrMissing].
func FindRabbitMQ() (RabbitMQBinary, error) {
	homes, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*") // the pattern is good
	if program, err := exec.LookPath("rabbitmq-server"); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(program)))
		}
	}
	if named := os.Getenv("BINDERY_RABBITMQ_HOME"); named != "" {
		homes = []string{named}
	}
	found := RabbitMQBinary{}
	err := fmt.Errorf("rabbitmq-server: %w", ErrMissing)
	for _, home := range homes {
		b, inspectErr := inspectRabbitMQ(home)
		if inspectErr == nil && (found.Home == "" || compareVersions(b.Version, found.Version) > 0) {
			found = b
		} else if inspectErr != nil && !errors.Is(inspectErr, errNoBroker) {
			err = inspectErr
		}
	}
	if found.Home == "" {
		return RabbitMQBinary{}, err
	}
	return found, nil
}

var errNoBroker = fmt.Errorf("RabbitMQ with its management plugin: %w", ErrMissing)

func inspectRabbitMQ(home string) (RabbitMQBinary, error) {
	b := RabbitMQBinary{Home: home}
	entries, _ := os.ReadDir(filepath.Join(home, "plugins")) // none: no broker
	management := false
	for _, e := range entries {
		if m := rabbitMQPlugin.FindStringSubmatch(e.Name()); m != nil {
			b.Version = m[1]
		}
		management = management || strings.HasPrefix(e.Name(), "rabbitmq_management-")
	}
	if b.Version == "" || !management {
		return b, errNoBroker
	}
	if compareVersions(b.Version, oldestRabbitMQ) < 0 {
		return b, fmt.Errorf("%s is version %s, and %s is needed: %w", home, b.Version, oldestRabbitMQ, ErrMissing)
	}
	erl, err := exec.LookPath("erl")
	if err != nil {
		return b, fmt.Errorf("erl: %w", ErrMissing)
	}
	if erl, err = filepath.EvalSymlinks(erl); err != nil {
		return b, err
	}
	beams, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(erl)), "erts-*", "bin", beam)) // the pattern is good
	if len(beams) == 0 {
		return b, fmt.Errorf("%s beside %s: %w", beam, erl, ErrMissing)
	}
	b.erts = filepath.Dir(slices.MaxFunc(beams, func(x, y string) int { return compareVersions(ertsVersion(x), ertsVersion(y)) }))
	return b, nil
}

func ertsVersion(program string) string {
	return strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(program))), "erts-")
}

// rabbitMQState is what the next start in the same directory needs to know.
type rabbitMQState struct {
	Port          int    `json:"port"`
	Management    int    `json:"management_port"`
	Distribution  int    `json:"distribution_port"`
	Cookie        string `json:"cookie"`
	Password      string `json:"password"`
	SuperPassword string `json:"super_password"`
}

// StartRabbitMQ starts a broker and returns when it and its management API accept
// logins. What holds of [StartRedis] about leftovers and the context holds here too.
func StartRabbitMQ(ctx context.Context, o RabbitMQOptions) (*RabbitMQ, error) {
	var binary RabbitMQBinary
	var err error
	if o.Home == "" {
		binary, err = FindRabbitMQ()
	} else {
		binary, err = inspectRabbitMQ(o.Home)
	}
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &RabbitMQ{
		Host: "127.0.0.1", User: "bindery", Superuser: "admin", version: binary.Version,
		scheme: "http", client: &http.Client{Timeout: 10 * time.Second},
	}
	if o.TLS != nil {
		r.scheme = "https"
		if r.client.Transport, err = trusting(o.TLS.CAFile); err != nil {
			return nil, err
		}
	}
	r.Process = &Process{
		dir: dir, workDir: dir,
		death: syscall.SIGKILL, quit: syscall.SIGTERM,
		configure: func() error { return nil },
		login:     r.look,
		discard:   r.release,
	}
	if err := r.use(filepath.Join(binary.erts, beam)); err != nil {
		return nil, err
	}
	if err := r.own(); err != nil {
		return nil, err
	}
	if err := r.first(ctx, o, binary); err != nil {
		return nil, errors.Join(err, r.disown())
	}
	return r, nil
}

// first starts the broker for the first time in this process.
func (r *RabbitMQ) first(ctx context.Context, o RabbitMQOptions, binary RabbitMQBinary) error {
	// Before the port is chosen: a broker left behind would be in its own way.
	if err := r.killAll(); err != nil {
		return err
	}
	r.state = rabbitMQState{Cookie: rand.Text(), Password: rand.Text(), SuperPassword: rand.Text()}
	st := &r.state
	if err := loadState(r.dir, st); err != nil {
		return err
	}
	r.Password, r.SuperPassword = bindery.NewSecret(st.Password), bindery.NewSecret(st.SuperPassword)
	err := r.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		for _, p := range []*int{&st.Management, &st.Distribution} {
			if *p != 0 && becomesFree(ctx, *p) {
				continue
			}
			var err error
			if *p, err = freePort(); err != nil {
				return err
			}
		}
		r.Port, r.AMQPAddr, r.Addr = port, loopback(port), loopback(st.Management)
		if err := saveState(r.dir, st); err != nil {
			return err
		}
		r.describe(binary)
		return r.writeConfiguration(o)
	})
	if err != nil {
		return err
	}
	if err := r.setUp(ctx); err != nil {
		return errors.Join(err, r.killAll())
	}
	return nil
}

// describe says how the emulator is started: as the script rabbitmq-server does,
// but without shells in between, and without the port mapper epmd, which would
// stay when the broker has ended. A minute later the broker looks whether the port
// mapper is there and has another erl start it: ERL_AFLAGS, which erl reads and the
// emulator does not, keeps that from it. Nothing outside of the directory is read or written.
func (r *RabbitMQ) describe(binary RabbitMQBinary) {
	root := filepath.Dir(filepath.Dir(binary.erts))
	plugins := filepath.Join(binary.Home, "plugins")
	file := func(name string) string { return filepath.Join(r.dir, name) }
	r.env = []string{
		"ROOTDIR=" + root, "BINDIR=" + binary.erts, "EMU=beam", "PROGNAME=erl",
		"ERL_LIBS=" + plugins, "ERL_CRASH_DUMP_BYTES=0", "ERL_MAX_PORTS=65536",
		"ERL_AFLAGS=-start_epmd false -dist_listen false",
		"RABBITMQ_HOME=" + binary.Home, "RABBITMQ_PLUGINS_DIR=" + plugins,
		"RABBITMQ_NODENAME=rabbit@localhost", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + file("rabbitmq.conf"), "RABBITMQ_ADVANCED_CONFIG_FILE=" + file("advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + file("enabled_plugins"), "RABBITMQ_PID_FILE=" + file("pid"),
		"RABBITMQ_MNESIA_BASE=" + file("data"), "RABBITMQ_LOG_BASE=" + file("log"), "RABBITMQ_LOGS=-",
	}
	r.arguments = []string{
		"-W", "w", "-sbwt", "none", "-sbwtdcpu", "none", "-sbwtdio", "none",
		"--", "-root", root, "-bindir", binary.erts, "-progname", "erl", "--", "-home", r.dir, "--",
		"-noshell", "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl",
		"-sname", "rabbit@localhost", "-start_epmd", "false", "-erl_epmd_port", strconv.Itoa(r.state.Distribution),
		"-kernel", "inet_dist_use_interface", "{127,0,0,1}",
		"-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false",
		"-kernel", "prevent_overlapping_partitions", "false",
	}
}

// writeConfiguration writes the files that the broker reads.
func (r *RabbitMQ) writeConfiguration(o RabbitMQOptions) error {
	st := r.state
	lines := []string{
		"default_user = " + r.Superuser, // made at the first start, instead of guest
		"default_pass = " + st.SuperPassword,
		"log.console = true",
		"log.console.level = info",
		"log.file = false",
	}
	if compareVersions(r.version, "4.0.0") < 0 { // later ones do not know these, and wait for nobody
		lines = append(lines,
			"cluster_formation.randomized_startup_delay_range.min = 0",
			"cluster_formation.randomized_startup_delay_range.max = 1")
	}
	if o.TLS == nil {
		lines = append(lines,
			"listeners.tcp.1 = "+r.AMQPAddr,
			"management.tcp.ip = "+r.Host, "management.tcp.port = "+strconv.Itoa(st.Management))
	} else {
		lines = append(lines,
			"listeners.tcp = none", "listeners.ssl.1 = "+r.AMQPAddr,
			"ssl_options.certfile = "+o.TLS.CertFile, "ssl_options.keyfile = "+o.TLS.KeyFile,
			"ssl_options.cacertfile = "+o.TLS.CAFile,
			"management.ssl.ip = "+r.Host, "management.ssl.port = "+strconv.Itoa(st.Management),
			"management.ssl.certfile = "+o.TLS.CertFile, "management.ssl.keyfile = "+o.TLS.KeyFile,
			"management.ssl.cacertfile = "+o.TLS.CAFile)
	}
	lines = append(lines, o.Settings...)
	for name, content := range map[string]string{
		"rabbitmq.conf":   strings.Join(lines, "\n") + "\n",
		"enabled_plugins": "[rabbitmq_management].\n",
		".erlang.cookie":  st.Cookie,
	} {
		if err := writeFile(filepath.Join(r.dir, name), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// Version returns the broker's version, such as 3.10.8.
func (r *RabbitMQ) Version() string { return r.version }

// URL returns the management API's, without user and password.
func (r *RabbitMQ) URL() string { return r.scheme + "://" + r.Addr }

// look asks the management API for a sign of life, and whether AMQP is served,
// which comes later.
func (r *RabbitMQ) look(ctx context.Context) error {
	// Not whoami, which answers seconds before others do on a busy machine.
	if err := r.send(ctx, http.MethodGet, "/api/users?columns=name", ""); err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", r.AMQPAddr)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	return conn.Close()
}

// setUp makes Bindery's own user, as an operator does.
func (r *RabbitMQ) setUp(ctx context.Context) error {
	definitions := strings.ReplaceAll(rabbitMQSetup, "PASSWORD", r.state.Password)
	if err := r.send(ctx, http.MethodPost, "/api/definitions", definitions); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// send sends one request as the superuser.
func (r *RabbitMQ) send(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, r.URL()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(r.Superuser, r.state.SuperPassword)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if cert := new(tls.CertificateVerificationError); errors.As(err, &cert) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusNotFound: // while it starts
		return fmt.Errorf("%w: %s: %s", errNotYet, resp.Status, said)
	}
	return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said)
}

// release gives back what is held outside of the directory.
func (r *RabbitMQ) release() error {
	r.client.CloseIdleConnections()
	returnPort(r.state.Port)
	returnPort(r.state.Management)
	returnPort(r.state.Distribution)
	return nil
}
