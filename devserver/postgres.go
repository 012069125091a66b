package devserver

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// PostgresOptions say how to start a PostgreSQL.
type PostgresOptions struct {
	// Dir is where all files are. It is created; a server that was there before is continued.
	Dir string
	// BinDir is where postgres and initdb are; empty means the version that made
	// Dir, else the newest that [FindPostgres] finds.
	BinDir string
	// Port is the port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// User is the name of Bindery's own role; empty means bindery.
	User string
	// NoFsync trades what a power loss would lose for speed. A killed server loses nothing.
	NoFsync bool
	// TLS, where it is set, lets clients choose TLS.
	TLS *CertFiles
	// Settings are further settings, by name.
	Settings map[string]string
}

// A Postgres is a private PostgreSQL, set up for Bindery by the script that
// operators use (driver/postgres/setup.sql).
type Postgres struct {
	*Process
	Host     string // 127.0.0.1
	Port     int
	Addr     string // Host and Port
	Version  int    // the major version
	Database string // what Bindery connects to

	User     string         // Bindery's own role, with the rights that it needs
	Password bindery.Secret // of User

	Superuser     string
	SuperPassword bindery.Secret // of Superuser

	initPassword bindery.Secret // of Superuser, until the set-up is done
}

// postgresState is what the next start in the same directory needs to know.
type postgresState struct {
	Port          int    `json:"port"`
	User          string `json:"user"`
	Password      string `json:"password"`
	SuperPassword string `json:"super_password"`
	// InitPassword is the superuser's until the set-up is done.
	InitPassword string `json:"init_password,omitempty"`
}

const superuser = "postgres"

// setupScript is a copy of driver/postgres/setup.sql; a test compares them.
//
//go:embed postgres-setup.sql
var setupScript string

// StartPostgres starts a PostgreSQL, sets it up for Bindery, and returns when it
// accepts logins. A server that an earlier, dead process left behind in the same
// directory is ended first; while another living process uses the directory,
// StartPostgres fails. When the context ends later, nothing happens to the server.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	p := &Postgres{Host: "127.0.0.1", Database: "postgres", Superuser: superuser}
	p.Process = &Process{
		dir:       dir,
		death:     syscall.SIGQUIT, // it has to end its children and to free its shared memory
		quit:      syscall.SIGINT,  // do not wait for clients to leave
		login:     p.tryLogin,
		configure: func() error { return nil },
		discard: func() error {
			returnPort(p.Port)
			return removeCluster(dir)
		},
	}
	if err := p.own(); err != nil {
		return nil, err
	}
	if err := p.first(ctx, o); err != nil {
		return nil, errors.Join(err, p.disown())
	}
	return p, nil
}

// first starts the server for the first time in this process.
func (p *Postgres) first(ctx context.Context, o PostgresOptions) error {
	binaries, err := choosePostgres(o.BinDir, filepath.Join(p.dir, dataLink))
	if err != nil {
		return err
	}
	if p.account, err = unprivileged(); err != nil {
		return err
	}
	if binaries, err = reachableBinaries(ctx, binaries, p.account); err != nil {
		return err
	}
	p.Version = binaries.Version
	if err := p.use(filepath.Join(binaries.BinDir, "postgres")); err != nil {
		return err
	}

	var st postgresState
	if err := loadState(p.dir, &st); err != nil {
		return err
	}
	if !clusterExists(p.dir) {
		// The passwords are written down first: a cluster without them is of no use.
		template, password, err := templateCluster(ctx, binaries, p.account)
		if err != nil {
			return err
		}
		st = postgresState{
			User: cmp.Or(o.User, "bindery"), Password: rand.Text(),
			SuperPassword: rand.Text(), InitPassword: password, Port: st.Port,
		}
		if err := saveState(p.dir, st); err != nil {
			return err
		}
		if err := makeCluster(ctx, p.dir, template, p.account); err != nil {
			return fmt.Errorf("make a database cluster: %w", err)
		}
	}
	if st.SuperPassword == "" {
		return fmt.Errorf("%s has a database cluster, and its passwords are lost: %s is missing", p.dir, stateFile)
	}
	if o.User != "" && o.User != st.User {
		return fmt.Errorf("%s was set up for the role %s, not %s", p.dir, st.User, o.User)
	}
	if p.workDir, err = filepath.EvalSymlinks(filepath.Join(p.dir, dataLink)); err != nil {
		return err
	}
	p.arguments = []string{"-D", p.workDir}
	p.configure = p.forgetReusedPid
	p.User, p.Password = st.User, bindery.NewSecret(st.Password)
	p.SuperPassword = bindery.NewSecret(st.SuperPassword)
	p.initPassword = bindery.NewSecret(st.InitPassword)

	// Before the port is chosen: a server left behind would be in its own way.
	if err := p.killAll(); err != nil {
		return err
	}
	err = p.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		p.Port, p.Addr = port, loopback(port)
		if err := saveState(p.dir, st); err != nil {
			return err
		}
		return p.writeConfiguration(o)
	})
	if err == nil && st.InitPassword != "" {
		if err = p.setUp(ctx, st); err != nil {
			err = errors.Join(fmt.Errorf("set up PostgreSQL: %w", err), p.Kill())
		}
	}
	return err
}

