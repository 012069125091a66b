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

type operations struct{ *tx }

const operationColumns = `id, kind, platform, instance_row, binding_row, server, state, internal, undo, actor, request_id,
	attempts, problem, due, deadline, owner, fence, code, message, created, finished, seal_key, request`

var operationTable = sealedTable[bindery.Operation]{
	column: operationRequest,
	scan: func(rows *sql.Rows, o *bindery.Operation, v *sealed) error {
		var internal, undo, due, deadline, created, finished int64
		err := rows.Scan(&o.Row, (*string)(&o.Kind), &o.Platform, &o.InstanceRow, &o.BindingRow, &o.Server, (*string)(&o.State),
			&internal, &undo, &o.Actor, &o.RequestID, &o.Attempts, &o.Problem, &due, &deadline, &o.Owner, &o.Fence,
			(*string)(&o.Code), &o.Message, &created, &finished, &v.key, &v.value)
		o.Internal, o.Undo = internal != 0, undo != 0
		o.Due, o.Deadline = fromMicros(due), fromMicros(deadline)
		o.Created, o.Finished = fromMicros(created), fromMicros(finished)
		return err
	},
	secret: func(o *bindery.Operation) (int64, *bindery.Secret) { return o.Row, &o.Request },
}

func (t operations) all(ctx context.Context, text string, long bool, args ...any) ([]bindery.Operation, error) {
	return operationTable.all(ctx, t.tx, text, long, args...)
}

var errNoOperation = notFound("operation")

func (t operations) one(ctx context.Context, text string, args ...any) (bindery.Operation, error) {
	return operationTable.one(ctx, t.tx, errNoOperation, text, args...)
}

var addOperation = `INSERT INTO operations (` + operationColumns + `) VALUES (` + marks(operationColumns) + `) ON CONFLICT DO NOTHING`

func (t operations) Add(ctx context.Context, o bindery.Operation) error {
	key, sealed := t.store.vault.seal(operationRequest, o.Row, o.Request)
	n, err := t.exec(ctx, addOperation, o.Row, string(o.Kind), o.Platform, o.InstanceRow, o.BindingRow, o.Server, string(o.State),
		bit(o.Internal), bit(o.Undo), o.Actor, o.RequestID, o.Attempts, o.Problem, micros(o.Due), micros(o.Deadline),
		o.Owner, o.Fence, string(o.Code), o.Message, micros(o.Created), micros(o.Finished), key, sealed)
	if err == nil && n == 0 {
		return errActive
	}
	return err
}

func (t operations) Get(ctx context.Context, row int64) (bindery.Operation, error) {
	return t.one(ctx, `SELECT `+operationColumns+` FROM operations WHERE id = ?`, row)
}

// Active asks for the id first: mostly there is none, and to name the other
// columns takes SQLite's driver longer than to find that out.
func (t operations) Active(ctx context.Context, instanceRow, bindingRow int64) (bindery.Operation, error) {
	var row int64
	found, err := t.get(ctx, `SELECT id FROM operations WHERE instance_row = ? AND binding_row = ? AND state = 'in progress'`,
		[]any{instanceRow, bindingRow}, &row)
	if err != nil {
		return bindery.Operation{}, err
	}
	if !found {
		return bindery.Operation{}, errNoOperation
	}
	return t.Get(ctx, row)
}

func (t operations) Latest(ctx context.Context, instanceRow, bindingRow int64) (bindery.Operation, error) {
	return t.one(ctx, `SELECT `+operationColumns+` FROM operations WHERE binding_row = ? AND instance_row = ? AND internal = 0
		ORDER BY id DESC LIMIT 1`, bindingRow, instanceRow)
}

func (t operations) ActiveOfBindings(ctx context.Context, instanceRow int64, limit int) ([]bindery.Operation, error) {
	return t.all(ctx, `SELECT `+operationColumns+` FROM operations WHERE instance_row = ? AND binding_row > 0 AND state = 'in progress'
		ORDER BY binding_row LIMIT ?`, false, instanceRow, limit)
}

