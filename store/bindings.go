package store

import (
	"context"
	"database/sql"

	"bindery"
)

type bindings struct{ *tx }

const bindingColumns = `id, instance_row, platform, instance_guid, guid, state, offering_id, plan_id, app_guid, predecessor,
	expires, renew_before, created, updated, seal_key, bind_resource, context, parameters`

func (t bindings) scan(ctx context.Context, rows *sql.Rows, b *bindery.Binding) error {
	var expires, renewBefore, created, updated int64
	var key sql.NullInt64
	var sealed []byte
	err := rows.Scan(&b.Row, &b.InstanceRow, &b.Platform, &b.InstanceID, &b.ID, (*string)(&b.State), &b.OfferingID, &b.PlanID,
		&b.AppGUID, &b.Predecessor, &expires, &renewBefore, &created, &updated, &key,
		(*[]byte)(&b.BindResource), (*[]byte)(&b.Context), &sealed)
	if err != nil {
		return err
	}
	b.Expires, b.RenewBefore = fromMicros(expires), fromMicros(renewBefore)
	b.Created, b.Updated = fromMicros(created), fromMicros(updated)
	b.Parameters, err = t.open(ctx, bindingParameters, b.Row, key, sealed)
	return err
}

// one reads the first row of a query.
func (t bindings) one(ctx context.Context, text string, args ...any) (b bindery.Binding, err error) {
	found := false
	err = t.each(ctx, text, args, false, func(rows *sql.Rows) error {
		found = true
		return t.scan(ctx, rows, &b)
	})
	if err == nil && !found {
		err = notFound("binding")
	}
	return b, err
}

var addBinding = `INSERT INTO bindings (tomb, ` + bindingColumns + `) VALUES (` + marks("tomb, "+bindingColumns) + `) ON CONFLICT DO NOTHING`

func (t bindings) Add(ctx context.Context, b bindery.Binding) error {
	key, sealed := t.store.vault.seal(bindingParameters, b.Row, b.Parameters)
	n, err := t.exec(ctx, addBinding, tomb(b.State == bindery.StateRemoved, b.Row), b.Row, b.InstanceRow, b.Platform, b.InstanceID, b.ID,
		string(b.State), b.OfferingID, b.PlanID, b.AppGUID, b.Predecessor, micros(b.Expires), micros(b.RenewBefore),
		micros(b.Created), micros(b.Updated), key, blob(b.BindResource), blob(b.Context), sealed)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t bindings) Get(ctx context.Context, row int64) (bindery.Binding, error) {
	return t.one(ctx, `SELECT `+bindingColumns+` FROM bindings WHERE id = ?`, row)
}

func (t bindings) Find(ctx context.Context, platform, instanceID, id string) (bindery.Binding, error) {
	return t.one(ctx, `SELECT `+bindingColumns+` FROM bindings WHERE platform = ? AND guid = ? AND instance_guid = ? ORDER BY tomb LIMIT 1`,
		platform, id, instanceID)
}

// Whose a binding is, its instance and its id never change: leaving them out
// keeps the indexes on them untouched.
const saveBinding = `UPDATE bindings SET state = ?, offering_id = ?, plan_id = ?, app_guid = ?, predecessor = ?,
	expires = ?, renew_before = ?, created = ?, updated = ?, seal_key = ?, bind_resource = ?, context = ?, parameters = ?`

func (t bindings) Save(ctx context.Context, b bindery.Binding, from bindery.State) error {
	key, sealed := t.store.vault.seal(bindingParameters, b.Row, b.Parameters)
	args := []any{
		string(b.State), b.OfferingID, b.PlanID, b.AppGUID, b.Predecessor, micros(b.Expires), micros(b.RenewBefore),
		micros(b.Created), micros(b.Updated), key, blob(b.BindResource), blob(b.Context), sealed,
	}
	return t.saveEnded(ctx, saveBinding, args, b.Row, string(from), b.State == bindery.StateRemoved, from == bindery.StateRemoved)
}

func (t bindings) Count(ctx context.Context, instanceRow int64, limit int) (n int, err error) {
	_, err = t.get(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM bindings WHERE instance_row = ? AND tomb = 0 LIMIT ?) AS live`,
		[]any{instanceRow, limit}, &n)
	return n, err
}

func (t bindings) List(ctx context.Context, f bindery.BindingFilter, p bindery.Page) ([]bindery.Binding, error) {
	var w where
	if f.Platform != "" {
		w.and("platform = ?", f.Platform)
	}
	if f.InstanceID != "" { // bindings have an index on the row only
		w.and("instance_row IN (SELECT id FROM instances WHERE guid = ?)", f.InstanceID)
	}
	if f.InstanceRow != 0 {
		w.and("instance_row = ?", f.InstanceRow)
	}
	if !f.Removed {
		w.and("tomb = 0")
	}
	text, args := w.page(p)
	var out []bindery.Binding
	err := t.each(ctx, `SELECT `+bindingColumns+` FROM bindings`+text, args, true, func(rows *sql.Rows) error {
		out = append(out, bindery.Binding{})
		return t.scan(ctx, rows, &out[len(out)-1])
	})
	return out, err
}
