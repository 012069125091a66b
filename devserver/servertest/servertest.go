// Package servertest gives tests real servers: one of their own, which they may
// pause, kill and restart, or one that they share with the other tests of the
// package, which they must leave as it was.
//
// Where a program is missing the test is skipped; with BINDERY_TEST_ALL=1, as in
// `make test`, it fails. With a major version in BINDERY_TEST_POSTGRES, such as 12,
// tests find that PostgreSQL and no other, which is their oldest.
//
// A package that shares servers says so once:
//
//	func TestMain(m *testing.M) { servertest.Main(m) }
package servertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"bindery/devserver"
)

// A Version is which of the installed PostgreSQLs a test wants: [Oldest],
// [Newest], or a major version such as "15".
type Version string

// The versions that every test can ask for. Where just one PostgreSQL is
// installed it is the oldest, and there is no newest.
const (
	Oldest Version = "oldest"
	Newest Version = "newest"
)

// Redis starts a Redis for this test alone, with an ACL file unless an option says otherwise.
func Redis(t testing.TB, options ...func(*devserver.RedisOptions)) *devserver.Redis {
	t.Helper()
	o := devserver.RedisOptions{Dir: dir(t), ACLFile: true}
	for _, set := range options {
		set(&o)
	}
	r, err := devserver.StartRedis(t.Context(), o)
	Check(t, err)
	end(t, r.Process)
	return r
}

// Postgres starts a PostgreSQL for this test alone. Unless an option says
// otherwise it does not flush to disk, which only a power loss would show.
func Postgres(t testing.TB, v Version, options ...func(*devserver.PostgresOptions)) *devserver.Postgres {
	t.Helper()
	o := devserver.PostgresOptions{Dir: dir(t), BinDir: find(t, v).BinDir, NoFsync: true}
	for _, set := range options {
		set(&o)
	}
	p, err := devserver.StartPostgres(t.Context(), o)
	Check(t, err)
	end(t, p.Process)
	return p
}

// MySQL starts a MariaDB for this test alone. Unless an option says otherwise it
// does not flush to disk, which only a power loss would show.
func MySQL(t testing.TB, options ...func(*devserver.MySQLOptions)) *devserver.MySQL {
	t.Helper()
	o := devserver.MySQLOptions{Dir: dir(t), NoFsync: true}
	for _, set := range options {
		set(&o)
	}
	m, err := devserver.StartMySQL(t.Context(), o)
	Check(t, err)
	end(t, m.Process)
	return m
}

// OIDC starts an OpenID provider for this test alone. Unless an option says
// otherwise it speaks TLS.
func OIDC(t testing.TB, options ...func(*devserver.OIDCOptions)) *devserver.OIDC {
	t.Helper()
	o := devserver.OIDCOptions{Dir: dir(t), Modules: oidcModules()}
	pki, err := devserver.OpenPKI(dir(t), time.Now)
	Check(t, err)
	certificate, err := pki.Server()
	Check(t, err)
	o.TLS = &certificate
	for _, set := range options {
		set(&o)
	}
	p, err := devserver.StartOIDC(t.Context(), o)
	Check(t, err)
	end(t, p.Process)
	return p
}

// NATS starts a NATS server for this test alone. The package's TestMain calls
// natsd.Main and then [Main].
func NATS(t testing.TB, options ...func(*devserver.NATSOptions)) *devserver.NATS {
	t.Helper()
	needMain(t)
	o := devserver.NATSOptions{Dir: dir(t)}
	for _, set := range options {
		set(&o)
	}
	n, err := devserver.StartNATS(t.Context(), o)
	Check(t, err)
	end(t, n.Process)
	return n
}

// SharedNATS returns the NATS server of this package's tests; see [NATS].
func SharedNATS(t testing.TB) *devserver.NATS {
	t.Helper()
	needMain(t)
	n, err := shared.nats.get(func() (*devserver.NATS, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		n, err := devserver.StartNATS(context.Background(), devserver.NATSOptions{Dir: d})
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return n, n.Process, nil
	})
	Check(t, err)
	return n
}

