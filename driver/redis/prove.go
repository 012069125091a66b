package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	goredis "github.com/redis/go-redis/v9"

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
	var users, clients *goredis.Cmd
	err = d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) {
		users = p.Do(ctx, listUsers()...)
		clients = p.Do(ctx, listClients()...)
	})
	if err != nil {
		return "", err
	}
	names, err := users.StringSlice()
	if err != nil {
		return "", fmt.Errorf("list users: %w", err)
	}
	open, err := clients.Text()
	if err != nil {
		return "", fmt.Errorf("list clients: %w", err)
	}
	if slices.Contains(names, account.Name) || hasSession(open, account.Name) {
		return "", bindery.ErrAlive
	}
	return d.tryLogin(ctx, account.Name, m.Password)
}

// hasSession looks for a user in a CLIENT LIST.
func hasSession(list, user string) bool {
	for line := range strings.Lines(list) {
		if slices.Contains(strings.Fields(line), "user="+user) {
			return true
		}
	}
	return false
}

// wrongPassword is the answer of a server that looked at a credential and did not take it.
const wrongPassword = "WRONGPASS"

// tryLogin logs in as an application does.
func (d *driver) tryLogin(ctx context.Context, user string, password bindery.Secret) (string, error) {
	raw, err := d.pool.dial(ctx)
	if err != nil {
		return "", silent(err)
	}
	defer raw.Close() //nolint:errcheck // nothing is left to be sent
	o := d.pool.options(ctx, raw)
	o.Username, o.Password = user, password.Reveal()
	client := goredis.NewClient(o)
	defer client.Close() //nolint:errcheck // likewise
	err = client.Ping(ctx).Err()
	refusal, ok := errors.AsType[goredis.Error](err)
	switch {
	case err == nil, ok && strings.HasPrefix(refusal.Error(), "NOPERM"):
		return "", bindery.ErrAlive // let in, whatever it may do
	case ok && strings.HasPrefix(refusal.Error(), wrongPassword):
		return "user absent, no session, login refused with " + wrongPassword, nil
	case ok:
		return "", refused(err)
	}
	return "", silent(err)
}
