package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bindery"
)

// Prepare implements [bindery.AccountDriver]. The secrets are the server's to make.
func (d *driver) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	if err := d.checkName(req.Name); err != nil {
		return bindery.Secret{}, err
	}
	plan, err := d.plan(spec)
	if err != nil {
		return bindery.Secret{}, err
	}
	r, err := plan.request(req.Parameters)
	if err != nil {
		return bindery.Secret{}, err
	}
	return material{Request: r}.seal()
}

// details are facts for an operator's eyes: by the id the server knows the client.
type details struct {
	ClientID      string `json:"client_id"`
	SecretExpires string `json:"client_secret_expires_at,omitempty"`
	TokenExpires  string `json:"token_expires_at,omitempty"`
}

// Ensure implements [bindery.AccountDriver]. An account that the server has
// answered for is that client, as long as it is there. Access tokens that an
// application got by itself go on: nobody but the server knows them.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	if err := errors.Join(d.checkName(spec.Name), d.checkName(account.Name)); err != nil {
		return bindery.Ensured{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Ensured{}, err
	}
	d.registrations.called(account.Name, account.Tries)
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	meta, err := d.discover(ctx)
	if err != nil {
		return bindery.Ensured{}, err
	}
	m.TokenEndpoint, m.AuthorizationEndpoint = meta.Token, meta.Authorization
	if m.Registration, err = d.ensureClient(ctx, meta, account.Name, m); err != nil {
		return bindery.Ensured{}, err
	}
	// A token that nothing can end is kept: another one would be one more.
	if t := m.Token; m.Request.Mode == modeToken && (t == nil || !selfContained(t.Access.Reveal()) || !time.Now().Before(t.Expires)) {
		if m.Token, err = d.renewToken(ctx, meta, m, account.Expires); err != nil {
			return bindery.Ensured{}, err
		}
	}
	about := details{ClientID: m.Registration.ClientID, SecretExpires: stamp(m.Registration.SecretExpires)}
	expires := m.Registration.SecretExpires
	if m.Token != nil {
		about.TokenExpires = stamp(m.Token.Expires)
		expires = m.Token.Expires
	}
	if !account.Expires.IsZero() && !expires.Before(account.Expires) {
		expires = time.Time{}
	}
	facts, err := json.Marshal(about)
	if err != nil {
		return bindery.Ensured{}, fmt.Errorf("write details: %w", err)
	}
	made, err := m.seal()
	return bindery.Ensured{Details: facts, Material: made, Expires: expires}, err
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// ensureClient returns the account's client: the one that is known, else a new one.
func (d *driver) ensureClient(ctx context.Context, meta metadata, name string, m material) (*registration, error) {
	if m.Registration != nil {
		known := d.latest(name, *m.Registration)
		r, err := d.bringBack(ctx, name, known, m.Request)
		if r != nil || err != nil {
			return r, err
		}
		// It is gone. What this process remembers of it must not be taken for a new one.
		if made := d.registrations.client(name); made != nil && made.ClientID == known.ClientID {
			d.registrations.record(name, nil)
		}
	}
	initial := d.server.Secrets[secretInitialToken]
	s, err := registerClient(meta.Registration, initial, metadataOf(d.server.Installation, name, m.Request))
	if err != nil {
		return nil, err
	}
	a := d.registrations.begin(name, patience*d.server.Timeout, func(ctx context.Context) (*registration, error) {
		return d.register(ctx, s)
	})
	select {
	case <-a.over:
		return a.made, a.err
	case <-ctx.Done():
		return nil, silent(context.Cause(ctx))
	}
}

// patience is for how many timeouts the answer to a registration is waited for,
// after its caller has given up.
const patience = 5

// latest is a registration with the newest token that this process knows for it.
func (d *driver) latest(name string, r registration) registration {
	if made := d.registrations.client(name); made != nil && made.ClientID == r.ClientID {
		return *made
	}
	return r
}

// register asks for a new client. Its error is errLost where one may be there all the same.
func (d *driver) register(ctx context.Context, s statement) (*registration, error) {
	a, err := d.client.send(ctx, s)
	switch {
	case errors.Is(err, errUnsent):
		return nil, err
	case err != nil:
		return nil, lost(err)
	case a.status >= 400 && a.status < 500:
		return nil, a.failed("register a client")
	case !a.ok():
		return nil, lost(a.failed("register a client")) // it may be a gateway that gave up
	}
	r, err := d.parseRegistration(a, registration{})
	if err != nil {
		return nil, lost(err)
	}
	return r, nil
}

func lost(err error) error {
	return bindery.Errorf(bindery.CodeOf(err), "%s", bindery.MessageOf(err)).Because(fmt.Errorf("%w: %w", errLost, err))
}

