package devserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what the server's own password hash is made of
	"database/sql"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"bindery"
)

// MySQLOptions say how to start a MariaDB or a MySQL.
type MySQLOptions struct {
	// Dir is where all files are. It is created; a server that was there before is continued.
	Dir string
	// Program is the server's program; empty means what [FindMySQL] finds.
	Program string
	// Port is the port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// NoFsync trades what a power loss would lose for speed. A killed server loses nothing.
	NoFsync bool
	// TLS, where it is set, lets clients choose TLS.
	TLS *CertFiles
	// Settings are further lines of the configuration file's section [mysqld].
	Settings []string
}

// A MySQL is a private MariaDB or MySQL, set up for Bindery by the script that
// operators use (driver/mysql/setup.sql).
type MySQL struct {
	*Process
	Host string // 127.0.0.1
	Port int
	Addr string // Host and Port

	User     string         // Bindery's own account, with the rights that it needs
	Password bindery.Secret // of User

	Superuser     string
	SuperPassword bindery.Secret // of Superuser

	MariaDB bool // and not MySQL itself

	version string
}

// mysqlState is what the next start in the same directory needs to know.
type mysqlState struct {
	Port          int    `json:"port"`
	Password      string `json:"password"`
	SuperPassword string `json:"super_password"`
	// Made and SetUp say how far the first start came.
	Made  bool `json:"made"`
	SetUp bool `json:"set_up"`
}

const (
	mysqlUser      = "bindery"
	mysqlSuperuser = "root"
	mysqlTemporary = ".tmp" // the server takes directories without a dot for databases
)

// mysqlSetup is a copy of driver/mysql/setup.sql; a test compares them.
//
//go:embed mysql-setup.sql
var mysqlSetup string

// A MySQLBinary is an installed server.
type MySQLBinary struct {
	Program string
	Version string // such as 10.11.6
	MariaDB bool   // and not MySQL itself
}

// The first versions with all the privileges that Bindery needs by name.
const (
	oldestMariaDB = "10.5.2"
	oldestMySQL   = "8.0.20"
)

var mysqlVersion = regexp.MustCompile(`\bVer (\d+\.\d+\.\d+)(-MariaDB)?`)

// FindMySQL finds the server to start: the MySQL that BINDERY_MYSQLD names, the
// MariaDB that BINDERY_MARIADBD names, else mariadbd or mysqld from the PATH or
// where Debian puts them. Where there is none, the error is [ErrMissing].
func FindMySQL() (MySQLBinary, error) {
	named := cmp.Or(os.Getenv("BINDERY_MYSQLD"), os.Getenv("BINDERY_MARIADBD"), "mariadbd")
	for _, name := range []string{named, "/usr/sbin/mariadbd", "mysqld", "/usr/sbin/mysqld"} {
		if program, err := exec.LookPath(name); err == nil {
			return inspectMySQL(program)
		}
	}
	return MySQLBinary{}, fmt.Errorf("mariadbd or mysqld: %w", ErrMissing)
}

func inspectMySQL(program string) (MySQLBinary, error) {
	out, err := exec.Command(program, "--no-defaults", "--version").Output() //nolint:gosec // the caller says which server to run
	if err != nil {
		return MySQLBinary{}, fmt.Errorf("%s --version: %w", program, err)
	}
	m := mysqlVersion.FindSubmatch(out)
	if m == nil {
		return MySQLBinary{}, fmt.Errorf("%s --version: cannot read %q", program, out)
	}
	b := MySQLBinary{Program: program, Version: string(m[1]), MariaDB: len(m[2]) > 0}
	oldest := oldestMySQL
	if b.MariaDB {
		oldest = oldestMariaDB
	}
	if compareVersions(b.Version, oldest) < 0 {
		return MySQLBinary{}, fmt.Errorf("%s is version %s, and %s is needed", program, b.Version, oldest)
	}
	return b, nil
}

// StartMySQL starts a MariaDB or MySQL, sets it up for Bindery, and returns when it accepts
// logins. A server that an earlier, dead process left behind in the same directory
// is ended first; while another living process uses the directory, StartMySQL
// fails. When the context ends later, nothing happens to the server.
func StartMySQL(ctx context.Context, o MySQLOptions) (*MySQL, error) {
	var binary MySQLBinary
	var err error
	if o.Program == "" {
		binary, err = FindMySQL()
	} else {
		binary, err = inspectMySQL(o.Program)
	}
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	m := &MySQL{Host: "127.0.0.1", User: mysqlUser, Superuser: mysqlSuperuser, MariaDB: binary.MariaDB, version: binary.Version}
	m.Process = &Process{
		dir: dir, death: syscall.SIGKILL, quit: syscall.SIGTERM,
		login:     m.tryLogin,
		configure: func() error { return nil },
		discard: func() error {
			returnPort(m.Port)
			return removeCluster(dir)
		},
	}
	if err := m.use(binary.Program); err != nil {
		return nil, err
	}
	if err := m.own(); err != nil {
		return nil, err
	}
	if err := m.first(ctx, o); err != nil {
		return nil, errors.Join(err, m.disown())
	}
	return m, nil
}

