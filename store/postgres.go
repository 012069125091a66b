package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"bindery"
)

const (
	defaultConnections = 16
	// maxAttempts bounds how often a transaction is run again because the server
	// found no order for it and others; a context usually ends it before.
	maxAttempts = 50
	longestWait = 64 * time.Millisecond
	// maxIdle is how long a connection may do nothing before it is closed.
	maxIdle = 5 * time.Minute
)

// postgresSettings bound what a lost client or a forgotten lock can hold up. The
// store's URL may set others.
var postgresSettings = map[string]string{
	"application_name":                    "bindery",
	"statement_timeout":                   "30s",
	"lock_timeout":                        "10s",
	"idle_in_transaction_session_timeout": "30s",
}

// postgresStore is the engine of a PostgreSQL database, which replicas share.
type postgresStore struct {
	db      *sql.DB
	store   *Store
	lookups lookups
	asker   *asker
}

func openPostgres(ctx context.Context, dsn string, o Options, s *Store) (_ engine, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the store's URL is not one that PostgreSQL understands") // the cause may quote it
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = make(map[string]string)
	}
	if err := foundPostgres(ctx, *config, s); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	for k, v := range postgresSettings {
		if _, ok := config.RuntimeParams[k]; !ok {
			config.RuntimeParams[k] = v
		}
	}
	n := o.Connections
	if n <= 0 {
		n = defaultConnections
	}
	e := &postgresStore{db: stdlib.OpenDB(*config, stdlib.OptionAfterConnect(durable)), store: s, asker: newAsker(config)}
	e.lookups = lookups{ask: e.asker.ask, known: map[version]bindery.Resolution{}, read: func(ctx context.Context, l *lookup) (bindery.Resolution, error) {
		return s.read(ctx, l.service, l.host, bindery.AuthType(l.auth), l.keys)
	}}
	n = max(n-1, 1) // one is the asker's
	e.db.SetMaxOpenConns(n)
	e.db.SetMaxIdleConns(n)
	e.db.SetConnMaxIdleTime(maxIdle)
	return e, nil
}

// foundPostgres migrates on a connection without the time limits of the others:
// a migration takes as long as it takes.
func foundPostgres(ctx context.Context, config pgx.ConnConfig, s *Store) (err error) {
	db := stdlib.OpenDB(config, stdlib.OptionAfterConnect(durable))
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.PingContext(ctx); err != nil {
		return domain(ctx, err, postgresFault(err))
	}
	return s.found(ctx, db, postgresDialect)
}

// durable overrides a server that acknowledges commits before they are safe.
func durable(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

func (e *postgresStore) update(ctx context.Context, f func(*tx) error) error {
	if e.store.vault.stale() {
		if err := e.store.vault.reload(ctx, e.db, false); err != nil {
			return domain(ctx, err, postgresFault(err))
		}
	}
	return e.run(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, f)
}

// view is serializable too: a snapshot alone could show what no order of the
// updates would have had.
func (e *postgresStore) view(ctx context.Context, f func(*tx) error) error {
	return e.run(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true}, f)
}

// look is one round trip. It is tried again where a connection turns out to be
// dead: a look changes nothing.
func (e *postgresStore) look(ctx context.Context, f func(*tx) error) error {
	for again := 0; ; again++ {
		t := &tx{store: e.store, s: pgSession{e.db}}
		if err := f(t); t.spoiled == 0 || again == 2 || ctx.Err() != nil {
			return err
		}
	}
}

func (e *postgresStore) run(ctx context.Context, o *sql.TxOptions, f func(*tx) error) error {
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			return ended(ctx)
		}
		var again fault
		if again, err = e.once(ctx, o, f); again == 0 {
			return err
		}
		if again == faultSealKey {
			if err := e.store.vault.reload(ctx, e.db, false); err != nil {
				return domain(ctx, err, postgresFault(err))
			}
		}
	}
	return err
}

// pause waits a random time that grows with the attempts, so that those who got
// in each other's way do not meet again; false means that the context ended.
func pause(ctx context.Context, attempt int) bool {
	longest := min(time.Millisecond<<min(attempt, 10), longestWait)
	timer := time.NewTimer(rand.N(longest)) //nolint:gosec // jitter is no secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// once runs the transaction; again says why it must be run once more, if it must.
func (e *postgresStore) once(ctx context.Context, o *sql.TxOptions, f func(*tx) error) (again fault, err error) {
	dbtx, err := e.begin(ctx, o)
	if err != nil {
		return 0, domain(ctx, err, postgresFault(err))
	}
	defer func() { _ = dbtx.Rollback() }() // says nothing new, and nothing after a commit
	t := &tx{store: e.store, s: pgSession{dbtx}}
	err = f(t)
	t.over = true
	switch {
	case t.spoiled == faultAgain || t.spoiled == faultSealKey:
		return t.spoiled, unavailable(t.cause)
	case err != nil:
		return 0, err
	case t.spoiled != 0:
		return 0, unavailable(t.cause)
	}
	if err = dbtx.Commit(); err != nil {
		sort := postgresFault(err)
		if sort == faultAgain {
			again = sort
		}
		return again, domain(ctx, err, sort)
	}
	return 0, nil
}

// begin tries again where a connection turns out to be dead, as all idle ones are
// after the server was restarted: nothing has happened yet.
func (e *postgresStore) begin(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error) {
	for again := 0; ; again++ {
		dbtx, err := e.db.BeginTx(ctx, o)
		if err == nil || again == 2 || ctx.Err() != nil {
			return dbtx, err
		}
	}
}

func (e *postgresStore) close() error {
	e.asker.close()
	return e.db.Close()
}

// A pgSession runs statements within a transaction, or each on its own.
type pgSession struct {
	on interface {
		ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	}
}

func (s pgSession) exec(ctx context.Context, text string, args []any) (int64, error) {
	r, err := s.on.ExecContext(ctx, numbered(text), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s pgSession) query(ctx context.Context, text string, args []any, _ bool) (*sql.Rows, error) {
	return s.on.QueryContext(ctx, numbered(text), args...)
}

func (pgSession) fault(err error) fault { return postgresFault(err) }

func (pgSession) dialect() *dialect { return &postgresDialect }

var _ bindery.Tx = (*tx)(nil)
