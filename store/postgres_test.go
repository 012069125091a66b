package store_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/store"
	"bindery/store/storetest"
)

// database makes one for this test, in a server that the package's tests share,
// and returns its URL.
func database(t *testing.T, v servertest.Version) string {
	t.Helper()
	p := servertest.SharedPostgres(t, v)
	c, err := pgx.Connect(t.Context(), p.SuperURL("postgres").Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }() // nothing was kept open
	name := "store_" + strings.ToLower(rand.Text())
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), p.SuperURL("postgres").Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close(context.Background()) }() // nothing was kept open
		// FORCE, which would do both, is new in 13.
		if _, err := c.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name); err != nil {
			t.Error(err)
		}
		if _, err := c.Exec(context.Background(), "DROP DATABASE "+name); err != nil { // waits for sessions that are ending
			t.Error(err)
		}
	})
	return p.SuperURL(name).Reveal()
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		storetest.Run(t, func(t *testing.T) bindery.Store { return openFew(t, database(t, v), storetest.Keys(t)) })
	})
}

// openFew opens a store with few connections: many tests share a server.
func openFew(tb testing.TB, url string, keys bindery.Keyring) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Options{URL: url, Keys: keys, Connections: 4})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
