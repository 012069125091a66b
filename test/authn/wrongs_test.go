package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/test/poll"
)

// What the first implementation of this API gets wrong, one by one, in the order
// of the list that was made of it.

// 1: uniqueness was looked up and then inserted, so that of concurrent creates all
// succeeded, and authentication answered 500 from then on.
func TestWrong1ConcurrentCreates(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	sample := w.sample("k")
	uuid := w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	me := w.workload("alice")
	spellings := []string{"CN=alice", "cn=alice", " CN = alice ", "/CN=alice", "2.5.4.3=alice", `CN=\61lice`, "CN=#0c05616c696365"}
	var created, conflicts atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			status, raw := w.send(w.admin, http.MethodPost, fmt.Sprintf("/v1/bindings/b%d", i),
				bindingBody(uuid, sample.Host, spellings[i%len(spellings)], "user-1"), http.Header{"X-Api-Key": {adminKey}})
			switch status {
			case http.StatusCreated:
				created.Add(1)
			case http.StatusConflict:
				conflicts.Add(1)
			default:
				t.Errorf("got %d %s", status, raw)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || conflicts.Load() != 49 {
		t.Errorf("%d created, %d conflicts, want 1 and 49", created.Load(), conflicts.Load())
	}
	if status, got := w.token(me, "svc", sample.Host); status != http.StatusOK || got != sample.Token("user-1") {
		t.Errorf("token: got %d %s", status, got)
	}

	// Moving a binding to where its identifier exists.
	other := w.serviceOf("other", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	w.call(http.MethodPost, "/v1/bindings/moving", bindingBody(other, sample.Host, "/CN=alice", "user-2"), http.StatusCreated)
	w.call(http.MethodPut, "/v1/bindings/moving", fmt.Sprintf(`{"service_uuid":%q}`, uuid), http.StatusConflict)
	if status, got := w.token(me, "other", sample.Host); status != http.StatusOK || got != sample.Token("user-2") {
		t.Errorf("token after the refused move: got %d %s", status, got)
	}
}

// 2: deleting a service type left all but one of its bindings behind.
func TestWrong2DeletedServiceType(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	sample := w.sample("k")
	uuid := w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	const n = 20
	for i := range n {
		w.call(http.MethodPost, fmt.Sprintf("/v1/bindings/b%d", i), bindingBody(uuid, sample.Host, fmt.Sprintf("CN=w%d", i), "u"), http.StatusCreated)
	}
	w.call(http.MethodDelete, "/v1/service-types/svc", "", http.StatusNoContent)
	for i := range n {
		w.call(http.MethodGet, fmt.Sprintf("/v1/bindings/b%d", i), "", http.StatusNotFound)
	}
	for _, list := range []string{"bindings", "authm", "service-types"} {
		for name, objects := range w.call(http.MethodGet, "/v1/"+list, "", http.StatusOK) {
			if len(objects.([]any)) != 0 {
				t.Errorf("%s: %v are left", name, objects)
			}
		}
	}
	// All names and identifiers are free.
	uuid = w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	for i := range n {
		w.call(http.MethodPost, fmt.Sprintf("/v1/bindings/b%d", i), bindingBody(uuid, sample.Host, fmt.Sprintf("CN=w%d", i), "u"), http.StatusCreated)
	}
}

// 3: PUT of an auth method answered 500, PUT of a unique_key stored nothing.
func TestWrong3Updates(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	first, second := w.sample("first-key"), w.sample("second-key")
	uuid := w.serviceOf("svc", "ams", "api-key", first.Host, first.Port, `"access_key":"first-key"`)
	w.call(http.MethodPost, "/v1/bindings/b", bindingBody(uuid, first.Host, "CN=alice", "user-1"), http.StatusCreated)
	me := w.workload("alice")
	expect := func(what, want string) {
		t.Helper()
		if status, got := w.token(me, "svc", first.Host); status != http.StatusOK || got != want {
			t.Errorf("%s: got %d %s", what, status, got)
		}
	}
	expect("before", first.Token("user-1"))
	got := w.call(http.MethodPut, "/v1/bindings/b", `{"unique_key":"user-2"}`, http.StatusOK)
	if got["unique_key"] != "user-2" || w.call(http.MethodGet, "/v1/bindings/b", "", http.StatusOK)["unique_key"] != "user-2" {
		t.Errorf("unique_key: got %v", got)
	}
	expect("another unique_key", first.Token("user-2"))
	w.call(http.MethodPut, "/v1/service-types/svc/hosts/"+first.Host+"/authm",
		fmt.Sprintf(`{"port":%d,"access_key":"second-key"}`, second.Port), http.StatusOK)
	expect("another auth method", second.Token("user-2"))
}

// 5: the revocation list was fetched inside every request, its signature was not
// checked, and only the first distribution point counted.
func TestWrong5RevocationLists(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var fetched atomic.Int64
	var list atomic.Pointer[[]byte]
	empty := ca.crl(1)
	list.Store(&empty)
	points := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/second.crl" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fetched.Add(1)
		_, _ = w.Write(*list.Load())
	}))
	t.Cleanup(points.Close)
	w := start(t, "  certificates: {trust_dir: trust, require_crl: true}\n")
	w.must(os.WriteFile(filepath.Join(w.dir, "trust", "other.pem"), ca.pem(), 0o600))
	sample := w.sample("k")
	uuid := w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	w.call(http.MethodPost, "/v1/bindings/good", bindingBody(uuid, sample.Host, "CN=good", "u"), http.StatusCreated)
	w.call(http.MethodPost, "/v1/bindings/bad", bindingBody(uuid, sample.Host, "CN=bad", "u"), http.StatusCreated)
	cert := func(name string, serial int64) *http.Client {
		return w.client(ca.leaf(name, serial, points.URL+"/first.crl", points.URL+"/second.crl"))
	}
	good, bad := cert("good", 10), cert("bad", 11)
	poll.Until(w, "the other authority is read", func() bool {
		status, _ := w.token(good, "svc", sample.Host)
		return status == http.StatusOK
	})
	for range 50 {
		if status, got := w.token(good, "svc", sample.Host); status != http.StatusOK {
			t.Fatalf("token: got %d %s", status, got)
		}
	}
	if n := fetched.Load(); n > 5 {
		t.Errorf("the list was fetched %d times for 50 requests", n)
	}

	// A list that nobody signed revokes nobody; one in the directory that is signed does.
	forged := newAuthority(t).crl(2, 10)
	w.must(os.WriteFile(filepath.Join(w.dir, "trust", "forged.r0"), forged, 0o600))
	signed := ca.crl(3, 11)
	w.must(os.WriteFile(filepath.Join(w.dir, "trust", "other.r0"), signed, 0o600))
	poll.Until(w, "the revoked one is refused", func() bool {
		status, text := w.token(bad, "svc", sample.Host)
		return status == http.StatusForbidden && text == "Your certificate has been revoked"
	})
	if status, got := w.token(good, "svc", sample.Host); status != http.StatusOK {
		t.Errorf("the good one after a forged list: got %d %s", status, got)
	}
	// Without any list the answer is a refusal that says why: the world's own authority has none.
	if status, text := w.token(w.workload("good"), "svc", sample.Host); status != http.StatusForbidden ||
		text != "Your certificate is invalid. No CRLDistributionPoints found on the certificate" {
		t.Errorf("no distribution point: got %d %s", status, text)
	}
}

