package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"bindery"
)

type serviceTypes struct{ *tx }

func (t *tx) ServiceTypes() bindery.ServiceTypes { return serviceTypes{t} }

const serviceTypeColumns = `id, uuid, name, hosts, auth_types, auth_method, type, revision, created, updated`

func scanServiceType(rows *sql.Rows, s *bindery.ServiceType) error {
	var hosts, authTypes []byte
	var created, updated int64
	err := rows.Scan(&s.Row, &s.UUID, &s.Name, &hosts, &authTypes, (*string)(&s.AuthMethod), &s.Type, &s.Revision, &created, &updated)
	if err != nil {
		return err
	}
	s.Created, s.Updated = fromMicros(created), fromMicros(updated)
	return readLists(s, hosts, authTypes)
}

func readLists(s *bindery.ServiceType, hosts, authTypes []byte) error {
	if err := json.Unmarshal(hosts, &s.Hosts); err != nil {
		return err
	}
	return json.Unmarshal(authTypes, &s.AuthTypes)
}

// list is how a list of texts is kept.
func list[T ~string](l []T) string {
	text, _ := json.Marshal(l) // cannot fail for texts
	return string(text)
}

func (t serviceTypes) all(ctx context.Context, text string, args ...any) ([]bindery.ServiceType, error) {
	var out []bindery.ServiceType
	err := t.each(ctx, `SELECT `+serviceTypeColumns+` FROM service_types`+text, args, true, func(rows *sql.Rows) error {
		out = append(out, bindery.ServiceType{})
		return scanServiceType(rows, &out[len(out)-1])
	})
	return out, err
}

func (t serviceTypes) one(ctx context.Context, text string, args ...any) (bindery.ServiceType, error) {
	found, err := t.all(ctx, text, args...)
	if err == nil && len(found) == 0 {
		err = errNoServiceType
	}
	if err != nil {
		return bindery.ServiceType{}, err
	}
	return found[0], nil
}

var errNoServiceType = notFound("service type")

// free checks that no other service type has the name.
func (t serviceTypes) free(ctx context.Context, s bindery.ServiceType) error {
	var one int
	taken, err := t.get(ctx, `SELECT 1 FROM service_types WHERE name = ? AND removed = 0 AND id <> ?`, []any{s.Name, s.Row}, &one)
	if err == nil && taken {
		return bindery.ErrNameTaken
	}
	return err
}

// live checks that a service type is there.
func (t *tx) live(ctx context.Context, serviceRow int64) error {
	var one int
	found, err := t.get(ctx, `SELECT 1 FROM service_types WHERE id = ? AND removed = 0`, []any{serviceRow}, &one)
	if err == nil && !found {
		return errNoServiceType
	}
	return err
}

var addServiceType = `INSERT INTO service_types (` + serviceTypeColumns + `) VALUES (` + marks(serviceTypeColumns) + `) ON CONFLICT DO NOTHING`

func (t serviceTypes) Add(ctx context.Context, s bindery.ServiceType) error {
	if err := t.free(ctx, s); err != nil {
		return err
	}
	n, err := t.exec(ctx, addServiceType, s.Row, s.UUID, s.Name, list(s.Hosts), list(s.AuthTypes), string(s.AuthMethod), s.Type,
		s.Revision, micros(s.Created), micros(s.Updated))
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t serviceTypes) Get(ctx context.Context, row int64) (bindery.ServiceType, error) {
	return t.one(ctx, ` WHERE id = ? AND removed = 0`, row)
}

func (t serviceTypes) ByName(ctx context.Context, name string) (bindery.ServiceType, error) {
	return t.one(ctx, ` WHERE name = ? AND removed = 0`, name)
}

func (t serviceTypes) ByUUID(ctx context.Context, uuid string) (bindery.ServiceType, error) {
	return t.one(ctx, ` WHERE uuid = ? AND removed = 0`, uuid)
}

func (t serviceTypes) Save(ctx context.Context, s bindery.ServiceType) error {
	if err := t.free(ctx, s); err != nil {
		return err
	}
	return t.settled(t.change(ctx, `UPDATE service_types SET name = ?, hosts = ?, auth_types = ?, auth_method = ?, type = ?,
		revision = ?, created = ?, updated = ? WHERE id = ? AND revision = ? AND removed = 0`,
		s.Name, list(s.Hosts), list(s.AuthTypes), string(s.AuthMethod), s.Type, s.Revision, micros(s.Created), micros(s.Updated),
		s.Row, s.Revision-1))
}

// settled is for changes that come after a look whether a name is free. Where a
// unique index refuses nevertheless, another transaction took the name meanwhile:
// the next run sees it, and answers which name it was. (Never on SQLite, which has
// one writer.)
func (t *tx) settled(err error) error {
	if bindery.CodeOf(err) == bindery.CodeConflict {
		t.spoiled, t.cause = faultAgain, err
	}
	return err
}

// Remove marks: to delete a million bindings here would stall all other writers.
func (t serviceTypes) Remove(ctx context.Context, row int64) error {
	n, err := t.exec(ctx, `UPDATE service_types SET removed = 1 WHERE id = ? AND removed = 0`, row)
	if err == nil && n == 0 {
		return errNoServiceType
	}
	return err
}

const (
	// purgeTime is how long a purge goes on, and purgeStep how many rows it removes
	// between two looks at the clock. A row takes pages from all over five trees: how
	// long that takes depends on what the disk and others do at the time.
	purgeTime = 2 * time.Millisecond
	purgeStep = 16
)

func (t serviceTypes) Purge(ctx context.Context, limit int) (int, error) {
	done := 0
	for begun := time.Now(); done < limit && (done == 0 || time.Since(begun) < purgeTime); {
		n, err := t.purgeSome(ctx, min(purgeStep, limit-done))
		if done += n; err != nil || n == 0 {
			return done, err
		}
	}
	return done, nil
}

// purgeSome begins with the auth methods, which hold secrets. It removes rows of one
// table at a time; 0 means that nothing is left.
func (t serviceTypes) purgeSome(ctx context.Context, limit int) (int, error) {
	var row int64
	found, err := t.get(ctx, `SELECT id FROM service_types WHERE removed = 1 ORDER BY id LIMIT 1`, nil, &row)
	if err != nil || !found {
		return 0, err
	}
	for _, table := range []string{"auth_methods", "identity_bindings"} {
		n, err := t.exec(ctx, `DELETE FROM `+table+` WHERE id IN (SELECT id FROM `+table+` WHERE service_row = ? LIMIT ?)`, row, limit)
		if err != nil || n > 0 {
			return int(n), err
		}
	}
	n, err := t.exec(ctx, `DELETE FROM service_types WHERE id = ?`, row)
	return int(n), err
}

func (t serviceTypes) List(ctx context.Context, p bindery.Page) ([]bindery.ServiceType, error) {
	var w where
	w.and("removed = 0")
	text, args := w.page(p)
	return t.all(ctx, text, args...)
}
