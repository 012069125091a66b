package store

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"
	"strings"

	"bindery"
)

type identityBindings struct{ *tx }

func (t *tx) IdentityBindings() bindery.IdentityBindings { return identityBindings{t} }

const identityBindingColumns = `id, uuid, name, service_row, host, auth_type, identifier, exact_key, old_key, issuer, issuer_key,
	unique_key, revision, created, updated, last_auth`

// prefixed names the columns of one table of a join.
func prefixed(prefix, columns string) string {
	return prefix + strings.Join(strings.Fields(columns), " "+prefix)
}

// Those of removed service types are not there. The cross join tells SQLite to look
// at the binding first.
var selectIdentityBinding = `SELECT s.uuid, ` + prefixed("b.", identityBindingColumns) +
	` FROM identity_bindings b CROSS JOIN service_types s WHERE s.removed = 0 AND s.id = b.service_row`

func (t identityBindings) all(ctx context.Context, text string, long bool, args ...any) ([]bindery.IdentityBinding, error) {
	var out []bindery.IdentityBinding
	err := t.each(ctx, selectIdentityBinding+text, args, long, func(rows *sql.Rows) error {
		var b bindery.IdentityBinding
		var created, updated, last int64
		err := rows.Scan(&b.ServiceUUID, &b.Row, &b.UUID, &b.Name, &b.ServiceRow, &b.Host, (*string)(&b.AuthType), &b.Identifier,
			&b.Keys.Exact, &b.Keys.Old, &b.Issuer, &b.IssuerKey, &b.UniqueKey, &b.Revision, &created, &updated, &last)
		b.Created, b.Updated, b.LastAuth = fromMicros(created), fromMicros(updated), fromMicros(last)
		out = append(out, b)
		return err
	})
	return out, err
}

// What a look whether a binding can stand finds.
const (
	foundService = iota
	foundIdentifier
	foundName
	foundRemains // a binding with the name whose service type is removed
)

const lookIdentityBinding = `SELECT 0, id FROM service_types WHERE id = ? AND removed = 0
	UNION ALL SELECT 1, id FROM identity_bindings WHERE exact_key = ? AND service_row = ? AND host = ? AND auth_type = ? AND id <> ?
	UNION ALL SELECT 1, id FROM identity_bindings
		WHERE old_key = ? AND old_key <> '' AND service_row = ? AND host = ? AND auth_type = ? AND id <> ?
	UNION ALL SELECT 2 + s.removed, b.id FROM identity_bindings b JOIN service_types s ON s.id = b.service_row WHERE b.name = ? AND b.id <> ?`