// 6: a new TLS client for each authentication, and unverified services.
func TestWrong6Connections(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	var connections atomic.Int64
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"token":"t"}`))
	}))
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	pair, err := tls.LoadX509KeyPair(w.server.CertFile, w.server.KeyFile)
	w.must(err)
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	uuid := w.serviceOf("svc", "ams", "api-key", "localhost", portOf(upstream), `"access_key":"k"`)
	w.call(http.MethodPost, "/v1/bindings/b", bindingBody(uuid, "localhost", "CN=alice", "u"), http.StatusCreated)
	me := w.workload("alice")
	for range 100 {
		if status, got := w.token(me, "svc", "localhost"); status != http.StatusOK {
			t.Fatalf("got %d %s", status, got)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("100 authentications, one after the other, made %d connections", n)
	}

	stranger := httptest.NewTLSServer(upstream.Config.Handler) // of an authority that nobody trusts
	t.Cleanup(stranger.Close)
	uuid = w.serviceOf("stranger", "ams", "api-key", "localhost", portOf(stranger), `"access_key":"k"`)
	w.call(http.MethodPost, "/v1/bindings/s", bindingBody(uuid, "localhost", "CN=alice", "u"), http.StatusCreated)
	if status, got := w.token(me, "stranger", "localhost"); status != http.StatusBadGateway {
		t.Errorf("an unverified service: got %d %s", status, got)
	}
}

func portOf(s *httptest.Server) int { return s.Listener.Addr().(*net.TCPAddr).Port }

// 7: oidc could be configured and no route served it; last_auth was never written.
func TestWrong7TokensAndLastAuth(t *testing.T) {
	t.Parallel()
	provider := servertest.OIDC(t)
	w := start(t, trusted+fmt.Sprintf("  oidc: {issuers: [{url: %q, audiences: [bindery], ca_file: %q}]}\n", provider.Issuer, provider.CAFile))
	sample := w.sample("k")
	out := w.call(http.MethodPost, "/v1/service-types", fmt.Sprintf(
		`{"name":"svc","hosts":[%q],"auth_types":["oidc"],"auth_method":"api-key","type":"ams"}`, sample.Host), http.StatusCreated)
	w.call(http.MethodPost, "/v1/service-types/svc/authm", fmt.Sprintf(`{"host":%q,"port":%d,"access_key":"k"}`, sample.Host, sample.Port), http.StatusCreated)
	body := strings.Replace(bindingBody(out["uuid"].(string), sample.Host, provider.Issuer+"#alice", "user-1"), `"x509"`, `"oidc"`, 1)
	w.call(http.MethodPost, "/v1/bindings/b", body, http.StatusCreated)
	ask := func() (int, []byte) {
		access, _, err := provider.Token(t.Context(), devserver.OIDCToken{Subject: "alice", Audience: "bindery"})
		w.must(err)
		return w.send(w.admin, http.MethodGet, "/v1/service-types/svc/hosts/"+sample.Host+":authoidc", "", http.Header{"Authorization": {"Bearer " + access}})
	}
	if status, raw := ask(); status != http.StatusOK || count(raw, sample.Token("user-1")) != 1 {
		t.Fatalf("got %d %s", status, raw)
	}
	poll.Until(w, "last_auth is written", func() bool {
		_, ok := w.call(http.MethodGet, "/v1/bindings/b", "", http.StatusOK)["last_auth"]
		return ok
	})
	// The provider changes its keys, and goes away: known keys go on, as they must.
	w.must(provider.Rotate(t.Context(), false))
	poll.Until(w, "a token with a new key is believed", func() bool { status, _ := ask(); return status == http.StatusOK })
	access, _, err := provider.Token(t.Context(), devserver.OIDCToken{Subject: "alice", Audience: "bindery"})
	w.must(err)
	w.must(provider.Kill())
	status, raw := w.send(w.admin, http.MethodPost, "/v1/service-types/svc/hosts/"+sample.Host+":authoidc", "", http.Header{"Authorization": {"Bearer " + access}})
	if status != http.StatusOK {
		t.Errorf("with the provider down: got %d %s", status, raw)
	}
	w.must(provider.Start(t.Context()))
}

// 8: lists were whole collections, with no paging. (Secrets: TestNoSecretAnywhere.)
func TestWrong8Pages(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	uuid := w.serviceOf("svc", "ams", "api-key", "h", 443, `"access_key":"k"`)
	const n = 7
	for i := range n {
		w.call(http.MethodPost, fmt.Sprintf("/v1/bindings/b%d", i), bindingBody(uuid, "h", fmt.Sprintf("CN=w%d", i), "u"), http.StatusCreated)
	}
	var names []string
	for path := "/v1/bindings?limit=3"; path != ""; {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
		w.must(err)
		r.Header.Set("X-Api-Key", adminKey)
		resp, err := w.admin.Do(r)
		w.must(err)
		var page struct{ Bindings []struct{ Name string } }
		w.must(json.NewDecoder(resp.Body).Decode(&page))
		_ = resp.Body.Close() // all of it was read
		if len(page.Bindings) > 3 {
			t.Errorf("a page of %d", len(page.Bindings))
		}
		for _, b := range page.Bindings {
			names = append(names, b.Name)
		}
		path = ""
		if link, rest, ok := strings.Cut(resp.Header.Get("Link"), ">"); ok && strings.Contains(rest, `rel="next"`) {
			path = strings.TrimPrefix(strings.TrimPrefix(link, "<"), w.url)
		}
	}
	if got := strings.Join(names, " "); got != "b0 b1 b2 b3 b4 b5 b6" {
		t.Errorf("pages: got %s", got)
	}
	if whole := w.call(http.MethodGet, "/v1/bindings", "", http.StatusOK)["bindings"].([]any); len(whole) != n {
		t.Errorf("the whole list has %d", len(whole))
	}
}

// 9: a name with a slash could be created and never reached; a null body answered 500.
func TestWrong9NamesAndNull(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	uuid := w.serviceOf("a/b", "ams", "api-key", "h", 443, `"access_key":"k"`)
	w.call(http.MethodPost, "/v1/bindings/x%2Fy", bindingBody(uuid, "h", "CN=alice", "u"), http.StatusCreated)
	if got := w.call(http.MethodGet, "/v1/bindings/x%2Fy", "", http.StatusOK)["name"]; got != "x/y" {
		t.Errorf("got %v", got)
	}
	w.call(http.MethodGet, "/v1/service-types/a%2Fb/hosts/h/bindings", "", http.StatusOK)
	w.call(http.MethodDelete, "/v1/bindings/x%2Fy", "", http.StatusNoContent)
	w.call(http.MethodDelete, "/v1/service-types/a%2Fb", "", http.StatusNoContent)
	for _, path := range []string{"/v1/service-types", "/v1/bindings/b"} {
		if got := w.call(http.MethodPost, path, "null", http.StatusBadRequest); !strings.HasPrefix(
			got["error"].(map[string]any)["message"].(string), "Poorly formatted JSON. ") {
			t.Errorf("%s: got %v", path, got)
		}
	}
}

// An authority is one that bindery did not make.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Another"}, CommonName: "CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) leaf(name string, serial int64, points ...string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CRLDistributionPoints: points,
	}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) crl(number int64, serials ...int64) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(s), RevocationTime: time.Now().Add(-time.Minute),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}
