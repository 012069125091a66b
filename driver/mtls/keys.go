package mtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"bindery"
)

// The algorithms of keys that are made here.
const (
	algorithmP256    = "ecdsa-p256"
	algorithmP384    = "ecdsa-p384"
	algorithmRSA2048 = "rsa-2048"
	algorithmRSA3072 = "rsa-3072"
	algorithmRSA4096 = "rsa-4096"
	algorithmEd25519 = "ed25519"
)

func algorithms() []string {
	return []string{algorithmP256, algorithmP384, algorithmRSA2048, algorithmRSA3072, algorithmRSA4096, algorithmEd25519}
}

// authorityAlgorithms leaves Ed25519 out, which x/crypto/ocsp does not sign with.
func authorityAlgorithms() []string {
	return slices.DeleteFunc(algorithms(), func(a string) bool { return a == algorithmEd25519 || a == algorithmRSA2048 })
}

func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case algorithmP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algorithmP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case algorithmRSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case algorithmRSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case algorithmRSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case algorithmEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("there is no key algorithm %q", algorithm)
}

const (
	leastRSA = 2048
	mostRSA  = 8192 // longer ones make every handshake slow
)

// checkKey refuses public keys that are weak, or that verifiers commonly do not know.
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < leastRSA || n > mostRSA || k.E < 3 || k.E%2 == 0 {
			return fmt.Errorf("an RSA key must have from %d to %d bits", leastRSA, mostRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("a key must be RSA, ECDSA on P-256 or P-384, or Ed25519")
}

func encodeKey(key crypto.Signer) (bindery.Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return bindery.Secret{}, err
	}
	return bindery.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
}

var errKey = errors.New("it is no private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)")

// decodeKey gives no cause: it would quote what it stumbled over.
func decodeKey(s bindery.Secret) (crypto.Signer, error) {
	rest := []byte(s.Reveal())
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errKey
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // such as EC PARAMETERS
		}
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errKey
		}
		return signer, nil
	}
}

// certificatePEM writes certificates one after the other.
func certificatePEM(ders ...[]byte) string {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(out)
}

// parseCertificates reads PEM with at least one certificate, and nothing but certificates.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, errors.New("it has something that is no certificate in PEM")
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("it has no certificate in PEM")
	}
	return out, nil
}
