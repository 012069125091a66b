package nats

import (
	"context"
	"errors"
	"fmt"

	natsgo "github.com/nats-io/nats.go"

	"bindery"
)

// Prove implements [bindery.Prover].
func (d *driver) Prove(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) (string, error) {
	if err := d.checkName(account.Name); err != nil {
		return "", err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	err = again(ctx, func() error { return d.absent(ctx, account.Name, m) })
	if err != nil {
		return "", err
	}
	return d.tryLogin(ctx, m)
}

// absent looks for the binding's key, and for its sessions.
func (d *driver) absent(ctx context.Context, name string, m material) error {
	c, err := d.link.get(ctx)
	if err != nil {
		return err
	}
	key := m.claims.IssuerAccount
	claims, err := c.lookup(ctx, key)
	if err != nil {
		return err
	}
	if claims == nil {
		return nil // with an account go its sessions
	}
	if forbid(claims, name) || claims.SigningKeys.Contains(m.signer()) {
		return bindery.ErrAlive
	}
	open, err := c.clients(ctx, key)
	if err != nil {
		return err
	}
	for _, o := range open {
		if o.User == name || o.Issuer == m.signer() {
			return bindery.ErrAlive
		}
	}
	return nil
}

// tryLogin logs in as an application does.
func (d *driver) tryLogin(ctx context.Context, m material) (string, error) {
	nc, _, err := d.link.connect(ctx, "", natsgo.UserJWTAndSeed(m.Token, m.Seed))
	switch {
	case err == nil:
		nc.Close()
		return "", bindery.ErrAlive
	case errors.Is(err, natsgo.ErrMaxAccountConnectionsExceeded):
		return "", bindery.ErrAlive // let in, were there room
	case errors.Is(err, natsgo.ErrAuthorization), errors.Is(err, natsgo.ErrAuthRevoked), errors.Is(err, natsgo.ErrAuthExpired):
		return "signing key absent, no session, login refused with Authorization Violation", nil
	}
	return "", unavailable(fmt.Errorf("log in: %w", err))
}
