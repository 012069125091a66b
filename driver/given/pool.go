package given

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"bindery"
)

// Pool hands out sets of a stock, each to one binding at a time. The stock is the
// server's secret "stock", a list of sets with names. The engine decides who takes
// which, in the transaction that records the binding.
var Pool = bindery.Kind{
	Open:             openPool,
	Local:            true,
	CheckServer:      func(raw json.RawMessage) error { _, err := parsePoolSettings(raw); return err },
	CheckPlan:        checkPlan,
	CheckSecrets:     checkPool,
	Revocation:       released,
	CredentialSchema: credentialSchema,
	Schemas:          noSchemas,
}

const (
	secretStock = "stock"
	secretHook  = "hook_token"
	// mostItems bounds a stock.
	mostItems = 10_000
	// mostAnswer bounds what a hook may answer.
	mostAnswer = 1 << 20
)

type item struct {
	Name string `json:"name"`
	set
}

// material is what is sealed with an account: the set as it was when it was taken.
type material struct {
	Item string          `json:"item"`
	Set  json.RawMessage `json:"set"`
}

// poolSettings are a server's.
type poolSettings struct {
	// RotationURL is asked for a new set when one comes back; empty: an operator decides.
	RotationURL string
}

type pool struct {
	nothing
	names  []string
	sets   map[string]json.RawMessage
	hook   string
	token  bindery.Secret
	client *http.Client
}

func openPool(s bindery.Server) (bindery.Driver, error) {
	settings, err := parsePoolSettings(s.Settings)
	if err != nil {
		return nil, err
	}
	stock, err := parseStock(s.Secrets[secretStock])
	if err != nil {
		return nil, err
	}
	d := &pool{
		nothing: nothing{s.Installation}, sets: make(map[string]json.RawMessage, len(stock)),
		hook: settings.RotationURL, token: s.Secrets[secretHook],
		client: &http.Client{
			Timeout: s.Timeout,
			// A redirect would carry the set to somewhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for _, i := range stock {
		raw, err := json.Marshal(i.set)
		if err != nil {
			return nil, err
		}
		d.names = append(d.names, i.Name)
		d.sets[i.Name] = raw
	}
	return d, nil
}

func parsePoolSettings(raw json.RawMessage) (s poolSettings, err error) {
	err = bindery.Settings{"rotation_url": func(v json.RawMessage) string {
		const problem = "must begin with https:// and have no user in it"
		if json.Unmarshal(v, &s.RotationURL) != nil {
			return problem
		}
		u, err := url.Parse(s.RotationURL)
		if err != nil || s.RotationURL != "" &&
			(u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))) {
			return problem
		}
		return ""
	}}.Read("server settings", raw)
	return s, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkPool(password bindery.Secret, secrets map[string]bindery.Secret) error {
	if err := onlySecrets(password, secrets, secretStock, secretHook); err != nil {
		return err
	}
	_, err := parseStock(secrets[secretStock])
	return err
}

// itemName is what an item may be called: it stands in the audit and on command lines.
var itemName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func parseStock(s bindery.Secret) ([]item, error) {
	if s.Empty() {
		return nil, fmt.Errorf("the secret %s is missing", secretStock)
	}
	var stock []item
	err := decode(s.Reveal(), &stock)
	if err == nil && (len(stock) == 0 || len(stock) > mostItems) {
		err = fmt.Errorf("it must have from 1 to %d items", mostItems)
	}
	names := make(map[string]bool, len(stock))
	for n, i := range stock {
		switch {
		case err != nil:
		case !itemName.MatchString(i.Name):
			err = fmt.Errorf("item %d: its name must be at most 63 of A-Z a-z 0-9 . _ -", n+1)
		case names[i.Name]:
			err = fmt.Errorf("item %d: there is another %q", n+1, i.Name)
		default:
			if err = i.check(); err != nil {
				err = fmt.Errorf("item %q: %w", i.Name, err)
			}
		}
		names[i.Name] = true
	}
	if err != nil {
		return nil, fmt.Errorf("the secret %s: %w", secretStock, err)
	}
	return stock, nil
}

// Stock implements [bindery.Stocker].
func (d *pool) Stock() []string { return slices.Clone(d.names) }

// Prepare implements [bindery.AccountDriver].
func (d *pool) Prepare(_ bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	if err := noParameters(req.Parameters); err != nil {
		return bindery.Secret{}, err
	}
	m := material{Item: req.Item.Name, Set: d.sets[req.Item.Name]}
	if !req.Item.Material.Empty() {
		m.Set = json.RawMessage(req.Item.Material.Reveal())
	}
	if m.Set == nil {
		return bindery.Secret{}, bindery.Errorf(bindery.CodeQuota, "the stock has nothing left")
	}
	raw, err := json.Marshal(m)
	return bindery.NewSecret(string(raw)), err
}

// Render implements [bindery.AccountDriver].
func (d *pool) Render(_ bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	var m material
	var one set
	if json.Unmarshal([]byte(account.Material.Reveal()), &m) != nil || decode(string(m.Set), &one) != nil {
		return bindery.Credential{}, errors.New("the material of an account of a pool is damaged")
	}
	return one.render(), nil
}

// Return implements [bindery.Stocker]: it asks the rotation hook, with POST, for a
// new set in place of the one that came back. 200 with a set: that is given out
// next. 204: the old one may be given out again. Anything else is an error, and asked again later.
func (d *pool) Return(ctx context.Context, i bindery.StockItem) (bindery.Secret, bool, error) {
	if d.hook == "" {
		return bindery.Secret{}, false, nil
	}
	old := d.sets[i.Name]
	if !i.Material.Empty() {
		old = json.RawMessage(i.Material.Reveal())
	}
	body, err := json.Marshal(material{Item: i.Name, Set: old})
	if err != nil {
		return bindery.Secret{}, false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.hook, bytes.NewReader(body))
	if err != nil {
		return bindery.Secret{}, false, errHook.Because(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if !d.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+d.token.Reveal())
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return bindery.Secret{}, false, errHook.Because(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	switch resp.StatusCode {
	case http.StatusNoContent:
		return i.Material, true, nil
	case http.StatusOK:
	default:
		return bindery.Secret{}, false, errHook.Because(fmt.Errorf("status %d", resp.StatusCode))
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer+1))
	if err != nil || len(answer) > mostAnswer {
		return bindery.Secret{}, false, errHook.Because(errors.Join(err, errors.New("its answer cannot be read, or is over 1 MiB")))
	}
	var fresh set
	if err := decode(string(answer), &fresh); err != nil {
		return bindery.Secret{}, false, errHook.Because(errShape)
	}
	if err := fresh.check(); err != nil {
		return bindery.Secret{}, false, errHook.Because(err)
	}
	return bindery.NewSecret(string(answer)), true, nil
}

var errHook = bindery.Errorf(bindery.CodeUnavailable, "the rotation hook did not answer well")
