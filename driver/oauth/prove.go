package oauth

import (
	"context"
	"fmt"

	"bindery"
)

// Prove implements [bindery.Prover]. The login comes first: to read a client that
// is alive may change its registration token (RFC 7592, section 2.1).
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
	made, err := d.registrations.wait(ctx, account.Name)
	if err != nil {
		return "", err
	}
	if made != nil && m.Registration == nil {
		return "", bindery.ErrAlive
	}
	if m.Registration == nil {
		// Whatever the server may have made, its secret went with the answer.
		return "no client secret was ever told", nil
	}
	alive, err := d.letsIn(ctx, *m.Registration, m.Request)
	if err != nil {
		return "", err
	}
	if alive {
		return "", bindery.ErrAlive
	}
	a, err := d.client.send(ctx, readClient(*m.Registration))
	switch {
	case err != nil:
		return "", err
	case a.ok():
		return "", bindery.ErrAlive
	case !gone(a):
		return "", a.failed("read a client")
	}
	return fmt.Sprintf("client absent (its registration answers %d), login refused with %s", a.status, invalidClient), nil
}
