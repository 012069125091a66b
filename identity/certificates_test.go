package identity_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/identity"
	"bindery/test/poll"
)

// What existing clients know by its words, and what Bindery adds.
const (
	noCertificate    = "No certificate provided"
	expired          = "Your certificate has expired"
	notActive        = "Your certificate is not active yet"
	isRevoked        = "Your certificate has been revoked"
	noPoint          = "Your certificate is invalid. No CRLDistributionPoints found on the certificate"
	unknownAuthority = "Your certificate is signed by an unknown authority"
	issuerExpired    = "The certificate of your certificate's authority has expired"
	issuerRevoked    = "The certificate of your certificate's authority has been revoked"
	unchecked        = "Your certificate cannot be accepted. No current revocation list of its authority is available"
	wrongUsage       = "Your certificate is not for client authentication"
	wrongName        = "Your certificate has a name that its authority may not sign"
	noName           = "Your certificate has no subject name, or one that cannot be read"
	badExtension     = "Your certificate has a critical extension that is not supported"
)

// TestProveOverTLS presents each certificate in a real handshake, twice: cold, and from what is remembered.
func TestProveOverTLS(t *testing.T) {
	t.Parallel()
	root, other, rsaRoot := newCA(t, "Root"), newCA(t, "Stranger"), issue(t, nil, rsaKey(t), called("Grid", "RSA Root"), isCA)
	rootList, subList := newCRLServer(t, nil), newCRLServer(t, nil)
	sub := issue(t, root, ecKey(t), called("Grid", "Sub"), isCA, points(rootList.URL))
	lost := issue(t, root, ecKey(t), called("Grid", "Lost"), isCA, points(rootList.URL))
	old := issue(t, root, ecKey(t), called("Grid", "Old"), isCA, validity(-48*time.Hour, -time.Minute))
	narrow := issue(t, root, ecKey(t), called("Grid", "Narrow"), isCA, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"good.example"}, true
	})
	revoked := sub.leaf(t, "revoked", points(subList.URL))
	expiredAndRevoked := sub.leaf(t, "both", points(subList.URL), validity(-time.Hour, -time.Minute))
	rootList.serve(root.crl(t, list{revoked: []*signer{lost}}))
	subList.serve(sub.crl(t, list{revoked: []*signer{revoked, expiredAndRevoked}}))
	selfMade := issue(t, nil, ecKey(t), called("Grid", "self"))
	pinned := issue(t, nil, ecKey(t), called("Grid", "pinned"))
	w := newWorld(t, []*signer{root, rsaRoot, pinned})
	srv := serveTLS(t, w)

	host := func(name string) change { return func(c *x509.Certificate) { c.DNSNames = []string{name} } }
	usage := func(u ...x509.ExtKeyUsage) change { return func(c *x509.Certificate) { c.ExtKeyUsage = u } }
	critical := func(oid ...int) change {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: true, Value: []byte{0x05, 0x00}}}
		}
	}
	alone := func(s *signer) *signer { return &signer{cert: s.cert, key: s.key} }
	good := sub.leaf(t, "good", points(subList.URL))
	tests := map[string]struct {
		who  *signer
		want string // "": accepted
	}{
		"a certificate of the root":        {root.leaf(t, "direct"), ""},
		"a certificate of an intermediate": {good, ""},
		"RSA all the way":                  {issue(t, rsaRoot, rsaKey(t), called("Grid", "rsa")), ""},
		"ECDSA below RSA":                  {rsaRoot.leaf(t, "mixed"), ""},
		"any extended key usage":           {root.leaf(t, "any", usage(x509.ExtKeyUsageAny)), ""},
		"no extended key usage":            {root.leaf(t, "none", usage()), ""},
		"itself among the trusted":         {pinned, ""},
		"no certificate":                   {nil, noCertificate},
		"the intermediate is not sent":     {alone(good), unknownAuthority},
		"expired":                          {root.leaf(t, "e", validity(-time.Hour, -time.Second)), expired},
		"not yet valid":                    {root.leaf(t, "n", validity(time.Second, time.Hour)), notActive},
		"revoked":                          {revoked, isRevoked},
		"expired and revoked":              {expiredAndRevoked, expired},
		"of a revoked intermediate":        {lost.leaf(t, "l"), issuerRevoked},
		"of an expired intermediate":       {old.leaf(t, "o", validity(-time.Hour, time.Hour)), issuerExpired},
		"of a stranger":                    {other.leaf(t, "s"), unknownAuthority},
		"of a stranger and expired":        {other.leaf(t, "x", validity(-time.Hour, -time.Second)), unknownAuthority},
		"self-made":                        {selfMade, unknownAuthority},
		"signed by a leaf":                 {good.leaf(t, "child"), unknownAuthority},
		"of a stranger by a trusted name":  {newCA(t, "Root").leaf(t, "forged"), unknownAuthority},
		"for servers only":                 {root.leaf(t, "srv", usage(x509.ExtKeyUsageServerAuth)), wrongUsage},
		"an authority's own":               {&signer{sub.cert, sub.key, root}, wrongUsage},
		"a name within the constraints":    {narrow.leaf(t, "nc", host("a.good.example")), ""},
		"a name outside the constraints":   {narrow.leaf(t, "nc2", host("a.bad.example")), wrongName},
		"an unknown critical extension":    {root.leaf(t, "crit", critical(1, 3, 6, 1, 4, 1, 99999, 1)), badExtension},
		"a proxy certificate (RFC 3820)":   {good.leaf(t, "proxy", critical(1, 3, 6, 1, 5, 5, 7, 1, 14)), badExtension},
		"no subject name":                  {issue(t, root, ecKey(t), pkix.Name{}, host("a.example")), noName},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				c, _ := client(t, srv, test.who, false)
				body, status := get(t, c, srv.URL)
				if test.want == "" {
					dn, err := bindery.DNFromDER(test.who.cert.RawSubject)
					mustDo(t, err)
					if status != http.StatusOK || body != dn.String() {
						t.Errorf("answered %d %q, want %q", status, body, dn.String())
					}
				} else if status != http.StatusForbidden || body != test.want {
					t.Errorf("answered %d %q, want %q", status, body, test.want)
				}
			}
		})
	}
}