// HasOIDC says why [OIDC] would skip the test, if it would.
func HasOIDC() error {
	if _, err := exec.LookPath("node"); err != nil || oidcModules() == "" {
		return fmt.Errorf("node, or npm's oidc-provider: %w", devserver.ErrMissing)
	}
	return nil
}

// oidcModules is where scripts/install-servers has put npm's oidc-provider; empty if nowhere.
func oidcModules() string {
	found := inRepository("oidc-provider", "*")
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// EachPostgres runs a test on the oldest and on the newest PostgreSQL, beside each other.
func EachPostgres(t *testing.T, test func(t *testing.T, v Version)) {
	t.Helper()
	for _, v := range []Version{Oldest, Newest} {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// Proxy starts a proxy to a server for this test.
func Proxy(t testing.TB, target string) *devserver.Proxy {
	t.Helper()
	p, err := devserver.NewProxy(target)
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close the proxy: %v", err)
		}
	})
	return p
}

// dir makes a directory that servers of other users reach too, unlike the test's
// own temporary directory.
func dir(t testing.TB) string {
	t.Helper()
	d, err := openTemp()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Errorf("remove %s: %v", d, err)
		}
	})
	return d
}

func openTemp() (string, error) {
	d, err := os.MkdirTemp("", "bindery-test-")
	if err != nil {
		return "", err
	}
	return d, os.Chmod(d, 0o711) // servers run as another user
}

// end removes the server at the end of the test, and shows what it said where the test has failed.
func end(t testing.TB, p *devserver.Process) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's last output:\n%s", p.Output())
		}
		if err := p.Remove(); err != nil {
			t.Errorf("remove the server: %v", err)
		}
	})
}

// Check ends the test where err is an error: it skips the test if that says that a
// program is missing and not all tests are asked for, and else fails it.
func Check(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case !errors.Is(err, devserver.ErrMissing):
		t.Fatalf("start a server: %v", err)
	case os.Getenv("BINDERY_TEST_ALL") == "1":
		t.Fatalf("%v, and BINDERY_TEST_ALL=1 skips nothing (scripts/install-servers --test installs all)", err)
	default:
		t.Skip(err)
	}
}

var installed = sync.OnceValue(func() []devserver.PostgresBinaries {
	found := devserver.FindPostgres(inRepository("postgres", "*", "bin")...)
	if only := os.Getenv("BINDERY_TEST_POSTGRES"); only != "" {
		found = slices.DeleteFunc(found, func(b devserver.PostgresBinaries) bool { return strconv.Itoa(b.Version) != only })
	}
	return found
})

// inRepository finds what scripts/install-servers has put into the repository
// that the test is part of.
func inRepository(pattern ...string) []string {
	d, err := os.Getwd()
	if err != nil {
		return nil
	}
	for ; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			found, err := filepath.Glob(filepath.Join(append([]string{d, ".cache"}, pattern...)...))
			if err != nil {
				return nil
			}
			return found
		}
	}
	return nil
}

func find(t testing.TB, v Version) devserver.PostgresBinaries {
	t.Helper()
	all := installed()
	if v == Newest && (len(all) == 0 || all[0].Version == all[len(all)-1].Version) {
		Check(t, fmt.Errorf("a second, newer PostgreSQL: %w", devserver.ErrMissing))
	}
	if len(all) > 0 {
		switch v {
		case Oldest:
			return all[0]
		case Newest:
			return all[len(all)-1]
		}
	}
	for _, b := range all {
		if strconv.Itoa(b.Version) == string(v) {
			return b
		}
	}
	Check(t, fmt.Errorf("PostgreSQL (%s): %w", v, devserver.ErrMissing))
	return devserver.PostgresBinaries{} // never: the test has ended
}

// shared are the servers that the tests of this process share.
var shared struct {
	sync.Mutex
	main      bool // Main runs the tests
	redis     lazy[*devserver.Redis]
	nats      lazy[*devserver.NATS]
	oidc      lazy[*devserver.OIDC]
	postgres  map[Version]*lazy[*devserver.Postgres]
	mysql     lazy[*devserver.MySQL]
	processes []*devserver.Process
}

