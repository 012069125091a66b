package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/exchange"
)

// What dev makes for the identity face: a service to ask, a client that may, and
// the binding between them.
const (
	sampleName   = "sample" // of the service type, its retrieval, and the binding
	sampleHost   = "localhost"
	sampleUser   = "sample-user"
	sampleClient = "workload" // the common name of the client's certificate
)

// A devIdentity is what of it runs and what the ready file tells.
type devIdentity struct {
	sample *devserver.Sample
	key    bindery.Secret
	client devserver.CertFiles
	dn     string
}

// startDevIdentity starts the sample service and makes the client's certificate.
func startDevIdentity(ctx context.Context, d *devDir) (*devIdentity, error) {
	pki, err := devserver.OpenPKI(d.file("tls"), time.Now)
	if err != nil {
		return nil, err
	}
	server, err := pki.Server()
	if err != nil {
		return nil, err
	}
	i := &devIdentity{}
	if i.client, err = pki.Client(sampleClient); err != nil {
		return nil, err
	}
	if i.dn, err = subjectOf(i.client.CertFile); err != nil {
		return nil, err
	}
	if i.key, err = d.secret("sample-key", rand.Text); err != nil {
		return nil, err
	}
	i.sample, err = devserver.StartSample(ctx, devserver.SampleOptions{Cert: server, Key: i.key})
	return i, err
}

func subjectOf(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", errors.New(name + " has no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	dn, err := bindery.DNFromDER(cert.RawSubject)
	return dn.String(), err
}

// systemCAs is where Debian and its kin keep the authorities of the system.
const systemCAs = "/etc/ssl/certs/ca-certificates.crt"

// writeUpstreamCAs writes the authorities that services are checked against: the
// private one, those that the person added, and the system's.
func (d *devDir) writeUpstreamCAs(own, dir string) error {
	files := []string{own}
	if dir != "" {
		for _, pattern := range []string{"*.pem", "*.crt", "*.0"} {
			more, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return err
			}
			files = append(files, more...)
		}
	}
	var all bytes.Buffer
	for _, name := range append(files, systemCAs) {
		b, err := os.ReadFile(name)
		if err != nil {
			if name == systemCAs {
				continue // this machine has none
			}
			return err
		}
		all.Write(bytes.TrimSpace(b))
		all.WriteByte('\n')
	}
	return writeSecret(d.file("tls/upstream-ca.crt"), all.String())
}

// seed makes the service type, its auth method and the client's binding, or
// brings those of an earlier start to what is true now: the port is a new one.
func (i *devIdentity) seed(ctx context.Context, s *exchange.Service) error {
	by := exchange.Caller{Name: "bindery dev"}
	name, host, port, key := sampleName, sampleHost, i.sample.Port, i.key.Reveal()
	auth, kind, user, dn := string(bindery.AuthX509), string(bindery.AuthMethodAPIKey), sampleUser, i.dn
	hosts, auths := []string{host}, []string{auth}
	st, err := s.ServiceType(ctx, by, name)
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		st, err = s.CreateServiceType(ctx, by, exchange.ServiceTypeInput{
			Name: &name, Hosts: &hosts, AuthTypes: &auths, AuthMethod: &kind, Type: &name,
		})
	}
	if err != nil {
		return fmt.Errorf("make the sample service type: %w", err)
	}
	method := exchange.AuthMethodInput{Host: &host, Port: &port, AccessKey: &key}
	if _, err = s.UpdateAuthMethod(ctx, by, name, host, method); bindery.CodeOf(err) == bindery.CodeNotFound {
		_, err = s.CreateAuthMethod(ctx, by, name, method)
	}
	if err != nil {
		return fmt.Errorf("make the sample auth method: %w", err)
	}
	_, err = s.CreateBinding(ctx, by, name, exchange.BindingInput{
		ServiceUUID: &st.UUID, Host: &host, AuthType: &auth, Identifier: &dn, UniqueKey: &user,
	}, nil)
	if err != nil && bindery.CodeOf(err) != bindery.CodeConflict { // it is there, perhaps changed by the person
		return fmt.Errorf("make the sample binding: %w", err)
	}
	return nil
}