func get(t testing.TB, c *http.Client, url string) (body string, status int) {
	t.Helper()
	resp, err := c.Get(url)
	mustDo(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	mustDo(t, err)
	return strings.TrimSpace(string(b)), resp.StatusCode
}

func TestRevokedInAnOpenConnection(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, root.crl(t, list{}))
	leaf := root.leaf(t, "leaf", points(srv.URL))
	w := newWorld(t, []*signer{root})
	face := serveTLS(t, w)
	c, dials := client(t, face, leaf, true)
	if body, status := get(t, c, face.URL); status != http.StatusOK {
		t.Fatalf("answered %d %s", status, body)
	}
	srv.serve(root.crl(t, list{number: 2, revoked: []*signer{leaf}}))
	if body, status := get(t, c, face.URL); status != http.StatusOK {
		t.Fatalf("before the list was read: %d %s", status, body)
	}
	w.clock.add(2 * time.Hour)
	poll.Until(t, "the list is read", func() bool { return w.Stats().Lists[0].Number == "2" })
	if body, _ := get(t, c, face.URL); body != isRevoked {
		t.Errorf("the very next request answered %q", body)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections were made: the test has shown nothing", n)
	}
}

func TestExpiresWhileRemembered(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	leaf := root.leaf(t, "leaf", validity(time.Second, time.Minute))
	w := newWorld(t, []*signer{root})
	w.wants(t, leaf, notActive)
	w.clock.add(2 * time.Second)
	w.wants(t, leaf, "")
	w.clock.add(time.Minute)
	w.wants(t, leaf, expired)
	w.clock.add(24 * time.Hour)
	w.wants(t, leaf, expired)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	root, stranger := newCA(t, "Root"), newCA(t, "Stranger")
	srv := newCRLServer(t, nil)
	revoked := root.leaf(t, "revoked", points(srv.URL))
	srv.serve(root.crl(t, list{revoked: []*signer{revoked}}))
	dead := newCRLServer(t, nil)
	dead.Close()
	type options = identity.CertificateOptions
	required := func(o *options) { o.RequireCRL = true }
	tests := map[string]struct {
		set  func(*options)
		who  *signer
		want string
	}{
		"no verification: expired":             {func(o *options) { o.Verify = false }, root.leaf(t, "a", validity(-2, -1)), ""},
		"no verification: revoked":             {func(o *options) { o.Verify = false }, revoked, ""},
		"no verification: unknown":             {func(o *options) { o.Verify = false }, stranger.leaf(t, "a"), unknownAuthority},
		"unknown are trusted":                  {func(o *options) { o.TrustUnknown = true }, stranger.leaf(t, "a"), ""},
		"unknown are trusted: expired":         {func(o *options) { o.TrustUnknown = true }, stranger.leaf(t, "a", validity(-2, -1)), expired},
		"unknown are trusted: revoked":         {func(o *options) { o.TrustUnknown = true }, revoked, isRevoked},
		"unknown are trusted: lists required":  {func(o *options) { o.TrustUnknown, o.RequireCRL = true, true }, stranger.leaf(t, "a"), noPoint},
		"lists required: no point":             {required, root.leaf(t, "a"), noPoint},
		"lists required: a point":              {required, root.leaf(t, "a", points(srv.URL)), ""},
		"lists required: a point that is dead": {required, root.leaf(t, "a", points(dead.URL)), unchecked},
		"a point that is an LDAP URL":          {func(*options) {}, root.leaf(t, "a", points("ldap://127.0.0.1/x")), unchecked},
		"a point that is a directory's name":   {func(*options) {}, root.leaf(t, "a", directoryPoint), unchecked},
		"a directory's name, lists required":   {required, root.leaf(t, "a", directoryPoint), unchecked},
		"a directory's name, unknown, required": {
			func(o *options) { o.TrustUnknown, o.RequireCRL = true, true }, stranger.leaf(t, "a", directoryPoint), "",
		},
		"the list is not to be had":       {func(*options) {}, root.leaf(t, "a", points(dead.URL)), unchecked},
		"the list is not to be had: warn": {func(o *options) { o.StaleCRL = "warn" }, root.leaf(t, "a", points(dead.URL)), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, []*signer{root}, test.set)
			w.wants(t, test.who, test.want)
			w.wants(t, test.who, test.want)
		})
	}
}

