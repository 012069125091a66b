package redis_test

import (
	"crypto/x509"

	"bindery"
)

// pool returns the CA that a credential carries.
func pool(c bindery.Credential) *x509.CertPool {
	p := x509.NewCertPool()
	pem, _ := c.Object["ca.crt"].(string)
	p.AppendCertsFromPEM([]byte(pem))
	return p
}
