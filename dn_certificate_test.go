package bindery_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bindery"
)

// certificate makes a real one and returns what crypto/x509 reads of it.
func certificate(t *testing.T, subject []byte) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestCertificates has the certificates that the old service took for each
// other, or did not tell apart, and what is bound for them.
func TestCertificates(t *testing.T) {
	t.Parallel()
	type attribute = modelAttribute
	for _, c := range []struct {
		name    string
		subject modelName
		bound   []string // each finds it by its exact key
		not     []string // none finds it by either key
	}{
		{
			"two common names",
			modelName{{{oidO, "x"}}, {{oidCN, "alice"}}, {{oidCN, "robot"}}},
			[]string{`/O=x/CN=alice/CN=robot`, `CN=robot, CN=alice, O=x`},
			[]string{`/O=x/CN=bob/CN=robot`, `CN=robot,O=x`, `CN=alice,CN=robot,O=x`, `CN=robot+CN=alice,O=x`},
		},
		{
			"UID",
			modelName{{{oidDC, "gr"}}, {{oidCN, "a"}}, {{oidUID, "7"}}},
			[]string{`UID=7,CN=a,DC=gr`, `/DC=gr/CN=a/userId=7`, `0.9.2342.19200300.100.1.1=#0c0137,CN=a,DC=gr`},
			[]string{`CN=a,DC=gr`, `UID=8,CN=a,DC=gr`, `UID=7+CN=a,DC=gr`},
		},
		{
			"DCs first",
			modelName{{{oidDC, "gr"}}, {{oidDC, "argo"}}, {{oidC, "GR"}}, {{oidCN, "a"}}},
			[]string{`CN=a,C=GR,DC=argo,DC=gr`, `/DC=gr/DC=argo/C=GR/CN=a`},
			[]string{`DC=argo,DC=gr,CN=a,C=GR`, `CN=a,C=GR,DC=gr,DC=argo`, `CN=a,C=GR,DC=argo+DC=gr`},
		},
		{
			"DCs last",
			modelName{{{oidC, "GR"}}, {{oidCN, "a"}}, {{oidDC, "gr"}}, {{oidDC, "argo"}}},
			[]string{`DC=argo,DC=gr,CN=a,C=GR`, `/C=GR/CN=a/DC=gr/DC=argo`},
			[]string{`CN=a,C=GR,DC=argo,DC=gr`},
		},
		{
			"a set",
			modelName{{{oidO, "x"}}, {attribute{oidCN, "a"}, attribute{oidOU, "u"}}},
			[]string{`CN=a+OU=u,O=x`, `OU=u + CN=a , O=x`, `/O=x/OU=u+CN=a`},
			[]string{`CN=a,OU=v,O=x`, `OU=u,CN=a,O=x`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for pick := range 3 {
				cert := certificate(t, c.subject.der(t, func(n int) int { return []int{0, 2, 4}[pick] % n }))
				proven := fromDER(t, cert.RawSubject).Keys()
				for _, text := range c.bound {
					if keys, err := bindery.IdentifierKeys(bindery.AuthX509, text); err != nil || keys.Exact != proven.Exact {
						t.Errorf("%q does not find %v: %v", text, cert.Subject, err)
					}
				}
				for _, text := range c.not {
					keys, err := bindery.IdentifierKeys(bindery.AuthX509, text)
					if err != nil || keys.Exact == proven.Exact || keys.Old != "" && keys.Old == proven.Old {
						t.Errorf("%q finds %v: %v", text, cert.Subject, err)
					}
				}
				if issuer := fromDER(t, cert.RawIssuer); issuer.Key() != proven.Exact {
					t.Errorf("the issuer of a self-signed certificate is %v", issuer)
				}
			}
		})
	}
}

// TestOpenSSL has OpenSSL make certificates with every kind of string that it
// knows, and reads what it prints of them in both forms.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("BINDERY_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	run(t, openssl, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
	for _, c := range []struct {
		mask, subject, same string
		wide                bool // a BMPString, which the one-line form cannot say
	}{
		{"utf8only", "/DC=gr/DC=argo/C=GR/O=o, \"inc\"/OU=u1/OU=u2/CN=host\\/x.org/emailAddress=a@x.org", `E=a@x.org,CN=host/x.org,OU=u2,OU=u1,O=o\, \"inc\",C=GR,DC=argo,DC=gr`, false},
		{"utf8only", "/O=caf\u00e9/CN=\u03a9/serialNumber=1/postalCode=2/street=s/UID=q", "UID=q,STREET=s,postalCode=2,SERIALNUMBER=1,CN=\u03a9,O=caf\u00e9", false},
		{"default", "/O=plain/CN=a_b", "CN=a_b,O=plain", false},             // Printable and T61
		{"default", "/O=caf\u00e9/CN=robot", "CN=robot,O=caf\u00e9", false}, // T61 above ASCII
		{"default", "/O=\u03a9/CN=robot", "CN=robot,O=\u03a9", true},        // BMP
		{"nombstr", "/O=caf\u00e9/title=t/GN=g/SN=s", "SN=s,givenName=g,title=t,O=caf\u00e9", false},
		{"pkix", "/O=caf\u00e9/CN=a+UID=7/CN=b\\+c", `CN=b\+c,CN=a+UID=7,O=caf` + "\u00e9", true},
	} {
		t.Run(c.mask+" "+c.same, func(t *testing.T) {
			t.Parallel()
			config, cert := filepath.Join(t.TempDir(), "openssl.cnf"), filepath.Join(t.TempDir(), "cert.pem")
			if err := os.WriteFile(config, []byte("[req]\nstring_mask = "+c.mask+"\ndistinguished_name = dn\n[dn]\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, openssl, "req", "-x509", "-config", config, "-key", key, "-utf8", "-multivalue-rdn", "-subj", c.subject, "-days", "2", "-out", cert)
			text, err := os.ReadFile(cert)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(text)
			parsed, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			want := fromDER(t, parsed.RawSubject)
			printed := []string{c.same}
			forms := []string{"RFC2253", "RFC2253,-esc_msb", "RFC2253,oid", "RFC2253,dump_all,dump_der", "RFC2253,lname", "RFC2253,use_quote", "RFC2253,space_eq"}
			if !c.wide {
				forms = append(forms, "compat")
			}
			for _, form := range forms {
				out := run(t, openssl, "x509", "-in", cert, "-noout", "-subject", "-nameopt", form)
				printed = append(printed, strings.TrimPrefix(strings.TrimSuffix(out, "\n"), "subject="))
			}
			for _, text := range printed {
				if got := fromText(t, text); got.Key() != want.Key() {
					t.Errorf("%q is read as %v; the certificate is %v", text, got, want)
				}
			}
			// Go prints it as well, with the types that it does not know in hex.
			var sequence pkix.RDNSequence
			if _, err := asn1.Unmarshal(parsed.RawSubject, &sequence); err != nil {
				t.Fatal(err)
			}
			if got := fromText(t, sequence.String()); got.Key() != want.Key() {
				t.Errorf("Go's %q is read as %v; the certificate is %v", sequence, got, want)
			}
		})
	}
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, failure.String())
	}
	return string(out)
}
