package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"bindery"
)

// A session is a connection with a transaction open. Its errors are the driver's.
type session interface {
	exec(ctx context.Context, text string, args []any) (affected int64, err error)
	// query reads. A long one may visit many rows, and can be interrupted.
	query(ctx context.Context, text string, args []any, long bool) (*sql.Rows, error)
	fault(error) fault
	dialect() *dialect
}

// tx implements [bindery.Tx] on a session, for one run of one function.
type tx struct {
	store *Store
	s     session
	// spoiled is the worst that a statement met: the engine runs the transaction
	// again, or fails it, whatever its function made of the error.
	spoiled fault
	cause   error
	over    bool
	drops   bool // drops data keys: a foreign key that refuses is an answer
}

func (t *tx) Instances() bindery.Instances   { return instances{t} }
func (t *tx) Bindings() bindery.Bindings     { return bindings{t} }
func (t *tx) Accounts() bindery.Accounts     { return accounts{t} }
func (t *tx) Operations() bindery.Operations { return operations{t} }
func (t *tx) Events() bindery.Events         { return events{t} }
func (t *tx) Processes() bindery.Processes   { return processes{t} }

// usable is asked before every statement.
func (t *tx) usable(ctx context.Context) error {
	if t.over {
		return errRan
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

// answer turns a driver's error into a caller's, and remembers what spoils the transaction.
func (t *tx) answer(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	f := t.s.fault(err)
	if f == faultSealKey && t.drops {
		return errKeyUsed.Because(err)
	}
	switch f { //nolint:exhaustive // the others spoil nothing
	case faultAgain, faultUnavailable, faultSealKey:
		// A query that its own caller's context interrupted spoils nothing.
		if !isContext(err) && t.spoiled != faultAgain && t.spoiled != faultSealKey {
			t.spoiled, t.cause = f, err
		}
	}
	return domain(ctx, err, f)
}

func (t *tx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	if err := t.usable(ctx); err != nil {
		return 0, err
	}
	n, err := t.s.exec(ctx, text, args)
	return n, t.answer(ctx, err)
}

// change is exec for statements that name the state a row must be in: no row is CodeBusy.
func (t *tx) change(ctx context.Context, text string, args ...any) error {
	n, err := t.exec(ctx, text, args...)
	if err == nil && n == 0 {
		return errMoved
	}
	return err
}

// get reads at most one row by a key.
func (t *tx) get(ctx context.Context, text string, args []any, dest ...any) (found bool, err error) {
	err = t.each(ctx, text, args, false, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	})
	return found && err == nil, err
}

// each reads rows; f scans one of them.
func (t *tx) each(ctx context.Context, text string, args []any, long bool, f func(*sql.Rows) error) error {
	if err := t.usable(ctx); err != nil {
		return err
	}
	rows, err := t.s.query(ctx, text, args, long)
	if err != nil {
		return t.answer(ctx, err)
	}
	defer func() { _ = rows.Close() }() // Err tells the same
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return t.answer(ctx, rows.Err())
}

// now is the time in the store's unit.
func now() int64 { return time.Now().UnixMicro() }

// micros is how times are kept: microseconds, and 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(v).UTC()
}

// tombs is above every id; see the migrations.
const tombs = 1 << 62

func tomb(removed bool, row int64) int64 {
	if removed {
		return tombs - row
	}
	return 0
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob keeps "none" (NULL) apart from an empty value.
func blob(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return []byte(raw)
}

// marks is "?, ?, …" for a list of columns.
func marks(columns string) string {
	return strings.Repeat("?, ", strings.Count(columns, ",")) + "?"
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(p bindery.Page) int {
	if p.Limit <= 0 {
		return defaultPage
	}
	return min(p.Limit, maxPage)
}

// where collects the conditions of a list. The texts that it makes are few, so
// that statements stay prepared.
type where struct {
	text strings.Builder
	args []any
}

func (w *where) and(condition string, args ...any) {
	if w.text.Len() == 0 {
		w.text.WriteString(" WHERE ")
	} else {
		w.text.WriteString(" AND ")
	}
	w.text.WriteString(condition)
	w.args = append(w.args, args...)
}

// page ends the statement: rows after the last one seen, in order.
func (w *where) page(p bindery.Page) (string, []any) {
	w.and("id > ?", p.After)
	return w.text.String() + " ORDER BY id LIMIT ?", append(w.args, pageSize(p))
}
