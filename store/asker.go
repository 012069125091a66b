package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// An asker is the connection on which lookups ask, kept for them alone. It speaks
// the protocol itself: what database/sql, and a context that is watched, cost for
// each question is more than the question costs the server.
type asker struct {
	config *pgx.ConnConfig

	mu        sync.Mutex // held while somebody asks, who is alone
	conn      *pgconn.PgConn
	statement *pgconn.StatementDescription
	used      time.Time // last
	args      [askedTexts][]byte
	closed    bool
}

func newAsker(config *pgx.ConnConfig) *asker {
	a := &asker{config: config.Copy()}
	// To plan costs ten times what the lookup does, and the server would do it for each
	// one where it believes that lists of other lengths need other plans.
	a.config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	return a
}

// ask is one round trip. It is made again where the connection turns out to be
// dead: a look changes nothing.
func (a *asker) ask(all []*lookup) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	began := time.Now()
	deadline := began.Add(askLimit)
	if a.conn != nil && began.Sub(a.used) > maxIdle {
		a.drop() // something in between may have forgotten it
	}
	for again := 0; ; again++ {
		if a.closed {
			return errClosed
		}
		err := a.try(all, deadline)
		if err == nil {
			a.used = began
			return nil
		}
		f := postgresFault(err)
		if f == faultInvalid || again == 2 || !time.Now().Before(deadline) {
			return domain(context.Background(), err, f)
		}
	}
}

func (a *asker) try(all []*lookup, deadline time.Time) error {
	if a.conn == nil {
		if err := a.connect(deadline); err != nil {
			return err
		}
	}
	err := a.round(all, deadline)
	if err != nil {
		a.drop()
	}
	return err
}

func (a *asker) connect(deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, a.config)
	if err != nil {
		return err
	}
	a.conn = c.PgConn()
	if a.statement, err = a.conn.Prepare(ctx, "lookups", numbered(askVersions), nil); err != nil {
		a.drop()
	}
	return err
}

func (a *asker) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.conn.Close(ctx) // it is of no use any more
	a.conn, a.statement = nil, nil
}

func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.conn != nil {
		a.drop()
	}
}

var inBinary = []int16{pgtype.BinaryFormatCode}

func (a *asker) round(all []*lookup, deadline time.Time) error {
	if err := a.conn.Conn().SetDeadline(deadline); err != nil {
		return err
	}
	for _, l := range all {
		l.found = version{} // an earlier try may have found something
	}
	for i := range a.args {
		a.args[i] = textArray(a.args[i][:0], all, i)
	}
	rows := a.conn.ExecStatement(context.Background(), a.statement, a.args[:], inBinary, inBinary)
	var wrong error
	for rows.NextRow() {
		if err := answered(all, rows.Values()); err != nil {
			wrong = err
		}
	}
	if _, err := rows.Close(); err != nil {
		return err
	}
	return wrong
}

// askedTexts is how many texts a lookup asks for.
const askedTexts = 5

func (l *lookup) asks(text int) string {
	return [askedTexts]string{l.service, l.host, l.auth, l.keys.Exact, l.keys.Old}[text]
}

// textArray appends PostgreSQL's binary form of a list of texts: how many dimensions,
// whether there are nulls, the type, length and first index of the dimension, the texts.
func textArray(b []byte, all []*lookup, text int) []byte {
	for _, n := range [5]int{1, 0, pgtype.TextOID, len(all), 1} {
		b = appendLength(b, n)
	}
	for _, l := range all {
		b = append(appendLength(b, len(l.asks(text))), l.asks(text)...)
	}
	return b
}

func appendLength(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // texts and lists are bounded
}

// answered reads one row. The first of its numbers says whose it is.
func answered(all []*lookup, row [][]byte) error {
	var v [8]int64
	if len(row) != len(v) {
		return fmt.Errorf("a lookup has %d columns", len(row))
	}
	for i, b := range row {
		if len(b) != 8 {
			return fmt.Errorf("column %d of a lookup has %d bytes", i, len(b))
		}
		v[i] = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // it was one
	}
	if v[0] < 1 || v[0] > int64(len(all)) {
		return fmt.Errorf("an answer to lookup %d of %d", v[0], len(all))
	}
	l := all[v[0]-1]
	l.found = version{
		host: l.host, auth: l.auth, service: v[1], serviceAt: v[2], method: v[3], methodAt: v[4],
		binding: v[5], bindingAt: v[6], byOldForm: v[7],
	}
	return nil
}
