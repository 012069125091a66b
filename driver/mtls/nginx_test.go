package mtls_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/test/poll"
)

// An nginx is a private one that asks for client certificates.
type nginx struct {
	dir, addr string
	process   *os.Process
	world     *world
}

// startNginx starts one; more are further lines of its server block.
func startNginx(t *testing.T, w *world, more string) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; !exists(program) {
			servertest.Check(t, fmt.Errorf("nginx: %w", devserver.ErrMissing))
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nginx{dir: t.TempDir(), addr: l.Addr().String(), world: w}
	serverCertificate(t, n.dir)
	n.update(t)
	n.write(t, "nginx.conf", fmt.Appendf(nil, `daemon off; master_process on; worker_processes 1; user root;
pid %[1]s/pid; error_log %[1]s/error.log info;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server {
		listen %[2]s ssl;
		ssl_certificate %[1]s/server.crt; ssl_certificate_key %[1]s/server.key;
		ssl_client_certificate %[1]s/ca.crt; ssl_verify_client on;
		# A resumed session is not verified again.
		ssl_session_tickets off; ssl_session_cache off;
		%[3]s
		location / { default_type text/plain; return 200 "$ssl_client_s_dn"; }
	}
}
`, n.dir, n.addr, strings.ReplaceAll(more, "DIR", n.dir)))
	if err := l.Close(); err != nil { // the port is nginx's
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", filepath.Join(n.dir, "nginx.conf"), "-p", n.dir, "-e", filepath.Join(n.dir, "error.log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.process = cmd.Process
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = n.process.Signal(syscall.SIGTERM)
		<-ended
	})
	poll.Until(t, "nginx answers", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("nginx ended: %v\n%s", err, n.log())
		default:
		}
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return n
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

func (n *nginx) log() string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "error.log"))
	return string(b)
}

func (n *nginx) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// update fetches what an operator's timer would.
func (n *nginx) update(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{"ca.pem": "ca.crt", "crl.pem": "ca.crl"} {
		b, err := fetch(n.world.url + "/pki/" + name + "/" + from)
		if err != nil {
			t.Fatal(err)
		}
		n.write(t, to, b)
	}
}

// reload fetches the list anew and lets nginx read it. New workers have taken over when it returns.
func (n *nginx) reload(t *testing.T) {
	t.Helper()
	n.update(t)
	before := strings.Count(n.log(), "start worker process ")
	if err := n.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	old := strings.Count(n.log(), "exited with code 0")
	poll.Until(t, "nginx reads it anew", func() bool {
		return strings.Count(n.log(), "start worker process ") > before && strings.Count(n.log(), "exited with code 0") > old
	})
}

func serverCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"server.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A browser is a client with a certificate, which keeps its connection.
type browser struct {
	client *http.Client
	dials  int
}

func newBrowser(t *testing.T, c bindery.Credential) *browser {
	t.Helper()
	cert, err := pair(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{}
	d := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // it is the client's certificate that matters
		MinVersion:         tls.VersionTLS12, Certificates: []tls.Certificate{cert},
	}}
	b.client = &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		b.dials++
		return d.DialContext(ctx, network, addr)
	}}}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

func (n *nginx) ask(t *testing.T, b *browser) (int, string) {
	t.Helper()
	res, err := b.client.Get("https://" + n.addr + "/")
	if err != nil {
		t.Fatalf("ask nginx: %v\n%s", err, n.log())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// made is an instance with accounts, for tests that are not the suite's.
type made struct {
	d    bindery.Driver
	spec bindery.InstanceSpec
	row  int64
}

func (w *world) made(t testing.TB, settings string) *made {
	t.Helper()
	m := &made{d: w.open(t, "abc123"), spec: bindery.InstanceSpec{Name: bindery.Name("abc123", 1), Settings: []byte(settings)}, row: 1}
	if err := m.d.Provision(t.Context(), m.spec); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *made) account(t testing.TB, parameters string) (bindery.Account, bindery.Credential) {
	t.Helper()
	m.row++
	a := bindery.Account{Name: bindery.Name("abc123", m.row)}
	var err error
	if a.Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: a.Name, Parameters: []byte(parameters)}); err != nil {
		t.Fatal(err)
	}
	return m.ensure(t, a)
}

