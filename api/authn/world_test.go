package authn

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/openapi/openapitest"
	"bindery/exchange"
	"bindery/identity"
	"bindery/seal"
	"bindery/store"
	"bindery/test/poll"
)

const (
	adminKey    = "ADMIN-SECRET"
	readOnlyKey = "READER-SECRET"
	limitedKey  = "LIMITED-SECRET" // to st1
	accessKey   = "ACCESS-SECRET"
	headerValue = "HEADER-SECRET"
)

// A world is the face over a real store, a real exchange, real provers and a
// service that gives out tokens.
type world struct {
	testing.TB
	store   bindery.Store
	handler *Handler
	server  *httptest.Server
	ca      *authority
	issuer  *issuer
	port    int // of the service
	log     *poll.Buffer
	doc     *openapitest.Document
	uuids   map[string]string // of service types, by name
}

// options are what a test may change of a world.
type options struct {
	certificates identity.CertificateOptions
	exchange     exchange.Options
	limit        Limit
	database     string                             // a URL; empty: SQLite
	files        map[string]func(*authority) []byte // of the trust directory
}

// The exchange's time, and how the face writes it.
var (
	now  = time.Date(2018, 5, 24, 9, 58, 17, 123, time.UTC)
	zulT = "2018-05-24T09:58:17Z"
)

func start(t testing.TB, change ...func(*options)) *world {
	t.Helper()
	w := &world{TB: t, ca: newAuthority(t, "Test CA"), log: &poll.Buffer{}, doc: openapitest.Load(t), uuids: map[string]string{}}
	upstream := serveTokens(t)
	w.port = upstream.Listener.Addr().(*net.TCPAddr).Port
	w.issuer = newIssuer(t)

	dir := t.TempDir()
	service := filepath.Join(dir, "service.pem")
	write(t, service, encode(upstream.Certificate().Raw))
	types := exchange.DefaultTypes()
	for i := range types {
		types[i].CAFile = service
	}
	types = append(types, exchange.Type{ // the one that is not waited for
		Name: "custom", Path: "/v1/users:byUUID/{{identifier}}?key={{access_key}}", Field: "token", CAFile: service, Timeout: 50 * time.Millisecond,
	})
	o := options{
		certificates: identity.CertificateOptions{TrustDir: filepath.Join(dir, "trust"), Verify: true, Now: time.Now},
		exchange: exchange.Options{
			Now: func() time.Time { return now }, Log: slog.New(slog.NewJSONHandler(w.log, nil)),
			AuthTypes: []bindery.AuthType{bindery.AuthX509, bindery.AuthOIDC}, Types: types, BreakAfter: 1000,
		},
		limit: Limit{Off: true},
	}
	for _, f := range change {
		f(&o)
	}
	must(t, os.Mkdir(o.certificates.TrustDir, 0o700))
	write(t, filepath.Join(o.certificates.TrustDir, "ca.pem"), encode(w.ca.cert.Raw))
	for name, content := range o.files {
		write(t, filepath.Join(o.certificates.TrustDir, name), content(w.ca))
	}

	keys, err := seal.NewKeyring(seal.NewKey())
	must(t, err)
	w.store, err = store.Open(t.Context(), store.Options{URL: cmp.Or(o.database, filepath.Join(dir, "bindery.db")), Keys: keys})
	must(t, err)
	t.Cleanup(func() { _ = w.store.Close() })
	service2, err := exchange.New(w.store, o.exchange)
	must(t, err)
	certificates, err := identity.NewCertificates(o.certificates)
	must(t, err)
	tokens, err := identity.NewTokens(identity.TokenOptions{
		Issuers: []identity.Issuer{{URL: w.issuer.URL, Audiences: []string{"bindery"}, CAFile: w.issuer.caFile}}, Now: time.Now,
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = service2.Run(ctx) })
	running.Go(func() { _ = certificates.Run(ctx) })
	running.Go(func() { _ = tokens.Run(ctx) })
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)

	w.handler = &Handler{
		Service: service2, Certificates: certificates, Tokens: tokens, Keys: &Keys{}, FailedProofs: o.limit, Now: time.Now,
		Version: Version{"2026-01-02T03:04:05Z", "go1.26", "gc", "linux", "amd64", "1.2.3", "Debian"},
	}
	must(t, w.handler.Keys.Set([]Key{
		{Name: "root", Secret: bindery.NewSecret(adminKey), Role: RoleAdmin},
		{Name: "reader", Secret: bindery.NewSecret(readOnlyKey), Role: RoleReadOnly},
		{Name: "limited", Secret: bindery.NewSecret(limitedKey), Role: RoleAdmin, Services: []string{"st1"}},
	}))
	log := slog.New(slog.NewJSONHandler(w.log, nil))
	h := &api.Handler{Faces: []api.Face{w.handler.Face()}, Log: log, Now: time.Now, MaxBody: 64 << 10}
	w.server = httptest.NewUnstartedServer(h)
	w.server.Config = api.NewServer(h, log)
	w.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

// A request is one that is sent to the face; the key is the admin's unless it says "none".
type request struct {
	method, path, body string
	key                string
	header             http.Header
	cert               *tls.Certificate
}

// A reply is what came back.
type reply struct {
	status int
	body   string
	header http.Header
}