// first starts the server for the first time in this process.
func (m *MySQL) first(ctx context.Context, o MySQLOptions) error {
	var err error
	if m.account, err = unprivileged(); err != nil {
		return err
	}
	var st mysqlState
	if err := loadState(m.dir, &st); err != nil {
		return err
	}
	if !st.Made {
		st.Password, st.SuperPassword = rand.Text(), rand.Text()
		if err := m.makeData(ctx); err != nil {
			return fmt.Errorf("make a data directory: %w", err)
		}
		st.Made = true
		if err := saveState(m.dir, st); err != nil {
			return err
		}
	}
	if m.workDir, err = filepath.EvalSymlinks(filepath.Join(m.dir, dataLink)); err != nil {
		return err
	}
	m.Password, m.SuperPassword = bindery.NewSecret(st.Password), bindery.NewSecret(st.SuperPassword)
	m.arguments = []string{"--defaults-file=" + filepath.Join(m.workDir, "my.cnf")}

	// Before the port is chosen: a server left behind would be in its own way.
	if err := m.killAll(); err != nil {
		return err
	}
	err = m.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		m.Port, m.Addr = port, loopback(port)
		if err := saveState(m.dir, st); err != nil {
			return err
		}
		return m.writeConfiguration(o)
	})
	if err == nil && !st.SetUp {
		if err = m.setUp(ctx); err == nil {
			st.SetUp = true
			return saveState(m.dir, st)
		}
		err = errors.Join(fmt.Errorf("set up %s: %w", m.title(), err), m.Kill())
	}
	return err
}

// makeData makes an empty data directory. What an interrupted attempt left is removed.
func (m *MySQL) makeData(ctx context.Context) error {
	if err := removeCluster(m.dir); err != nil {
		return err
	}
	reachable, err := m.account.reaches(m.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(m.dir, dataLink)
	if !reachable {
		if data, err = elsewhere(ctx, data); err != nil {
			return err
		}
	}
	// A directory for temporary files of its own: a server that starts removes
	// those of others.
	temporary := filepath.Join(data, mysqlTemporary)
	for _, d := range []string{data, temporary} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
		if err := m.account.give(d); err != nil {
			return err
		}
	}
	program, arguments, err := m.initializer()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + temporary}, arguments...)...) //nolint:gosec // the operator's own program
	cmd.Dir = data
	cmd.Env = environment(data)
	cmd.SysProcAttr = m.account.attributes(os.Kill)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// initializer is the program that makes a data directory, and how it is told to. The
// superuser of MariaDB's logs in through a socket that nobody else can reach.
// MySQL's could from this machine, until the first start removes it.
func (m *MySQL) initializer() (program string, arguments []string, err error) {
	if !m.MariaDB {
		return m.program, []string{"--initialize-insecure", "--innodb-redo-log-capacity=16M"}, nil
	}
	program = filepath.Join(filepath.Dir(m.program), "mariadb-install-db")
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("mariadb-install-db"); err != nil {
			return "", nil, fmt.Errorf("mariadb-install-db: %w", ErrMissing)
		}
	}
	return program, []string{"--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=socket", "--innodb-log-file-size=16M"}, nil
}

