package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"syscall"

	"bindery"
)

// sqliteStore is the engine of an SQLite file that this process has alone.
type sqliteStore struct {
	lock    *os.File
	db      *sql.DB // the writer's connection, and the checkpointer's
	reading *sql.DB
	writer  *writer
	readers chan *conn // idle connections; nil for one that is not open yet
	check   *checkpointer
	store   *Store
}

const (
	pageCache      = 64 << 10 // KiB, of the writer
	defaultReaders = 4
)

// sqliteURL makes the driver's name for a file with settings of a connection.
func sqliteURL(path string, settings ...string) string {
	q := url.Values{"_pragma": settings}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

func openSQLite(ctx context.Context, path string, o Options, s *Store) (_ engine, err error) {
	e := &sqliteStore{store: s}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the store: %w", errors.Join(err, e.close()))
		}
	}()
	if e.lock, err = lockFile(path + "-lock"); err != nil {
		return nil, err
	}
	if err = private(path); err != nil {
		return nil, err
	}
	// synchronous=FULL: a commit survives power loss. The log is checkpointed in the
	// background, never by the commit that happens to fill it.
	e.db, err = sql.Open("sqlite", sqliteURL(path, "busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)",
		"wal_autocheckpoint(0)", fmt.Sprintf("journal_size_limit(%d)", keptLog), fmt.Sprintf("cache_size(-%d)", pageCache), "temp_store(memory)"))
	if err != nil {
		return nil, err
	}
	if err = s.found(ctx, e.db, sqliteDialect); err != nil {
		return nil, err
	}
	// Whoever had the file before is dead: this process holds the lock.
	if _, err = e.db.ExecContext(ctx, `DELETE FROM processes`); err != nil {
		return nil, err
	}
	e.reading, err = sql.Open("sqlite", sqliteURL(path, "busy_timeout(10000)", "query_only(1)", "temp_store(memory)"))
	if err != nil {
		return nil, err
	}
	n := o.Connections
	if n <= 0 {
		n = defaultReaders
	}
	e.readers = make(chan *conn, n)
	for range n {
		e.readers <- nil
	}
	c, err := connect(ctx, e.db)
	if err != nil {
		return nil, err
	}
	e.check = newCheckpointer(e.db, path)
	e.writer = newWriter(c, s, e.check)
	e.check.writer = e.writer
	go e.writer.run()
	go e.check.run()
	return e, nil
}

// lockFile takes the lock of a store. A file beside the database is locked,
// because closing any handle of the database itself drops SQLite's own locks.
// The kernel drops this lock with the process, however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another bindery process has this store open")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// private makes the file, or an existing one, its owner's alone. SQLite gives
// its side files the same mode.
func private(path string) error {
	for _, p := range []string{path, path + "-wal", path + "-shm"} {
		err := os.Chmod(p, 0o600)
		if p == path && errors.Is(err, fs.ErrNotExist) {
			f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			return f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (e *sqliteStore) update(ctx context.Context, f func(*tx) error) error {
	return e.writer.update(ctx, f)
}

// reader takes a connection; it is given back to readers.
func (e *sqliteStore) reader(ctx context.Context) (*conn, error) {
	var c *conn
	select {
	case <-ctx.Done():
		return nil, ended(ctx)
	case <-e.writer.stopped:
		return nil, errClosed
	case c = <-e.readers:
	}
	if c != nil {
		return c, nil
	}
	c, err := connect(ctx, e.reading)
	if err != nil {
		e.readers <- nil
		return nil, domain(ctx, err, sqliteFault(err))
	}
	return c, nil
}

// view runs f in the caller's goroutine: what it panics with is the caller's.
func (e *sqliteStore) view(ctx context.Context, f func(*tx) error) error {
	c, err := e.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { e.readers <- c }()
	if err := c.do("BEGIN"); err != nil {
		return domain(ctx, err, sqliteFault(err))
	}
	t := &tx{store: e.store, s: c}
	defer func() {
		t.over = true
		if err := c.do("ROLLBACK"); err != nil {
			c.close() // not worth keeping
			c = nil
		}
	}()
	err = f(t)
	if err == nil && t.spoiled != 0 {
		return unavailable(t.cause) // f took no notice of what it could not read
	}
	return err
}

func (e *sqliteStore) look(ctx context.Context, f func(*tx) error) error {
	c, err := e.reader(ctx)
	if err != nil {
		return err
	}
	t := &tx{store: e.store, s: c}
	defer func() {
		if t.spoiled != 0 {
			c.close() // not worth keeping
			c = nil
		}
		e.readers <- c
	}()
	return f(t)
}

// close also ends an engine that did not open whole.
func (e *sqliteStore) close() error {
	if e.check != nil {
		e.check.stop()
	}
	if e.writer != nil {
		e.writer.stop()
	}
	if e.readers != nil {
		for range cap(e.readers) {
			if c := <-e.readers; c != nil {
				c.close()
			}
		}
	}
	var errs []error
	for _, db := range []*sql.DB{e.reading, e.db} { // the writer last: it empties the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}

// A conn is one SQLite connection with its prepared statements. It is used by
// one goroutine at a time.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
}

var _ session = (*conn)(nil)

func connect(ctx context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: make(map[string]*sql.Stmt)}, nil
}

func (c *conn) close() {
	for _, s := range c.stmts {
		_ = s.Close() // the connection goes anyway
	}
	_ = c.c.Close()
}

// stmt prepares a text once. The background context is no slip: with one that can
// end, the driver starts a goroutine for each statement to watch it.
func (c *conn) stmt(text string) (*sql.Stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	s, err := c.c.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, err
	}
	c.stmts[text] = s
	return s, nil
}

// do runs a statement that controls the transaction.
func (c *conn) do(text string) error {
	_, err := c.exec(context.Background(), text, nil)
	return err
}

// exec is not interrupted: SQLite undoes the whole transaction, other callers'
// parts included, where a change is interrupted. Changes by key are short.
func (c *conn) exec(_ context.Context, text string, args []any) (int64, error) {
	s, err := c.stmt(text) //nolint:sqlclosecheck // it is the connection's, which closes it
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *conn) query(ctx context.Context, text string, args []any, long bool) (*sql.Rows, error) {
	s, err := c.stmt(text) //nolint:sqlclosecheck // it is the connection's, which closes it
	if err != nil {
		return nil, err
	}
	if !long {
		ctx = context.Background()
	}
	return s.QueryContext(ctx, args...)
}

func (c *conn) fault(err error) fault { return sqliteFault(err) }

func (c *conn) dialect() *dialect { return &sqliteDialect }

var errPanicked = bindery.Errorf(bindery.CodeInternal, "a transaction panicked")
