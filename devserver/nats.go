package devserver

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"bindery"
)

//go:generate cp ../driver/nats/setup.sh nats-setup.sh

// natsSetup is the script that makes Bindery's own user. It needs a program that
// is not asked of developers, so what it allows is read from it.
//
//go:embed nats-setup.sh
var natsSetup string

// NATSArgument is the first argument of a process that is to be a NATS server, the
// name of its configuration file the second; package natsd makes one of it.
const NATSArgument = "nats-server"

// NATSOptions say how to start a NATS server.
type NATSOptions struct {
	// Dir is where all files are. It is created; a server that was there before is continued.
	Dir string
	// Program is a program that calls natsd.Main; empty means this one.
	Program string
	// Port is the port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// TLS, where it is set, makes clients speak TLS.
	TLS *CertFiles
	// NoJetStream leaves streams out.
	NoJetStream bool
	// Settings are further lines of the configuration file.
	Settings []string
}

// A NATS is a private NATS server in operator mode, with a full resolver.
type NATS struct {
	*Process
	Host string // 127.0.0.1
	Port int
	Addr string // Host and Port
	// OperatorSeed signs accounts, SystemCreds are those of a user of the system
	// account that may do what Bindery needs, and AdminCreds of one that may do anything.
	OperatorSeed, SystemCreds, AdminCreds bindery.Secret

	operator, system, systemJWT string
}

// natsState is what the next start in the same directory needs to know.
type natsState struct {
	Port         int    `json:"port"`
	OperatorSeed string `json:"operator_seed"`
	SystemSeed   string `json:"system_seed"`
	SystemCreds  string `json:"system_creds"`
	AdminCreds   string `json:"admin_creds"`
}

// StartNATS starts a NATS server and returns when it takes connections. What holds of
// [StartRedis] about leftovers and the context holds here too.
func StartNATS(ctx context.Context, o NATSOptions) (*NATS, error) {
	if o.Program == "" {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.Program = program
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	n := &NATS{Host: "127.0.0.1"}
	n.Process = &Process{
		dir: dir, workDir: dir,
		death: syscall.SIGKILL, quit: syscall.SIGTERM,
		arguments: []string{NATSArgument, "./nats.conf"},
		configure: func() error { return nil },
		login:     func(ctx context.Context) error { return greetNATS(ctx, n.Addr) },
		discard:   func() error { returnPort(n.Port); return nil },
	}
	if err := n.use(o.Program); err != nil {
		return nil, err
	}
	if err := n.own(); err != nil {
		return nil, err
	}
	if err := n.first(ctx, o); err != nil {
		return nil, errors.Join(err, n.disown())
	}
	return n, nil
}

// first starts the server for the first time in this process.
func (n *NATS) first(ctx context.Context, o NATSOptions) error {
	// Before the port is chosen: a server left behind would be in its own way.
	if err := n.killAll(); err != nil {
		return err
	}
	var st natsState
	if err := loadState(n.dir, &st); err != nil {
		return err
	}
	if err := n.identify(&st); err != nil {
		return fmt.Errorf("make the operator: %w", err)
	}
	return n.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		n.Port, n.Addr = port, loopback(port)
		if err := saveState(n.dir, st); err != nil {
			return err
		}
		return n.writeConfiguration(o)
	})
}

// identify makes the operator, the system account and its users, or takes those
// of an earlier start.
func (n *NATS) identify(st *natsState) error {
	operator, err := natsKeys(&st.OperatorSeed, nkeys.CreateOperator)
	if err != nil {
		return err
	}
	system, err := natsKeys(&st.SystemSeed, nkeys.CreateAccount)
	if err != nil {
		return err
	}
	operatorKey, err := operator.PublicKey()
	if err != nil {
		return err
	}
	if n.system, err = system.PublicKey(); err != nil {
		return err
	}
	oc := jwt.NewOperatorClaims(operatorKey)
	oc.Name, oc.SystemAccount = "bindery-dev", n.system
	if n.operator, err = oc.Encode(operator); err != nil {
		return err
	}
	ac := jwt.NewAccountClaims(n.system)
	ac.Name = "SYS"
	if n.systemJWT, err = ac.Encode(operator); err != nil {
		return err
	}
	if st.SystemCreds == "" {
		pub, sub := natsPermissions(natsSetup)
		if st.SystemCreds, err = natsUser(system, "bindery", pub, sub); err != nil {
			return err
		}
		if st.AdminCreds, err = natsUser(system, "admin", nil, nil); err != nil {
			return err
		}
	}
	n.OperatorSeed = bindery.NewSecret(st.OperatorSeed)
	n.SystemCreds, n.AdminCreds = bindery.NewSecret(st.SystemCreds), bindery.NewSecret(st.AdminCreds)
	return nil
}

// natsKeys returns the keys of a seed, which it makes where there is none.
func natsKeys(seed *string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	if *seed != "" {
		return nkeys.FromSeed([]byte(*seed))
	}
	keys, err := create()
	if err != nil {
		return nil, err
	}
	raw, err := keys.Seed()
	*seed = string(raw)
	return keys, err
}

// natsUser makes a user of an account, and returns its credentials file.
func natsUser(account nkeys.KeyPair, name string, pub, sub []string) (string, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	key, err := user.PublicKey()
	if err != nil {
		return "", err
	}
	seed, err := user.Seed()
	if err != nil {
		return "", err
	}
	uc := jwt.NewUserClaims(key)
	uc.Name = name
	uc.Pub.Allow, uc.Sub.Allow = pub, sub
	token, err := uc.Encode(account)
	if err != nil {
		return "", err
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	return string(creds), err
}

var natsAllowed = regexp.MustCompile(`--allow-(pub|sub) '([^']+)'`)

// natsPermissions returns the subjects that the script allows.
func natsPermissions(script string) (pub, sub []string) {
	for _, m := range natsAllowed.FindAllStringSubmatch(script, -1) {
		if m[1] == "pub" {
			pub = append(pub, m[2])
		} else {
			sub = append(sub, m[2])
		}
	}
	return pub, sub
}

func (n *NATS) writeConfiguration(o NATSOptions) error {
	lines := []string{
		"listen: " + strconv.Quote(n.Addr),
		"server_name: bindery-dev",
		"operator: " + n.operator,
		"system_account: " + n.system,
		`resolver: { type: full, dir: "./accounts", allow_delete: true }`,
		"resolver_preload: { " + n.system + ": " + n.systemJWT + " }",
	}
	if !o.NoJetStream {
		lines = append(lines, `jetstream: { store_dir: "./streams", max_memory_store: 256MB, max_file_store: 1GB }`)
	}
	if o.TLS != nil {
		lines = append(lines, fmt.Sprintf("tls: { cert_file: %q, key_file: %q }", o.TLS.CertFile, o.TLS.KeyFile))
	}
	lines = append(lines, o.Settings...)
	return writeFile(filepath.Join(n.dir, "nats.conf"), []byte(strings.Join(lines, "\n")+"\n"))
}

// greetNATS waits for the greeting that a server sends first of all.
func greetNATS(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	var info struct {
		Version string `json:"version"`
	}
	greeting, ok := strings.CutPrefix(line, "INFO ")
	if !ok || json.Unmarshal([]byte(greeting), &info) != nil || info.Version == "" {
		return fmt.Errorf("it greets with %.40q", line)
	}
	return nil
}
