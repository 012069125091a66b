package identity_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bindery/identity"
	"bindery/test/poll"
)

// A responder is a real one, with golang.org/x/crypto/ocsp.
type responder struct {
	*crlServer
	status atomic.Int64
}

func newResponder(t testing.TB, ca *signer, change func(*ocsp.Response) (as *signer, of *x509.Certificate)) *responder {
	t.Helper()
	r := &responder{crlServer: newCRLServer(t, nil)}
	r.handle(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := ocsp.Response{
			Status: int(r.status.Load()), SerialNumber: q.SerialNumber,
			ThisUpdate: start.Add(-time.Minute), NextUpdate: start.Add(time.Hour), RevokedAt: start.Add(-time.Minute),
		}
		as, of := ca, ca.cert
		if change != nil {
			as, of = change(&answer)
		}
		der, err := ocsp.CreateResponse(of, as.cert, answer, as.key)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(der)
	})
	return r
}

func responds(url string) change { return func(c *x509.Certificate) { c.OCSPServer = []string{url} } }

func withOCSP(o *identity.CertificateOptions) { o.OCSP = true }

func TestOCSP(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	r := newResponder(t, root, nil)
	leaf := root.leaf(t, "leaf", responds(r.URL))
	w := newWorld(t, []*signer{root}, withOCSP, func(o *identity.CertificateOptions) { o.RequireCRL = true })
	for range 5 {
		w.wants(t, leaf, "")
	}
	if n := r.requests.Load(); n != 1 {
		t.Errorf("%d queries", n)
	}
	r.status.Store(ocsp.Revoked)
	w.wants(t, leaf, "") // the answer holds
	w.clock.add(40 * time.Minute)
	w.soonWants(t, leaf, isRevoked) // renewed beside the requests
	r.handle(hang)
	w.clock.add(24 * time.Hour)
	w.stop()
	w.wants(t, leaf, isRevoked) // the responder is away
}

func TestOCSPBesideLists(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	lists := newCRLServer(t, root.crl(t, list{}))
	r := newResponder(t, root, nil)
	revoked := root.leaf(t, "leaf", responds(r.URL), points(lists.URL))
	r.status.Store(ocsp.Revoked)
	w := newWorld(t, []*signer{root})
	w.wants(t, revoked, "") // nobody is asked
	w = newWorld(t, []*signer{root}, withOCSP)
	w.wants(t, revoked, isRevoked)
	sub := issue(t, root, ecKey(t), called("Grid", "Sub"), isCA, responds(r.URL))
	w.wants(t, sub.leaf(t, "below"), issuerRevoked)
}

// TestOCSPAnswerThatCountsForNothing: with each of these the certificate stays unchecked.
func TestOCSPAnswerThatCountsForNothing(t *testing.T) {
	t.Parallel()
	root, twin := newCA(t, "Root"), newCA(t, "Root")
	delegated := root.leaf(t, "signer", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	passed := root.leaf(t, "passed", validity(-2, -1), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	plain := root.leaf(t, "plain")
	with := func(as *signer) func(*ocsp.Response) (*signer, *x509.Certificate) {
		return func(r *ocsp.Response) (*signer, *x509.Certificate) {
			if as != root {
				r.Certificate = as.cert
			}
			return as, root.cert
		}
	}
	edit := func(f func(*ocsp.Response)) func(*ocsp.Response) (*signer, *x509.Certificate) {
		return func(r *ocsp.Response) (*signer, *x509.Certificate) { f(r); return root, root.cert }
	}
	tests := map[string]struct {
		change func(*ocsp.Response) (*signer, *x509.Certificate)
		want   string
	}{
		"signed by the authority":         {with(root), ""},
		"signed by its delegate":          {with(delegated), ""},
		"signed by a delegate's old self": {with(passed), unchecked},
		"signed by a client of it":        {with(plain), unchecked},
		"signed by another of its name":   {with(twin), unchecked},
		"of another certificate":          {edit(func(r *ocsp.Response) { r.SerialNumber = bigInt([]byte{1}) }), unchecked},
		"old":                             {edit(func(r *ocsp.Response) { r.NextUpdate = start.Add(-time.Second) }), unchecked},
		"from the future":                 {edit(func(r *ocsp.Response) { r.ThisUpdate = start.Add(time.Hour) }), unchecked},
		"it does not know":                {edit(func(r *ocsp.Response) { r.Status = ocsp.Unknown }), unchecked},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResponder(t, root, test.change)
			w := newWorld(t, []*signer{root}, withOCSP, func(o *identity.CertificateOptions) { o.RequireCRL = true })
			leaf := root.leaf(t, "leaf", responds(r.URL))
			w.wants(t, leaf, test.want)
			if r.requests.Load() != 1 {
				t.Error("nobody was asked")
			}
		})
	}
}

// TestSilentResponder: it is waited for once, and not once for every certificate.
func TestSilentResponder(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	lists, silent := newCRLServer(t, root.crl(t, list{})), newCRLServer(t, nil)
	silent.handle(hang)
	w := newWorld(t, []*signer{root}, withOCSP, func(o *identity.CertificateOptions) { o.FetchTimeout = 300 * time.Millisecond })
	for range 3 {
		w.wants(t, root.leaf(t, "leaf", points(lists.URL), responds(silent.URL)), "")
		w.wants(t, root.leaf(t, "leaf", responds(silent.URL)), "")
	}
	// Once, or twice where whoever waited for the first question gave up in the same moment as it.
	n := silent.requests.Load()
	if n > 2 {
		t.Errorf("it was asked %d times", n)
	}
	w.clock.add(2 * time.Minute)
	w.wants(t, root.leaf(t, "leaf", responds(silent.URL)), "")
	poll.Until(t, "it is asked again", func() bool {
		if silent.requests.Load() == n { // a busy machine may not get the question there in time
			w.clock.add(2 * time.Minute)
			_, _ = w.prove(t, root.leaf(t, "leaf", responds(silent.URL)).chain())
		}
		return silent.requests.Load() > n
	})
}
