package devserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bindery/devserver"
)

func certificates(t *testing.T) (server, client devserver.CertFiles) {
	t.Helper()
	return issued(t, t.TempDir(), time.Now())
}

func issued(t *testing.T, dir string, at time.Time) (server, client devserver.CertFiles) {
	t.Helper()
	p, err := devserver.OpenPKI(dir, func() time.Time { return at })
	must(t, err)
	server, err = p.Server()
	must(t, err)
	client, err = p.Client("app")
	must(t, err)
	return server, client
}

func clientTLS(t *testing.T, files devserver.CertFiles) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	must(t, err)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool(t, files.CAFile)}
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		t.Fatal("no certificate")
	}
	return p
}

func TestCertificatesProveBothSides(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	pair, err := tls.LoadX509KeyPair(server.CertFile, server.KeyFile)
	must(t, err)
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool(t, server.CAFile),
	}
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- tls.Server(a, config).HandshakeContext(t.Context()) }()
		c := clientTLS(t, client)
		c.ServerName = name
		if err := tls.Client(b, c).HandshakeContext(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, _ = a.Close(), b.Close()
	}
}

func TestCertificatesAreUsedAgainUntilTheyAge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const day = 24 * time.Hour
	tests := map[string]struct {
		later           time.Duration
		damage          string // a file to overwrite
		newCA, newLeafs bool
	}{
		"soon":                    {later: day},
		"before a year's end":     {later: 300 * day, newLeafs: true},
		"before ten years' end":   {later: 9 * 365 * day, newCA: true, newLeafs: true},
		"long after":              {later: 30 * 365 * day, newCA: true, newLeafs: true},
		"with a clock set back":   {later: -day, newCA: true, newLeafs: true},
		"with a damaged leaf key": {damage: "server.key", newLeafs: true},
		"with a damaged CA":       {damage: "ca.crt", newCA: true, newLeafs: true},
		"with a damaged CA key":   {damage: "ca.key", newCA: true, newLeafs: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server, _ := issued(t, dir, now)
			ca, leaf := content(t, server.CAFile), content(t, server.CertFile)
			if tt.damage != "" {
				must(t, os.WriteFile(filepath.Join(dir, tt.damage), []byte("damaged"), 0o600))
			}
			server, client := issued(t, dir, now.Add(tt.later))
			if changed := content(t, server.CAFile) != ca; changed != tt.newCA {
				t.Errorf("the authority is new: %v, want %v", changed, tt.newCA)
			}
			if changed := content(t, server.CertFile) != leaf; changed != tt.newLeafs {
				t.Errorf("the certificate is new: %v, want %v", changed, tt.newLeafs)
			}
			for _, f := range []devserver.CertFiles{server, client} {
				pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
				must(t, err)
				_, err = pair.Leaf.Verify(x509.VerifyOptions{
					Roots: pool(t, f.CAFile), CurrentTime: now.Add(tt.later), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
				})
				must(t, err)
				info, err := os.Stat(f.KeyFile)
				must(t, err)
				if info.Mode().Perm() != 0o600 {
					t.Errorf("the key's mode is %v", info.Mode())
				}
			}
		})
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return string(b)
}

func TestClientNamesAreFileNames(t *testing.T) {
	t.Parallel()
	p, err := devserver.OpenPKI(t.TempDir(), time.Now)
	must(t, err)
	for _, name := range []string{"", ".", "..", "a/b", "../../etc/passwd"} {
		if _, err := p.Client(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