// forgetReusedPid removes the server's own lock where the process id in it is
// somebody else's by now; PostgreSQL would take that for a running server.
func (p *Postgres) forgetReusedPid() error {
	name := filepath.Join(p.workDir, "postmaster.pid")
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	// Some process has this id, and no server runs in this directory.
	if _, err := os.Stat(filepath.Join("/proc", strings.TrimSpace(first))); err == nil {
		return os.Remove(name)
	}
	return nil
}

// writeConfiguration replaces the server's configuration and its access rules.
func (p *Postgres) writeConfiguration(o PostgresOptions) error {
	settings := map[string]string{ //nolint:gosec // the name of a hash function is no credential
		"listen_addresses":        p.Host,
		"port":                    strconv.Itoa(p.Port),
		"unix_socket_directories": "", // a path to one is easily too long
		"password_encryption":     "scram-sha-256",
		// In files of the cluster: the other kinds stay behind when the server is killed.
		"dynamic_shared_memory_type": "mmap",
		"fsync":                      onOff(!o.NoFsync),
		"full_page_writes":           onOff(!o.NoFsync),
		"log_line_prefix":            "%m [%p] %q%u@%d ",
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
	}
	if o.TLS != nil {
		settings["ssl"] = "on"
		for name, file := range map[string]string{
			"ssl_cert_file": o.TLS.CertFile, "ssl_key_file": o.TLS.KeyFile, "ssl_ca_file": o.TLS.CAFile,
		} {
			if file == "" {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := p.writeData(name+".pem", string(content)); err != nil {
				return err
			}
			settings[name] = name + ".pem"
		}
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	var conf strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&conf, "%s = %s\n", name, quoteLiteral(strings.ReplaceAll(value, `\`, `\\`)))
	}
	if err := p.writeData("postgresql.conf", conf.String()); err != nil {
		return err
	}
	return p.writeData("pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// writeData writes a file of the cluster, for the server to read.
func (p *Postgres) writeData(name, content string) error {
	file := filepath.Join(p.workDir, name)
	if err := writeFile(file, []byte(content)); err != nil {
		return err
	}
	return p.account.give(file)
}

// tryLogin logs in once as the superuser.
func (p *Postgres) tryLogin(ctx context.Context) error {
	conn, err := p.connect(ctx, p.Database)
	if err == nil {
		return conn.Close(ctx)
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	const cannotConnectNow = "57P03"
	if !answered || pg.Code == cannotConnectNow {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	return err
}

// connect connects to a database as the superuser, with the password that the
// cluster was made with if it still has that.
func (p *Postgres) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	if !p.initPassword.Empty() {
		conn, err := connect(ctx, p.url(p.Superuser, p.initPassword, database))
		const invalidPassword = "28P01"
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != invalidPassword {
			return conn, err
		}
	}
	return connect(ctx, p.url(p.Superuser, p.SuperPassword, database))
}

func connect(ctx context.Context, address string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the address of the server cannot be read") // the cause would quote it
	}
	return pgx.ConnectConfig(ctx, config)
}

// setUp runs the operators' script, and last of all gives the superuser a
// password of its own, which marks the set-up as done.
func (p *Postgres) setUp(ctx context.Context, st postgresState) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	script := forServer(setupScript, map[string]string{"user": st.User, "database": p.Database, "password": st.Password})
	last := "BEGIN; SET LOCAL log_min_error_statement = 'panic'; ALTER ROLE " + quoteIdentifier(p.Superuser) +
		" PASSWORD " + quoteLiteral(st.SuperPassword) + "; COMMIT"
	// psql changes over to template1 for the part that concerns it and old versions
	// alone. Here all of the script runs there too, and the rest changes nothing.
	for _, step := range []struct{ database, statements string }{{"template1", script}, {p.Database, script}, {p.Database, last}} {
		if err := p.exec(ctx, step.database, step.statements); err != nil {
			return err
		}
	}
	st.InitPassword, p.initPassword = "", bindery.Secret{}
	return saveState(p.dir, st)
}

// exec runs statements in a database as the superuser.
func (p *Postgres) exec(ctx context.Context, database, statements string) error {
	conn, err := p.connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what matters was committed
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// forServer turns a psql script into what a server understands: without psql's
// own commands, and with the values in the places of its variables.
func forServer(script string, values map[string]string) string {
	var replace []string
	for name, value := range values {
		replace = append(replace, `:"`+name+`"`, quoteIdentifier(value), `:'`+name+`'`, quoteLiteral(value))
	}
	replacer := strings.NewReplacer(replace...)
	var out strings.Builder
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, `\`) && !strings.HasPrefix(line, "--") {
			out.WriteString(replacer.Replace(line))
		}
	}
	return out.String()
}

func quoteIdentifier(s string) string { return pgx.Identifier{s}.Sanitize() }

// quoteLiteral quotes for a server with standard_conforming_strings, which are
// the default.
func quoteLiteral(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''") + "'"
}

// URL returns the address of a database with Bindery's own role and its password.
func (p *Postgres) URL(database string) bindery.Secret {
	return bindery.NewSecret(p.url(p.User, p.Password, database))
}

// SuperURL returns the address of a database with the superuser and its password.
func (p *Postgres) SuperURL(database string) bindery.Secret {
	return bindery.NewSecret(p.url(p.Superuser, p.SuperPassword, database))
}

func (p *Postgres) url(user string, password bindery.Secret, database string) string {
	u := url.URL{
		Scheme: "postgres", Host: p.Addr, Path: "/" + database,
		User:     url.UserPassword(user, password.Reveal()),
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
