package identity_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bindery/identity"
	"bindery/test/poll"
)

func TestTrustChangesWhileRunning(t *testing.T) {
	t.Parallel()
	a, b, c := newCA(t, "A"), newCA(t, "B"), newCA(t, "C")
	ofA, ofB, ofC := a.leaf(t, "a"), b.leaf(t, "b"), c.leaf(t, "c")
	file := filepath.Join(t.TempDir(), "c.ca")
	mustDo(t, os.WriteFile(file, c.pem(), 0o600))
	w := newWorld(t, []*signer{a}, func(o *identity.CertificateOptions) { o.TrustFiles = []string{file} })
	w.wants(t, ofA, "")
	w.wants(t, ofC, "")
	w.wants(t, ofB, unknownAuthority)

	w.write(t, "0123abcd.0", b.pem())
	w.soonWants(t, ofB, "")
	mustDo(t, os.Remove(filepath.Join(w.dir, "A.pem")))
	w.soonWants(t, ofA, unknownAuthority)
	w.wants(t, ofB, "")

	// Broken: nothing changes, not even for what was not touched.
	for n, broken := range []string{
		"", "garbage", string(a.pem()[:200]), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		string(a.pem()) + string(b.pem()[:300]),
	} {
		w.write(t, "A.crt", a.pem())
		w.soonWants(t, ofA, "")
		w.write(t, "A.crt", []byte(broken))
		poll.Until(t, fmt.Sprintf("broken file %d is seen", n), func() bool { return w.Stats().TrustProblem != "" })
		w.wants(t, ofA, "")
		w.wants(t, ofB, "")
	}
	mustDo(t, os.Remove(filepath.Join(w.dir, "A.crt")))
	w.soonWants(t, ofA, unknownAuthority)
	if p := w.Stats().TrustProblem; p != "" {
		t.Errorf("it still says %q", p)
	}
	mustDo(t, os.WriteFile(file, b.pem(), 0o600))
	w.soonWants(t, ofC, unknownAuthority)
	w.write(t, "der.crt", c.cert.Raw)
	w.soonWants(t, ofC, "")
	w.write(t, ".hidden.pem", []byte("ignored"))
	w.write(t, "readme.txt", []byte("ignored"))
	mustDo(t, os.Mkdir(filepath.Join(w.dir, "folder.pem"), 0o700))
	w.write(t, "A.pem", append([]byte("what a CA says of itself\n"), a.pem()...))
	w.soonWants(t, ofA, "")
	mustDo(t, os.Rename(w.dir, w.dir+".away"))
	poll.Until(t, "the directory is missed", func() bool { return w.Stats().TrustProblem != "" })
	w.wants(t, ofA, "")
}

// TestSubordinateInTheDirectory: it need not be sent, and its issuer can still revoke it.
func TestSubordinateInTheDirectory(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	sub := issue(t, root, ecKey(t), called("Grid", "Sub"), isCA)
	leaf := &signer{cert: sub.leaf(t, "leaf").cert}
	w := newWorld(t, []*signer{root, sub})
	w.wants(t, leaf, "")
	w.write(t, "0123abcd.r0", root.crl(t, list{revoked: []*signer{sub}}))
	w.soonWants(t, leaf, issuerRevoked)
	// Without its issuer it is trusted for itself.
	mustDo(t, os.Remove(filepath.Join(w.dir, "Root.pem")))
	w.soonWants(t, leaf, "")
}

