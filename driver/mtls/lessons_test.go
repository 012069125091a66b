package mtls_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/driver/mtls"
	"bindery/store/storetest"
	"bindery/test/poll"
)

func leafOf(t testing.TB, c bindery.Credential) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(c.Object["tls.crt"].(string)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

const richPlan = `{"organization":"Example","organizational_unit":"Payments","dns_suffixes":["apps.example"],"uri_prefixes":["spiffe://example/"],
	"ip_ranges":["10.0.0.0/8"],"email_domains":["example.org"],"max_lifetime":"48h","default_lifetime":"24h"}`

// TestSubjectIsBinderys: of a signing request the key is used and nothing else.
func TestSubjectIsBinderys(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	m := w.made(t, richPlan)
	text := csr(&x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"evil.example"}, EmailAddresses: []string{"a@evil.example"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}, // CA:TRUE
	}, csrKey())
	a, c := m.account(t, `{"dns_names":["A.apps.example"],"csr":`+string(quoted(text))+`}`)
	cert := leafOf(t, c)
	if got, want := c.Object["subject"], "CN="+a.Name+",OU="+m.spec.Name+",OU=Payments,O=Example"; got != want {
		t.Errorf("subject: got %s, want %s", got, want)
	}
	if cert.IsCA || !slices.Equal(cert.DNSNames, []string{"a.apps.example"}) || len(cert.EmailAddresses) > 0 || !csrKey().PublicKey.Equal(cert.PublicKey) {
		t.Errorf("got %+v", cert)
	}
	if c.Object["tls.key"] != nil || c.Object["private-key"] != nil {
		t.Error("there is a private key in the credential")
	}
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usage: got %v, %v", cert.ExtKeyUsage, cert.KeyUsage)
	}
}

func TestParametersThatThePlanDoesNotAllow(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	m := w.made(t, richPlan)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no short keys:", err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := csr(&x509.CertificateRequest{}, csrKey())
	block, _ := pem.Decode([]byte(good))
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := string(pem.EncodeToMemory(block))
	for _, p := range []map[string]any{
		{"csr": csr(&x509.CertificateRequest{}, weak)},
		{"csr": csr(&x509.CertificateRequest{}, p521)},
		{"csr": forged},
		{"csr": good + good},
		{"csr": "x"},
		{"csr": strings.Repeat("x", 20<<10)},
		{"dns_names": []string{"apps.example.evil.org"}},
		{"dns_names": []string{"evilapps.example"}},
		{"dns_names": []string{"*.apps.example"}},
		{"dns_names": []string{"a.apps.example."}},
		{"dns_names": []string{"a b.apps.example"}},
		{"dns_names": make([]string, 21)},
		{"uris": []string{"spiffe://example.org/x"}},
		{"uris": []string{"spiffe://example/../x"}},
		{"uris": []string{"spiffe://example/a/%2e%2e/x"}},
		{"uris": []string{"spiffe://example/"}},
		{"uris": []string{"spiffe://example/a?b"}},
		{"ip_addresses": []string{"11.0.0.1"}},
		{"ip_addresses": []string{"::ffff:11.0.0.1"}},
		{"ip_addresses": []string{"fe80::1%eth0"}},
		{"emails": []string{"a@sub.example.org"}},
		{"emails": []string{"a@b@example.org"}},
		{"subject": "CN=x"},
	} {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.d.Prepare(m.spec, bindery.AccountRequest{Name: bindery.Name("abc123", 9), Parameters: raw}); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%.80s: got %v", raw, err)
		}
	}
	ed, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, c := m.account(t, `{"csr":`+string(quoted(csr(&x509.CertificateRequest{}, key)))+`}`); !ed.Equal(leafOf(t, c).PublicKey) {
		t.Error("an Ed25519 key is not certified")
	}
}

