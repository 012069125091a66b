package devserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
)

// CertFiles are PEM files: a certificate, its key, and the authority that its peer is checked against.
type CertFiles struct {
	CertFile, KeyFile, CAFile string
}

// A PKI is a private certificate authority on this machine, with what it has
// issued, for a server on the loopback addresses and its clients. It protects
// nothing but development.
type PKI struct {
	dir  string
	now  func() time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenPKI opens the authority in a directory, and makes it where there is none.
// What is there is used again. A certificate that has passed two thirds of its
// life, does not fit its key, or was not issued by the authority is issued anew;
// a new authority therefore renews everything.
func OpenPKI(dir string, now func() time.Time) (*PKI, error) {
	dir, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	p := &PKI{dir: dir, now: now}
	lock, err := waitLock(context.Background(), filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = unlock(lock) }() // nothing was written to it
	if p.cert, p.key, err = p.read("ca"); err == nil && p.fresh(p.cert) && p.cert.IsCA {
		return p, nil
	}
	ca := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "Bindery development CA"},
		NotAfter: now().Add(caLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true,
	}
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	p.cert = ca // signs itself
	if p.cert, err = p.issue("ca", ca, p.key); err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	return p, nil
}

// CAFile is the file with the authority's certificate.
func (p *PKI) CAFile() string { return p.file("ca", ".crt") }

// Server returns a certificate for a server on localhost, 127.0.0.1 and ::1.
func (p *PKI) Server() (CertFiles, error) {
	return p.leaf("server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client returns a certificate for a client with this common name, which must do as a file name.
func (p *PKI) Client(name string) (CertFiles, error) {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return CertFiles{}, fmt.Errorf("%q cannot be the name of a client", name)
	}
	return p.leaf("client-"+name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// leaf returns the certificate of this name, and issues it where it has to.
func (p *PKI) leaf(name string, template *x509.Certificate) (CertFiles, error) {
	files := CertFiles{CertFile: p.file(name, ".crt"), KeyFile: p.file(name, ".key"), CAFile: p.CAFile()}
	lock, err := waitLock(context.Background(), filepath.Join(p.dir, "lock"))
	if err != nil {
		return files, err
	}
	defer func() { _ = unlock(lock) }() // nothing was written to it
	if cert, _, err := p.read(name); err == nil && p.fresh(cert) && cert.CheckSignatureFrom(p.cert) == nil {
		return files, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	template.NotAfter = p.now().Add(leafLifetime)
	if template.NotAfter.After(p.cert.NotAfter) {
		template.NotAfter = p.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if _, err := p.issue(name, template, key); err != nil {
		return files, fmt.Errorf("issue the certificate %s: %w", name, err)
	}
	return files, nil
}

// fresh reports whether a certificate has at least a third of its life to go.
func (p *PKI) fresh(c *x509.Certificate) bool {
	life := c.NotAfter.Sub(c.NotBefore)
	return !p.now().Before(c.NotBefore) && p.now().Before(c.NotAfter.Add(-life/3))
}

func (p *PKI) file(name, ext string) string { return filepath.Join(p.dir, name+ext) }

// issue signs a certificate for the key and writes both: the key first, so that
// what an interruption leaves does not fit together and is made again.
func (p *PKI) issue(name string, template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = p.now().Add(-time.Hour) // clocks differ
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, key.Public(), p.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(p.file(name, ".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return nil, err
	}
	if err := writeFile(p.file(name, ".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// read reads a certificate and its key; an error means that there is no usable pair.
func (p *PKI) read(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certDER, err := readPEM(p.file(name, ".crt"))
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := readPEM(p.file(name, ".key"))
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("the key and the certificate of %s do not fit", name)
	}
	return cert, key, nil
}

func readPEM(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil {
		return nil, errors.New("no PEM in " + name)
	}
	return block.Bytes, nil
}
