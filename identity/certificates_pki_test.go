package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/identity"
	"bindery/test/poll"
)

// start is where every test's clock begins.
var start = time.Date(2030, 5, 24, 10, 0, 0, 0, time.UTC)

type pkiClock struct{ at atomic.Pointer[time.Time] }

func newPKIClock() *pkiClock {
	c := &pkiClock{}
	c.at.Store(&start)
	return c
}
func (c *pkiClock) now() time.Time { return *c.at.Load() }
func (c *pkiClock) add(d time.Duration) {
	t := c.now().Add(d)
	c.at.Store(&t)
}

// A signer is a certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
	up   *signer
}

type change func(*x509.Certificate)

var serialNumber atomic.Int64

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustDo(t, err)
	return key
}

var rsaKeyOnce = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsaKeyOnce()
	mustDo(t, err)
	return key
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue makes a certificate for key, signed by up; nil: by itself.
func issue(t testing.TB, up *signer, key crypto.Signer, name pkix.Name, changes ...change) *signer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serialNumber.Add(1) + 1<<40), Subject: name,
		NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(365 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	for _, c := range changes {
		c(template)
	}
	parent, by := template, key
	if up != nil {
		parent, by = up.cert, up.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	mustDo(t, err)
	cert, err := x509.ParseCertificate(der)
	mustDo(t, err)
	return &signer{cert, key, up}
}

func isCA(c *x509.Certificate) {
	c.IsCA, c.ExtKeyUsage, c.KeyUsage = true, nil, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	c.NotBefore, c.NotAfter = start.Add(-10*365*24*time.Hour), start.Add(10*365*24*time.Hour)
}

func points(urls ...string) change {
	return func(c *x509.Certificate) { c.CRLDistributionPoints = urls }
}

func validity(from, to time.Duration) change {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = start.Add(from), start.Add(to) }
}

func called(org, cn string) pkix.Name {
	return pkix.Name{Country: []string{"GR"}, Organization: []string{org}, CommonName: cn}
}

func newCA(t testing.TB, cn string, changes ...change) *signer {
	t.Helper()
	return issue(t, nil, ecKey(t), called("Grid", cn), append([]change{isCA}, changes...)...)
}

func (s *signer) leaf(t testing.TB, cn string, changes ...change) *signer {
	t.Helper()
	return issue(t, s, ecKey(t), called("Grid", cn), changes...)
}

// chain is what a client sends: all but the root.
func (s *signer) chain() []*x509.Certificate {
	chain := []*x509.Certificate{s.cert}
	for up := s.up; up != nil && up.up != nil; up = up.up {
		chain = append(chain, up.cert)
	}
	return chain
}

func (s *signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

// A list is a revocation list to be made; its zero value is number 1, current, with nothing revoked.
type list struct {
	number     int64
	from, to   time.Duration
	revoked    []*signer
	extensions []pkix.Extension
	entry      []pkix.Extension
}

func (s *signer) crl(t testing.TB, l list) []byte {
	t.Helper()
	if l.to == 0 {
		l.to = 24 * time.Hour
	}
	if l.from == 0 {
		l.from = -time.Hour
	}
	template := &x509.RevocationList{
		Number: big.NewInt(max(l.number, 1)), ThisUpdate: start.Add(l.from), NextUpdate: start.Add(l.to), ExtraExtensions: l.extensions,
	}
	for _, r := range l.revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: start.Add(-time.Hour), ExtraExtensions: l.entry})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, s.cert, s.key)
	mustDo(t, err)
	return der
}

// A crlServer is a real one; what it answers can be changed while it runs.
type crlServer struct {
	*httptest.Server
	requests atomic.Int64
	handler  atomic.Pointer[http.HandlerFunc]
}

func newCRLServer(t testing.TB, body []byte) *crlServer {
	t.Helper()
	s := &crlServer{}
	s.serve(body)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *crlServer) serve(body []byte) {
	s.handle(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
}
func (s *crlServer) handle(h http.HandlerFunc) { s.handler.Store(&h) }

// hang answers nothing until the caller goes away.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // until then nobody notices that the caller went away
	<-r.Context().Done()
}