// What an operation is on never changes: leaving that out keeps the index on it untouched.
const saveOperation = `UPDATE operations SET kind = ?, server = ?, state = ?, internal = ?, undo = ?, actor = ?, request_id = ?,
	attempts = ?, problem = ?, due = ?, deadline = ?, owner = ?, code = ?, message = ?, created = ?, finished = ?,
	seal_key = ?, request = ? WHERE id = ? AND state = 'in progress' AND fence = ?`

func (t operations) Save(ctx context.Context, o bindery.Operation) error {
	key, sealed := t.store.vault.seal(operationRequest, o.Row, o.Request)
	return t.change(ctx, saveOperation, string(o.Kind), o.Server, string(o.State), bit(o.Internal), bit(o.Undo), o.Actor, o.RequestID,
		o.Attempts, o.Problem, micros(o.Due), micros(o.Deadline), o.Owner, string(o.Code), o.Message,
		micros(o.Created), micros(o.Finished), key, sealed, o.Row, o.Fence)
}

func (t operations) Claim(ctx context.Context, owner int64, now time.Time, limit int, except ...string) ([]bindery.Operation, error) {
	without, args := "", []any{owner, micros(now), micros(now)}
	if len(except) > 0 { // one text for any number of them, so that it stays prepared
		list := "," + strings.Join(except, ",,") + ","
		without, args = " AND replace(?, ',' || server || ',', '') = ?", append(args, list, list)
	}
	out, err := t.all(ctx, `UPDATE operations SET owner = ?, fence = fence + 1 WHERE id IN (
		SELECT id FROM operations WHERE state = 'in progress' AND due <= ? AND (owner = 0 OR NOT EXISTS (
			SELECT 1 FROM processes WHERE processes.id = operations.owner AND processes.expires > ?))`+without+`
		ORDER BY due, id LIMIT ?`+t.s.dialect().skipLocked+`) RETURNING `+operationColumns,
		false, append(args, limit)...)
	slices.SortFunc(out, func(a, b bindery.Operation) int { // RETURNING promises no order
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Row, b.Row))
	})
	return out, err
}

func (t operations) NextDue(ctx context.Context) (time.Time, bool, error) {
	var due int64
	found, err := t.get(ctx, `SELECT due FROM operations WHERE state = 'in progress' AND owner = 0 ORDER BY due LIMIT 1`, nil, &due)
	return fromMicros(due), found, err
}

func (t operations) Hasten(ctx context.Context, then time.Time) error {
	_, err := t.exec(ctx, `UPDATE operations SET due = ? WHERE state = 'in progress' AND owner = 0 AND due > ?`, micros(then), micros(then))
	return err
}

func (t operations) List(ctx context.Context, f bindery.OperationFilter, p bindery.Page) ([]bindery.Operation, error) {
	var w where
	if f.Platform != "" {
		w.and("platform = ?", f.Platform)
	}
	if f.InstanceRow != 0 {
		w.and("instance_row = ?", f.InstanceRow)
	}
	text, args := "", []any(nil)
	switch f.State {
	case "":
		text, args = w.page(p)
	case bindery.OpInProgress:
		// Few are in progress: the literal lets the partial index find them, and the
		// plus keeps the planner from walking all rows in the order of their ids.
		w.and("state = 'in progress' AND +id > ?", p.After)
		text, args = w.text.String()+" ORDER BY +id LIMIT ?", append(w.args, pageSize(p))
	default:
		w.and("state = ?", string(f.State))
		text, args = w.page(p)
	}
	return t.all(ctx, `SELECT `+operationColumns+` FROM operations`+text, true, args...)
}

func (t operations) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM operations WHERE id IN (
		SELECT id FROM operations WHERE finished > 0 AND finished < ? ORDER BY finished LIMIT ?)`, micros(before), limit)
	return int(n), err
}
