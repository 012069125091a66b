package mtls_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bindery"
)

// A liar is a store that says it did what it did not.
type liar struct {
	bindery.Store
	revokes, lists bool // it leaves that out
}

type liarTx struct {
	bindery.Tx
	l liar
}

type liarTable struct {
	bindery.Certificates
	l liar
}

func (l liar) Update(ctx context.Context, f func(bindery.Tx) error) error {
	return l.Store.Update(ctx, func(tx bindery.Tx) error { return f(liarTx{tx, l}) })
}

func (l liar) View(ctx context.Context, f func(bindery.Tx) error) error {
	return l.Store.View(ctx, func(tx bindery.Tx) error { return f(liarTx{tx, l}) })
}

func (t liarTx) Certificates() bindery.Certificates { return liarTable{t.Tx.Certificates(), t.l} }

func (t liarTable) Revoke(ctx context.Context, server, name string, at time.Time) error {
	if t.l.revokes {
		return nil
	}
	return t.Certificates.Revoke(ctx, server, name, at)
}

func (t liarTable) List(ctx context.Context, server string, revoked bool, after time.Time, p bindery.Page) ([]bindery.IssuedCertificate, error) {
	if revoked && t.l.lists {
		return nil, nil
	}
	return t.Certificates.List(ctx, server, revoked, after, p)
}

// TestLies: a revocation that was confirmed and is not in the table, or not on the list, is found out.
func TestLies(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]liar{"not in the table": {revokes: true}, "not on the list": {lists: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := sqlite(t)
			l.Store = w.store
			w.store = l
			m := w.made(t, "")
			a, _ := m.account(t, "")
			if err := m.d.Revoke(t.Context(), m.spec, a); err != nil {
				t.Fatal(err)
			}
			if proof, err := m.d.(bindery.Prover).Prove(t.Context(), m.spec, a); !errors.Is(err, bindery.ErrAlive) {
				t.Errorf("got %q, %v", proof, err)
			}
		})
	}
}

// FuzzParameters: whatever a binding asks for, it gets no name that the plan does not allow.
func FuzzParameters(f *testing.F) {
	w := &world{url: "http://pki.example"}
	m := &made{d: w.open(f, "abc123"), spec: bindery.InstanceSpec{Name: bindery.Name("abc123", 1), Settings: []byte(richPlan)}}
	f.Add([]byte(`{"dns_names":["a.apps.example"],"uris":["spiffe://example/a"],"ip_addresses":["10.0.0.1"],"emails":["a@example.org"]}`))
	f.Add([]byte(`{"dns_names":["a.apps.example.evil.org","*.apps.example"],"uris":["spiffe://example/../a"]}`))
	f.Add([]byte(worst()))
	f.Fuzz(func(t *testing.T, parameters []byte) {
		secret, err := m.d.Prepare(m.spec, bindery.AccountRequest{Name: bindery.Name("abc123", 2), Parameters: parameters})
		if err != nil {
			if bindery.CodeOf(err) != bindery.CodeInvalid {
				t.Errorf("got %v", err)
			}
			return
		}
		var got struct {
			Names struct {
				DNS, URIs, Emails []string
				IPs               []netip.Addr
			} `json:"names"`
		}
		if err := json.Unmarshal([]byte(secret.Reveal()), &got); err != nil {
			t.Fatal(err)
		}
		for _, s := range got.Names.DNS {
			if s != "apps.example" && !strings.HasSuffix(s, ".apps.example") || strings.ContainsAny(s, "* /\x00") {
				t.Errorf("DNS name %q", s)
			}
		}
		for _, s := range got.Names.URIs {
			if !strings.HasPrefix(s, "spiffe://example/") || strings.Contains(s, "/..") {
				t.Errorf("URI %q", s)
			}
		}
		for _, s := range got.Names.Emails {
			if strings.Count(s, "@") != 1 || !strings.HasSuffix(s, "@example.org") {
				t.Errorf("e-mail address %q", s)
			}
		}
		for _, ip := range got.Names.IPs {
			if !netip.MustParsePrefix("10.0.0.0/8").Contains(ip) {
				t.Errorf("address %v", ip)
			}
		}
	})
}
