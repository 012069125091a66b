package mysql

import (
	"context"
	"encoding/json"
	"errors"

	"bindery"
)

// material is what an account is made of.
type material struct {
	Password        string         `json:"password"`
	Salt            string         `json:"salt"` // of the hash that MySQL keeps; MariaDB's has none
	Access          bindery.Access `json:"access"`
	ConnectionLimit int            `json:"connection_limit,omitempty"` // 0: the plan's
}

// details are what is kept of an account: where to look for what it stored, should
// the instance not be known any more.
type details struct {
	Database string `json:"database"`
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
	m := material{Password: bindery.NewPassword().Reveal(), Salt: newSalt(), Access: p.Access, ConnectionLimit: p.ConnectionLimit}
	raw, err := json.Marshal(m) //nolint:gosec // this is how it becomes a Secret
	if err != nil {
		return bindery.Secret{}, errors.New("the material cannot be written") // the cause could quote it
	}
	return bindery.NewSecret(string(raw)), nil
}

func parseMaterial(secret bindery.Secret) (material, error) {
	var m material
	if err := json.Unmarshal([]byte(secret.Reveal()), &m); err != nil || m.Password == "" || len(m.Salt) != saltChars {
		return m, errors.New("the account's material cannot be read") // the cause could quote it
	}
	return m, nil
}

// form is what the server is told of an account.
func (d *driver) form(spec bindery.InstanceSpec, name string, m material, s planSettings) accountForm {
	f := accountForm{
		name: name, database: spec.Name, rights: allRights,
		password: m.Password, salt: m.Salt, tls: d.public.TLS, limit: m.ConnectionLimit,
	}
	if m.Access == bindery.ReadOnly {
		f.rights = readRights
	}
	// Whatever a plan that changed meanwhile allowed before.
	if f.limit == 0 || s.MaxConnectionLimit > 0 && f.limit > s.MaxConnectionLimit {
		f.limit = s.MaxConnectionLimit
	}
	return f
}

// Ensure implements [bindery.AccountDriver]. A new account is one round trip. The
// server has no expiry of accounts (PASSWORD EXPIRE asks for a new password, of
// whoever has the old one), so that account.Expires is the engine's alone.
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
	f, err := d.pool.server(ctx)
	if err != nil {
		return bindery.Ensured{}, failed("look at the server", err)
	}
	make := makeAccount(f, d.form(spec, account.Name, m, settings))
	_, err = d.pool.change(ctx, make)
	if number(err) == errCannotUser {
		// It exists, or a crash left a part of it. Made anew it has the rights of a
		// new one and no others.
		if _, err = d.pool.change(ctx, dropAccount(account.Name, anyHost)+"; "+make); err == nil {
			err = d.endSessions(ctx, account.Name)
		}
	}
	if err != nil {
		return bindery.Ensured{}, failed("make an account", err)
	}
	made, err := json.Marshal(details{Database: spec.Name})
	return bindery.Ensured{Details: made}, err
}
