package store_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"bindery"
	"bindery/store/storetest"
)

// TestUpgrade takes a store with rows back to the first schema, opens it again,
// and finds everything.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, keys := url(t), storetest.Keys(t)
			s := openFew(t, url, keys)
			i := addInstance(t, s, "a")
			expiring := bindery.Binding{Row: newID(t, s), InstanceRow: i.Row, State: bindery.StateReady, Expires: when}
			if err := s.Update(t.Context(), func(tx bindery.Tx) error { return tx.Bindings().Add(t.Context(), expiring) }); err != nil {
				t.Fatal(err)
			}
			id, installation := newID(t, s), s.Installation()
			closed(t, s)
			downgrade(t, name, url)
			s = openFew(t, url, keys)
			hasInstance(t, s, i)
			if s.Installation() != installation || newID(t, s) <= id {
				t.Error("it is another store now")
			}
			m := addAuthMethod(t, s, "a")
			hasAuthMethod(t, s, m)
			err := s.View(t.Context(), func(tx bindery.Tx) error {
				at, ok, err := tx.Bindings().NextExpiry(t.Context())
				if !ok || !at.Equal(when) {
					t.Errorf("the binding expires at %v, %v, want %v", at, ok, when)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// downgrade undoes all migrations but the first.
func downgrade(t *testing.T, name, url string) {
	t.Helper()
	driver := map[string]string{"sqlite": "sqlite", "postgres": "pgx"}[name]
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	files, err := os.ReadDir("migrations/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(files) - 1; n > 0; n-- {
		text, err := os.ReadFile("migrations/" + name + "/" + files[n].Name())
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(text), "-- +goose Down")
		if _, err := db.ExecContext(context.Background(), down); err != nil {
			t.Fatal(err)
		}
	}
	r, err := db.ExecContext(context.Background(), `DELETE FROM goose_db_version WHERE version_id > 1`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("it was at the first schema already: %d, %v", n, err)
	}
}

func newID(t *testing.T, s bindery.Store) int64 {
	t.Helper()
	id, err := s.NewID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// addAuthMethod adds one with a secret, and its service type.
func addAuthMethod(t *testing.T, s bindery.Store, name string) bindery.AuthMethod {
	t.Helper()
	service := bindery.ServiceType{Row: newID(t, s), UUID: name, Name: name, Hosts: []string{"host"}, Revision: 1}
	m := bindery.AuthMethod{Row: newID(t, s), ServiceRow: service.Row, ServiceUUID: name, Host: "host", Material: bindery.NewSecret("key of " + name), Revision: 1}
	err := s.Update(t.Context(), func(tx bindery.Tx) error {
		return errors.Join(tx.ServiceTypes().Add(t.Context(), service), tx.AuthMethods().Add(t.Context(), m))
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// hasAuthMethod checks that an auth method is found, with its secret, in every way.
func hasAuthMethod(t *testing.T, s bindery.Store, want bindery.AuthMethod) {
	t.Helper()
	found, err := s.Resolve(t.Context(), want.ServiceUUID, want.Host, bindery.AuthX509, bindery.IdentityKeys{Exact: "none"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(tx bindery.Tx) error {
		byHost, err := tx.AuthMethods().ByHost(t.Context(), want.ServiceRow, want.Host)
		if err != nil {
			return err
		}
		for how, got := range map[string]bindery.AuthMethod{"resolved": found.Method, "by host": byHost} {
			if got.Row != want.Row || !got.Material.Equal(want.Material) {
				t.Errorf("%s: got row %d, want %d, or the secret is another", how, got.Row, want.Row)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotateAuthMethods rotates the seal of auth methods while another replica,
// which knows the old data key only, has them resolved.
func TestRotateAuthMethods(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, keys := url(t), storetest.Keys(t)
			s := openFew(t, url, keys)
			other := s // SQLite has one process alone
			if name == "postgres" {
				other = openFew(t, url, keys)
			}
			m := addAuthMethod(t, s, "a")
			hasAuthMethod(t, other, m)
			if got := status(t, s).Keys; len(got) != 1 || got[0].Records != 1 {
				t.Fatalf("before: got %+v", got)
			}
			if got, err := s.RotateSeal(t.Context(), nil); err != nil || got.Records != 1 || got.Dropped != 1 {
				t.Fatalf("rotate: got %+v, %v", got, err)
			}
			if got := status(t, s).Keys; len(got) != 1 || got[0].ID != 2 || got[0].Records != 1 {
				t.Fatalf("after: got %+v", got)
			}
			hasAuthMethod(t, s, m)
			hasAuthMethod(t, other, m)
			hasAuthMethod(t, s, addAuthMethod(t, other, "b"))
		})
	}
}
