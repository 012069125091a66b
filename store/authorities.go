package store

import (
	"context"
	"database/sql"
	"time"

	"bindery"
)

type authorities struct{ *tx }

func (t *tx) Authorities() bindery.Authorities { return authorities{t} }

const authorityColumns = `id, server, certificate, crl_number, created, seal_key, private_key`

var authorityTable = sealedTable[bindery.Authority]{
	column: authorityKey,
	scan: func(rows *sql.Rows, a *bindery.Authority, v *sealed) error {
		var created int64
		err := rows.Scan(&a.Row, &a.Server, &a.Certificate, &a.CRLNumber, &created, &v.key, &v.value)
		a.Created = fromMicros(created)
		return err
	},
	secret: func(a *bindery.Authority) (int64, *bindery.Secret) { return a.Row, &a.Key },
}

var (
	errNoAuthority    = notFound("certificate authority")
	errAuthorityTaken = bindery.Errorf(bindery.CodeConflict, "the server has a certificate authority")
)

var addAuthority = `INSERT INTO authorities (` + authorityColumns + `) VALUES (` + marks(authorityColumns) + `) ON CONFLICT DO NOTHING`

func (t authorities) Add(ctx context.Context, a bindery.Authority) error {
	key, sealed := t.store.vault.seal(authorityKey, a.Row, a.Key)
	n, err := t.exec(ctx, addAuthority, a.Row, a.Server, a.Certificate, a.CRLNumber, micros(a.Created), key, sealed)
	if err == nil && n == 0 {
		return errAuthorityTaken
	}
	return err
}

func (t authorities) Get(ctx context.Context, server string) (bindery.Authority, error) {
	return authorityTable.one(ctx, t.tx, errNoAuthority, `SELECT `+authorityColumns+` FROM authorities WHERE server = ?`, server)
}

func (t authorities) NextCRL(ctx context.Context, server string) (int64, error) {
	var n int64
	found, err := t.get(ctx, `UPDATE authorities SET crl_number = crl_number + 1 WHERE server = ? RETURNING crl_number`, []any{server}, &n)
	if err == nil && !found {
		err = errNoAuthority
	}
	return n, err
}

type certificates struct{ *tx }

func (t *tx) Certificates() bindery.Certificates { return certificates{t} }

const certificateColumns = `id, server, serial, name, expires, revoked`

func (t certificates) all(ctx context.Context, text string, long bool, args ...any) ([]bindery.IssuedCertificate, error) {
	var out []bindery.IssuedCertificate
	err := t.each(ctx, `SELECT `+certificateColumns+` FROM certificates`+text, args, long, func(rows *sql.Rows) error {
		var c bindery.IssuedCertificate
		var expires, revoked int64
		err := rows.Scan(&c.Row, &c.Server, &c.Serial, &c.Name, &expires, &revoked)
		c.Expires, c.Revoked = fromMicros(expires), fromMicros(revoked)
		out = append(out, c)
		return err
	})
	return out, err
}

func (t certificates) one(ctx context.Context, text string, args ...any) (bindery.IssuedCertificate, error) {
	found, err := t.all(ctx, text, false, args...)
	if err == nil && len(found) == 0 {
		err = errNoCertificate
	}
	if err != nil {
		return bindery.IssuedCertificate{}, err
	}
	return found[0], nil
}

var (
	errNoCertificate     = notFound("certificate")
	errCertificateIssued = bindery.Errorf(bindery.CodeConflict, "the certificate was issued before")
)

var addCertificate = `INSERT INTO certificates (` + certificateColumns + `) VALUES (` + marks(certificateColumns) + `) ON CONFLICT DO NOTHING`

func (t certificates) Add(ctx context.Context, c bindery.IssuedCertificate) error {
	n, err := t.exec(ctx, addCertificate, c.Row, c.Server, c.Serial, c.Name, micros(c.Expires), micros(c.Revoked))
	if err == nil && n == 0 {
		return errCertificateIssued
	}
	return err
}

func (t certificates) BySerial(ctx context.Context, server, serial string) (bindery.IssuedCertificate, error) {
	return t.one(ctx, ` WHERE server = ? AND serial = ?`, server, serial)
}

func (t certificates) ByName(ctx context.Context, server, name string) (bindery.IssuedCertificate, error) {
	return t.one(ctx, ` WHERE server = ? AND name = ? ORDER BY revoked, id DESC LIMIT 1`, server, name)
}

func (t certificates) Revoke(ctx context.Context, server, name string, at time.Time) error {
	n, err := t.exec(ctx, `UPDATE certificates SET revoked = ? WHERE server = ? AND name = ? AND revoked = 0`, micros(at), server, name)
	if err == nil && n == 0 {
		_, err = t.ByName(ctx, server, name) // they were revoked before, or none is there
	}
	return err
}

func (t certificates) List(ctx context.Context, server string, revoked bool, after time.Time, p bindery.Page) ([]bindery.IssuedCertificate, error) {
	var w where
	w.and("server = ?", server)
	if revoked {
		w.and("revoked > 0") // literals, so that the partial indexes fit
	} else {
		w.and("revoked = 0")
	}
	w.and("expires > ?", after.UnixMicro())
	text, args := w.page(p)
	return t.all(ctx, text, true, args...)
}

func (t certificates) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM certificates WHERE id IN (SELECT id FROM certificates WHERE expires < ? ORDER BY expires LIMIT ?)`,
		before.UnixMicro(), limit)
	return int(n), err
}
