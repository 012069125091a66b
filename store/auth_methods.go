package store

import (
	"context"
	"database/sql"

	"bindery"
)

type authMethods struct{ *tx }

func (t *tx) AuthMethods() bindery.AuthMethods { return authMethods{t} }

const authMethodColumns = `id, uuid, service_row, host, port, kind, revision, created, updated, seal_key, material`

// Those of removed service types are not there. A cross join tells SQLite which
// table to go through.
var (
	selectAuthMethod = `SELECT s.uuid, ` + prefixed("m.", authMethodColumns)
	methodsOfService = ` FROM service_types s CROSS JOIN auth_methods m WHERE s.removed = 0 AND m.service_row = s.id AND s.id = ?`
	methodsOfAny     = ` FROM auth_methods m CROSS JOIN service_types s WHERE s.removed = 0 AND s.id = m.service_row`
)

var authMethodTable = sealedTable[bindery.AuthMethod]{
	column: authMethodMaterial,
	scan: func(rows *sql.Rows, m *bindery.AuthMethod, v *sealed) error {
		var created, updated int64
		err := rows.Scan(&m.ServiceUUID, &m.Row, &m.UUID, &m.ServiceRow, &m.Host, &m.Port, (*string)(&m.Kind), &m.Revision,
			&created, &updated, &v.key, &v.value)
		m.Created, m.Updated = fromMicros(created), fromMicros(updated)
		return err
	},
	secret: func(m *bindery.AuthMethod) (int64, *bindery.Secret) { return m.Row, &m.Material },
}

func (t authMethods) all(ctx context.Context, text string, args ...any) ([]bindery.AuthMethod, error) {
	return authMethodTable.all(ctx, t.tx, selectAuthMethod+text, true, args...)
}

var errHostTaken = bindery.Errorf(bindery.CodeConflict, "the host has an auth method")

// free checks that the service type is there, and has no other auth method for the host.
func (t authMethods) free(ctx context.Context, m bindery.AuthMethod) error {
	if err := t.live(ctx, m.ServiceRow); err != nil {
		return err
	}
	var one int
	taken, err := t.get(ctx, `SELECT 1 FROM auth_methods WHERE service_row = ? AND host = ? AND id <> ?`,
		[]any{m.ServiceRow, m.Host, m.Row}, &one)
	if err == nil && taken {
		return errHostTaken
	}
	return err
}

var addAuthMethod = `INSERT INTO auth_methods (` + authMethodColumns + `) VALUES (` + marks(authMethodColumns) + `) ON CONFLICT DO NOTHING`

func (t authMethods) Add(ctx context.Context, m bindery.AuthMethod) error {
	if err := t.free(ctx, m); err != nil {
		return err
	}
	key, sealed := t.store.vault.seal(authMethodMaterial, m.Row, m.Material)
	n, err := t.exec(ctx, addAuthMethod, m.Row, m.UUID, m.ServiceRow, m.Host, m.Port, string(m.Kind), m.Revision,
		micros(m.Created), micros(m.Updated), key, sealed)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t authMethods) ByHost(ctx context.Context, serviceRow int64, host string) (bindery.AuthMethod, error) {
	return authMethodTable.one(ctx, t.tx, errNoAuthMethod, selectAuthMethod+methodsOfService+` AND m.host = ?`, serviceRow, host)
}

var errNoAuthMethod = notFound("auth method")

func (t authMethods) Save(ctx context.Context, m bindery.AuthMethod) error {
	// The row's own service type may be another one, and removed.
	var one int
	found, err := t.get(ctx, `SELECT 1 FROM auth_methods m JOIN service_types s ON s.id = m.service_row
		WHERE m.id = ? AND m.revision = ? AND s.removed = 0`, []any{m.Row, m.Revision - 1}, &one)
	if err == nil && !found {
		err = errMoved
	}
	if err == nil {
		err = t.free(ctx, m)
	}
	if err != nil {
		return err
	}
	key, sealed := t.store.vault.seal(authMethodMaterial, m.Row, m.Material)
	return t.settled(t.change(ctx, `UPDATE auth_methods SET service_row = ?, host = ?, port = ?, kind = ?, revision = ?,
		created = ?, updated = ?, seal_key = ?, material = ? WHERE id = ? AND revision = ?`,
		m.ServiceRow, m.Host, m.Port, string(m.Kind), m.Revision, micros(m.Created), micros(m.Updated), key, sealed,
		m.Row, m.Revision-1))
}

func (t authMethods) Remove(ctx context.Context, row int64) error {
	return t.removeOf(ctx, "auth_methods", "auth method", row)
}

// removeOf removes a row that belongs to a service type.
func (t *tx) removeOf(ctx context.Context, table, what string, row int64) error {
	n, err := t.exec(ctx, `DELETE FROM `+table+` WHERE id = ?
		AND EXISTS (SELECT 1 FROM service_types s WHERE s.id = `+table+`.service_row AND s.removed = 0)`, row)
	if err == nil && n == 0 {
		return notFound(what)
	}
	return err
}

func (t authMethods) List(ctx context.Context, services []int64, p bindery.Page) ([]bindery.AuthMethod, error) {
	if len(services) == 0 {
		return t.all(ctx, methodsOfAny+` AND m.id > ? ORDER BY m.id LIMIT ?`, p.After, pageSize(p))
	}
	return merged(services, p, func(m bindery.AuthMethod) int64 { return m.Row },
		func(service, last int64) ([]bindery.AuthMethod, error) {
			return t.all(ctx, methodsOfService+` AND m.id > ? AND m.id <= ? ORDER BY m.id LIMIT ?`, service, p.After, last, pageSize(p))
		})
}
