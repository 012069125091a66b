package store

import (
	"context"
	"database/sql"

	"bindery"
)

type accounts struct{ *tx }

const accountColumns = `id, binding_row, instance_row, kind, server, name, state, created, updated, proof, seal_key, details, material`

func (t accounts) scan(ctx context.Context, rows *sql.Rows, a *bindery.Account) error {
	var created, updated int64
	var key sql.NullInt64
	var sealed []byte
	err := rows.Scan(&a.Row, &a.BindingRow, &a.InstanceRow, &a.Kind, &a.Server, &a.Name, (*string)(&a.State), &created, &updated,
		&a.Proof, &key, (*[]byte)(&a.Details), &sealed)
	if err != nil {
		return err
	}
	a.Created, a.Updated = fromMicros(created), fromMicros(updated)
	a.Material, err = t.open(ctx, accountMaterial, a.Row, key, sealed)
	return err
}

func (t accounts) all(ctx context.Context, text string, long bool, args ...any) ([]bindery.Account, error) {
	var out []bindery.Account
	err := t.each(ctx, text, args, long, func(rows *sql.Rows) error {
		out = append(out, bindery.Account{})
		return t.scan(ctx, rows, &out[len(out)-1])
	})
	return out, err
}

var addAccount = `INSERT INTO accounts (gone, ` + accountColumns + `) VALUES (` + marks("gone, "+accountColumns) + `) ON CONFLICT DO NOTHING`

func (t accounts) Add(ctx context.Context, a bindery.Account) error {
	key, sealed := t.store.vault.seal(accountMaterial, a.Row, a.Material)
	n, err := t.exec(ctx, addAccount, bit(a.State == bindery.AccountGone), a.Row, a.BindingRow, a.InstanceRow, a.Kind, a.Server, a.Name,
		string(a.State), micros(a.Created), micros(a.Updated), a.Proof, key, blob(a.Details), sealed)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t accounts) OfBinding(ctx context.Context, bindingRow int64) ([]bindery.Account, error) {
	return t.all(ctx, `SELECT `+accountColumns+` FROM accounts WHERE binding_row = ? ORDER BY id`, false, bindingRow)
}

func (t accounts) ByName(ctx context.Context, server, name string) (bindery.Account, error) {
	found, err := t.all(ctx, `SELECT `+accountColumns+` FROM accounts WHERE server = ? AND name = ?`, false, server, name)
	if err != nil {
		return bindery.Account{}, err
	}
	if len(found) == 0 {
		return bindery.Account{}, notFound("account")
	}
	return found[0], nil
}

// Whose an account is, its server and its name never change: leaving them out
// keeps the indexes on them untouched.
const saveAccount = `UPDATE accounts SET kind = ?, state = ?, created = ?, updated = ?, proof = ?, seal_key = ?, details = ?, material = ?`

func (t accounts) Save(ctx context.Context, a bindery.Account, from bindery.AccountState) error {
	key, sealed := t.store.vault.seal(accountMaterial, a.Row, a.Material)
	text := saveAccount
	args := []any{a.Kind, string(a.State), micros(a.Created), micros(a.Updated), a.Proof, key, blob(a.Details), sealed}
	if gone := a.State == bindery.AccountGone; gone != (from == bindery.AccountGone) {
		text += `, gone = ?`
		args = append(args, bit(gone))
	}
	return t.change(ctx, text+` WHERE id = ? AND state = ?`, append(args, a.Row, string(from))...)
}

func (t accounts) List(ctx context.Context, server string, state bindery.AccountState, p bindery.Page) ([]bindery.Account, error) {
	var w where
	w.and("server = ?", server)
	if state == bindery.AccountGone {
		w.and("gone = 1")
	} else {
		// The literal makes the partial index of those that are not gone fit.
		w.and("gone = 0 AND state = ?", string(state))
	}
	text, args := w.page(p)
	return t.all(ctx, `SELECT `+accountColumns+` FROM accounts`+text, true, args...)
}
