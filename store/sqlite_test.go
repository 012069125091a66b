package store_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bindery"
	"bindery/seal"
	"bindery/store"
	"bindery/store/storetest"
)

func path(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "bindery.db")
}

func keyring(t *testing.T, current seal.Key, previous ...seal.Key) bindery.Keyring {
	t.Helper()
	r, err := seal.NewKeyring(current, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// addInstance adds one with a secret, and returns it.
func addInstance(t *testing.T, s bindery.Store, id string) bindery.Instance {
	t.Helper()
	row, err := s.NewID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := bindery.Instance{Row: row, Platform: "p", ID: id, State: bindery.StateReady, Parameters: bindery.NewSecret("secret of " + id)}
	if err := s.Update(t.Context(), func(tx bindery.Tx) error { return tx.Instances().Add(t.Context(), i) }); err != nil {
		t.Fatal(err)
	}
	return i
}

// hasInstance checks that an instance is there, with its secret.
func hasInstance(t *testing.T, s bindery.Store, want bindery.Instance) {
	t.Helper()
	err := s.View(t.Context(), func(tx bindery.Tx) error {
		got, err := tx.Instances().Get(t.Context(), want.Row)
		if err == nil && (got.ID != want.ID || !got.Parameters.Equal(want.Parameters)) {
			t.Errorf("row %d: got %s, want %s, or the secret is another", want.Row, got.ID, want.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenAgain(t *testing.T) {
	t.Parallel()
	url, keys := path(t), storetest.Keys(t)
	var installation string
	var instances []bindery.Instance
	seen := map[int64]bool{}
	for range 4 {
		s := openFew(t, url, keys)
		if installation == "" {
			installation = s.Installation()
		}
		if got := s.Installation(); got != installation {
			t.Fatalf("installation: got %s, want %s", got, installation)
		}
		for range 10_000 {
			id, err := s.NewID(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if seen[id] {
				t.Fatalf("id %d was given twice", id)
			}
			seen[id] = true
		}
		for _, i := range instances {
			hasInstance(t, s, i)
		}
		instances = append(instances, addInstance(t, s, string(rune('a'+len(instances)))))
		closed(t, s)
	}
}

// A backup has the counter of its time, and what got an id after that is still on
// the servers.
func TestARestoredStoreGivesNoIDAgain(t *testing.T) {
	t.Parallel()
	url, keys := path(t), storetest.Keys(t)
	take := func() int64 {
		t.Helper()
		s := openFew(t, url, keys)
		defer closed(t, s)
		id, err := s.NewID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	given := take()
	db, err := sql.Open("sqlite", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), `UPDATE meta SET next_id = 1`); err != nil {
		t.Fatal(err)
	}
	if got := take(); got <= given {
		t.Errorf("got id %d, and %d was given before", got, given)
	}
}

func TestOpenForgetsDeadProcesses(t *testing.T) {
	t.Parallel()
	url, keys := path(t), storetest.Keys(t)
	s := openFew(t, url, keys)
	ctx := t.Context()
	o := bindery.Operation{Row: 1, InstanceRow: 1, State: bindery.OpInProgress, Owner: 7, Due: when}
	err := s.Update(ctx, func(tx bindery.Tx) error {
		if err := tx.Processes().Beat(ctx, 7, when.AddDate(100, 0, 0)); err != nil {
			return err
		}
		return tx.Operations().Add(ctx, o)
	})
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = openFew(t, url, keys)
	err = s.Update(ctx, func(tx bindery.Tx) error {
		got, err := tx.Operations().Claim(ctx, 8, when, 1)
		if len(got) != 1 {
			t.Errorf("claimed %d, want 1", len(got))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	key := seal.NewKey()
	tests := map[string]struct {
		url  func(t *testing.T) string
		want string // in the error
	}{
		"no URL":         {func(*testing.T) string { return "" }, "missing"},
		"no file":        {func(*testing.T) string { return "sqlite:" }, "names no file"},
		"memory":         {func(*testing.T) string { return "sqlite::memory:" }, "names no file"},
		"another scheme": {func(*testing.T) string { return "mysql://user:hunter2@host/db" }, "neither of sqlite nor of postgres"},
		"a broken URL":   {func(*testing.T) string { return "postgres://user:hunter2@host:port/db" }, "not one that PostgreSQL understands"},
		"no folder":      {func(t *testing.T) string { return path(t) + "/nowhere/bindery.db" }, "no such file"},
		"no database": {func(t *testing.T) string {
			p := path(t)
			if err := os.WriteFile(p, []byte(strings.Repeat("not a database", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
			return p
		}, "not a database"},
		"a second process": {func(t *testing.T) string {
			p := path(t)
			openFew(t, p, keyring(t, key))
			return p
		}, "another bindery process"},
		"a newer schema": {func(t *testing.T) string {
			p := path(t)
			closed(t, openFew(t, p, keyring(t, key)))
			change(t, p, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
			return p
		}, "newer than this program's"},
		"a wrong master key": {func(t *testing.T) string {
			p := path(t)
			closed(t, openFew(t, p, keyring(t, seal.NewKey())))
			return p
		}, "the sealing key is not this store's"},
		"a data key that was changed": {func(t *testing.T) string {
			p := path(t)
			closed(t, openFew(t, p, keyring(t, key)))
			change(t, p, `UPDATE data_keys SET id = id + 1`)
			return p
		}, "the sealing key is not this store's"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := test.url(t)
			before := content(t, url)
			s, err := store.Open(t.Context(), store.Options{URL: url, Keys: keyring(t, key)})
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opened"), s.Close()))
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %q, want it to say %q", err, test.want)
			}
			if after := content(t, url); after != before {
				t.Error("the refused store was changed")
			}
		})
	}
}

// change runs a statement on a closed store.
func change(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(context.Background(), statement)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// content is what a file holds, or nothing.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(path, "/") && !strings.Contains(path, "nowhere") {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "bindery.db")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := openFew(t, "sqlite://"+file, storetest.Keys(t))
	addInstance(t, s, "a")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: mode %o, want 600", f.Name(), got)
		}
	}
	if len(files) < 3 {
		t.Errorf("files: got %v, want the database, its log and its lock", files)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s := openFew(t, path(t), storetest.Keys(t))
	closed(t, s)
	nothing := func(bindery.Tx) error { return nil }
	for name, err := range map[string]error{
		"update": s.Update(t.Context(), nothing), "view": s.View(t.Context(), nothing), "ping": s.Ping(t.Context()), "close": s.Close(),
	} {
		if want := name != "close"; (bindery.CodeOf(err) == bindery.CodeUnavailable) != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestNoSecretInFile looks for what must be sealed in everything that was written.
func TestNoSecretInFile(t *testing.T) {
	t.Parallel()
	file := path(t)
	s := openFew(t, file, storetest.Keys(t))
	i := addInstance(t, s, "a")
	ctx := t.Context()
	const needle = "a-very-secret-needle"
	secret := bindery.NewSecret(needle)
	i.Parameters = secret
	err := s.Update(ctx, func(tx bindery.Tx) error {
		return errors.Join(
			tx.Instances().Save(ctx, i, i.State),
			tx.Bindings().Add(ctx, bindery.Binding{Row: 1, InstanceRow: i.Row, ID: "b", State: bindery.StateReady, Parameters: secret}),
			tx.Accounts().Add(ctx, bindery.Account{Row: 1, Name: "n", State: bindery.AccountWanted, Material: secret}),
			tx.Operations().Add(ctx, bindery.Operation{Row: 1, State: bindery.OpInProgress, Request: secret}),
			tx.ServiceTypes().Add(ctx, bindery.ServiceType{Row: 1}),
			tx.AuthMethods().Add(ctx, bindery.AuthMethod{Row: 1, ServiceRow: 1, Material: secret}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{file, file + "-wal"} {
		if strings.Contains(content(t, f), needle) {
			t.Errorf("%s holds a secret in clear", filepath.Base(f))
		}
	}
}

// TestMovedSecret moves a sealed value to another row, which must not open.
func TestMovedSecret(t *testing.T) {
	t.Parallel()
	file, keys := path(t), storetest.Keys(t)
	s := openFew(t, file, keys)
	a, b := addInstance(t, s, "a"), addInstance(t, s, "b")
	closed(t, s)
	change(t, file, `UPDATE instances SET parameters = (SELECT parameters FROM instances WHERE guid = 'a') WHERE guid = 'b'`)
	s = openFew(t, file, keys)
	hasInstance(t, s, a)
	err := s.View(t.Context(), func(tx bindery.Tx) error {
		_, err := tx.Instances().Get(t.Context(), b.Row)
		return err
	})
	if bindery.CodeOf(err) != bindery.CodeInternal {
		t.Fatalf("got %v, want it refused", err)
	}
}
