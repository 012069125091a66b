package mtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"bindery"
)

// The secrets of a server, for an authority from files.
const (
	secretKey         = "ca_key"
	secretCertificate = "ca_certificate"
)

const (
	// backdate is how far in the past things begin to be valid, for verifiers whose clocks are behind.
	backdate  = time.Minute
	mostChain = 8
)

// An authority signs certificates, and what is said about them.
type authority struct {
	cert  *x509.Certificate
	chain []*x509.Certificate // its own first, then those above it
	key   crypto.Signer
}

// pem is the chain.
func (a *authority) pem() string {
	ders := make([][]byte, len(a.chain))
	for i, c := range a.chain {
		ders[i] = c.Raw
	}
	return certificatePEM(ders...)
}

func checkSecrets(password bindery.Secret, secrets map[string]bindery.Secret) error {
	if !password.Empty() {
		return errors.New("kind mtls takes no password")
	}
	for name := range secrets {
		if name != secretKey && name != secretCertificate {
			return fmt.Errorf("the secrets of kind mtls are %s and %s", secretKey, secretCertificate)
		}
	}
	_, err := givenAuthority(secrets)
	return err
}

// givenAuthority reads the authority from files; nil where there is none.
func givenAuthority(secrets map[string]bindery.Secret) (*authority, error) {
	key, cert := secrets[secretKey], secrets[secretCertificate]
	if key.Empty() && cert.Empty() {
		return nil, nil //nolint:nilnil // there is none
	}
	if key.Empty() || cert.Empty() {
		return nil, fmt.Errorf("the secrets %s and %s need each other", secretKey, secretCertificate)
	}
	signer, err := decodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("the secret %s: %w", secretKey, err)
	}
	chain, err := parseCertificates(cert.Reveal())
	if err != nil {
		return nil, fmt.Errorf("the secret %s: %w", secretCertificate, err)
	}
	a := &authority{cert: chain[0], chain: chain, key: signer}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("the secret %s: %w", secretCertificate, err)
	}
	return a, nil
}

const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// check says whether certificates and lists that it signs would be believed.
func (a *authority) check() error {
	public, ok := a.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(a.key.Public()):
		return errors.New("its first certificate is not of the key")
	case !a.cert.BasicConstraintsValid || !a.cert.IsCA:
		return errors.New("its first certificate is no authority's")
	case a.cert.KeyUsage&usage != usage:
		return errors.New("the authority may not sign certificates and revocation lists (keyCertSign, cRLSign)")
	case len(a.cert.SubjectKeyId) == 0:
		return errors.New("the authority's certificate has no subject key identifier (RFC 5280, section 4.2.1.2)")
	case len(a.chain) > mostChain:
		return errors.New("its chain is too long")
	}
	if _, err := bindery.DNFromDER(a.cert.RawSubject); err != nil {
		return errors.New("the authority's name cannot be read")
	}
	if err := checkKey(a.cert.PublicKey); err != nil {
		return err
	}
	if a.cert.PublicKeyAlgorithm == x509.Ed25519 {
		return errors.New("the authority's key must be RSA or ECDSA: many verifiers of lists and answers know no other")
	}
	for i, cert := range a.chain[1:] {
		if err := a.chain[i].CheckSignatureFrom(cert); err != nil {
			return errors.New("each of its certificates must be followed by the one of who signed it")
		}
	}
	return nil
}

var (
	errOther = bindery.Errorf(bindery.CodeUnavailable,
		"the server's certificates were issued by another authority; a new authority needs a server of its own")
	errDamaged = bindery.Errorf(bindery.CodeInternal, "the certificate authority in the store is damaged")
	errExpired = bindery.Errorf(bindery.CodeUnavailable, "the certificate authority has expired")
)

// authority returns the server's, and makes it where there is none. Once known it is
// not asked for again: it never changes.
func (d *driver) authority(ctx context.Context) (*authority, error) {
	if a := d.known.Load(); a != nil {
		return a, nil
	}
	kept, err := d.keptAuthority(ctx)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		if err = d.addAuthority(ctx); err == nil || bindery.CodeOf(err) == bindery.CodeConflict {
			kept, err = d.keptAuthority(ctx) // another process's, perhaps
		}
	}
	if err != nil {
		return nil, storeError(err)
	}
	a, err := d.openAuthority(kept)
	if err == nil {
		d.known.Store(a)
	}
	return a, err
}