// A world is a prover with a trust directory, a clock and a log.
type world struct {
	*identity.Certificates
	dir   string
	clock *pkiClock
	log   *poll.Buffer
	stop  func() // ends Run and waits for it
}

func newWorld(t testing.TB, trusted []*signer, changes ...func(*identity.CertificateOptions)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), clock: newPKIClock(), log: &poll.Buffer{}}
	for _, s := range trusted {
		w.write(t, s.cert.Subject.CommonName+".pem", s.pem())
	}
	w.open(t, changes...)
	return w
}

func (w *world) open(t testing.TB, changes ...func(*identity.CertificateOptions)) {
	t.Helper()
	o := identity.CertificateOptions{
		TrustDir: w.dir, Verify: true, Now: w.clock.now, PollEvery: 5 * time.Millisecond,
		FetchTimeout: 20 * time.Second, Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, c := range changes {
		c(&o)
	}
	c, err := identity.NewCertificates(o)
	mustDo(t, err)
	w.Certificates = c
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(w.stop)
}

// write replaces a file of the trust directory at once, as fetch-crl does.
func (w *world) write(t testing.TB, name string, content []byte) {
	t.Helper()
	tmp := filepath.Join(w.dir, ".new")
	mustDo(t, os.WriteFile(tmp, content, 0o600))
	mustDo(t, os.Rename(tmp, filepath.Join(w.dir, name)))
}

var loopback = netip.MustParseAddr("127.0.0.1")

func (w *world) prove(t testing.TB, chain []*x509.Certificate) (bindery.Identity, error) {
	t.Helper()
	return w.Prove(t.Context(), chain, loopback)
}

// wants checks what a proof says: "" for success.
func (w *world) wants(t testing.TB, s *signer, message string) {
	t.Helper()
	check(t, func() error { _, err := w.prove(t, s.chain()); return err }(), message)
}

func check(t testing.TB, err error, message string) {
	t.Helper()
	switch {
	case err == nil && message != "":
		t.Errorf("accepted, want %q", message)
	case err == nil:
	case bindery.MessageOf(err) != message:
		t.Errorf("refused with %q, want %q", err, message)
	case bindery.CodeOf(err) != bindery.CodeForbidden:
		t.Errorf("the code is %q", bindery.CodeOf(err))
	}
}

func (w *world) soonWants(t testing.TB, s *signer, message string) {
	t.Helper()
	poll.Until(t, "want "+message, func() bool {
		_, err := w.prove(t, s.chain())
		return err == nil && message == "" || err != nil && bindery.MessageOf(err) == message
	})
}

// serveTLS answers with who the client is, or with the refusal.
func serveTLS(t testing.TB, w *world) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		addr := netip.MustParseAddrPort(r.RemoteAddr).Addr()
		who, err := w.Prove(r.Context(), r.TLS.PeerCertificates, addr)
		if err != nil {
			http.Error(rw, bindery.MessageOf(err), http.StatusForbidden)
			return
		}
		rw.Write([]byte(who.Name))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// client makes a client of its own for the server, with the chain of s; nil: without a certificate.
func client(t testing.TB, srv *httptest.Server, s *signer, keepAlive bool) (c *http.Client, dials *atomic.Int64) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	conf := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if s != nil {
		cert := tls.Certificate{PrivateKey: s.key}
		for _, c := range s.chain() {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		// Not Certificates: the client would hold back what the server's list of authorities does not name.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	dials = &atomic.Int64{}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: !keepAlive}
	dialer := &net.Dialer{}
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return dialer.DialContext(ctx, network, addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, dials
}

func bigInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// newCACertFor is the same authority by another certificate, which may sign lists.
func newCACertFor(t testing.TB, s *signer) *x509.Certificate {
	t.Helper()
	return issue(t, nil, s.key, s.cert.Subject, isCA).cert
}
