package mtls_test

import (
	"context"
	"fmt"
	"testing"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/mtls"
	"bindery/store/storetest"
)

// TestDriver runs the suite on SQLite where servers are shared, and where they are
// hung, cut off and killed on PostgreSQL: the store is all that this kind has of a server.
func TestDriver(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	drivertest.RunDataless(t,
		func(*testing.T) drivertest.Server { return w.promise() },
		func(t *testing.T) drivertest.Server {
			p := servertest.Postgres(t, servertest.Newest)
			return postgres(t, p)
		})
}

func postgres(t *testing.T, p *devserver.Postgres) drivertest.Server {
	t.Helper()
	keys := storetest.Keys(t)
	url := func(addr string) string {
		return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", p.Superuser, p.SuperPassword.Reveal(), addr)
	}
	w := newWorld(t, newStore(t, url(p.Addr), keys))
	s := w.promise()
	s.Address = p.Addr
	var before bindery.Store // of the process before, which is dead when the next one starts
	s.OpenAt = func(t testing.TB, installation, address string) bindery.Driver {
		t.Helper()
		server := w.config(installation)
		server.Store = newStore(t, url(address), keys)
		if before != nil {
			_ = before.Close() // its connections are cut off
		}
		before = server.Store
		d, err := mtls.Kind.Open(server)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	s.Kill, s.Pause, s.Resume = p.Kill, p.Pause, p.Resume
	s.Restart = func(ctx context.Context) error {
		if err := p.Kill(); err != nil {
			return err
		}
		return p.Start(ctx)
	}
	return s
}