// do sends the request, and holds the answer against the document.
func (w *world) do(q request) reply {
	w.Helper()
	path := q.path
	switch q.key {
	case "":
		path = withKey(path, adminKey)
	case "none":
	default:
		path = withKey(path, q.key)
	}
	r, err := http.NewRequest(q.method, w.server.URL+path, strings.NewReader(q.body))
	must(w, err)
	for name, values := range q.header {
		r.Header[name] = values
	}
	resp, err := w.client(q.cert).Do(r)
	must(w, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(w, err)
	if w.doc.Knows(q.method, q.path) {
		w.doc.Check(w, q.method, q.path, resp, body)
	}
	if len(body) > 0 && resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		w.Errorf("%s %s: the content type is %q", q.method, q.path, resp.Header.Get("Content-Type"))
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		w.Errorf("%s %s: other web sites may not read the answer", q.method, q.path)
	}
	return reply{resp.StatusCode, string(body), resp.Header}
}

func withKey(path, key string) string {
	if strings.Contains(path, "?") {
		return path + "&key=" + key
	}
	return path + "?key=" + key
}

func (w *world) client(cert *tls.Certificate) *http.Client {
	if cert == nil {
		return w.server.Client()
	}
	pool := x509.NewCertPool()
	pool.AddCert(w.server.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*cert}}}
	w.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// wants does the request and compares status and body; uuids read UUID.
func (w *world) wants(q request, status int, body string) reply {
	w.Helper()
	a := w.do(q)
	if got := uuidForm.ReplaceAllString(a.body, "UUID"); a.status != status || got != body {
		w.Errorf("%s %s %s: got %d %s\nwant %d %s", q.method, q.path, q.body, a.status, got, status, body)
	}
	return a
}

// refuses is wants for an error.
func (w *world) refuses(q request, status int, word, message string) reply {
	w.Helper()
	return w.wants(q, status, "{\n \"error\": {\n  \"message\": \""+message+"\",\n  \"code\": "+strconv.Itoa(status)+
		",\n  \"status\": \""+word+"\"\n }\n}")
}

var uuidForm = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// fill makes three service types with an auth method each, on 127.0.0.1.
func (w *world) fill() {
	w.Helper()
	for name, body := range map[string]string{
		"st1": `{"name":"st1","hosts":["127.0.0.1","host2"],"auth_types":["x509"],"auth_method":"api-key","type":"ams"}`,
		"st3": `{"name":"st3","hosts":["127.0.0.1"],"auth_types":["x509"],"auth_method":"api-key","type":"custom"}`,
		"st2": `{"name":"st2","hosts":["127.0.0.1"],"auth_types":["x509","oidc"],"auth_method":"headers","type":"web-api"}`,
	} {
		a := w.do(request{method: "POST", path: "/v1/service-types", body: body})
		var made struct{ UUID string }
		if json.Unmarshal([]byte(a.body), &made) != nil || a.status != 201 {
			w.Fatalf("got %d %s", a.status, a.body)
		}
		w.uuids[name] = made.UUID
	}
	for name, material := range map[string]string{
		"st1": `"access_key":"` + accessKey + `"`,
		"st3": `"access_key":"` + accessKey + `"`,
		"st2": `"headers":{"X-Api-Key":"` + headerValue + `","Accept":"application/json"}`,
	} {
		body := fmt.Sprintf(`{"host":"127.0.0.1","port":%d,%s}`, w.port, material)
		if a := w.do(request{method: "POST", path: "/v1/service-types/" + name + "/authm", body: body}); a.status != 201 {
			w.Fatalf("got %d %s", a.status, a.body)
		}
	}
}

// bind makes a binding on 127.0.0.1.
func (w *world) bind(name, service, authType, id, user string) {
	w.Helper()
	body, err := json.Marshal(map[string]string{
		"service_uuid": w.uuids[service], "host": "127.0.0.1", "auth_type": authType, "auth_identifier": id, "unique_key": user,
	})
	must(w, err)
	if a := w.do(request{method: "POST", path: "/v1/bindings/" + name, body: string(body)}); a.status != 201 {
		w.Fatalf("got %d %s", a.status, a.body)
	}
}

// serveTokens is a service of both types. What it answers depends on the user.
func serveTokens(t testing.TB) *httptest.Server {
	t.Helper()
	ended := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		field, user := "api_key", strings.TrimPrefix(r.URL.Path, "/api/v2/users:byID/")
		ok := r.Header.Get("X-Api-Key") == headerValue && r.URL.RawQuery == "export=flat"
		if ams, found := strings.CutPrefix(r.URL.Path, "/v1/users:byUUID/"); found {
			field, user, ok = "token", ams, r.URL.Query().Get("key") == accessKey
		}
		value := map[string]string{
			"plain": `"tok-` + field + `"`, "html": `"<a href=\"x\">&é\u2028"`, "nested": `{ "b" : [1, {}], "a":null,"c":[]}`,
		}[user]
		switch {
		case !ok:
			rw.WriteHeader(http.StatusUnauthorized)
		case user == "slow":
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		case user == "garbage":
			_, _ = io.WriteString(rw, "<html>UPSTREAM-TEXT")
		case user == "elsewhere":
			http.Redirect(rw, r, "https://"+r.Host+"/v1/users:byUUID/plain?"+r.URL.RawQuery, http.StatusFound)
		case value == "":
			rw.WriteHeader(http.StatusNotFound)
		default:
			_, _ = fmt.Fprintf(rw, `{"other": 1, %q: %s}`, field, value)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(ended) })
	return s
}

// An authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{t: t, cert: cert, key: key, last: 100}
}

// issue makes a client certificate, valid from and until so long from now.
func (a *authority) issue(name pkix.Name, from, until time.Duration) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	a.last++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.last), Subject: name, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	must(a.t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) valid(cn string) *tls.Certificate {
	return a.issue(pkix.Name{CommonName: cn, Organization: []string{"o"}}, -time.Hour, time.Hour)
}

// revoke is a list of revoked serial numbers.
func (a *authority) revoke(serials ...int64) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	must(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func write(t testing.TB, file string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(file, content, 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