// free checks that the service type is there, and that no other binding has the
// identifier or the name. It removes what a removed service type left in the way.
func (t identityBindings) free(ctx context.Context, b bindery.IdentityBinding) error {
	var found [foundRemains + 1]int64
	err := t.each(ctx, lookIdentityBinding, []any{
		b.ServiceRow,
		b.Keys.Exact, b.ServiceRow, b.Host, string(b.AuthType), b.Row,
		b.Keys.Old, b.ServiceRow, b.Host, string(b.AuthType), b.Row,
		b.Name, b.Row,
	}, false, func(rows *sql.Rows) error {
		var what int
		var row int64
		err := rows.Scan(&what, &row)
		if err == nil {
			found[what] = row
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case found[foundService] == 0:
		return errNoServiceType
	case found[foundIdentifier] != 0:
		return bindery.ErrIdentifierTaken
	case found[foundName] != 0:
		return bindery.ErrNameTaken
	case found[foundRemains] != 0:
		_, err = t.exec(ctx, `DELETE FROM identity_bindings WHERE id = ?`, found[foundRemains])
	}
	return err
}

var addIdentityBinding = `INSERT INTO identity_bindings (` + identityBindingColumns + `) VALUES (` + marks(identityBindingColumns) +
	`) ON CONFLICT DO NOTHING`

func (t identityBindings) Add(ctx context.Context, b bindery.IdentityBinding) error {
	if err := t.free(ctx, b); err != nil {
		return err
	}
	n, err := t.exec(ctx, addIdentityBinding, b.Row, b.UUID, b.Name, b.ServiceRow, b.Host, string(b.AuthType), b.Identifier,
		b.Keys.Exact, b.Keys.Old, b.Issuer, b.IssuerKey, b.UniqueKey, b.Revision, micros(b.Created), micros(b.Updated), micros(b.LastAuth))
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t identityBindings) ByName(ctx context.Context, name string) (bindery.IdentityBinding, error) {
	found, err := t.all(ctx, ` AND b.name = ?`, false, name)
	if err == nil && len(found) == 0 {
		err = notFound("binding")
	}
	if err != nil {
		return bindery.IdentityBinding{}, err
	}
	return found[0], nil
}

const saveIdentityBinding = `UPDATE identity_bindings SET identifier = ?, issuer = ?, issuer_key = ?, unique_key = ?, revision = ?,
	created = ?, updated = ?`

func (t identityBindings) Save(ctx context.Context, b bindery.IdentityBinding) error {
	was := bindery.IdentityBinding{}
	found, err := t.get(ctx, `SELECT b.name, b.service_row, b.host, b.auth_type, b.exact_key, b.old_key
		FROM identity_bindings b JOIN service_types s ON s.id = b.service_row WHERE b.id = ? AND b.revision = ? AND s.removed = 0`,
		[]any{b.Row, b.Revision - 1}, &was.Name, &was.ServiceRow, &was.Host, (*string)(&was.AuthType), &was.Keys.Exact, &was.Keys.Old)
	if err != nil {
		return err
	}
	if !found {
		return errMoved
	}
	text := saveIdentityBinding
	args := []any{b.Identifier, b.Issuer, b.IssuerKey, b.UniqueKey, b.Revision, micros(b.Created), micros(b.Updated)}
	// What is in an index is written only where it changes, as in saveEnded.
	if b.Name != was.Name || b.ServiceRow != was.ServiceRow || b.Host != was.Host || b.AuthType != was.AuthType || b.Keys != was.Keys {
		if err := t.free(ctx, b); err != nil {
			return err
		}
		text += `, name = ?, service_row = ?, host = ?, auth_type = ?, exact_key = ?, old_key = ?`
		args = append(args, b.Name, b.ServiceRow, b.Host, string(b.AuthType), b.Keys.Exact, b.Keys.Old)
	}
	return t.settled(t.change(ctx, text+` WHERE id = ? AND revision = ?`, append(args, b.Row, b.Revision-1)...))
}

func (t identityBindings) Remove(ctx context.Context, row int64) error {
	return t.removeOf(ctx, "identity_bindings", "binding", row)
}

// List asks for one place and one key at a time, each a range of an index, in order
// of rows. To ask for several at once would sort all that they have for each page.
func (t identityBindings) List(ctx context.Context, f bindery.IdentityBindingFilter, p bindery.Page) ([]bindery.IdentityBinding, error) {
	if f.Keys != (bindery.IdentityKeys{}) {
		return t.withKeys(ctx, f, p)
	}
	places, err := t.places(ctx, f)
	if err != nil {
		return nil, err
	}
	if places == nil {
		return t.all(ctx, ` AND b.id > ? ORDER BY b.id LIMIT ?`, true, p.After, pageSize(p))
	}
	return merged(places, p, identityBindingRow, func(at place, last int64) ([]bindery.IdentityBinding, error) {
		return t.all(ctx, ` AND b.service_row = ? AND b.host = ? AND b.id > ? AND b.id <= ? ORDER BY b.id LIMIT ?`, true,
			at.service, at.host, p.After, last, pageSize(p))
	})
}

func identityBindingRow(b bindery.IdentityBinding) int64 { return b.Row }

// withKeys lists those of one identity, which has few. The plus keeps the planner
// from walking all rows in their order.
func (t identityBindings) withKeys(ctx context.Context, f bindery.IdentityBindingFilter, p bindery.Page) ([]bindery.IdentityBinding, error) {
	services := f.Services
	if len(services) == 0 {
		services = []int64{0} // any
	}
	return merged(services, p, identityBindingRow, func(service, last int64) ([]bindery.IdentityBinding, error) {
		var out []bindery.IdentityBinding
		for _, key := range []struct{ condition, value string }{
			{` AND b.exact_key = ?`, f.Keys.Exact}, {` AND b.old_key = ? AND b.old_key <> ''`, f.Keys.Old},
		} {
			text, args := key.condition, []any{key.value}
			if service != 0 {
				text, args = text+` AND b.service_row = ?`, append(args, service)
			}
			if f.Host != "" {
				text, args = text+` AND b.host = ?`, append(args, f.Host)
			}
			found, err := t.all(ctx, text+` AND +b.id > ? AND +b.id <= ? ORDER BY +b.id LIMIT ?`, true, append(args, p.After, last, pageSize(p))...)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		return out, nil
	})
}

// A place is where identities are unique.
type place struct {
	service int64
	host    string
}

// places returns where a list has to look: nil, where it is as well to go through
// all rows. It is not while a removed service type has rows still, of which there
// may be a million in a page's way.
func (t identityBindings) places(ctx context.Context, f bindery.IdentityBindingFilter) ([]place, error) {
	services := f.Services
	if len(services) == 0 {
		var one int
		removed, err := t.get(ctx, `SELECT 1 FROM service_types WHERE removed = 1 LIMIT 1`, nil, &one)
		if err != nil || (!removed && f.Host == "") {
			return nil, err
		}
		err = t.each(ctx, `SELECT id FROM service_types WHERE removed = 0`, nil, true, func(rows *sql.Rows) error {
			services = append(services, 0)
			return rows.Scan(&services[len(services)-1])
		})
		if err != nil {
			return nil, err
		}
	}
	out := []place{}
	for _, service := range services {
		if err := t.live(ctx, service); bindery.CodeOf(err) == bindery.CodeNotFound {
			continue
		} else if err != nil {
			return nil, err
		}
		hosts := []string{f.Host}
		if f.Host == "" {
			var err error
			if hosts, err = t.hosts(ctx, service); err != nil {
				return nil, err
			}
		}
		for _, host := range hosts {
			out = append(out, place{service, host})
		}
	}
	return out, nil
}

// hosts jumps from each host that a service type has bindings on to the next one in
// the index, however many bindings share a host.
func (t identityBindings) hosts(ctx context.Context, service int64) (out []string, err error) {
	const first, order = `SELECT host FROM identity_bindings WHERE service_row = ?`, ` ORDER BY host LIMIT 1`
	text, args := first+order, []any{service}
	for {
		var host string
		found, err := t.get(ctx, text, args, &host)
		if err != nil || !found {
			return out, err
		}
		out = append(out, host)
		text, args = first+` AND host > ?`+order, []any{service, host}
	}
}

// merged makes one page of the pages of several parts. The further it comes, the
// less it asks for: nothing after the last row that fits.
func merged[P, T any](parts []P, p bindery.Page, row func(T) int64, list func(part P, last int64) ([]T, error)) ([]T, error) {
	var out []T
	last := int64(math.MaxInt64)
	order := func(a, b T) int { return cmp.Compare(row(a), row(b)) }
	for _, part := range parts {
		found, err := list(part, last)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
		slices.SortFunc(out, order)
		out = slices.CompactFunc(out, func(a, b T) bool { return row(a) == row(b) })
		if n := pageSize(p); len(out) >= n {
			out = out[:n]
			last = row(out[n-1])
		}
	}
	return out, nil
}
