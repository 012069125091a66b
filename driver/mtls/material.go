package mtls

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bindery"
)

// material is what an account's secret holds. Before Ensure it has no Certificate.
type material struct {
	Key     bindery.Secret // PKCS #8, PEM; empty: the key is elsewhere
	Public  []byte         // PKIX, DER
	Names   names
	Server  bool // for servers too
	Subject []byte
	// Serial and NotAfter are those of the first certificate, and of Certificate where that is set.
	Serial              string
	NotBefore, NotAfter time.Time
	Certificate         string // PEM
	Chain               string // of the authority, PEM
}

// leaf is the certificate. It is there since Ensure.
func (m material) leaf() (*x509.Certificate, error) {
	certs, err := parseCertificates(m.Certificate)
	if err != nil {
		return nil, errMaterial
	}
	return certs[0], nil
}

// sealed is its JSON. Only the functions below see it.
type sealed struct {
	Key         string    `json:"key,omitempty"`
	Public      []byte    `json:"public_key"`
	Names       names     `json:"names"`
	Server      bool      `json:"server,omitempty"`
	Subject     []byte    `json:"subject"`
	Serial      string    `json:"serial"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Certificate string    `json:"certificate,omitempty"`
	Chain       string    `json:"chain,omitempty"`
}

func (m material) seal() (bindery.Secret, error) {
	raw, err := json.Marshal(sealed{
		Key: m.Key.Reveal(), Public: m.Public, Names: m.Names, Server: m.Server, Subject: m.Subject,
		Serial: m.Serial, NotBefore: m.NotBefore, NotAfter: m.NotAfter, Certificate: m.Certificate, Chain: m.Chain,
	})
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("write material: %w", err)
	}
	return bindery.NewSecret(string(raw)), nil
}

var errMaterial = bindery.Errorf(bindery.CodeInternal, "the account's material is not of this kind")

// firstIssue reads of material what [driver.Record] writes down, and nothing else.
func firstIssue(secret bindery.Secret) (i issue, err error) {
	var s struct {
		Serial   string    `json:"serial"`
		NotAfter time.Time `json:"not_after"`
	}
	if json.Unmarshal([]byte(secret.Reveal()), &s) != nil {
		return i, errMaterial
	}
	if _, ok := parseSerial(s.Serial); !ok {
		return i, errMaterial
	}
	return issue{serial: s.Serial, notAfter: s.NotAfter}, nil
}

// parseMaterial gives no cause: it would quote what it stumbled over.
func parseMaterial(secret bindery.Secret) (material, error) {
	var s sealed
	if json.Unmarshal([]byte(secret.Reveal()), &s) != nil {
		return material{}, errMaterial
	}
	m := material{
		Public: s.Public, Names: s.Names, Server: s.Server, Subject: s.Subject,
		Serial: s.Serial, NotBefore: s.NotBefore, NotAfter: s.NotAfter, Certificate: s.Certificate, Chain: s.Chain,
	}
	if s.Key != "" {
		m.Key = bindery.NewSecret(s.Key)
	}
	if _, ok := parseSerial(s.Serial); !ok || len(s.Subject) == 0 || len(s.Public) == 0 || (s.Certificate == "") != (s.Chain == "") {
		return material{}, errMaterial
	}
	return m, nil
}

// errUnsigned is for accounts that Ensure has not made yet.
var errUnsigned = errors.New("the certificate has not been signed yet")