// directoryPoint gives a certificate a distribution point (RFC 5280, section 4.2.1.13) that
// is an entry of an X.500 directory, of which crypto/x509 says nothing.
func directoryPoint(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: []byte{
		0x30, 0x17, 0x30, 0x15, 0xa0, 0x13, 0xa0, 0x11, 0xa4, 0x0f, // directoryName: CN=xy
		0x30, 0x0d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x02, 0x78, 0x79,
	}})
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	root, stranger := newCA(t, "Root"), newCA(t, "Stranger")
	rootName, err := bindery.DNFromDER(root.cert.RawSubject)
	mustDo(t, err)
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) {
		o.TrustUnknown = true
		o.Own = own(t, root)
	})
	who, err := w.prove(t, root.leaf(t, "me").chain())
	mustDo(t, err)
	keys, err := bindery.IdentifierKeys(bindery.AuthX509, "CN=me,O=Grid,C=GR")
	mustDo(t, err)
	if who.Keys.Exact != keys.Exact || who.AuthType != bindery.AuthX509 || who.IssuerKey != rootName.Key() || !who.IssuedHere {
		t.Errorf("the identity is %+v", who)
	}
	who, err = w.prove(t, stranger.leaf(t, "me").chain())
	mustDo(t, err)
	if who.Keys.Exact != keys.Exact || who.IssuerKey != "" || who.IssuedHere {
		t.Errorf("of an authority that nobody knows, the identity is %+v", who)
	}
}

// TestOldFormDropsAValue: the log names what to bind, once.
func TestOldFormDropsAValue(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	w := newWorld(t, []*signer{root})
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	two := issue(t, root, ecKey(t), pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "x"}, {Type: cn, Value: "alice"}, {Type: cn, Value: "robot"},
	}})
	for range 3 {
		who, err := w.prove(t, two.chain())
		mustDo(t, err)
		if who.Keys.Old != "" || who.Keys.Exact == "" {
			t.Errorf("the keys are %+v", who.Keys)
		}
		w.clock.add(time.Hour) // the chain is built again
	}
	if n := w.log.Count("bind=\"CN=robot,CN=alice,O=x\""); n != 1 {
		t.Errorf("the log says %d times what to bind", n)
	}
}

