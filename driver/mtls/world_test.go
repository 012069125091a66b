package mtls_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/pki"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/mtls"
	"bindery/store"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// A world is a store, the face pki in front of it at a public URL, and a server
// that lets in who has a certificate of the authority.
type world struct {
	store    bindery.Store
	url      string
	settings string // further ones of the server's
	secrets  map[string]bindery.Secret
	server   *verifier
}

const name = "ca"

func newStore(t testing.TB, url string, keys bindery.Keyring) bindery.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // its database may be gone
	return s
}

func newWorld(t testing.TB, s bindery.Store) *world {
	t.Helper()
	w := &world{store: s, server: &verifier{verdicts: map[string]error{}}}
	face := &pki.Handler{Publisher: func(server string) (bindery.Publisher, bool) {
		// A process that has just started: whatever it says, it has from the store.
		d, err := mtls.Kind.Open(w.config("zzzzzz"))
		if err != nil || server != name {
			return nil, false
		}
		return bindery.Capability[bindery.Publisher](d)
	}}
	public := httptest.NewServer(&api.Handler{Faces: []api.Face{face.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	t.Cleanup(public.Close)
	w.url = public.URL
	w.server.start(t)
	return w
}

func sqlite(t testing.TB) *world {
	t.Helper()
	return newWorld(t, newStore(t, "sqlite:"+filepath.Join(t.TempDir(), "store.db"), storetest.Keys(t)))
}

func (w *world) config(installation string) bindery.Server {
	return bindery.Server{
		Name: name, Kind: "mtls", Installation: installation, Timeout: 2 * time.Second, Store: w.store, Secrets: w.secrets,
		Settings: json.RawMessage(fmt.Sprintf(`{"public_url":%q%s}`, w.url, w.settings)),
	}
}

func (w *world) open(t testing.TB, installation string) bindery.Driver {
	t.Helper()
	d, err := mtls.Kind.Open(w.config(installation))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// promise is what the suite has to know.
func (w *world) promise() drivertest.Server {
	return drivertest.Server{
		Kind: mtls.Kind, Timeout: 2 * time.Second, Open: w.open, HidesInstances: true,
		Login:         w.server.login,
		IsAuthFailure: func(err error) bool { return errors.Is(err, errRevoked) },
		Settings: json.RawMessage(`{"organization":"Example","organizational_unit":"Payments","key_usage":["client","server"],
			"dns_suffixes":["apps.example"],"uri_prefixes":["spiffe://example/"],"ip_ranges":["10.0.0.0/8","fd00::/8"],"email_domains":["example.org"]}`),
		BindingParameters: worst(),
	}
}

// csrKey is of the signing requests of these tests.
var csrKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

func csr(template *x509.CertificateRequest, key any) string {
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// worst has as many names as there can be, and a request that asks for more than it gets.
func worst() json.RawMessage {
	p := map[string]any{"csr": csr(&x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root", Organization: []string{"somebody else"}}, DNSNames: []string{"evil.example"},
	}, csrKey())}
	var dns, uris, ips, emails []string
	for i := range 20 {
		dns = append(dns, fmt.Sprintf("%s.n%d.apps.example", strings.Repeat("x", 63), i))
		uris = append(uris, fmt.Sprintf("spiffe://example/%s/%d", strings.Repeat("y", 900), i))
		ips = append(ips, fmt.Sprintf("10.0.0.%d", i))
		emails = append(emails, fmt.Sprintf("somebody+%d@example.org", i))
	}
	p["dns_names"], p["uris"], p["ip_addresses"], p["emails"] = dns, uris, ips, emails
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return raw
}

var errRevoked = errors.New("the certificate is on the revocation list")

// A verifier is a server that looks at the list on every request of a connection, as
// Bindery's own identity face does.
type verifier struct {
	addr string

	mu       sync.Mutex
	verdicts map[string]error // by serial number, of the last look
}

func (v *verifier) start(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"server.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert,
		Certificates:     []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		VerifyConnection: v.check,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	v.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go v.serve(c.(*tls.Conn))
		}
	}()
}

// serve answers each byte with one, while the certificate is good.
func (v *verifier) serve(c *tls.Conn) {
	defer c.Close()
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, b); err != nil || v.check(c.ConnectionState()) != nil {
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func (v *verifier) check(s tls.ConnectionState) error {
	err := verify(s.PeerCertificates)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verdicts[s.PeerCertificates[0].SerialNumber.Text(16)] = err
	return err
}

// verify knows no more than what the certificate says.
func verify(chain []*x509.Certificate) error {
	leaf := chain[0]
	issuer, err := fetchCertificate(leaf.IssuingCertificateURL[0])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return err
	}
	raw, err := fetch(leaf.CRLDistributionPoints[0])
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return err
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return err
	}
	if now := time.Now(); now.Before(list.ThisUpdate) || now.After(list.NextUpdate) {
		return fmt.Errorf("the list is from %v to %v", list.ThisUpdate, list.NextUpdate)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			return errRevoked
		}
	}
	return nil
}

func fetch(url string) ([]byte, error) {
	res, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return b, err
}

func fetchCertificate(url string) (*x509.Certificate, error) {
	raw, err := fetch(url)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(raw)
}

// pair is what an application loads from a credential.
func pair(c bindery.Credential) (tls.Certificate, error) {
	cert := []byte(c.Object["tls.crt"].(string))
	if key, ok := c.Object["tls.key"].(string); ok {
		return tls.X509KeyPair(cert, []byte(key))
	}
	der, err := x509.MarshalPKCS8PrivateKey(csrKey())
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

type session struct {
	drivertest.NoData
	mu sync.Mutex
	c  *tls.Conn
}

func (v *verifier) login(ctx context.Context, c bindery.Credential) (drivertest.Session, error) {
	cert, err := pair(c)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // it is the client's certificate that matters
		MinVersion:         tls.VersionTLS12, Certificates: []tls.Certificate{cert},
	}}
	conn, err := d.DialContext(ctx, "tcp", v.addr)
	if err != nil {
		return nil, v.why(cert, err)
	}
	s := &session{c: conn.(*tls.Conn)}
	if err := s.Alive(ctx); err != nil {
		_ = conn.Close()
		return nil, v.why(cert, err)
	}
	return s, nil
}

// why tells the server's reason, which TLS does not.
func (v *verifier) why(cert tls.Certificate, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if said := v.verdicts[cert.Leaf.SerialNumber.Text(16)]; said != nil {
		return fmt.Errorf("%w (%w)", said, err)
	}
	return err
}

func (s *session) Alive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := ctx.Deadline(); ok {
		if err := s.c.SetDeadline(at); err != nil {
			return err
		}
	}
	if _, err := s.c.Write([]byte{'?'}); err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(s.c, b); err != nil {
		return err
	}
	if !bytes.Equal(b, []byte{'?'}) {
		return errors.New("the server answers something else")
	}
	return nil
}

func (s *session) Close() error { return s.c.Close() }

func quoted(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}
