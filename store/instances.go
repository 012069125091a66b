package store

import (
	"context"
	"database/sql"

	"bindery"
)

type instances struct{ *tx }

const instanceColumns = `id, platform, guid, state, name, offering_id, plan_id, kind, server, organization, space,
	maintenance_version, dashboard_url, created, updated, seal_key, context, parameters`

var instanceTable = sealedTable[bindery.Instance]{
	column: instanceParameters,
	scan: func(rows *sql.Rows, i *bindery.Instance, v *sealed) error {
		var created, updated int64
		err := rows.Scan(&i.Row, &i.Platform, &i.ID, (*string)(&i.State), &i.Name, &i.OfferingID, &i.PlanID, &i.Kind, &i.Server,
			&i.Organization, &i.Space, &i.MaintenanceVersion, &i.DashboardURL, &created, &updated, &v.key, (*[]byte)(&i.Context), &v.value)
		i.Created, i.Updated = fromMicros(created), fromMicros(updated)
		return err
	},
	secret: func(i *bindery.Instance) (int64, *bindery.Secret) { return i.Row, &i.Parameters },
}

var errNoInstance = notFound("instance")

func (t instances) one(ctx context.Context, text string, args ...any) (bindery.Instance, error) {
	return instanceTable.one(ctx, t.tx, errNoInstance, `SELECT `+instanceColumns+` FROM instances`+text, args...)
}

var addInstance = `INSERT INTO instances (tomb, ` + instanceColumns + `) VALUES (` + marks("tomb, "+instanceColumns) + `) ON CONFLICT DO NOTHING`

func (t instances) Add(ctx context.Context, i bindery.Instance) error {
	key, sealed := t.store.vault.seal(instanceParameters, i.Row, i.Parameters)
	n, err := t.exec(ctx, addInstance, tomb(i.State == bindery.StateRemoved, i.Row), i.Row, i.Platform, i.ID, string(i.State), i.Name,
		i.OfferingID, i.PlanID, i.Kind, i.Server, i.Organization, i.Space, i.MaintenanceVersion, i.DashboardURL,
		micros(i.Created), micros(i.Updated), key, blob(i.Context), sealed)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t instances) Get(ctx context.Context, row int64) (bindery.Instance, error) {
	return t.one(ctx, ` WHERE id = ?`, row)
}

func (t instances) Find(ctx context.Context, platform, id string) (bindery.Instance, error) {
	return t.one(ctx, ` WHERE platform = ? AND guid = ? ORDER BY tomb LIMIT 1`, platform, id)
}

// Whose an instance is, and its id, never change: leaving them out keeps the index on them untouched.
const saveInstance = `UPDATE instances SET state = ?, name = ?, offering_id = ?, plan_id = ?, kind = ?, server = ?,
	organization = ?, space = ?, maintenance_version = ?, dashboard_url = ?, created = ?, updated = ?,
	seal_key = ?, context = ?, parameters = ?`

func (t instances) Save(ctx context.Context, i bindery.Instance, from bindery.State) error {
	key, sealed := t.store.vault.seal(instanceParameters, i.Row, i.Parameters)
	args := []any{
		string(i.State), i.Name, i.OfferingID, i.PlanID, i.Kind, i.Server, i.Organization, i.Space,
		i.MaintenanceVersion, i.DashboardURL, micros(i.Created), micros(i.Updated), key, blob(i.Context), sealed,
	}
	return t.saveEnded(ctx, saveInstance, args, i.Row, string(from), i.State == bindery.StateRemoved, from == bindery.StateRemoved)
}

// saveEnded finishes the statement that saves an instance or a binding. The tomb
// is written only where it changes, because SQLite renews the index entries of
// every column that a statement names.
func (t *tx) saveEnded(ctx context.Context, set string, args []any, row int64, from string, removed, wasRemoved bool) error {
	if removed != wasRemoved {
		set += `, tomb = ?`
		args = append(args, tomb(removed, row))
	}
	return t.change(ctx, set+` WHERE id = ? AND state = ?`, append(args, row, from)...)
}

func (t instances) Count(ctx context.Context, platform, planID string, limit int) (n int, err error) {
	_, err = t.get(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM instances WHERE platform = ? AND plan_id = ? AND tomb = 0 LIMIT ?) AS live`,
		[]any{platform, planID, limit}, &n)
	return n, err
}

func (t instances) OnServer(ctx context.Context, server string) (bool, error) {
	var one int
	return t.get(ctx, `SELECT 1 FROM instances WHERE server = ? AND tomb = 0 LIMIT 1`, []any{server}, &one)
}

// InUse jumps from each combination to the next one in the index: one short
// query each, however many instances share a combination.
func (t instances) InUse(ctx context.Context) ([]bindery.PlanUse, error) {
	const first = `SELECT server, offering_id, plan_id, kind FROM instances WHERE tomb = 0`
	const order = ` ORDER BY server, offering_id, plan_id, kind LIMIT 1`
	var out []bindery.PlanUse
	text, args := first+order, []any(nil)
	for {
		var u bindery.PlanUse
		found, err := t.get(ctx, text, args, &u.Server, &u.OfferingID, &u.PlanID, &u.Kind)
		if err != nil || !found {
			return out, err
		}
		out = append(out, u)
		text = first + ` AND (server, offering_id, plan_id, kind) > (?, ?, ?, ?)` + order
		args = []any{u.Server, u.OfferingID, u.PlanID, u.Kind}
	}
}

func (t instances) List(ctx context.Context, f bindery.InstanceFilter, p bindery.Page) ([]bindery.Instance, error) {
	var w where
	if f.Platform != "" {
		w.and("platform = ?", f.Platform)
	}
	if f.PlanID != "" {
		w.and("plan_id = ?", f.PlanID)
	}
	if f.Server != "" {
		w.and("server = ?", f.Server)
	}
	if !f.Removed {
		w.and("tomb = 0")
	}
	text, args := w.page(p)
	return instanceTable.all(ctx, t.tx, `SELECT `+instanceColumns+` FROM instances`+text, true, args...)
}
