package postgres_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// clients is how many binds the benchmarks make at once.
const clients = 8

// BenchmarkEnsure compares a bind with the least that one can be: to derive a
// verifier and to send CREATE ROLE. Run it with a number of iterations that does
// not vary (-benchtime 1000x): from PostgreSQL 16 on, every role costs later ones.
func BenchmarkEnsure(b *testing.B) {
	onServers(b, func(b *testing.B, p *devserver.Postgres) {
		bareCreate(b, p)
	}, func(b *testing.B, p *devserver.Postgres) {
		d, spec := benchDriver(b, p)
		atOnce(b, func(i int) error {
			_, err := ensureNew(b.Context(), d, spec, i)
			return err
		})
	})
}

// BenchmarkRevoke compares an unbind with a DROP ROLE.
func BenchmarkRevoke(b *testing.B) {
	onServers(b, func(b *testing.B, p *devserver.Postgres) {
		conns := bareCreate(b, p)
		b.ResetTimer()
		bare(b, conns, func(i int) string { return fmt.Sprintf("DROP ROLE bare_%d", i) })
	}, func(b *testing.B, p *devserver.Postgres) {
		d, spec := benchDriver(b, p)
		accounts := make([]bindery.Account, b.N)
		atOnce(b, func(i int) (err error) {
			accounts[i], err = ensureNew(b.Context(), d, spec, i)
			return err
		})
		b.ResetTimer()
		atOnce(b, func(i int) error { return d.Revoke(b.Context(), spec, accounts[i]) })
	})
}

// onServers runs a benchmark of bare statements and one of the driver, each on
// new servers, the oldest and the newest, which flush to disk.
func onServers(b *testing.B, bare, driver func(*testing.B, *devserver.Postgres)) {
	for _, v := range []servertest.Version{servertest.Oldest, servertest.Newest} {
		for name, run := range map[string]func(*testing.B, *devserver.Postgres){"bare": bare, "driver": driver} {
			b.Run(string(v)+"/"+name, func(b *testing.B) {
				run(b, servertest.Postgres(b, v, func(o *devserver.PostgresOptions) { o.NoFsync = false }))
			})
		}
	}
}

func benchDriver(b *testing.B, p *devserver.Postgres) (bindery.Driver, bindery.InstanceSpec) {
	b.Helper()
	id := newInstallation()
	d := openDriver(b, p, id, time.Minute)
	spec := bindery.InstanceSpec{Name: bindery.Name(id, 1)}
	if err := d.Provision(b.Context(), spec); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	return d, spec
}

func ensureNew(ctx context.Context, d bindery.Driver, spec bindery.InstanceSpec, i int) (bindery.Account, error) {
	account := bindery.Account{Name: spec.Name + fmt.Sprintf("%010d", i)}
	var err error
	if account.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: account.Name}); err != nil {
		return account, err
	}
	made, err := d.Ensure(ctx, spec, account)
	account.Details = made.Details
	return account, err
}

// bareCreate makes roles over open connections, and returns those.
func bareCreate(b *testing.B, p *devserver.Postgres) []*pgconn.PgConn {
	b.Helper()
	conns := make([]*pgconn.PgConn, clients)
	for i := range conns {
		c, err := pgconn.Connect(b.Context(), p.URL("postgres").Reveal())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close(context.Background()) })
		conns[i] = c
	}
	b.ResetTimer()
	bare(b, conns, func(i int) string {
		return fmt.Sprintf("CREATE ROLE bare_%d LOGIN PASSWORD '%s'", i, bareVerifier())
	})
	return conns
}

func bareVerifier() string {
	secret := make([]byte, 48)
	_, _ = rand.Read(secret)
	b64 := base64.StdEncoding.EncodeToString
	salt := secret[32:]
	key, err := pbkdf2.Key(sha256.New, b64(secret[:32]), salt, 4096, 32)
	if err != nil {
		panic(err)
	}
	mac := func(m string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(m))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	return fmt.Sprintf("SCRAM-SHA-256$4096:%s$%s:%s", b64(salt), b64(stored[:]), b64(mac("Server Key")))
}

func bare(b *testing.B, conns []*pgconn.PgConn, sql func(i int) string) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if _, err := c.Exec(b.Context(), sql(i)).ReadAll(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// atOnce makes b.N calls, as many at once as there are clients.
func atOnce(b *testing.B, call func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