// TestUnreadableAuthority: one that is whole, and that crypto/x509 will not have, does not take the others with it.
func TestUnreadableAuthority(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	w := newWorld(t, []*signer{root})
	odd, err := asn1.Marshal([]int{1, 2, 3})
	mustDo(t, err)
	w.write(t, "odd.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: odd}))
	poll.Until(t, "the log says so", func() bool { return w.log.Count("the authority is not trusted") > 0 })
	w.wants(t, root.leaf(t, "leaf"), "")
}

func policyOf(ca, patterns string) []byte {
	return fmt.Appendf(nil, "# a policy\n access_id_CA   X509   '%s'\n pos_rights globus CA:sign\n cond_subjects globus '%s'\n", ca, patterns)
}

func TestSigningPolicy(t *testing.T) {
	t.Parallel()
	root, free := newCA(t, "Root"), newCA(t, "Free")
	sub := issue(t, root, ecKey(t), called("Grid", "Sub"), isCA)
	within := root.leaf(t, "inside")
	named := func(up *signer, org, cn string) *signer { return issue(t, up, ecKey(t), called(org, cn)) }
	outside := named(root, "Elsewhere", "x")
	w := newWorld(t, []*signer{root, free})
	w.wants(t, outside, "")
	w.write(t, "Root.signing_policy", policyOf("/C=GR/O=Grid/CN=Root", `"/C=GR/O=Grid/*" "/C=GR/O=Host/CN=host/*.example"`))
	w.soonWants(t, outside, wrongName)
	w.wants(t, within, "")
	w.wants(t, named(root, "Host", "host/a.example"), "")
	w.wants(t, named(root, "Host", "host/a.other"), wrongName)
	w.wants(t, named(free, "Elsewhere", "y"), "")
	w.wants(t, named(sub, "Grid", "y"), "")
	// An authority below it cannot leave its policy, unless it has one of its own.
	w.wants(t, named(sub, "Elsewhere", "y"), wrongName)
	w.write(t, "Sub.crt", sub.pem())
	w.write(t, "Sub.signing_policy", policyOf("/C=GR/O=Grid/CN=Sub", `"/C=GR/O=Elsewhere/*"`))
	w.soonWants(t, named(sub, "Elsewhere", "y"), "")
	w.wants(t, named(sub, "Grid", "y"), wrongName)
	// A value with slashes in it is not several attributes.
	smuggled := issue(t, root, ecKey(t), pkix.Name{Country: []string{"GR/O=Grid/CN=a"}, CommonName: "b"})
	w.wants(t, smuggled, wrongName)

	w.write(t, "Root.signing_policy", []byte("access_id_CA X509 '/C=GR"))
	w.soonWants(t, within, wrongName)
	if w.log.Count("its authority may sign no name") == 0 {
		t.Error("the log does not say why")
	}
	w.wants(t, named(free, "Elsewhere", "z"), "")
	w.write(t, "Root.signing_policy", policyOf("/C=GR/O=Grid/CN=Another", "/C=GR/*"))
	poll.Until(t, "the log says so", func() bool { return w.log.Count("does not name its authority") > 0 })
	w.wants(t, within, wrongName)
	mustDo(t, os.Remove(filepath.Join(w.dir, "Root.signing_policy")))
	w.soonWants(t, within, "")
}

func TestHashedPolicy(t *testing.T) {
	t.Parallel()
	a := issue(t, nil, ecKey(t), pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "org"},
		{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "ca@x.org"},
	}}, isCA)
	w := newWorld(t, nil)
	w.write(t, "0123abcd.0", a.pem())
	w.write(t, "0123abcd.signing_policy", policyOf("/DC=org/Email=ca@x.org", "/C=GR/O=Grid/*"))
	w.soonWants(t, a.leaf(t, "x"), "")
	w.wants(t, issue(t, a, ecKey(t), called("Elsewhere", "x")), wrongName)
}

func TestAuthorityAsItsOwnClient(t *testing.T) {
	t.Parallel()
	// What `openssl req -x509` makes: an authority without key usages, used by somebody as a client.
	plain := issue(t, nil, ecKey(t), called("Grid", "plain"), func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, 0 })
	strict := newCA(t, "strict")
	w := newWorld(t, []*signer{plain, strict})
	w.wants(t, plain, "")
	w.wants(t, strict, wrongUsage)
}
