package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// Prove implements [bindery.Prover].
func (d *driver) Prove(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (string, error) {
	if err := errors.Join(d.checkName(account.Name), d.checkName(spec.Name)); err != nil {
		return "", err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return "", err
	}
	var known details
	if len(account.Details) > 0 {
		if err := json.Unmarshal(account.Details, &known); err != nil {
			return "", fmt.Errorf("prove: details: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	results, err := d.pool.exec(ctx, roleOID(account.Name))
	if err != nil {
		return "", failed("look for a role", err)
	}
	if len(oids(results)) > 0 {
		return "", bindery.ErrAlive
	}
	if known.OID != 0 {
		s, err := d.look(ctx, targetsOf(account.Name, known.oids()))
		if err != nil {
			return "", failed("look for sessions", err)
		}
		if s.open[known.OID] {
			return "", bindery.ErrAlive
		}
	}
	return d.tryLogin(ctx, spec.Name, account.Name, m)
}

// tryLogin logs in as an application does. A server that refuses for any reason
// but the credential (no entry in pg_hba.conf, no connection to spare) has not
// looked at it, and one that does not know the database has taken it.
func (d *driver) tryLogin(ctx context.Context, database, user string, m material) (string, error) {
	config := d.pool.config.Copy()
	config.User, config.Password, config.Database = user, m.Password, database
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx) // what it was for is done
		return "", bindery.ErrAlive
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return "", failed("try a login", err)
	case refusal.Code == stateInvalidPassword,
		refusal.Code == stateInvalidAuthorization && refusal.Routine == noSuchRole:
		return "role absent, no session, login refused with SQLSTATE " + refusal.Code, nil
	case refusal.Code == stateUndefinedDatabase, refusal.Code == stateNoPrivilege:
		return "", bindery.ErrAlive
	}
	return "", failed("try a login", err)
}

// The answers to a login of a role that does not exist: with a password, and
// without, where the server's routine tells it from a missing entry in pg_hba.conf.
const (
	stateInvalidPassword      = "28P01"
	stateInvalidAuthorization = "28000"
	noSuchRole                = "InitializeSessionUserId"
)