// parseRegistration reads RFC 7591's answer, and RFC 7592's, which may leave out
// what has not changed.
func (d *driver) parseRegistration(a answer, before registration) (*registration, error) {
	var c sealedClient
	if err := a.decode(&c); err != nil {
		return nil, silent(err)
	}
	r := c.registration()
	if r.ClientSecret.Empty() {
		r.ClientSecret, r.SecretExpires = before.ClientSecret, before.SecretExpires
	}
	if r.Token.Empty() {
		r.Token = before.Token
	}
	if r.URI == "" {
		r.URI = before.URI
	}
	foreign := d.client.own(r.URI)
	switch {
	case before.ClientID != "" && (r.ClientID != before.ClientID || foreign != nil):
		return nil, silent(errors.New("the answer is not the client that was asked for"))
	// A server that made such a client would make one more each time that it is asked.
	case r.ClientID == "" || r.ClientSecret.Empty():
		return nil, unusable("cannot be used", errors.New("there is no client_id or no client_secret in its answer"))
	case r.Token.Empty() || r.URI == "":
		return nil, unusable("cannot be removed", errors.New("there is no registration_access_token or no registration_client_uri (RFC 7592) in its answer"))
	case foreign != nil:
		return nil, unusable("cannot be removed", foreign)
	}
	return r, nil
}

func unusable(how string, cause error) error {
	return bindery.Errorf(bindery.CodeUnsupported, "the authorization server registers clients that %s", how).Because(cause)
}

// bringBack brings a known client to what the account is. Nil without an error: it
// is not there any more.
func (d *driver) bringBack(ctx context.Context, name string, r registration, q request) (*registration, error) {
	a, err := d.client.send(ctx, readClient(r))
	if err != nil {
		return nil, err
	}
	if gone(a) {
		alive, err := d.letsIn(ctx, r, q)
		if err != nil {
			return nil, err
		}
		if alive {
			return nil, errUnmanageable
		}
		return nil, nil
	}
	if !a.ok() {
		return nil, a.failed("read a client")
	}
	now, err := d.parseRegistration(a, r)
	if err != nil {
		return nil, err
	}
	d.registrations.record(name, now)
	var known map[string]any
	if err := a.decode(&known); err != nil {
		return nil, silent(err)
	}
	wanted := metadataOf(d.server.Installation, name, q)
	if same(known, wanted) {
		return now, nil
	}
	s, err := updateClient(*now, known, wanted)
	if err != nil {
		return nil, err
	}
	if a, err = d.client.send(ctx, s); err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, a.failed("update a client")
	}
	if now, err = d.parseRegistration(a, *now); err != nil {
		return nil, err
	}
	d.registrations.record(name, now)
	return now, nil
}

// errUnmanageable is for a client that works, and that its registration token
// does not reach: somebody changed it on the server.
var errUnmanageable = bindery.Errorf(bindery.CodeUnavailable, "the authorization server does not let Bindery manage the client").
	Because(errors.New("it refuses the registration access token, and the client still works"))

// gone reports an answer by which a client may be removed (RFC 7592, sections
// 2.1 and 2.3): 401 also stands for a token that is not valid.
func gone(a answer) bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusNotFound
}

// same reports whether the server says what is wanted, as far as it says anything.
func same(known, wanted map[string]any) bool {
	for key, want := range wanted {
		have, ok := known[key]
		if ok && words(have) != words(want) {
			return false
		}
	}
	return true
}

// words is a text's or a list's words, in order.
func words(v any) string {
	var list []string
	switch v := v.(type) {
	case string:
		list = strings.Fields(v)
	case []string:
		list = slices.Clone(v)
	case []any:
		for _, e := range v {
			list = append(list, fmt.Sprint(e))
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// renewToken gets an access token, and ends the one before.
func (d *driver) renewToken(ctx context.Context, meta metadata, m material, expires time.Time) (*token, error) {
	if m.Token != nil {
		if err := d.endToken(ctx, meta, m); err != nil {
			return nil, err
		}
	}
	a, err := d.client.send(ctx, getToken(meta.Token, *m.Registration, m.Request))
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, a.failed("get a token")
	}
	var got struct {
		Access  string `json:"access_token"`
		Type    string `json:"token_type"`
		Seconds int64  `json:"expires_in"`
	}
	if err := a.decode(&got); err != nil || got.Access == "" || got.Type == "" {
		return nil, silent(errors.New("the answer is not an access token"))
	}
	t := &token{Access: bindery.NewSecret(got.Access), Type: got.Type}
	if got.Seconds <= 0 || got.Seconds > int64(mostLifetime/time.Second) {
		return nil, bindery.Errorf(bindery.CodeUnsupported, "the authorization server does not say when its tokens expire")
	}
	// The second is rounded down: never later than the server's own.
	t.Expires = time.Now().Add(time.Duration(got.Seconds) * time.Second).UTC().Truncate(time.Second)
	if selfContained(got.Access) && !expires.IsZero() && t.Expires.After(expires) {
		return nil, bindery.Errorf(bindery.CodeUnsupported,
			"the authorization server's tokens live longer than the binding may, and cannot be ended")
	}
	return t, nil
}

// mostLifetime bounds what a server may say of a token.
const mostLifetime = 10 * 365 * 24 * time.Hour

// selfContained reports whether a token looks like a JWT (RFC 9068), which whoever
// has the server's keys checks without asking.
func selfContained(token string) bool { return strings.Count(token, ".") == 2 }
