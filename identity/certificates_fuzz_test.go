package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bindery"
)

var fuzzStart = time.Date(2030, 5, 24, 10, 0, 0, 0, time.UTC)

func fuzzCA(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: fuzzStart.Add(-time.Hour), NotAfter: fuzzStart.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// FuzzProve proves whatever parses. With every authority trusted, names, times and
// extensions of any kind are reached; with one, only what it signed may pass.
func FuzzProve(f *testing.F) {
	ca, key := fuzzCA(f)
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600); err != nil {
		f.Fatal(err)
	}
	provers := make([]*Certificates, 2)
	for i := range provers {
		c, err := NewCertificates(CertificateOptions{
			TrustDir: dir, Verify: true, TrustUnknown: i == 1, Now: func() time.Time { return fuzzStart },
			FetchTimeout: time.Millisecond,
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(c.close)
		provers[i] = c
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: fuzzStart.Add(-time.Hour), NotAfter: fuzzStart.Add(time.Hour),
		Subject: pkix.Name{Organization: []string{"a", "b"}, CommonName: "x", ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "gr"},
		}},
		// No distribution points: what runs in the background makes coverage a matter of chance.
		DNSNames: []string{"a.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, ca.Raw)
	f.Add(ca.Raw, der)
	f.Add(der, []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		cert, err := x509.ParseCertificate(first)
		if err != nil {
			return
		}
		chain := []*x509.Certificate{cert}
		if more, err := x509.ParseCertificate(second); err == nil {
			chain = append(chain, more)
		}
		for i, c := range provers {
			// An input has to do the same each time, or the fuzzer spends its minute on making it smaller.
			c.proven, c.said = newRecent[proofKey, *proof](10), newRecent[string, time.Time](10)
			who, err := c.Prove(t.Context(), chain, netip.Addr{})
			switch {
			case err != nil && bindery.CodeOf(err) != bindery.CodeForbidden && bindery.CodeOf(err) != bindery.CodeInvalid:
				t.Errorf("the code is %q: %v", bindery.CodeOf(err), err)
			case err == nil && (who.Name == "" || who.Keys.Exact == ""):
				t.Errorf("an identity without a name: %+v", who)
			case err == nil && i == 0 && cert.CheckSignatureFrom(ca) != nil && !bytes.Equal(cert.Raw, ca.Raw):
				t.Errorf("accepted without the authority's signature: %+v", who)
			}
		}
	})
}

// FuzzCRL compares the parser with the standard library's: what this one takes, that one takes, and
// both find the same serial numbers; and no list that was changed has a signature.
func FuzzCRL(f *testing.F) {
	ca, key := fuzzCA(f)
	for _, serials := range [][]int64{nil, {1}, {5, 3, 1 << 40, 128, 0}} {
		template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: fuzzStart, NextUpdate: fuzzStart.Add(time.Hour)}
		for i, s := range serials {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: fuzzStart, ReasonCode: i})
		}
		template.ExtraExtensions = []pkix.Extension{{
			Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{0x30, 12, 0xa0, 7, 0xa0, 5, 0x86, 3, 'u', ':', 'x', 0x81, 1, 0xff},
		}}
		der, err := x509.CreateRevocationList(rand.Reader, template, ca, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseCRL(raw)
		if err != nil {
			return
		}
		if block, _ := pem.Decode(raw); block != nil {
			raw = block.Bytes
		}
		theirs, err := x509.ParseRevocationList(raw)
		if err != nil {
			// It is stricter about dates and extensions of entries, which do not matter here.
			_ = l.signedBy(ca)
			return
		}
		if l.serials.count != len(theirs.RevokedCertificateEntries) {
			t.Errorf("%d entries, want %d", l.serials.count, len(theirs.RevokedCertificateEntries))
		}
		for _, e := range theirs.RevokedCertificateEntries {
			if e.SerialNumber.Sign() >= 0 && !l.serials.has(serialBytes(e.SerialNumber)) {
				t.Errorf("%x is missing", e.SerialNumber)
			}
		}
		if ours, want := l.signedBy(ca), theirs.CheckSignatureFrom(ca); ours == nil && want != nil {
			t.Errorf("the signature is good here, and %v there", want)
		}
	})
}

// FuzzSigningPolicy: whatever a policy says, a name is compared in time, and no pattern without a wild card
// allows two names.
func FuzzSigningPolicy(f *testing.F) {
	const head = "access_id_CA X509 '/C=GR/O=Grid/CN=Root'\npos_rights globus CA:sign\ncond_subjects globus "
	for _, tail := range []string{`'"/C=GR/O=Grid/*" "/O=b/*"'`, "'/C=GR/*'", `"/CN=\xC3\xA9?"`, "/C=a # b", "'/CN=host/a.b/*'"} {
		f.Add([]byte(head + tail))
	}
	a, err := oneLine(derName(f, "C=GR|O=Grid|CN=a/O=b"))
	if err != nil {
		f.Fatal(err)
	}
	b, err := oneLine(derName(f, "C=GR|O=Grid|CN=a|O=b"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parsePolicy(text)
		if err != nil {
			return
		}
		for _, e := range entries {
			for _, p := range e.patterns {
				one := &policy{patterns: [][]glyph{p}}
				wild := false
				for _, g := range p {
					wild = wild || g == anySequence || g == anyOne || g == anySlash
				}
				if one.allows(a) && one.allows(b) && !wild {
					t.Errorf("%q allows two names", text)
				}
			}
		}
	})
}
