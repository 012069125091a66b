package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// material is what an account is made of. The verifier is derived once, when the
// account is prepared, so that repeating a call neither costs it again nor changes it.
type material struct {
	Password        string         `json:"password"`
	Verifier        string         `json:"verifier"`
	Access          bindery.Access `json:"access"`
	ConnectionLimit int            `json:"connection_limit,omitempty"` // 0: the plan's
}

// details are what is kept of an account: its sessions are found by the oid of a
// role that no longer exists.
type details struct {
	OID uint32 `json:"oid"`
}

func (d details) oids() []uint32 {
	if d.OID == 0 {
		return nil
	}
	return []uint32{d.OID}
}

// Prepare implements [bindery.AccountDriver].
func (d *driver) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	settings, err := parsePlan(spec.Settings)
	if err != nil {
		return bindery.Secret{}, err
	}
	p, err := parseBinding(req.Parameters, settings)
	if err != nil {
		return bindery.Secret{}, err
	}
	m := material{Password: bindery.NewPassword().Reveal(), Access: p.Access, ConnectionLimit: p.ConnectionLimit}
	if m.Verifier, err = newVerifier(m.Password); err != nil {
		return bindery.Secret{}, err
	}
	raw, err := json.Marshal(m) //nolint:gosec // this is how it becomes a Secret
	if err != nil {
		return bindery.Secret{}, errors.New("the material cannot be written") // the cause could quote it
	}
	return bindery.NewSecret(string(raw)), nil
}

func parseMaterial(secret bindery.Secret) (material, error) {
	var m material
	if err := json.Unmarshal([]byte(secret.Reveal()), &m); err != nil || m.Password == "" || m.Verifier == "" {
		return m, errors.New("the account's material cannot be read") // the cause could quote it
	}
	return m, nil
}

// group is the role that an account acts as.
func (m material) group(instance string) string {
	if m.Access == bindery.ReadOnly {
		return readers(instance)
	}
	return instance
}

// limit is how many connections the account may have, whatever a plan that
// changed meanwhile allowed before.
func (m material) limit(s planSettings) int {
	limit := m.ConnectionLimit
	if limit == 0 || s.MaxConnectionLimit > 0 && limit > s.MaxConnectionLimit {
		limit = s.MaxConnectionLimit
	}
	return unlimited(limit)
}

// Ensure implements [bindery.AccountDriver]. A new account is one round trip.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	if err := errors.Join(d.checkName(spec.Name), d.checkName(account.Name)); err != nil {
		return bindery.Ensured{}, err
	}
	settings, err := parsePlan(spec.Settings)
	if err != nil {
		return bindery.Ensured{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Ensured{}, err
	}
	ctx, end, err := d.begin(ctx, account.Name)
	if err != nil {
		return bindery.Ensured{}, failed("ensure", err)
	}
	defer end()
	group, login := m.group(spec.Name), login{m.Verifier, m.limit(settings), account.Expires}
	results, err := d.pool.exec(ctx, createAccount(account.Name, group, login))
	switch state(err) {
	case stateDuplicateObject, stateUniqueViolation:
		results, err = d.reset(ctx, spec.Name, account.Name, group, login)
	}
	if state(err) == stateUndefinedObject || state(err) == stateUndefinedDatabase {
		return bindery.Ensured{}, bindery.Errorf(bindery.CodeUnavailable, "the database is not there").Because(err)
	}
	if err != nil {
		return bindery.Ensured{}, failed("make a role", err)
	}
	oid := oids(results)
	if len(oid) == 0 {
		return bindery.Ensured{}, errors.New("make a role: it has no oid")
	}
	made, err := json.Marshal(details{OID: oid[0]})
	return bindery.Ensured{Details: made}, err
}

// reset gives a role that exists what a new one would have, and no more.
func (d *driver) reset(ctx context.Context, instance, name, group string, l login) ([]*pgconn.Result, error) {
	groups, err := d.groups(ctx, name)
	if err != nil {
		return nil, err
	}
	results, err := d.pool.exec(ctx, members(name))
	if err != nil {
		return nil, err
	}
	var guests []string
	for _, row := range results[0].Rows {
		guests = append(guests, string(row[0]))
	}
	sql := resetAccount(name, group, instance, l)
	if others := slices.DeleteFunc(groups, func(g string) bool { return g == group }); len(others) > 0 {
		sql = leave([]string{name}, others) + "; " + sql
	}
	if len(guests) > 0 {
		sql = leave(guests, []string{name}) + "; " + sql
	}
	if results, err = d.pool.exec(ctx, sql); err != nil {
		return nil, err
	}
	return results, d.endLive(ctx, instance, name, oids(results))
}

// groups lists the groups of this installation that a role is in. Those of
// others, an operator's for example, are none of Bindery's business.
func (d *driver) groups(ctx context.Context, name string) ([]string, error) {
	results, err := d.pool.exec(ctx, memberships(name))
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, row := range results[0].Rows {
		if g := string(row[0]); strings.HasPrefix(g, d.prefix) {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

// oids reads the answer to roleOID, which is the last one or the only one with rows.
func oids(results []*pgconn.Result) []uint32 {
	for _, r := range slices.Backward(results) {
		for _, row := range r.Rows {
			if n := number(row[0]); n > 0 {
				return []uint32{uint32(n)} //nolint:gosec // an oid has 32 bits
			}
		}
	}
	return nil
}

// number reads an answer in digits; what is none is 0.
func number(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}
