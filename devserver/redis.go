package devserver

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bindery"
)

// RedisOptions say how to start a Redis. The zero value, with a Dir, is one that
// keeps nothing.
type RedisOptions struct {
	// Dir is where all files are. It is created; a server that was there before is continued.
	Dir string
	// Program is the server's program; empty means what [FindRedis] finds.
	Program string
	// Port is the port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// ACLFile keeps the users in a file, so that ACL SAVE works and users survive a restart.
	ACLFile bool
	// AppendOnly keeps the data in an append-only file.
	AppendOnly bool
	// Fsync is when that file is flushed to disk: always, everysec (the default) or no.
	Fsync string
	// Save is when snapshots are made, as in Redis's own setting ("900 1"); empty means never.
	Save string
	// TLS, where it is set, opens a second port that speaks TLS.
	TLS *CertFiles
	// Settings are further lines of the configuration file.
	Settings []string
}

// A Redis is a private redis-server, or a server that speaks and is configured like it.
type Redis struct {
	*Process
	Host     string // 127.0.0.1
	Port     int
	Addr     string         // Host and Port
	TLSAddr  string         // the same server with TLS; empty without [RedisOptions.TLS]
	User     string         // may do everything
	Password bindery.Secret // of User

	tlsPort int
	version string
}

// A RedisBinary is an installed server.
type RedisBinary struct {
	Program string
	Version string // such as 7.0.15
}

// oldestRedis is the first version whose access rules cover channels.
const oldestRedis = "6.2.0"

var redisVersion = regexp.MustCompile(`\bv=(\d+\.\d+\.\d+)`)

// FindRedis finds the server to start: the program that BINDERY_REDIS_SERVER
// names, else redis-server or valkey-server from the PATH. Where there is none,
// the error is [ErrMissing].
func FindRedis() (RedisBinary, error) {
	names := []string{"redis-server", "valkey-server"}
	if named := os.Getenv("BINDERY_REDIS_SERVER"); named != "" {
		names = []string{named}
	}
	for _, name := range names {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		return inspectRedis(program)
	}
	return RedisBinary{}, fmt.Errorf("%s: %w", strings.Join(names, " or "), ErrMissing)
}

func inspectRedis(program string) (RedisBinary, error) {
	out, err := exec.Command(program, "--version").Output() //nolint:gosec // the caller says which server to run
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return RedisBinary{}, fmt.Errorf("%s: %w", program, ErrMissing)
	}
	if err != nil {
		return RedisBinary{}, fmt.Errorf("%s --version: %w", program, err)
	}
	m := redisVersion.FindSubmatch(out)
	if m == nil {
		return RedisBinary{}, fmt.Errorf("%s --version: cannot read %q", program, out)
	}
	b := RedisBinary{Program: program, Version: string(m[1])}
	if compareVersions(b.Version, oldestRedis) < 0 {
		return RedisBinary{}, fmt.Errorf("%s is version %s, and %s is needed", program, b.Version, oldestRedis)
	}
	return b, nil
}

// compareVersions compares dotted numbers.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i]) // digits only, by the expression
		y, _ := strconv.Atoi(bs[i])
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// redisState is what the next start in the same directory needs to know.
type redisState struct {
	Port     int    `json:"port"`
	TLSPort  int    `json:"tls_port,omitempty"`
	Password string `json:"password"`
}

// StartRedis starts a Redis and returns when it accepts logins. A server that an
// earlier, dead process left behind in the same directory is ended first; while
// another living process uses the directory, StartRedis fails. When the context
// ends later, nothing happens to the server.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	var binary RedisBinary
	var err error
	if o.Program == "" {
		binary, err = FindRedis()
	} else {
		binary, err = inspectRedis(o.Program)
	}
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &Redis{Host: "127.0.0.1", User: "default", version: binary.Version}
	r.Process = &Process{
		dir: dir, workDir: dir,
		death: syscall.SIGKILL, quit: syscall.SIGTERM,
		arguments: []string{"./redis.conf"},
		configure: func() error { return nil },
		login:     func(ctx context.Context) error { return pingRedis(ctx, r.Addr, r.Password) },
		discard: func() error {
			returnPort(r.Port)
			returnPort(r.tlsPort)
			return nil
		},
	}
	if err := r.use(binary.Program); err != nil {
		return nil, err
	}
	if err := r.own(); err != nil {
		return nil, err
	}
	if err := r.first(ctx, o); err != nil {
		return nil, errors.Join(err, r.disown())
	}
	return r, nil
}

