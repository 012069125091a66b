package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"bindery"
)

type authentications struct{ *tx }

func (t *tx) Authentications() bindery.Authentications { return authentications{t} }

// chunks are how many rows a statement of Record has: many, for on PostgreSQL each
// statement is a round trip, in few sizes, so that statements stay prepared.
var chunks = []int{64, 8, 1}

// The texts by chunk. Both databases call the columns of VALUES column1, column2, ….
var recordAuthentications, forwardLastAuth = func() (record, forward map[int]string) {
	record, forward = make(map[int]string), make(map[int]string)
	for _, n := range chunks {
		rows := func(row string) string { return `(VALUES ` + strings.Repeat(row+`, `, n-1) + row + `) AS v` }
		record[n] = `INSERT INTO authentications (binding_row, outcome, at, count)
			SELECT v.column1, v.column2, v.column3, v.column4
			FROM ` + rows(`(CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))`) + `
			WHERE v.column1 = 0 OR EXISTS (SELECT 1 FROM identity_bindings b JOIN service_types s ON s.id = b.service_row
				WHERE b.id = v.column1 AND s.removed = 0)
			ON CONFLICT (binding_row, outcome, at) DO UPDATE SET count = authentications.count + excluded.count`
		forward[n] = `UPDATE identity_bindings SET last_auth = v.column2
			FROM ` + rows(`(CAST(? AS BIGINT), CAST(? AS BIGINT))`) + `
			WHERE identity_bindings.id = v.column1 AND identity_bindings.last_auth < v.column2`
	}
	return record, forward
}()

// inChunks runs the texts over all rows.
func (t authentications) inChunks(ctx context.Context, texts map[int]string, rows [][]any) error {
	for _, n := range chunks {
		for len(rows) >= n {
			if _, err := t.exec(ctx, texts[n], slices.Concat(rows[:n]...)...); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return nil
}

func (t authentications) Record(ctx context.Context, seen []bindery.Authentication) error {
	type second struct {
		binding int64
		outcome bindery.AuthOutcome
		at      int64
	}
	counts := make(map[second]int)
	last := make(map[int64]int64)
	for _, a := range seen {
		s := second{a.BindingRow, a.Outcome, micros(a.At.Truncate(time.Second))}
		counts[s] += a.Count
		if s.outcome == bindery.AuthSucceeded && s.binding != 0 {
			last[s.binding] = max(last[s.binding], s.at)
		}
	}
	// In one order, so that replicas do not wait for each other in a circle.
	record := make([][]any, 0, len(counts))
	for s, n := range counts {
		record = append(record, []any{s.binding, string(s.outcome), s.at, n})
	}
	slices.SortFunc(record, func(a, b []any) int {
		return cmp.Or(cmp.Compare(a[0].(int64), b[0].(int64)), cmp.Compare(a[1].(string), b[1].(string)), cmp.Compare(a[2].(int64), b[2].(int64)))
	})
	forward := make([][]any, 0, len(last))
	for binding, at := range last {
		forward = append(forward, []any{binding, at})
	}
	slices.SortFunc(forward, func(a, b []any) int { return cmp.Compare(a[0].(int64), b[0].(int64)) })
	if err := t.inChunks(ctx, forwardLastAuth, forward); err != nil {
		return err
	}
	return t.inChunks(ctx, recordAuthentications, record)
}

func (t authentications) List(ctx context.Context, bindingRow int64, p bindery.Page) ([]bindery.Authentication, error) {
	var w where
	if bindingRow != 0 {
		w.and("binding_row = ?", bindingRow)
	}
	text, args := w.page(p)
	var out []bindery.Authentication
	err := t.each(ctx, `SELECT id, binding_row, outcome, at, count FROM authentications`+text, args, true, func(rows *sql.Rows) error {
		var a bindery.Authentication
		var at int64
		err := rows.Scan(&a.Row, &a.BindingRow, (*string)(&a.Outcome), &at, &a.Count)
		a.At = fromMicros(at)
		out = append(out, a)
		return err
	})
	return out, err
}

func (t authentications) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM authentications WHERE id IN (SELECT id FROM authentications WHERE at < ? ORDER BY at LIMIT ?)`,
		micros(before), limit)
	return int(n), err
}
