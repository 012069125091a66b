package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"golang.org/x/crypto/ocsp"

	"bindery"
)

// Prove implements [bindery.Prover]. It looks at what is published, as a
// verifier does: the list, made after this call began; an answer to an OCSP request;
// and a TLS handshake with a server that goes by that list.
func (d *driver) Prove(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) (string, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if err := d.checkName(account.Name); err != nil {
		return "", err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return "", err
	}
	a, err := d.authority(ctx)
	if err != nil {
		return "", err
	}
	if err := d.alive(ctx, account.Name); err != nil {
		return "", err
	}
	if m.Certificate == "" {
		return "no certificate was ever handed over, and none of the account's is valid", nil
	}
	leaf, err := m.leaf()
	if err != nil {
		return "", err
	}
	now := d.now()
	if now.After(leaf.NotAfter) {
		if err := d.expired(ctx, a, m, leaf, now); err != nil {
			return "", err
		}
		return fmt.Sprintf("certificate %s expired at %s; a verifier refused it as expired", m.Serial, m.NotAfter.Format(time.RFC3339)), nil
	}
	number, list, err := d.listed(ctx, a, leaf)
	if err != nil {
		return "", err
	}
	if err := d.answeredRevoked(ctx, a, leaf); err != nil {
		return "", err
	}
	said := fmt.Sprintf("certificate %s is on revocation list %s; OCSP says that it is revoked; ", m.Serial, number)
	if m.Key.Empty() {
		// Whoever has the key cannot be asked; what a server checks after the handshake's own proof of it is checked.
		if err := list.verify(a, leaf, now); !errors.Is(err, errOnList) {
			return "", refusedOtherwise(err)
		}
		return said + "a verifier with that list refused it as revoked (its key is not here, so no handshake was made)", nil
	}
	if err := handshake(ctx, m, leaf, func(cert *x509.Certificate) error { return list.verify(a, cert, now) }); !errors.Is(err, errOnList) {
		return "", refusedOtherwise(err)
	}
	return said + "a TLS handshake with it was refused as revoked", nil
}

// alive says so where the account has a certificate that nobody revoked.
func (d *driver) alive(ctx context.Context, name string) error {
	var last bindery.IssuedCertificate
	err := d.server.Store.View(ctx, func(tx bindery.Tx) (err error) {
		last, err = tx.Certificates().ByName(ctx, d.server.Name, name)
		return err
	})
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound:
		return nil
	case err != nil:
		return storeError(err)
	case last.Revoked.IsZero() && d.now().Before(last.Expires):
		return bindery.ErrAlive
	}
	return nil
}

// revocations is a list as a verifier has it.
type revocations struct{ list *x509.RevocationList }

func (d *driver) listed(ctx context.Context, a *authority, cert *x509.Certificate) (*big.Int, revocations, error) {
	l, err := d.list(ctx, true)
	if err != nil {
		return nil, revocations{}, err
	}
	list, err := x509.ParseRevocationList(l.der)
	if err == nil {
		err = list.CheckSignatureFrom(a.cert)
	}
	if err != nil {
		return nil, revocations{}, bindery.Errorf(bindery.CodeInternal, "the revocation list cannot be believed").Because(err)
	}
	r := revocations{list}
	if !r.has(cert) {
		return nil, r, fmt.Errorf("%w: it is not on the revocation list", bindery.ErrAlive)
	}
	return list.Number, r, nil
}

func (r revocations) has(cert *x509.Certificate) bool {
	for i := range r.list.RevokedCertificateEntries {
		if r.list.RevokedCertificateEntries[i].SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

func (d *driver) answeredRevoked(ctx context.Context, a *authority, cert *x509.Certificate) error {
	request, err := ocsp.CreateRequest(cert, a.cert, nil)
	if err != nil {
		return err
	}
	raw, err := d.OCSP(ctx, request)
	if err != nil {
		return err
	}
	got, err := ocsp.ParseResponseForCert(raw, cert, a.cert)
	if err != nil {
		return bindery.Errorf(bindery.CodeInternal, "the OCSP answer cannot be believed").Because(err)
	}
	if got.Status != ocsp.Revoked {
		return fmt.Errorf("%w: OCSP does not say that it is revoked", bindery.ErrAlive)
	}
	return nil
}

var errOnList = errors.New("the certificate is revoked")

// verify is what a server does that trusts the authority and has its list.
func (r revocations) verify(a *authority, cert *x509.Certificate, now time.Time) error {
	if err := trusts(a, cert, now); err != nil {
		return err
	}
	if r.has(cert) {
		return errOnList
	}
	return nil
}

func trusts(a *authority, cert *x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// expired: what has expired is on no list, and refused all the same.
func (d *driver) expired(ctx context.Context, a *authority, m material, leaf *x509.Certificate, now time.Time) error {
	check := func(cert *x509.Certificate) error { return trusts(a, cert, now) }
	var err error
	if m.Key.Empty() {
		err = check(leaf)
	} else {
		err = handshake(ctx, m, leaf, check)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return nil
	}
	return refusedOtherwise(err)
}

func refusedOtherwise(err error) error {
	if err == nil {
		return bindery.ErrAlive
	}
	return bindery.Errorf(bindery.CodeUnavailable, "the certificate was refused, but not because it is revoked").Because(err)
}

// handshake makes a TLS connection to a server of our own, as whoever has the
// credential does, and returns what the server says of it.
func handshake(ctx context.Context, m material, leaf *x509.Certificate, check func(*x509.Certificate) error) error {
	key, err := decodeKey(m.Key)
	if err != nil {
		return err
	}
	own, err := selfSigned(leaf)
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	defer near.Close() //nolint:errcheck // a pipe
	defer far.Close()  //nolint:errcheck // a pipe
	client := tls.Client(near, &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The other end is this function.
		InsecureSkipVerify: true, //nolint:gosec // see above
		Certificates:       []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
	})
	server := tls.Server(far, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return check(s.PeerCertificates[0]) },
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if client.HandshakeContext(ctx) == nil {
			_, _ = client.Read(make([]byte, 1)) // the refusal arrives after the client's part
		}
	}()
	err = server.HandshakeContext(ctx)
	_ = far.Close()
	<-done
	return err
}

func selfSigned(now *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.NotBefore, NotAfter: now.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