// A lazy server is started by the first test that asks for it.
type lazy[S any] struct {
	once   sync.Once
	server S
	err    error
}

func (l *lazy[S]) get(start func() (S, *devserver.Process, error)) (S, error) {
	l.once.Do(func() {
		var p *devserver.Process
		if l.server, p, l.err = start(); l.err == nil {
			shared.Lock()
			defer shared.Unlock()
			shared.processes = append(shared.processes, p)
		}
	})
	return l.server, l.err
}

// SharedRedis returns the Redis of this package's tests. It has an ACL file.
func SharedRedis(t testing.TB) *devserver.Redis {
	t.Helper()
	needMain(t)
	r, err := shared.redis.get(func() (*devserver.Redis, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		r, err := devserver.StartRedis(context.Background(), devserver.RedisOptions{Dir: d, ACLFile: true})
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return r, r.Process, nil
	})
	Check(t, err)
	return r
}

// SharedOIDC returns the OpenID provider of this package's tests. It speaks TLS.
func SharedOIDC(t testing.TB) *devserver.OIDC {
	t.Helper()
	needMain(t)
	p, err := shared.oidc.get(func() (*devserver.OIDC, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		p, err := startOIDC(d)
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return p, p.Process, nil
	})
	Check(t, err)
	return p
}

// startOIDC starts a provider with a certificate, both in a directory.
func startOIDC(d string) (*devserver.OIDC, error) {
	pki, err := devserver.OpenPKI(filepath.Join(d, "pki"), time.Now)
	if err != nil {
		return nil, err
	}
	certificate, err := pki.Server()
	if err != nil {
		return nil, err
	}
	return devserver.StartOIDC(context.Background(), devserver.OIDCOptions{
		Dir: filepath.Join(d, "oidc"), Modules: oidcModules(), TLS: &certificate,
	})
}

// SharedPostgres returns the PostgreSQL of this package's tests, one for each
// version asked for. Tests make databases of their own in it.
func SharedPostgres(t testing.TB, v Version) *devserver.Postgres {
	t.Helper()
	needMain(t)
	binaries := find(t, v)
	v = Version(strconv.Itoa(binaries.Version))
	shared.Lock()
	if shared.postgres == nil {
		shared.postgres = map[Version]*lazy[*devserver.Postgres]{}
	}
	if shared.postgres[v] == nil {
		shared.postgres[v] = &lazy[*devserver.Postgres]{}
	}
	l := shared.postgres[v]
	shared.Unlock()
	p, err := l.get(func() (*devserver.Postgres, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		p, err := devserver.StartPostgres(context.Background(), devserver.PostgresOptions{
			Dir: d, BinDir: binaries.BinDir, NoFsync: true,
			Settings: map[string]string{"max_connections": "300"},
		})
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return p, p.Process, nil
	})
	Check(t, err)
	return p
}

// SharedMySQL returns the MariaDB of this package's tests. Tests make databases of their own in it.
func SharedMySQL(t testing.TB) *devserver.MySQL {
	t.Helper()
	needMain(t)
	m, err := shared.mysql.get(func() (*devserver.MySQL, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		m, err := devserver.StartMySQL(context.Background(), devserver.MySQLOptions{Dir: d, NoFsync: true})
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return m, m.Process, nil
	})
	Check(t, err)
	return m
}

func needMain(t testing.TB) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.main {
		t.Fatal("a package that shares servers needs: func TestMain(m *testing.M) { servertest.Main(m) }")
	}
}

// Main runs the tests of a package, removes the servers that they shared, and
// ends the process.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == devserver.NATSArgument {
		fmt.Fprintln(os.Stderr, "a package that starts NATS servers calls natsd.Main in its TestMain")
		os.Exit(2) // rather than run the tests, which would start another
	}
	shared.Lock()
	shared.main = true
	shared.Unlock()
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, p := range shared.processes {
		if err := p.Remove(); err != nil {
			fmt.Fprintf(os.Stderr, "remove a shared server: %v\n", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
