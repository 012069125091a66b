package store

import (
	"context"
	"database/sql"
	"time"

	"bindery"
)

type accounts struct{ *tx }

const (
	plainColumns   = `id, binding_row, instance_row, kind, server, name, state, created, updated, proof, seal_key, details, material`
	accountColumns = plainColumns + `, expires, proven, attempts, next`
)

var accountTable = sealedTable[bindery.Account]{
	column: accountMaterial,
	scan: func(rows *sql.Rows, a *bindery.Account, v *sealed) error {
		var created, updated, expires, proven, next int64
		err := rows.Scan(&a.Row, &a.BindingRow, &a.InstanceRow, &a.Kind, &a.Server, &a.Name, (*string)(&a.State), &created, &updated,
			&a.Proof, &v.key, (*[]byte)(&a.Details), &v.value, &expires, &proven, &a.Attempts, &next)
		a.Created, a.Updated = fromMicros(created), fromMicros(updated)
		a.Expires, a.Proven, a.Retry = fromMicros(expires), fromMicros(proven), fromNext(next)
		return err
	},
	secret: func(a *bindery.Account) (int64, *bindery.Secret) { return a.Row, &a.Material },
}

func (t accounts) all(ctx context.Context, text string, long bool, args ...any) ([]bindery.Account, error) {
	return accountTable.all(ctx, t.tx, `SELECT `+accountColumns+` FROM accounts`+text, long, args...)
}

// atOnce stands for a pending account whose Retry is zero: 0 is for those that are not pending.
const atOnce = 1

// next is what the index of pending accounts goes by.
func next(a bindery.Account) int64 {
	if !a.State.Pending() {
		return 0
	}
	return max(micros(a.Retry), atOnce)
}

func fromNext(v int64) time.Time {
	if v == atOnce {
		v = 0
	}
	return fromMicros(v)
}

// Most accounts have nothing in the columns that time limits and proofs are for.
// Those are then literals: to bind a parameter takes SQLite's driver longer.
func plain(a bindery.Account) bool {
	return a.Expires.IsZero() && a.Proven.IsZero() && a.Attempts == 0 && next(a) == 0
}

var (
	addPlainAccount = `INSERT INTO accounts (gone, ` + plainColumns + `) VALUES (` + marks("gone, "+plainColumns) + `) ON CONFLICT DO NOTHING`
	addAccount      = `INSERT INTO accounts (gone, ` + accountColumns + `) VALUES (` + marks("gone, "+accountColumns) + `) ON CONFLICT DO NOTHING`
)

func (t accounts) Add(ctx context.Context, a bindery.Account) error {
	key, sealed := t.store.vault.seal(accountMaterial, a.Row, a.Material)
	text, args := addPlainAccount, []any{
		bit(a.State == bindery.AccountGone), a.Row, a.BindingRow, a.InstanceRow, a.Kind, a.Server, a.Name,
		string(a.State), micros(a.Created), micros(a.Updated), a.Proof, key, blob(a.Details), sealed,
	}
	if !plain(a) {
		text, args = addAccount, append(args, micros(a.Expires), micros(a.Proven), a.Attempts, next(a))
	}
	n, err := t.exec(ctx, text, args...)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t accounts) Get(ctx context.Context, row int64) (bindery.Account, error) {
	return accountTable.one(ctx, t.tx, errNoAccount, `SELECT `+accountColumns+` FROM accounts WHERE id = ?`, row)
}

func (t accounts) OfBinding(ctx context.Context, bindingRow int64) ([]bindery.Account, error) {
	return t.all(ctx, ` WHERE binding_row = ? ORDER BY id`, false, bindingRow)
}

func (t accounts) ByName(ctx context.Context, server, name string) (bindery.Account, error) {
	return accountTable.one(ctx, t.tx, errNoAccount, `SELECT `+accountColumns+` FROM accounts WHERE server = ? AND name = ?`, server, name)
}

var errNoAccount = notFound("account")

// Whose an account is, its server and its name never change: leaving them out
// keeps the indexes on them untouched.
const saveAccount = `UPDATE accounts SET kind = ?, state = ?, created = ?, updated = ?, proof = ?, seal_key = ?, details = ?, material = ?`

func (t accounts) Save(ctx context.Context, a bindery.Account, from bindery.AccountState) error {
	key, sealed := t.store.vault.seal(accountMaterial, a.Row, a.Material)
	text := saveAccount
	args := []any{a.Kind, string(a.State), micros(a.Created), micros(a.Updated), a.Proof, key, blob(a.Details), sealed}
	if plain(a) {
		text += `, expires = 0, proven = 0, attempts = 0`
	} else {
		text += `, expires = ?, proven = ?, attempts = ?`
		args = append(args, micros(a.Expires), micros(a.Proven), a.Attempts)
	}
	// What is in an index is written only where it may change, as in saveEnded.
	if a.State.Pending() || from.Pending() {
		text += `, next = ?`
		args = append(args, next(a))
	}
	if gone := a.State == bindery.AccountGone; gone != (from == bindery.AccountGone) {
		text += `, gone = ?`
		args = append(args, bit(gone))
	}
	return t.change(ctx, text+` WHERE id = ? AND state = ?`, append(args, a.Row, string(from))...)
}

func (t accounts) List(ctx context.Context, server string, state bindery.AccountState, p bindery.Page) ([]bindery.Account, error) {
	var w where
	w.and("server = ?", server)
	switch {
	case state.Pending():
		// Few are pending: the literal lets the partial index find them, and the plus
		// keeps the planner from walking all rows in the order of their ids.
		w.and("next > 0 AND state = ? AND +id > ?", string(state), p.After)
		return t.all(ctx, w.text.String()+" ORDER BY +id LIMIT ?", true, append(w.args, pageSize(p))...)
	case state == bindery.AccountGone:
		w.and("gone = 1")
	default:
		// The literal makes the partial index of those that are not gone fit.
		w.and("gone = 0 AND state = ?", string(state))
	}
	text, args := w.page(p)
	return t.all(ctx, text, true, args...)
}

func (t accounts) Due(ctx context.Context, server string, now time.Time, limit int) ([]bindery.Account, error) {
	return t.all(ctx, ` WHERE server = ? AND next > 0 AND next <= ? ORDER BY next, id LIMIT ?`, true, server, now.UnixMicro(), limit)
}

func (t accounts) NextDue(ctx context.Context, server string) (time.Time, bool, error) {
	var due int64
	found, err := t.get(ctx, `SELECT next FROM accounts WHERE server = ? AND next > 0 ORDER BY next LIMIT 1`, []any{server}, &due)
	return fromNext(due), found, err
}

func (t accounts) Backlog(ctx context.Context) ([]bindery.Backlog, error) {
	var out []bindery.Backlog
	err := t.each(ctx, `SELECT server, state, COUNT(*) FROM accounts WHERE next > 0 GROUP BY server, state ORDER BY server, state`, nil, true,
		func(rows *sql.Rows) error {
			out = append(out, bindery.Backlog{})
			b := &out[len(out)-1]
			return rows.Scan(&b.Server, (*string)(&b.State), &b.Count)
		})
	return out, err
}