func (d *driver) keptAuthority(ctx context.Context) (kept bindery.Authority, err error) {
	err = d.server.Store.View(ctx, func(tx bindery.Tx) (err error) {
		kept, err = tx.Authorities().Get(ctx, d.server.Name)
		return err
	})
	return kept, err
}

func (d *driver) addAuthority(ctx context.Context) error {
	row, err := d.server.Store.NewID(ctx)
	if err != nil {
		return err
	}
	fresh := bindery.Authority{Row: row, Server: d.server.Name, Created: d.now(), CRLNumber: 1}
	if d.given != nil {
		fresh.Certificate = d.given.cert.Raw // the key stays in its file
	} else if fresh.Certificate, fresh.Key, err = d.newRoot(); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	return d.server.Store.Update(ctx, func(tx bindery.Tx) error { return tx.Authorities().Add(ctx, fresh) })
}

func (d *driver) openAuthority(kept bindery.Authority) (*authority, error) {
	cert, err := x509.ParseCertificate(kept.Certificate)
	if err != nil {
		return nil, errDamaged.Because(err)
	}
	if d.given != nil {
		// Its certificate may have been renewed; name and key are what it is known by.
		if !bytes.Equal(cert.RawSubject, d.given.cert.RawSubject) ||
			!bytes.Equal(cert.RawSubjectPublicKeyInfo, d.given.cert.RawSubjectPublicKeyInfo) || !kept.Key.Empty() {
			return nil, errOther
		}
		return d.given, nil
	}
	if kept.Key.Empty() {
		return nil, errOther
	}
	key, err := decodeKey(kept.Key)
	if err != nil {
		return nil, errDamaged.Because(err)
	}
	a := &authority{cert: cert, chain: []*x509.Certificate{cert}, key: key}
	if err := a.check(); err != nil {
		return nil, errDamaged.Because(err)
	}
	return a, nil
}

// newRoot makes a root whose name no other installation's has.
func (d *driver) newRoot() (der []byte, sealed bindery.Secret, err error) {
	key, err := newKey(d.settings.Algorithm)
	if err != nil {
		return nil, sealed, err
	}
	name := d.settings.CommonName
	if name == "" {
		name = fmt.Sprintf("Bindery %s %.40s", d.server.Installation, d.server.Name)
	}
	subject, err := subjectDER(rdn{oidOrganization, d.settings.Organization}, rdn{oidCommonName, name})
	if err != nil {
		return nil, sealed, err
	}
	now := d.now()
	template := &x509.Certificate{
		SerialNumber: newSerial(), RawSubject: subject,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(d.settings.Validity),
		KeyUsage: usage | x509.KeyUsageDigitalSignature, // the last for OCSP
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	if der, err = x509.CreateCertificate(nil, template, template, key.Public(), key); err != nil {
		return nil, sealed, err
	}
	sealed, err = encodeKey(key)
	return der, sealed, err
}

// newSerial is random, positive and 16 bytes long (RFC 5280, section 4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] |= 1              // the first byte is not zero
	return new(big.Int).SetBytes(b[:])
}

func serialText(n *big.Int) string { return strings.ToLower(n.Text(16)) }

func parseSerial(s string) (*big.Int, bool) {
	n, ok := new(big.Int).SetString(s, 16)
	return n, ok && n.Sign() > 0 && n.BitLen() <= 159
}

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
)

type rdn struct {
	oid   asn1.ObjectIdentifier
	value string
}

// subjectDER writes a name of one attribute in each RDN; pkix.Name would put two
// units into one set. What is empty is left out.
func subjectDER(parts ...rdn) ([]byte, error) {
	var name pkix.RDNSequence
	for _, p := range parts {
		if p.value != "" {
			name = append(name, pkix.RelativeDistinguishedNameSET{{Type: p.oid, Value: p.value}})
		}
	}
	return asn1.Marshal(name)
}