// first starts the server for the first time in this process.
func (r *Redis) first(ctx context.Context, o RedisOptions) error {
	// Before the port is chosen: a server left behind would be in its own way.
	if err := r.killAll(); err != nil {
		return err
	}
	var st redisState
	if err := loadState(r.dir, &st); err != nil {
		return err
	}
	if st.Password == "" {
		st.Password = rand.Text()
	}
	r.Password = bindery.NewSecret(st.Password)
	return r.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		r.Port, r.Addr = port, loopback(port)
		if o.TLS == nil {
			st.TLSPort = 0
		} else if st.TLSPort == 0 || !becomesFree(ctx, st.TLSPort) {
			var err error
			if st.TLSPort, err = freePort(); err != nil {
				return err
			}
		}
		if o.TLS != nil {
			r.tlsPort, r.TLSAddr = st.TLSPort, loopback(st.TLSPort)
		}
		if err := saveState(r.dir, st); err != nil {
			return err
		}
		return r.writeConfiguration(o, st)
	})
}

// writeConfiguration writes the files that the server reads. The user list is
// the server's own once it is there.
func (r *Redis) writeConfiguration(o RedisOptions, st redisState) error {
	user := fmt.Sprintf("user default on #%x ~* &* +@all", sha256.Sum256([]byte(st.Password)))
	lines := []string{
		"bind " + r.Host,
		"port " + strconv.Itoa(st.Port),
		"dir ./",
		"daemonize no",
		"protected-mode yes",
		"save " + strconv.Quote(o.Save),
		"appendonly " + yesNo(o.AppendOnly),
		"appendfsync " + cmp.Or(o.Fsync, "everysec"),
	}
	if o.ACLFile {
		file := filepath.Join(r.dir, "users.acl")
		lines = append(lines, "aclfile "+strconv.Quote(file))
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			if err := writeFile(file, []byte(user+"\n")); err != nil {
				return err
			}
		}
	} else {
		lines = append(lines, user)
	}
	if o.TLS != nil {
		lines = append(lines,
			"tls-port "+strconv.Itoa(st.TLSPort),
			"tls-cert-file "+strconv.Quote(o.TLS.CertFile),
			"tls-key-file "+strconv.Quote(o.TLS.KeyFile),
			"tls-ca-cert-file "+strconv.Quote(o.TLS.CAFile),
			"tls-auth-clients optional",
		)
	}
	lines = append(lines, o.Settings...)
	return writeFile(filepath.Join(r.dir, "redis.conf"), []byte(strings.Join(lines, "\n")+"\n"))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Version returns the server's version, such as 7.0.15.
func (r *Redis) Version() string { return r.version }

// URL returns the address with user and password, as clients take it.
func (r *Redis) URL() bindery.Secret {
	u := url.URL{Scheme: "redis", Host: r.Addr, User: url.UserPassword(r.User, r.Password.Reveal()), Path: "/0"}
	return bindery.NewSecret(u.String())
}

// pingRedis logs in once and asks for a sign of life.
func pingRedis(ctx context.Context, addr string, password bindery.Secret) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", password.Reveal()); err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	in := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := in.ReadString('\n')
		switch line = strings.TrimSpace(line); {
		case err != nil:
			return fmt.Errorf("%w: %w", errNotYet, err)
		case strings.HasPrefix(line, "-LOADING"):
			return fmt.Errorf("%w: %s", errNotYet, line)
		case line != want:
			return fmt.Errorf("it answered %q", line)
		}
	}
	return nil
}
