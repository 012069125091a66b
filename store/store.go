// Package store keeps everything that Bindery must not forget, in an embedded
// SQLite database or in PostgreSQL: the same tables and the same queries, one
// folder of migrations each.
//
//   - SQLite: one goroutine writes. It commits the transactions of all callers
//     that are waiting together, a savepoint each, so that one fsync serves many
//     (see writer). Views read beside it, on connections of their own.
//   - PostgreSQL: transactions are serializable, and run again where the server
//     found no order for them.
//
// Secrets are sealed before they reach a statement; see package seal.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"sync"

	"bindery"
)

var _ bindery.Store = (*Store)(nil)

// Options say what to open.
type Options struct {
	// URL is sqlite:/path/file.db, a plain path, or postgres://….
	URL string
	// Keys hold the master keys. A store sealed under none of them does not open.
	Keys bindery.Keyring
	// Connections bounds those to PostgreSQL, and those that read SQLite. 0: a good number.
	Connections int
}

// A Store implements [bindery.Store].
type Store struct {
	engine       engine
	vault        *vault
	ids          *ids
	installation string
	hosts        hostLists
	front        front
	closing      sync.Once
	closed       error
}

// An engine runs transactions on one kind of database.
type engine interface {
	update(ctx context.Context, f func(*tx) error) error
	view(ctx context.Context, f func(*tx) error) error
	// look is view for an f that runs one statement: it needs no transaction around it.
	look(ctx context.Context, f func(*tx) error) error
	close() error
}

// Open opens the store, and makes it where there is none. It refuses a sealing
// key that is not the store's, a schema newer than this program, and an SQLite
// file that another process has open. What it refuses it leaves unchanged.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Keys == nil {
		return nil, errors.New("a store needs a keyring")
	}
	where, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{vault: newVault(o.Keys)}
	s.ids = newIDs(s.reserve)
	if where.path != "" {
		s.engine, err = openSQLite(ctx, where.path, o, s)
	} else {
		s.engine, err = openPostgres(ctx, where.dsn, o, s)
	}
	if err != nil {
		return nil, err
	}
	if err := s.ids.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// found checks and fills what a database must have before it is used: its
// installation id and its data keys. It runs on a plain connection, before the
// engine starts.
func (s *Store) found(ctx context.Context, db *sql.DB, d dialect) error {
	if err := migrate(ctx, db, d); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, d.rebind(`INSERT INTO meta (id, installation, next_id) VALUES (1, ?, 1) ON CONFLICT DO NOTHING`), newInstallation())
	if err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, `SELECT installation FROM meta WHERE id = 1`).Scan(&s.installation); err != nil {
		return err
	}
	return s.vault.load(ctx, db, d, s.installation)
}

// newInstallation makes 6 characters out of [a-z0-9].
func newInstallation() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, 6)
	for len(out) < cap(out) {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails, says crypto/rand
		for _, c := range b {
			// The largest multiple of 36 in a byte, so that no letter is likelier.
			if c < 252 && len(out) < cap(out) {
				out = append(out, letters[c%36])
			}
		}
	}
	return string(out)
}

// Update implements [bindery.Store].
func (s *Store) Update(ctx context.Context, f func(bindery.Tx) error) error {
	return s.engine.update(ctx, func(t *tx) error { return f(t) })
}

// View implements [bindery.Store].
func (s *Store) View(ctx context.Context, f func(bindery.Tx) error) error {
	return s.engine.view(ctx, func(t *tx) error { return f(t) })
}

// NewID implements [bindery.Store].
func (s *Store) NewID(ctx context.Context) (int64, error) { return s.ids.take(ctx) }

// Installation implements [bindery.Store].
func (s *Store) Installation() string { return s.installation }

// Ping implements [bindery.Store]: it writes, and so tells a full disk or a
// read-only replica from a healthy database.
func (s *Store) Ping(ctx context.Context) error {
	return s.engine.update(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE meta SET pinged = ? WHERE id = 1`, now())
		return err
	})
}

// Close implements [bindery.Store]. Transactions under way end first.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.ids.close()
		s.closed = s.engine.close()
	})
	return s.closed
}
