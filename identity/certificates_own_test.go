package identity_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bindery/identity"
)

// own is one authority of ours, with nothing revoked.
func own(t testing.TB, ca *signer) func(context.Context) ([]identity.OwnAuthority, error) {
	t.Helper()
	said := []identity.OwnAuthority{{Chain: ca.pem(), CRL: ca.crl(t, list{})}}
	return func(context.Context) ([]identity.OwnAuthority, error) { return said, nil }
}

// TestOwnAuthority: it needs no file to be trusted, its list is looked at a moment later, and where it cannot be
// asked the last one holds.
func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	ours, theirs := newCA(t, "Ours"), newCA(t, "Theirs")
	me, you, other := ours.leaf(t, "me"), ours.leaf(t, "you"), theirs.leaf(t, "me")
	said, failure := list{}, error(nil)
	w := newWorld(t, []*signer{theirs}, func(o *identity.CertificateOptions) {
		o.Verify, o.RequireCRL = true, true
		o.StaleCRL = "refuse"
		o.Own = func(context.Context) ([]identity.OwnAuthority, error) {
			if failure != nil {
				return nil, failure
			}
			return []identity.OwnAuthority{{Chain: ours.pem(), CRL: ours.crl(t, said)}}, nil
		}
	})
	proves := func(s *signer, here bool) {
		t.Helper()
		who, err := w.prove(t, s.chain())
		if err != nil || who.IssuedHere != here {
			t.Errorf("got %+v, %v, want it proven, and IssuedHere %v", who, err, here)
		}
	}
	refused := func(s *signer, want string) {
		t.Helper()
		if _, err := w.prove(t, s.chain()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	proves(me, true)
	proves(you, true)
	refused(other, "No CRLDistributionPoints") // not ours, and nobody has its list

	said = list{number: 2, revoked: []*signer{me}}
	w.clock.add(300 * time.Millisecond)
	refused(me, "has been revoked")
	proves(you, true)

	said = list{number: 1} // of a process that is a moment behind
	w.clock.add(300 * time.Millisecond)
	refused(me, "has been revoked")

	said, failure = list{number: 3, revoked: []*signer{me, you}}, errors.New("the store does not answer")
	w.clock.add(300 * time.Millisecond)
	refused(me, "has been revoked")
	proves(you, true)
	failure = nil
	w.clock.add(300 * time.Millisecond)
	refused(you, "has been revoked")
}

// TestOwnAuthorityThatCannotBeAsked: nobody knows then whose certificates prove only what is pinned.
func TestOwnAuthorityThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	_, err := identity.NewCertificates(identity.CertificateOptions{
		TrustDir: t.TempDir(), Own: func(context.Context) ([]identity.OwnAuthority, error) { return nil, errors.New("no store") },
	})
	if err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("got %v", err)
	}
}