func (m *made) ensure(t testing.TB, a bindery.Account) (bindery.Account, bindery.Credential) {
	t.Helper()
	e, err := m.d.Ensure(t.Context(), m.spec, a)
	if err != nil {
		t.Fatal(err)
	}
	a.Material, a.Details = e.Material, e.Details
	if !e.Expires.IsZero() { // as the engine does
		a.Expires = e.Expires
	}
	c, err := m.d.Render(m.spec, a)
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

// TestNginxRefusesWhatWasRevoked: with the new list, and not before; the reload also ends
// the connection that the certificate had open. Another binding's goes on.
func TestNginxRefusesWhatWasRevoked(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	m := w.made(t, "")
	account, c := m.account(t, "")
	_, other := m.account(t, "")
	n := startNginx(t, w, "ssl_crl DIR/ca.crl;")
	mine, theirs := newBrowser(t, c), newBrowser(t, other)
	for b, c := range map[*browser]bindery.Credential{mine: c, theirs: other} {
		if code, body := n.ask(t, b); code != 200 || body != c.Object["subject"] {
			t.Fatalf("before: got %d, %s\n%s", code, body, n.log())
		}
	}
	if err := m.d.Revoke(t.Context(), m.spec, account); err != nil {
		t.Fatal(err)
	}
	if code, _ := n.ask(t, mine); code != 200 || mine.dials != 1 {
		t.Errorf("with the old list: got %d; docs say that nginx goes by the list that it has", code)
	}
	n.reload(t)
	if code, body := n.ask(t, mine); code != 400 || !strings.Contains(body, "SSL certificate error") || mine.dials != 2 {
		t.Errorf("with the new list: got %d, %s after %d connections", code, body, mine.dials)
	}
	if !strings.Contains(n.log(), "certificate revoked") {
		t.Errorf("it was refused for another reason: %s", n.log())
	}
	if code, _ := n.ask(t, theirs); code != 200 {
		t.Errorf("the other one: got %d\n%s", code, n.log())
	}
}

// TestNginxAsksOCSP: without a list and without a reload.
func TestNginxAsksOCSP(t *testing.T) {
	t.Parallel()
	w := sqlite(t)
	m := w.made(t, "")
	account, c := m.account(t, "")
	n := startNginx(t, w, "ssl_ocsp leaf;")
	if code, body := n.ask(t, newBrowser(t, c)); code != 200 {
		t.Fatalf("before: got %d, %s\n%s", code, body, n.log())
	}
	if err := m.d.Revoke(t.Context(), m.spec, account); err != nil {
		t.Fatal(err)
	}
	if code, _ := n.ask(t, newBrowser(t, c)); code != 400 || !strings.Contains(n.log(), "certificate revoked") {
		t.Errorf("after: got %d\n%s", code, n.log())
	}
}

// TestOpenSSLAgrees: another implementation reads what is published as it is meant.
func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		servertest.Check(t, fmt.Errorf("openssl: %w", devserver.ErrMissing))
	}
	w := sqlite(t)
	m := w.made(t, "")
	account, c := m.account(t, `{"csr":`+string(quoted(csr(&x509.CertificateRequest{}, csrKey())))+`}`)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	leaf, ca := put("leaf.pem", []byte(c.Object["tls.crt"].(string))), put("ca.pem", []byte(c.Object["ca.crt"].(string)))
	run := func(args ...string) string {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // what it says is looked at
		return out.String()
	}
	check := func(verified, status string) {
		t.Helper()
		raw, err := fetch(w.url + "/pki/" + name + "/crl.pem")
		if err != nil {
			t.Fatal(err)
		}
		crl := put("crl.pem", raw)
		if got := run("verify", "-crl_check", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca, "-CRLfile", crl, leaf); !strings.Contains(got, verified) {
			t.Errorf("verify: got %s, want %s", got, verified)
		}
		if got := run("crl", "-in", crl, "-CAfile", ca, "-noout"); !strings.Contains(got, "verify OK") {
			t.Errorf("crl: got %s", got)
		}
		for _, digest := range []string{"-sha1", "-sha256"} {
			got := run("ocsp", "-issuer", ca, digest, "-cert", leaf, "-CAfile", ca, "-url", w.url+"/pki/"+name+"/ocsp", "-no_nonce")
			if !strings.Contains(got, "Response verify OK") || !strings.Contains(got, status) {
				t.Errorf("ocsp %s: got %s, want %s", digest, got, status)
			}
		}
	}
	check(": OK", ": good")
	if err := m.d.Revoke(t.Context(), m.spec, account); err != nil {
		t.Fatal(err)
	}
	check("certificate revoked", ": revoked")
}
