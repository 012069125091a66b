package oauth

import (
	"context"
	"errors"
	"net/http"

	"bindery"
)

// Revoke implements [bindery.AccountDriver]. Without material nothing can be done:
// the server knows the client by a name that only the material has.
func (d *driver) Revoke(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) error {
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	if account.Material.Empty() {
		return bindery.Errorf(bindery.CodeUnsupported,
			"the authorization server names its clients: look there for client_name %s and remove it", account.Name)
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	// An answer that is still under way may be the account's client.
	made, err := d.registrations.wait(ctx, account.Name)
	if err != nil {
		return err
	}
	if made != nil && (m.Registration == nil || made.ClientID != m.Registration.ClientID) {
		if err := d.remove(ctx, *made, m.Request); err != nil {
			return err
		}
	}
	if m.Registration != nil {
		m.Registration = ref(d.latest(account.Name, *m.Registration))
		if m.Token != nil {
			meta, err := d.discover(ctx)
			if err != nil {
				return err
			}
			if err := d.endToken(ctx, meta, m); err != nil {
				return err
			}
		}
		if err := d.remove(ctx, *m.Registration, m.Request); err != nil {
			return err
		}
	}
	if made != nil {
		d.registrations.record(account.Name, nil)
	}
	return nil
}

func ref[T any](v T) *T { return &v }

// remove deletes a client. One that is not there is removed already.
func (d *driver) remove(ctx context.Context, r registration, q request) error {
	a, err := d.client.send(ctx, deleteClient(r))
	switch {
	case err != nil:
		return err
	case a.ok():
		return nil
	case !gone(a):
		return a.failed("delete a client")
	}
	// The registration token may have become invalid without the client.
	alive, err := d.letsIn(ctx, r, q)
	if err == nil && alive {
		return errUnmanageable
	}
	return err
}

// endToken revokes the access token that the account has (RFC 7009). A server
// that does not do that, and a client that is gone, are no errors: the client's
// removal follows, and what validates by itself lives on anyway.
func (d *driver) endToken(ctx context.Context, meta metadata, m material) error {
	if meta.Revocation == "" {
		return nil
	}
	a, err := d.client.send(ctx, revokeToken(meta.Revocation, *m.Registration, m.Request, *m.Token))
	if err != nil {
		return err
	}
	if a.ok() || a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized {
		return nil
	}
	return a.failed("revoke a token")
}

// letsIn reports whether the server still lets a client in. An error says that
// nobody can tell.
func (d *driver) letsIn(ctx context.Context, r registration, q request) (bool, error) {
	meta, err := d.discover(ctx)
	if err != nil {
		return false, err
	}
	q.Scopes, q.Resource = nil, "" // it is the client that is asked about
	a, err := d.client.send(ctx, getToken(meta.Token, r, q))
	if err != nil {
		return false, err
	}
	if a.ok() {
		return true, d.discard(ctx, meta, a, r, q)
	}
	refused := a.refusal("try a client's secret")
	switch {
	case refused.code == invalidClient && (a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest):
		return false, nil
	case a.status == http.StatusBadRequest && final[refused.code]:
		return true, nil // it was let in, and may not do this
	}
	return false, bindery.Errorf(bindery.CodeUnavailable, "the authorization server does not say whether the client is there").Because(refused)
}

// invalidClient is the answer of a server that looked at a client's credential
// and did not take it (RFC 6749, section 5.2).
const invalidClient = "invalid_client"

// discard ends a token that nobody needs.
func (d *driver) discard(ctx context.Context, meta metadata, a answer, r registration, q request) error {
	var got struct {
		Access string `json:"access_token"`
	}
	if a.decode(&got) != nil || got.Access == "" {
		return silent(errors.New("the answer is not an access token"))
	}
	return d.endToken(ctx, meta, material{Request: q, Registration: &r, Token: &token{Access: bindery.NewSecret(got.Access)}})
}
