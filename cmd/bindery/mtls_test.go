package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/exchange"
)

const mtlsFile = `store: {url: sqlite:data.db}
seal: {key: {file: key}}
listeners:
  - {address: '127.0.0.1:0', faces: [osb]}
  - {address: '127.0.0.1:0', faces: [pki]}
  - {address: '127.0.0.1:0', faces: [authn], tls: {cert_file: tls/server.crt, key_file: tls/server.key}}
platforms: [{name: p, credentials: [{username: u, password: {file: pw}}]}]
identity:
  keys: [{name: k, key: {file: token}}]
  types:
    - {name: sample, path: "/v1/users:byUUID/{{identifier}}?key={{access_key}}", field: token, ca_file: tls/ca.crt}
servers:
  - {name: ca, kind: mtls, settings: {public_url: 'http://pki.example', organization: Example}}
catalog:
  - id: o-1
    name: certificates
    description: d
    plans: [{id: p-1, name: one, description: d, servers: [ca], settings: {organization: Example}}]
`

// callOSB calls the service broker face.
func callOSB(t *testing.T, s *service, method, path, body string, want ...int) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.listeners[0].url()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("u", "password-1")
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var out map[string]any
	if json.Unmarshal(raw, &out) != nil || res.StatusCode != want[0] {
		t.Fatalf("%s %s: got %d, %s", method, path, res.StatusCode, raw)
	}
	return out
}

// TestCertificatesProveIdentities: a certificate that one face gave out gets a token
// at the other, for the binding that is pinned to its issuer and no other, until its
// service binding goes; over the connection that is open, too.
func TestCertificatesProveIdentities(t *testing.T) {
	t.Parallel()
	s, log, _ := start(t, serviceFile, mtlsFile)
	pki, err := devserver.OpenPKI(filepath.Join(filepath.Dir(s.file), "tls"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	files, err := pki.Server()
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := devserver.StartSample(t.Context(), devserver.SampleOptions{Cert: files, Key: bindery.NewSecret("the-access-key-1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })

	callOSB(t, s, "PUT", "/v2/service_instances/i1", `{"service_id":"o-1","plan_id":"p-1","organization_guid":"o","space_guid":"s"}`, 201)
	bound := callOSB(t, s, "PUT", "/v2/service_instances/i1/service_bindings/b1", `{"service_id":"o-1","plan_id":"p-1"}`, 201)
	c := bound["credentials"].(map[string]any)
	pair, err := tls.X509KeyPair([]byte(c["tls.crt"].(string)), []byte(c["tls.key"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	subject, issuer := c["subject"].(string), c["issuer"].(string)

	by, x := exchange.Caller{Name: "test"}, s.identity.service
	kind, auth, typ := string(bindery.AuthMethodAPIKey), string(bindery.AuthX509), "sample"
	host, port, key, user := "localhost", upstream.Port, "the-access-key-1", "user-1"
	bind := func(service string, issuer *string) {
		t.Helper()
		hosts, auths := []string{host}, []string{auth}
		st, err := x.CreateServiceType(t.Context(), by, exchange.ServiceTypeInput{
			Name: &service, Hosts: &hosts, AuthTypes: &auths, AuthMethod: &kind, Type: &typ,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.CreateAuthMethod(t.Context(), by, service, exchange.AuthMethodInput{Host: &host, Port: &port, AccessKey: &key}); err != nil {
			t.Fatal(err)
		}
		_, err = x.CreateBinding(t.Context(), by, "of-"+service, exchange.BindingInput{
			ServiceUUID: &st.UUID, Host: &host, AuthType: &auth, Identifier: &subject, UniqueKey: &user, Issuer: issuer,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("pinned", &issuer)
	bind("loose", nil)
	elsewhere := "CN=Another CA"
	bind("elsewhere", &elsewhere)

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(t, files.CAFile))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
	}}}
	ask := func(service string) (int, string) {
		t.Helper()
		res, err := client.Get(s.listeners[2].url() + "/v1/service-types/" + service + "/hosts/localhost:authx509")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(raw)
	}
	if code, body := ask("pinned"); code != 200 || !strings.Contains(body, upstream.Token(user)) {
		t.Fatalf("pinned: got %d, %s\n%s", code, body, log)
	}
	for _, service := range []string{"loose", "elsewhere"} {
		if code, body := ask(service); code == 200 {
			t.Errorf("%s: got %d, %s", service, code, body)
		}
	}
	published := func() []byte {
		t.Helper()
		res, err := http.Get(s.listeners[1].url() + "/pki/ca/ca.crl")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 {
			t.Fatalf("the list: got %d, %s", res.StatusCode, raw)
		}
		return raw
	}
	before := published()

	callOSB(t, s, "DELETE", "/v2/service_instances/i1/service_bindings/b1?service_id=o-1&plan_id=p-1", "", 200)
	gone := time.Now()
	for {
		code, body := ask("pinned")
		if code == 403 && strings.Contains(body, "has been revoked") {
			break
		}
		if time.Since(gone) > time.Second {
			t.Fatalf("a second after the unbind: got %d, %s", code, body)
		}
	}
	after := published()
	if bytes.Equal(before, after) || !revokes(t, after, c["serial"].(string)) {
		t.Error("the list does not have the certificate")
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func revokes(t *testing.T, der []byte, serial string) bool {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.RevokedCertificateEntries {
		if fmt.Sprintf("%x", e.SerialNumber) == serial {
			return true
		}
	}
	return false
}
