package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"bindery"
)

// Sole implements [bindery.Store].
func (s *Store) Sole() bool {
	_, sqlite := s.engine.(*sqliteStore)
	return sqlite
}

const (
	resolvedBinding = `id, uuid, name, identifier, exact_key, old_key, issuer, issuer_key, unique_key, revision, created, updated, last_auth`
	resolvedMethod  = `id, uuid, port, kind, revision, created, updated, seal_key, material`
)

// Each table is probed by one index. The binding of the exact key (x) goes before
// the one of the old form (o), which is looked for only where there is none: SQLite
// would ask the index first, and for x.id afterwards, were that a condition of its own.
var resolve = `SELECT ` + prefixed("s.", serviceTypeColumns) + `, ` + prefixed("m.", resolvedMethod) + `, ` + either("x.", "o.", resolvedBinding) + `
	FROM service_types s
	LEFT JOIN auth_methods m ON m.service_row = s.id AND m.host = ?
	LEFT JOIN identity_bindings x ON x.exact_key = ? AND x.service_row = s.id AND x.host = ? AND x.auth_type = ?
	LEFT JOIN identity_bindings o ON o.old_key = CASE WHEN x.id IS NULL THEN ? END AND o.old_key <> ''
		AND o.service_row = s.id AND o.host = ? AND o.auth_type = ?
	WHERE s.name = ? AND s.removed = 0`

// either takes the columns of the first of two joined rows that is there.
func either(a, b, columns string) string {
	var out []string
	for c := range strings.SplitSeq(columns, ", ") {
		out = append(out, `COALESCE(`+a+c+`, `+b+c+`)`)
	}
	return strings.Join(out, ", ")
}

// Resolve implements [bindery.Store]. One statement is one consistent look, so it
// needs no transaction around it.
func (s *Store) Resolve(
	ctx context.Context, service, host string, auth bindery.AuthType, keys bindery.IdentityKeys,
) (out bindery.Resolution, err error) {
	if p, ok := s.engine.(*postgresStore); ok {
		return p.lookups.resolve(ctx, &lookup{service: service, host: host, auth: string(auth), keys: keys})
	}
	return s.read(ctx, service, host, auth, keys)
}

func (s *Store) read(
	ctx context.Context, service, host string, auth bindery.AuthType, keys bindery.IdentityKeys,
) (out bindery.Resolution, err error) {
	err = s.engine.look(ctx, func(t *tx) error {
		out, err = t.resolve(ctx, service, host, auth, keys)
		return err
	})
	if err == nil && out.Service.Row != 0 {
		out.Service.Hosts = s.hosts.share(out.Service)
	}
	return out, err
}

func (t *tx) resolve(
	ctx context.Context, service, host string, auth bindery.AuthType, keys bindery.IdentityKeys,
) (bindery.Resolution, error) {
	var out bindery.Resolution
	var material sealed
	args := []any{host, keys.Exact, host, string(auth), keys.Old, host, string(auth), service}
	err := t.each(ctx, resolve, args, false, func(rows *sql.Rows) (err error) {
		out, material, err = scanResolution(rows)
		return err
	})
	if err != nil {
		return bindery.Resolution{}, err
	}
	if !slices.Contains(out.Service.Hosts, host) {
		return bindery.Resolution{Service: out.Service}, nil
	}
	if m := &out.Method; m.Row != 0 {
		m.ServiceRow, m.ServiceUUID, m.Host = out.Service.Row, out.Service.UUID, host
		if m.Material, err = t.open(ctx, authMethodMaterial, m.Row, material.key, material.value); err != nil {
			return bindery.Resolution{}, err
		}
	}
	if b := &out.Binding; b.Row != 0 {
		b.ServiceRow, b.ServiceUUID, b.Host, b.AuthType = out.Service.Row, out.Service.UUID, host, auth
		out.ByOldForm = b.Keys.Exact != keys.Exact
	}
	return out, nil
}

func scanResolution(rows *sql.Rows) (out bindery.Resolution, material sealed, err error) {
	s, m, b := &out.Service, &out.Method, &out.Binding
	var hosts, authTypes []byte
	var sCreated, sUpdated int64
	var mUUID, mKind, bUUID, bName, bIdentifier, bExact, bOld, bIssuer, bIssuerKey, bUniqueKey sql.NullString
	var mRow, mPort, mRevision, mCreated, mUpdated, bRow, bRevision, bCreated, bUpdated, bLast sql.NullInt64
	err = rows.Scan(&s.Row, &s.UUID, &s.Name, &hosts, &authTypes, (*string)(&s.AuthMethod), &s.Type, &s.Revision, &sCreated, &sUpdated,
		&mRow, &mUUID, &mPort, &mKind, &mRevision, &mCreated, &mUpdated, &material.key, &material.value,
		&bRow, &bUUID, &bName, &bIdentifier, &bExact, &bOld, &bIssuer, &bIssuerKey, &bUniqueKey, &bRevision, &bCreated, &bUpdated, &bLast)
	if err != nil {
		return out, material, err
	}
	s.Created, s.Updated = fromMicros(sCreated), fromMicros(sUpdated)
	m.Row, m.UUID, m.Port, m.Kind = mRow.Int64, mUUID.String, int(mPort.Int64), bindery.AuthMethodKind(mKind.String)
	m.Revision, m.Created, m.Updated = mRevision.Int64, fromMicros(mCreated.Int64), fromMicros(mUpdated.Int64)
	b.Row, b.UUID, b.Name, b.Identifier = bRow.Int64, bUUID.String, bName.String, bIdentifier.String
	b.Keys = bindery.IdentityKeys{Exact: bExact.String, Old: bOld.String}
	b.Issuer, b.IssuerKey, b.UniqueKey = bIssuer.String, bIssuerKey.String, bUniqueKey.String
	b.Revision, b.Created, b.Updated, b.LastAuth = bRevision.Int64, fromMicros(bCreated.Int64), fromMicros(bUpdated.Int64), fromMicros(bLast.Int64)
	return out, material, readLists(s, hosts, authTypes)
}
