package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"bindery"
)

var (
	errClosed = bindery.Errorf(bindery.CodeUnavailable, "the store is closed")
	errTaken  = bindery.Errorf(bindery.CodeConflict, "this id is taken")
	errMoved  = bindery.Errorf(bindery.CodeBusy, "it was changed meanwhile")
	errActive = bindery.Errorf(bindery.CodeBusy, "another operation is in progress")
	// errKeyUsed is for a rotation, which then seals what is left.
	errKeyUsed = bindery.Errorf(bindery.CodeBusy, "an old data key is still in use")
	// errRan is for a transaction that is used after its function returned.
	errRan = errors.New("the transaction has ended")
)

func notFound(what string) error {
	return bindery.Errorf(bindery.CodeNotFound, "there is no such %s", what)
}

// ended is what a caller gets whose context ended first.
func ended(ctx context.Context) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the store did not answer in time").Because(context.Cause(ctx))
}

func unavailable(err error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the store does not answer").Because(err)
}

// fault sorts what a database answered.
type fault int

const (
	faultInternal    fault = iota // a mistake of ours, or damage
	faultUnavailable              // it may work later
	faultAgain                    // run the transaction again
	faultTaken                    // a unique index refused
	faultInvalid                  // a value that the database cannot hold
	faultSealKey                  // a data key that was dropped meanwhile
)

// domain turns what a database answered into the error that callers get.
func domain(ctx context.Context, err error, f fault) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && (f == faultUnavailable || errors.Is(err, ctx.Err())) {
		return ended(ctx)
	}
	switch f {
	case faultTaken:
		return errTaken.Because(err)
	case faultInvalid:
		return bindery.Errorf(bindery.CodeInvalid, "a value cannot be stored").Because(err)
	case faultUnavailable, faultAgain, faultSealKey:
		return unavailable(err)
	default:
		return err
	}
}

// sqliteFault sorts by extended result code.
func sqliteFault(err error) fault {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		if errors.Is(err, sql.ErrConnDone) || isContext(err) {
			return faultUnavailable
		}
		return faultInternal
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return faultTaken
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL:
		return faultUnavailable
	case sqlite3.SQLITE_TOOBIG:
		return faultInvalid
	}
	return faultInternal
}

// postgresFault sorts by SQLSTATE; what has none never reached the server, or
// lost it.
func postgresFault(err error) fault {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrNoRows) {
			return faultInternal
		}
		return faultUnavailable
	}
	switch e.Code {
	case "40001", "40P01":
		return faultAgain
	case "23505":
		return faultTaken
	case "23503":
		return faultSealKey // the only foreign keys are those on data_keys
	case "22021", "22P05", "54000": // a character or a size that it refuses
		return faultInvalid
	}
	switch e.Code[:2] {
	// Connections, resources, an operator's intervention (timeouts included), the
	// system; and a failed login, which a wrong restart can cause.
	case "08", "53", "57", "58", "28", "55":
		return faultUnavailable
	}
	if e.Code == "25006" { // read-only: a replica, or a disk that is being saved
		return faultUnavailable
	}
	return faultInternal
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