// TestLifetimes: the binding's, bounded by the plan's and the authority's.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	w.settings = `,"validity":"30h"`
	m := w.made(t, richPlan)
	now := time.Now()
	for _, test := range []struct {
		expires, want time.Duration
		code          bindery.Code
	}{
		{0, 24 * time.Hour, ""},
		{2 * time.Second, 2 * time.Second, ""},
		{40 * time.Hour, 30 * time.Hour, ""}, // the authority does not live longer
		{49 * time.Hour, 0, bindery.CodeInvalid},
		{-time.Second, 0, bindery.CodeInvalid},
	} {
		a := bindery.Account{Name: bindery.Name("abc123", int64(100+test.want/time.Second))}
		if test.expires != 0 {
			a.Expires = now.Add(test.expires)
		}
		var err error
		if a.Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: a.Name, Expires: a.Expires}); bindery.CodeOf(err) != test.code {
			t.Errorf("%v: got %v", test.expires, err)
		}
		if err != nil {
			continue
		}
		made, c := m.ensure(t, a)
		end := leafOf(t, c).NotAfter
		if got := end.Sub(now); got > test.want+2*time.Second || got < test.want-2*time.Second {
			t.Errorf("%v: got %v, want %v", test.expires, got, test.want)
		}
		// The engine hears of an end that is not the binding's own. One that is comes no sooner.
		want := end
		if test.expires == test.want {
			want = a.Expires
		}
		if !made.Expires.Equal(want) || end.Before(want) {
			t.Errorf("%v: the certificate ends %v, the account %v, want %v", test.expires, end, made.Expires, want)
		}
	}
}

// TestRepeatedEnsureIsTheSameCertificate: to the byte, in any process, until it was handed over.
func TestRepeatedEnsureIsTheSameCertificate(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-3072"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			w := sqlite(t)
			w.settings = `,"key_algorithm":"` + algorithm + `"`
			m := w.made(t, "")
			a := bindery.Account{Name: bindery.Name("abc123", 7)}
			var err error
			if a.Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: a.Name}); err != nil {
				t.Fatal(err)
			}
			first, c := m.ensure(t, a)
			m.d = w.open(t, "abc123")
			_, again := m.ensure(t, a)
			if !leafOf(t, c).Equal(leafOf(t, again)) {
				t.Error("the repeated call has another certificate")
			}
			_, fresh := m.ensure(t, first)
			if fresh.Object["serial"] == c.Object["serial"] || fresh.Object["tls.key"] != c.Object["tls.key"] {
				t.Error("an account that is made again has the old serial number, or another key")
			}
			list := revocations(t, m.d)
			if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(leafOf(t, c).SerialNumber) != 0 {
				t.Errorf("the old certificate is not on the list: %v", list.RevokedCertificateEntries)
			}
		})
	}
}