// TestSSRF: what a certificate names is fetched only after an authority vouched for it.
func TestSSRF(t *testing.T) {
	t.Parallel()
	root, stranger := newCA(t, "Root"), newCA(t, "Stranger")
	srv := newCRLServer(t, nil)
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.OCSP = true })
	respond := func(c *x509.Certificate) { c.OCSPServer = []string{srv.URL} }
	w.wants(t, stranger.leaf(t, "a", points(srv.URL), respond), unknownAuthority)
	w.wants(t, root.leaf(t, "b", points(srv.URL), respond, validity(-2, -1)), expired)
	w.stop() // fetches have ended
	if n := srv.requests.Load(); n != 0 {
		t.Errorf("%d requests were made for certificates that nobody vouched for", n)
	}
}

func TestProveGarbage(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	leaf := root.leaf(t, "leaf")
	w := newWorld(t, []*signer{root})
	long := make([]*x509.Certificate, 100)
	for i := range long {
		long[i] = leaf.cert
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		code  bindery.Code
	}{
		"nothing":            {nil, bindery.CodeInvalid},
		"a nil":              {[]*x509.Certificate{nil}, bindery.CodeInvalid},
		"an empty one":       {[]*x509.Certificate{{}}, bindery.CodeForbidden},
		"a nil behind":       {[]*x509.Certificate{leaf.cert, nil}, ""},
		"an empty one after": {[]*x509.Certificate{leaf.cert, {}}, ""},
		"very many":          {long, bindery.CodeForbidden},
	} {
		if _, err := w.prove(t, test.chain); bindery.CodeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConcurrentProofs(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, root.crl(t, list{}))
	w := newWorld(t, []*signer{root})
	leaves := make([]*signer, 20)
	for i := range leaves {
		leaves[i] = root.leaf(t, "leaf", points(srv.URL))
	}
	proven := make(chan struct{})
	var all, churn sync.WaitGroup
	churn.Go(func() {
		n := 0
		for range proven {
			n++
			w.write(t, "more.pem", append(root.pem(), strings.Repeat("\n", n%7)...))
			w.Stats()
			w.clock.add(time.Minute / 60)
		}
	})
	for _, leaf := range leaves {
		for range 4 {
			all.Go(func() {
				for range 100 {
					if _, err := w.prove(t, leaf.chain()); err != nil {
						t.Error(err)
						return
					}
					select {
					case proven <- struct{}{}:
					default: // the change before is being made
					}
				}
			})
		}
	}
	all.Wait()
	close(proven)
	churn.Wait()
}

func BenchmarkProve(b *testing.B) {
	root := newCA(b, "Root")
	srv := newCRLServer(b, nil)
	sub := issue(b, root, ecKey(b), called("Grid", "Sub"), isCA, points(srv.URL+"/root"))
	leaf := sub.leaf(b, "leaf", points(srv.URL+"/sub"))
	var many []*signer
	for range 10_000 {
		var serial [16]byte
		rand.Read(serial[:])
		many = append(many, &signer{cert: &x509.Certificate{SerialNumber: bigInt(serial[:])}})
	}
	lists := map[string][]byte{"/root": root.crl(b, list{}), "/sub": sub.crl(b, list{revoked: many})}
	srv.handle(func(w http.ResponseWriter, r *http.Request) { w.Write(lists[r.URL.Path]) })
	w := newWorld(b, []*signer{root})
	chain := leaf.chain()
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Prove(b.Context(), chain, loopback); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			w.clock.add(11 * time.Minute / 1000)
			b.StopTimer()
			fresh := sub.leaf(b, "fresh", points(srv.URL+"/sub")).chain()
			b.StartTimer()
			if _, err := w.Prove(b.Context(), fresh, loopback); err != nil {
				b.Fatal(err)
			}
		}
	})
}
