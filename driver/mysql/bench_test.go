package mysql_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// clients is how many binds the benchmarks make at once.
const clients = 8

// onDisk starts a server that flushes to disk.
func onDisk(t testing.TB) *lab {
	return newLab(t, servertest.MySQL(t, func(o *devserver.MySQLOptions) { o.NoFsync = false }))
}

// BenchmarkEnsure compares a bind with the least that one can be: CREATE USER and GRANT.
func BenchmarkEnsure(b *testing.B) {
	b.Run("bare", func(b *testing.B) { bareCreate(onDisk(b), b) })
	b.Run("bindery", func(b *testing.B) {
		l := onDisk(b)
		l.ensureAll(b, l.instance(`{}`))
	})
}

// BenchmarkRevoke compares an unbind with a DROP USER.
func BenchmarkRevoke(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		l := onDisk(b)
		sessions := bareCreate(l, b)
		b.ResetTimer()
		atOnce(b, func(client, i int) error {
			return sessions[client].do(b.Context(), fmt.Sprintf("DROP USER bare_%d", i))
		})
	})
	b.Run("bindery", func(b *testing.B) {
		l := onDisk(b)
		spec := l.instance(`{}`)
		accounts := l.ensureAll(b, spec)
		b.ResetTimer()
		atOnce(b, func(_, i int) error { return l.driver.Revoke(b.Context(), spec, accounts[i]) })
	})
}

func bareCreate(l *lab, b *testing.B) []*session {
	b.Helper()
	sessions := make([]*session, clients)
	for i := range sessions {
		sessions[i] = l.super()
	}
	l.do(sessions[0], `CREATE DATABASE bare`)
	b.ResetTimer()
	atOnce(b, func(client, i int) error {
		return sessions[client].do(b.Context(),
			fmt.Sprintf("CREATE USER bare_%d IDENTIFIED VIA mysql_native_password USING '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'", i),
			fmt.Sprintf("GRANT ALL PRIVILEGES ON bare.* TO bare_%d", i))
	})
	return sessions
}

func (l *lab) ensureAll(b *testing.B, spec bindery.InstanceSpec) []bindery.Account {
	b.Helper()
	accounts := make([]bindery.Account, b.N)
	b.ResetTimer()
	atOnce(b, func(_, i int) (err error) {
		accounts[i], err = l.ensureNew(spec)
		return err
	})
	return accounts
}

func (l *lab) ensureNew(spec bindery.InstanceSpec) (bindery.Account, error) {
	account := bindery.Account{Name: l.name()}
	var err error
	if account.Material, err = l.driver.Prepare(spec, bindery.AccountRequest{Name: account.Name}); err == nil {
		_, err = l.driver.Ensure(l.Context(), spec, account)
	}
	return account, err
}

// atOnce makes b.N calls, as many at once as there are clients.
func atOnce(b *testing.B, call func(client, i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if err := call(client, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestSoak binds and unbinds very often: nothing is left of it, and the last are
// as quick as the first. BINDERY_SOAK=1 makes 10,000; another number makes so many.
func TestSoak(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("BINDERY_SOAK"))
	if err != nil {
		t.Skip("BINDERY_SOAK is not set")
	}
	if n == 1 {
		n = 10_000
	}
	l := onDisk(t)
	spec := l.instance(`{}`)
	account, err := l.ensureNew(spec) // what is made once is made
	l.must("ensure", err)
	l.revoke(spec, account)
	before, size := l.leftovers(), l.size()
	costs := make([]time.Duration, n)
	for i := range costs {
		started := time.Now()
		account, err := l.ensureNew(spec)
		l.must("ensure", err)
		if i%10 == 0 {
			l.client(spec, account)
		}
		l.must("revoke", l.driver.Revoke(t.Context(), spec, account))
		costs[i] = time.Since(started)
	}
	tenth := max(n/10, 1)
	first, last := sum(costs[:tenth]), sum(costs[n-tenth:])
	t.Logf("%d binds and unbinds: the first %d took %v (median %v), the last %v (median %v): %.2f; data %d kB before, %d kB after",
		n, tenth, first, median(costs[:tenth]), last, median(costs[n-tenth:]), float64(last)/float64(first), size>>10, l.size()>>10)
	if float64(last) > 1.2*float64(first) {
		t.Errorf("the last cost %.2f of the first", float64(last)/float64(first))
	}
	if after := l.leftovers(); after != before {
		t.Errorf("rows in the server's tables: %s before, %s after", before, after)
	}
}

// leftovers counts the rows of every table in which the server keeps accounts.
func (l *lab) leftovers() string {
	l.Helper()
	counts := ""
	for _, table := range []string{
		"global_priv", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "roles_mapping", "proc", "event",
		"table_stats", "column_stats", "innodb_table_stats",
	} {
		counts += fmt.Sprintf(" %s %d", table, l.count("SELECT COUNT(*) FROM mysql."+table))
	}
	return counts + fmt.Sprintf(" user_statistics %d sessions %d",
		l.count("SELECT COUNT(*) FROM information_schema.USER_STATISTICS WHERE USER LIKE 'bdy%'"),
		l.count("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER LIKE 'bdy%'"))
}

// size is that of the account tables' files.
func (l *lab) size() (bytes int64) {
	l.Helper()
	files, err := filepath.Glob(filepath.Join(l.m.Dir(), "data", "mysql", "*.MA[ID]"))
	l.must("list", err)
	if len(files) == 0 {
		l.Fatal("there are no account tables: this test looks at the wrong place")
	}
	for _, name := range files {
		info, err := os.Stat(name)
		l.must("look", err)
		bytes += info.Size()
	}
	return bytes
}

func sum(list []time.Duration) (total time.Duration) {
	for _, d := range list {
		total += d
	}
	return total
}

func median(list []time.Duration) time.Duration {
	sorted := slices.SortedFunc(slices.Values(list), cmp.Compare)
	return sorted[len(sorted)/2]
}