// TestRecordedWithTheAccount: what the engine's transaction recorded is signed without another one, and
// found by a revocation that knows nothing but the name, whether it was signed or not.
func TestRecordedWithTheAccount(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	whole := w.store
	m := w.made(t, "")
	signed, unsigned := m.recorded(t, whole, 1001, true), m.recorded(t, whole, 1002, true)

	w.store = storetest.Faulty(whole, func(_, method string) error {
		if method == "Update" {
			return bindery.Errorf(bindery.CodeUnavailable, "the store is read only")
		}
		return nil
	})
	m.d = w.open(t, "abc123")
	_, c := m.ensure(t, signed)
	w.store = whole
	m.d = w.open(t, "abc123")
	read := signed
	read.Recorded = false // as another process finds it
	if _, again := m.ensure(t, read); !leafOf(t, c).Equal(leafOf(t, again)) {
		t.Error("the repeated call has another certificate")
	}
	for _, a := range []bindery.Account{signed, unsigned} {
		var kept bindery.IssuedCertificate
		if err := whole.View(t.Context(), func(tx bindery.Tx) (err error) {
			kept, err = tx.Certificates().ByName(t.Context(), name, a.Name)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if a.Name == signed.Name && (kept.Serial != c.Object["serial"] || !kept.Expires.Equal(leafOf(t, c).NotAfter)) {
			t.Errorf("recorded is %+v, signed %v until %v", kept, c.Object["serial"], leafOf(t, c).NotAfter)
		}
		if err := m.d.Revoke(t.Context(), bindery.InstanceSpec{}, bindery.Account{Name: a.Name}); err != nil {
			t.Fatal(err)
		}
		// What a call that comes late signs is on the list.
		_, late := m.ensure(t, a)
		if late.Object["serial"] != kept.Serial {
			t.Errorf("signed is %v, recorded %s", late.Object["serial"], kept.Serial)
		}
		poll.Within(t, time.Second, a.Name+" is on the list", func() bool {
			return slices.ContainsFunc(revocations(t, m.d).RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Text(16) == kept.Serial
			})
		})
	}
}

// TestTheAuthorityEndsFirst: a certificate that has to end earlier than was prepared is recorded when that is known.
func TestTheAuthorityEndsFirst(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	w.settings = `,"validity":"25h"`
	m := w.made(t, `{"default_lifetime":"48h"}`)
	a, c := m.ensure(t, m.recorded(t, w.store, 1001, false))
	if err := w.store.View(t.Context(), func(tx bindery.Tx) error {
		kept, err := tx.Certificates().ByName(t.Context(), name, a.Name)
		if !kept.Expires.Equal(leafOf(t, c).NotAfter) {
			t.Errorf("recorded is %v, signed %v", kept.Expires, leafOf(t, c).NotAfter)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// recorded is an account as the engine has it when its first transaction is committed.
func (m *made) recorded(t *testing.T, s bindery.Store, row int64, want bool) bindery.Account {
	t.Helper()
	a := bindery.Account{Row: row, Name: bindery.Name("abc123", row)}
	var err error
	if a.Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: a.Name}); err != nil {
		t.Fatal(err)
	}
	recorder, ok := bindery.Capability[bindery.Recorder](m.d)
	if !ok {
		t.Fatal("it records nothing")
	}
	if err := s.Update(t.Context(), func(tx bindery.Tx) (err error) {
		a.Recorded, err = recorder.Record(t.Context(), tx, a)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if a.Recorded != want {
		t.Fatalf("recorded: got %t", a.Recorded)
	}
	return a
}

func revocations(t testing.TB, d bindery.Driver) *x509.RevocationList {
	t.Helper()
	der, _, err := d.(bindery.Publisher).CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTwoProcesses of one store have one authority, publish the same list to the byte under the same
// number, and each other's revocations within a second.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	url, keys := "sqlite:"+filepath.Join(t.TempDir(), "store.db"), storetest.Keys(t)
	w := newWorld(t, newStore(t, url, keys))
	drivers := make([]bindery.Driver, 8)
	chains := make([][]byte, len(drivers))
	done := make(chan error, len(drivers))
	for i := range drivers {
		drivers[i] = w.open(t, "abc123")
		go func() {
			var err error
			chains[i], err = drivers[i].(bindery.Publisher).Chain(t.Context())
			done <- err
		}()
	}
	for range drivers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range chains {
		if !bytes.Equal(c, chains[0]) {
			t.Fatal("there are two authorities")
		}
	}
	m := w.made(t, "")
	var number *big.Int
	for range 3 {
		a, c := m.account(t, "")
		for _, d := range drivers {
			revocations(t, d) // which it now keeps
		}
		if err := m.d.Revoke(t.Context(), m.spec, a); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		var want []byte
		for i, d := range drivers {
			for !slices.ContainsFunc(revocations(t, d).RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Cmp(leafOf(t, c).SerialNumber) == 0
			}) {
				if time.Since(revoked) > time.Second {
					t.Fatal("another process does not know of it after a second")
				}
			}
			list := revocations(t, d)
			if i == 0 {
				want = list.Raw
				if number != nil && list.Number.Cmp(number) <= 0 {
					t.Errorf("the number went from %v to %v", number, list.Number)
				}
				number = list.Number
			} else if !bytes.Equal(list.Raw, want) {
				t.Error("two processes have two lists")
			}
		}
	}
}

// intermediate is an authority from files, and the root above it.
func intermediate(t testing.TB, cn string, change func(*x509.Certificate)) map[string]bindery.Secret {
	t.Helper()
	sign := func(template, parent *x509.Certificate, public, key any) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	up := template("Corporate Root")
	root := sign(up, up, rootKey.Public(), rootKey)
	own := template(cn)
	if change != nil {
		change(own)
	}
	cert := sign(own, root, key.Public(), rootKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return map[string]bindery.Secret{
		"ca_key":         bindery.NewSecret(encode("EC PRIVATE KEY", der)),
		"ca_certificate": bindery.NewSecret(encode("CERTIFICATE", cert.Raw) + encode("CERTIFICATE", root.Raw)),
	}
}

// TestIntermediateFromFiles: its chain goes with the certificate, its key stays out of the store, and no
// other authority takes its place.
func TestIntermediateFromFiles(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	w.secrets = intermediate(t, "Issuing CA", nil)
	m := w.made(t, "")
	a, c := m.account(t, "")
	if n := strings.Count(c.Object["tls.crt"].(string), "BEGIN"); n != 2 {
		t.Errorf("tls.crt has %d certificates, want its own and the intermediate", n)
	}
	if n := strings.Count(c.Object["certificates"].(string), "BEGIN"); n != 2 || c.Object["issuer"] != "CN=Issuing CA" {
		t.Errorf("certificates: %d of %s", n, c.Object["issuer"])
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.Object["ca.crt"].(string)))
	between := x509.NewCertPool()
	between.AppendCertsFromPEM([]byte(c.Object["tls.crt"].(string)))
	if _, err := leafOf(t, c).Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if err := m.d.Revoke(t.Context(), m.spec, a); err != nil {
		t.Fatal(err)
	}
	if proof, err := m.d.(bindery.Prover).Prove(t.Context(), m.spec, a); err != nil || !strings.Contains(proof, "TLS handshake") {
		t.Errorf("got %q, %v", proof, err)
	}
	for name, secrets := range map[string]map[string]bindery.Secret{"another one": intermediate(t, "Issuing CA", nil), "a root of our own": nil} {
		w.secrets = secrets
		if err := w.open(t, "abc123").(bindery.Pinger).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "another authority") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	t.Parallel()
	good, other := intermediate(t, "Issuing CA", nil), intermediate(t, "Issuing CA", nil)
	leaf := intermediate(t, "leaf", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	noList := intermediate(t, "no list", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	for name, secrets := range map[string]map[string]bindery.Secret{
		"the key alone":         {"ca_key": good["ca_key"]},
		"the certificate alone": {"ca_certificate": good["ca_certificate"]},
		"of two":                {"ca_key": good["ca_key"], "ca_certificate": other["ca_certificate"]},
		"no authority":          leaf,
		"may not sign lists":    noList,
		"another name":          {"ca_key": good["ca_key"], "ca_certificate": good["ca_certificate"], "x": good["ca_key"]},
		"no PEM":                {"ca_key": bindery.NewSecret("hunter2hunter2"), "ca_certificate": good["ca_certificate"]},
		"unordered": {"ca_key": good["ca_key"], "ca_certificate": bindery.NewSecret(
			good["ca_certificate"].Reveal() + other["ca_certificate"].Reveal())},
	} {
		if err := mtls.Kind.CheckSecrets(bindery.Secret{}, secrets); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := mtls.Kind.CheckSecrets(bindery.Secret{}, good); err != nil {
		t.Error(err)
	}
	if err := mtls.Kind.CheckSecrets(bindery.NewSecret("x"), nil); err == nil {
		t.Error("a password is taken")
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		``, `{}`, `[]`, `{"public_url":"https://x.example"}`, `{"public_url":"http://u:p@x.example"}`, `{"public_url":"http://x.example?a"}`,
		`{"public_url":"http://x.example","key_algorithm":"ed25519"}`, `{"public_url":"http://x.example","crl_lifetime":"1m"}`,
		`{"public_url":"http://x.example","common_name":" x"}`, `{"public_url":"http://x.example","validity":30}`, `{"public_url":"http://x.example","x":1}`,
	} {
		if err := mtls.Kind.CheckServer(json.RawMessage(s)); err == nil {
			t.Errorf("server: %s is taken", s)
		}
	}
	for _, s := range []string{
		`{"default_lifetime":"2h","max_lifetime":"1h"}`, `{"key_usage":["server"]}`, `{"key_usage":[]}`, `{"dns_suffixes":[".example"]}`,
		`{"dns_suffixes":["*.example"]}`, `{"uri_prefixes":["spiffe://example"]}`, `{"uri_prefixes":["https://a.example/x"]}`, `{"ip_ranges":["10.0.0.1/8"]}`,
		`{"email_domains":["@x"]}`, `{"organization":""}`, `{"key_algorithm":"dsa"}`,
	} {
		if err := mtls.Kind.CheckPlan(json.RawMessage(s)); err == nil {
			t.Errorf("plan: %s is taken", s)
		}
	}
}

// TestProofOfWhatExpired: what expired needs no revocation, and is refused as expired.
func TestProofOfWhatExpired(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	m := w.made(t, "")
	a := bindery.Account{Name: bindery.Name("abc123", 5), Expires: time.Now().Add(1500 * time.Millisecond)}
	var err error
	if a.Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: a.Name, Expires: a.Expires}); err != nil {
		t.Fatal(err)
	}
	a, _ = m.ensure(t, a)
	var proof string
	poll.Until(t, "it expired", func() bool {
		proof, err = m.d.(bindery.Prover).Prove(t.Context(), m.spec, a)
		return err == nil
	})
	if !strings.Contains(proof, "expired") {
		t.Errorf("got %q", proof)
	}
}