// writeConfiguration writes the server's settings, and what it runs before it
// accepts its first login: the superuser's password, as a hash.
func (m *MySQL) writeConfiguration(o MySQLOptions) error {
	root := "'" + mysqlSuperuser + "'@'" + m.Host + "'"
	start := "CREATE USER IF NOT EXISTS " + root + m.identified(m.SuperPassword) + ";\n" +
		"GRANT ALL PRIVILEGES ON *.* TO " + root + " WITH GRANT OPTION;\n"
	if !m.MariaDB {
		start += "DROP USER IF EXISTS '" + mysqlSuperuser + "'@'localhost';\n" // has no password
	}
	lines := []string{
		"[mysqld]",
		"datadir = " + m.workDir,
		"bind-address = " + m.Host,
		"port = " + strconv.Itoa(m.Port),
		"tmpdir = " + filepath.Join(m.workDir, mysqlTemporary),
		"socket = socket",
		"pid-file = pid",
		"init-file = " + filepath.Join(m.workDir, "init.sql"),
		"skip-name-resolve",
		"innodb-buffer-pool-size = 32M",
		"key-buffer-size = 1M",
		"performance-schema = OFF",
		"max-connections = 300",
		"loose-innodb-use-native-aio = 0", // there are few slots on one machine for many servers
	}
	if m.MariaDB {
		lines = append(lines, "innodb-log-file-size = 16M", "aria-pagecache-buffer-size = 8M")
	} else {
		// One file less to flush, the same tenants' triggers and functions as on
		// MariaDB, no second protocol, and no TLS that nobody asked for.
		lines = append(lines, "innodb-redo-log-capacity = 16M", "skip-log-bin", "log-bin-trust-function-creators = ON", "mysqlx = OFF")
		if o.TLS == nil {
			lines = append(lines, "tls-version =")
		}
	}
	if o.NoFsync {
		lines = append(lines, "innodb-flush-log-at-trx-commit = 2")
	}
	if o.NoFsync && m.MariaDB {
		lines = append(lines, "debug-no-sync = ON")
	} else if o.NoFsync {
		lines = append(lines, "innodb-flush-method = nosync", "innodb-doublewrite = OFF")
	}
	if o.TLS != nil {
		for name, file := range map[string]string{"ssl-cert": o.TLS.CertFile, "ssl-key": o.TLS.KeyFile, "ssl-ca": o.TLS.CAFile} {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := m.writeData(name+".pem", string(content)); err != nil {
				return err
			}
			lines = append(lines, name+" = "+filepath.Join(m.workDir, name+".pem"))
		}
	}
	lines = append(lines, o.Settings...)
	return errors.Join(m.writeData("init.sql", start), m.writeData("my.cnf", strings.Join(lines, "\n")+"\n"))
}

// writeData writes a file for the server to read.
func (m *MySQL) writeData(name, content string) error {
	file := filepath.Join(m.workDir, name)
	if err := writeFile(file, []byte(content)); err != nil {
		return err
	}
	return m.account.give(file)
}

// identified says how an account proves a password: to MariaDB by its hash, to
// MySQL, whose hash is an elaborate one, by itself.
func (m *MySQL) identified(password bindery.Secret) string {
	if m.MariaDB {
		return " IDENTIFIED VIA mysql_native_password USING '" + nativeHash(password) + "'"
	}
	return " IDENTIFIED WITH caching_sha2_password BY '" + password.Reveal() + "'"
}

// nativeHash is what mysql_native_password keeps of a password.
func nativeHash(password bindery.Secret) string {
	once := sha1.Sum([]byte(password.Reveal())) //nolint:gosec // see the import
	twice := sha1.Sum(once[:])                  //nolint:gosec // likewise
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// tryLogin logs in once as the superuser.
func (m *MySQL) tryLogin(ctx context.Context) error {
	db, err := m.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing was written that could be lost
	err = db.PingContext(ctx)
	if refused, ok := errors.AsType[*mysql.MySQLError](err); err != nil && !ok {
		return fmt.Errorf("%w: %w", errNotYet, err)
	} else if ok {
		return refused
	}
	return nil
}

// open opens the server as the superuser.
func (m *MySQL) open() (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", m.Addr, m.Superuser, m.SuperPassword.Reveal()
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// setUp runs the operators' script, and gives Bindery's account its password.
func (m *MySQL) setUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	db, err := m.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // what matters was committed
	// One by one, as the server's own client sends them: what is meant for another
	// server is an empty statement, which may not stand between others.
	for _, statement := range append(strings.Split(strings.TrimSpace(mysqlSetup), ";\n"),
		"ALTER USER '"+m.User+"'@'%'"+m.identified(m.Password)+" ACCOUNT UNLOCK") {
		if _, err := db.ExecContext(ctx, strings.TrimSuffix(statement, ";")); err != nil {
			return err
		}
	}
	return nil
}

// Version returns the server's version, such as 10.11.6.
func (m *MySQL) Version() string { return m.version }

// URL returns the address with Bindery's own account and its password.
func (m *MySQL) URL() bindery.Secret {
	u := url.URL{Scheme: "mysql", Host: m.Addr, User: url.UserPassword(m.User, m.Password.Reveal())}
	return bindery.NewSecret(u.String())
}
