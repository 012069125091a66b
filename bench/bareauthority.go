package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strconv"
	"time"
)

// bareAuthority makes certificates: a key of the kind that the driver makes by
// default, a signature by another, and the serial number in a store, without which
// nothing could ever be revoked.
type bareAuthority struct {
	*bareStore
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (*bareAuthority) name() string { return "a P-256 key, a signature, a transaction" }

func (a *bareAuthority) connect(ctx context.Context, clients int) (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template := a.template(1)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return a.bareStore.connect(ctx, clients)
}

func (*bareAuthority) template(serial int64) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "bare_" + strconv.FormatInt(serial, 10)},
		NotBefore: now, NotAfter: now.Add(24 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func (a *bareAuthority) create(ctx context.Context, client int, serial int64) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if _, err := x509.MarshalPKCS8PrivateKey(key); err != nil { // or nobody could use it
		return err
	}
	if err := a.bareStore.create(ctx, client, serial); err != nil {
		return err
	}
	if _, err = x509.CreateCertificate(rand.Reader, a.template(serial), a.cert, key.Public(), a.key); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}
