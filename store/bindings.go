package store

import (
	"context"
	"database/sql"
	"time"

	"bindery"
)

type bindings struct{ *tx }

const bindingColumns = `id, instance_row, platform, instance_guid, guid, state, offering_id, plan_id, app_guid, predecessor,
	expires, renew_before, created, updated, seal_key, bind_resource, context, parameters`

var bindingTable = sealedTable[bindery.Binding]{
	column: bindingParameters,
	scan: func(rows *sql.Rows, b *bindery.Binding, v *sealed) error {
		var expires, renewBefore, created, updated int64
		err := rows.Scan(&b.Row, &b.InstanceRow, &b.Platform, &b.InstanceID, &b.ID, (*string)(&b.State), &b.OfferingID, &b.PlanID,
			&b.AppGUID, &b.Predecessor, &expires, &renewBefore, &created, &updated, &v.key,
			(*[]byte)(&b.BindResource), (*[]byte)(&b.Context), &v.value)
		b.Expires, b.RenewBefore = fromMicros(expires), fromMicros(renewBefore)
		b.Created, b.Updated = fromMicros(created), fromMicros(updated)
		return err
	},
	secret: func(b *bindery.Binding) (int64, *bindery.Secret) { return b.Row, &b.Parameters },
}

var errNoBinding = notFound("binding")

func (t bindings) one(ctx context.Context, text string, args ...any) (bindery.Binding, error) {
	return bindingTable.one(ctx, t.tx, errNoBinding, `SELECT `+bindingColumns+` FROM bindings`+text, args...)
}

func (t bindings) all(ctx context.Context, text string, args ...any) ([]bindery.Binding, error) {
	return bindingTable.all(ctx, t.tx, `SELECT `+bindingColumns+` FROM bindings`+text, true, args...)
}

// ends is what the index of bindings with a time limit goes by.
func ends(b bindery.Binding) int64 {
	if b.State != bindery.StateReady {
		return 0
	}
	return micros(b.Expires)
}

var addBinding = `INSERT INTO bindings (ends, tomb, ` + bindingColumns + `) VALUES (` + marks("ends, tomb, "+bindingColumns) + `) ON CONFLICT DO NOTHING`

func (t bindings) Add(ctx context.Context, b bindery.Binding) error {
	key, sealed := t.store.vault.seal(bindingParameters, b.Row, b.Parameters)
	n, err := t.exec(ctx, addBinding, ends(b), tomb(b.State == bindery.StateRemoved, b.Row), b.Row, b.InstanceRow, b.Platform, b.InstanceID, b.ID,
		string(b.State), b.OfferingID, b.PlanID, b.AppGUID, b.Predecessor, micros(b.Expires), micros(b.RenewBefore),
		micros(b.Created), micros(b.Updated), key, blob(b.BindResource), blob(b.Context), sealed)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t bindings) Get(ctx context.Context, row int64) (bindery.Binding, error) {
	return t.one(ctx, ` WHERE id = ?`, row)
}

func (t bindings) Find(ctx context.Context, platform, instanceID, id string) (bindery.Binding, error) {
	return t.one(ctx, ` WHERE platform = ? AND guid = ? AND instance_guid = ? ORDER BY tomb LIMIT 1`,
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
	text := saveBinding + `, ends = 0` // a literal: to bind a parameter takes SQLite's driver longer
	end := ends(b)
	if b.State == bindery.StateRemoving && from == b.State { // its removal was given up
		end = micros(b.Expires)
	}
	if end != 0 {
		text, args = saveBinding+`, ends = ?`, append(args, end)
	}
	return t.saveEnded(ctx, text, args, b.Row, string(from), b.State == bindery.StateRemoved, from == bindery.StateRemoved)
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
	if f.Stuck { // few accounts are pending; their index has none but these
		w.and("id IN (SELECT binding_row FROM accounts WHERE next > 0 AND state = 'stuck')")
	}
	if f.Pending {
		w.and("id IN (SELECT binding_row FROM accounts WHERE next > 0)")
	}
	text, args := w.page(p)
	return t.all(ctx, text, args...)
}

// unended is what has an end to come, and not one that is under way.
const unended = `ends > 0 AND (state = 'ready' OR NOT EXISTS (SELECT 1 FROM operations r
	WHERE r.instance_row = bindings.instance_row AND r.binding_row = bindings.id AND r.state = 'in progress'))`

func (t bindings) Expiring(ctx context.Context, before time.Time, limit int) ([]bindery.Binding, error) {
	return t.all(ctx, ` WHERE `+unended+` AND ends < ? AND NOT EXISTS (SELECT 1 FROM operations o
		WHERE o.instance_row = bindings.instance_row AND o.binding_row = 0 AND o.state = 'in progress') ORDER BY ends, id LIMIT ?`,
		before.UnixMicro(), limit)
}

func (t bindings) NextExpiry(ctx context.Context) (time.Time, bool, error) {
	var at int64
	found, err := t.get(ctx, `SELECT ends FROM bindings WHERE `+unended+` ORDER BY ends LIMIT 1`, nil, &at)
	return fromMicros(at), found, err
}
