package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"golang.org/x/crypto/ocsp"

	"bindery"
	"bindery/api"
	"bindery/api/openapi/openapitest"
	"bindery/api/pki"
	"bindery/driver/mtls"
	"bindery/store"
	"bindery/store/storetest"
)

func TestMain(m *testing.M) {
	for _, t := range []string{"application/x-pem-file", "application/pem-certificate-chain"} {
		openapi3filter.RegisterBodyDecoder(t, openapi3filter.PlainBodyDecoder)
	}
	os.Exit(m.Run())
}

// A world is a real authority behind the face, with one certificate of it.
type world struct {
	url          string
	driver       bindery.Driver
	account      bindery.Account
	cert, issuer *x509.Certificate
	document     *openapitest.Document
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), Keys: storetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w := &world{document: openapitest.Load(t)}
	w.driver, err = mtls.Kind.Open(bindery.Server{
		Name: "ca", Kind: "mtls", Installation: "abc123", Timeout: 10 * time.Second, Store: s,
		Settings: json.RawMessage(`{"public_url":"http://pki.example"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	spec := bindery.InstanceSpec{Name: bindery.Name("abc123", 1)}
	w.account.Name = bindery.Name("abc123", 2)
	if w.account.Material, err = w.driver.Prepare(spec, bindery.AccountRequest{Name: w.account.Name}); err != nil {
		t.Fatal(err)
	}
	made, err := w.driver.Ensure(t.Context(), spec, w.account)
	if err != nil {
		t.Fatal(err)
	}
	w.account.Material = made.Material
	c, err := w.driver.Render(spec, w.account)
	if err != nil {
		t.Fatal(err)
	}
	w.cert, w.issuer = parse(t, c.Object["tls.crt"].(string)), parse(t, c.Object["ca.crt"].(string))
	h := &pki.Handler{Publisher: func(server string) (bindery.Publisher, bool) {
		if server != "ca" {
			return nil, false
		}
		return bindery.Capability[bindery.Publisher](w.driver)
	}}
	server := httptest.NewServer(&api.Handler{Faces: []api.Face{h.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func parse(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// do sends, and holds the answer against the document where that knows the path.
func (w *world) do(t testing.TB, method, path, contentType string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if w.document.Knows(method, path) {
		w.document.Check(t, method, path, res, raw)
	}
	return res, raw
}

func TestWhatIsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := map[string]struct {
		contentType string
		read        func(b []byte) error
	}{
		"/pki/ca/ca.crt": {"application/pkix-cert", func(b []byte) error { _, err := x509.ParseCertificate(b); return err }},
		"/pki/ca/ca.pem": {"application/pem-certificate-chain", func(b []byte) error { parse(t, string(b)); return nil }},
		"/pki/ca/ca.crl": {"application/pkix-crl", func(b []byte) error { return signed(b, w.issuer) }},
		"/pki/ca/crl.pem": {"application/x-pem-file", func(b []byte) error {
			block, _ := pem.Decode(b)
			return signed(block.Bytes, w.issuer)
		}},
	}
	for path, test := range tests {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			res, body := w.do(t, "GET", path, "", nil)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != test.contentType || !strings.Contains(res.Header.Get("Cache-Control"), "max-age=") {
				t.Fatalf("got %d, %v", res.StatusCode, res.Header)
			}
			if err := test.read(body); err != nil {
				t.Error(err)
			}
			if strings.Contains(path, "crl") && res.Header.Get("Last-Modified") == "" {
				t.Error("nothing says when it was signed")
			}
			tag := res.Header.Get("ETag")
			if res, body := w.do(t, "GET", path, "", nil, "If-None-Match", `"x", W/`+tag); res.StatusCode != 304 || len(body) > 0 {
				t.Errorf("with the tag: got %d", res.StatusCode)
			}
			// Two lists can be of one second: a time proves nothing.
			if res, _ := w.do(t, "GET", path, "", nil, "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)); res.StatusCode != 200 {
				t.Errorf("with a time: got %d", res.StatusCode)
			}
			if res, body := w.do(t, "HEAD", path, "", nil); res.StatusCode != 200 || len(body) > 0 || res.Header.Get("ETag") != tag {
				t.Errorf("HEAD: got %d", res.StatusCode)
			}
			if res, _ := w.do(t, "GET", strings.Replace(path, "/ca/", "/other/", 1), "", nil); res.StatusCode != 404 {
				t.Errorf("of another server: got %d", res.StatusCode)
			}
			if res, _ := w.do(t, "PUT", path, "", nil); res.StatusCode != 405 {
				t.Errorf("PUT: got %d", res.StatusCode)
			}
		})
	}
}

func signed(der []byte, by *x509.Certificate) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	return list.CheckSignatureFrom(by)
}

// TestListChangesWithARevocation: who has the tag of before gets the new one, within a second.
func TestListChangesWithARevocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res, _ := w.do(t, "GET", "/pki/ca/ca.crl", "", nil)
	if err := w.driver.Revoke(t.Context(), bindery.InstanceSpec{}, w.account); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	again, body := res, []byte(nil)
	for ok := true; ok; ok = again.StatusCode == 304 && time.Since(revoked) < time.Second {
		again, body = w.do(t, "GET", "/pki/ca/ca.crl", "", nil, "If-None-Match", res.Header.Get("ETag"),
			"If-Modified-Since", res.Header.Get("Last-Modified"))
	}
	list, err := x509.ParseRevocationList(body)
	if again.StatusCode != 200 || err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("got %d, %v", again.StatusCode, err)
	}
}

func TestOCSP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	request, err := ocsp.CreateRequest(w.cert, w.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(request)
	stranger := *w.cert
	stranger.SerialNumber = w.issuer.SerialNumber // which the authority has not issued to anybody
	unknown, err := ocsp.CreateRequest(&stranger, w.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := *w.issuer
	other.RawSubject = w.cert.RawSubject
	foreign, err := ocsp.CreateRequest(w.cert, &other, nil)
	if err != nil {
		t.Fatal(err)
	}
	const post = "application/ocsp-request"
	tests := map[string]struct {
		method, path, contentType string
		body                      []byte
		status                    int
		want                      int // of a signed answer
		unsigned                  []byte
	}{
		"good":                   {method: "POST", path: "/ocsp", contentType: post, body: request, status: 200, want: ocsp.Good},
		"in the path":            {method: "GET", path: "/ocsp/" + url.PathEscape(text), status: 200, want: ocsp.Good},
		"in the path, unescaped": {method: "GET", path: "/ocsp/" + text, status: 200, want: ocsp.Good},
		"never issued":           {method: "POST", path: "/ocsp", contentType: post, body: unknown, status: 200, want: ocsp.Unknown},
		"of another authority":   {method: "POST", path: "/ocsp", contentType: post, body: foreign, status: 200, unsigned: ocsp.UnauthorizedErrorResponse},
		"no request":             {method: "POST", path: "/ocsp", contentType: post, body: []byte("x"), status: 200, unsigned: ocsp.MalformedRequestErrorResponse},
		"no body":                {method: "POST", path: "/ocsp", contentType: post, status: 200, unsigned: ocsp.MalformedRequestErrorResponse},
		"no base64":              {method: "GET", path: "/ocsp/----", status: 200, unsigned: ocsp.MalformedRequestErrorResponse},
		"nothing in the path":    {method: "GET", path: "/ocsp/", status: 200, unsigned: ocsp.MalformedRequestErrorResponse},
		"too large":              {method: "POST", path: "/ocsp", contentType: post, body: make([]byte, 64<<10+1), status: 413},
		"as JSON":                {method: "POST", path: "/ocsp", contentType: "application/json", body: request, status: 415},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, body := w.do(t, test.method, "/pki/ca"+test.path, test.contentType, test.body)
			switch {
			case res.StatusCode != test.status:
				t.Fatalf("got %d, %s", res.StatusCode, body)
			case test.status != 200:
			case test.unsigned != nil:
				if !bytes.Equal(body, test.unsigned) || res.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %x, %v", body, res.Header)
				}
			default:
				got, err := ocsp.ParseResponse(body, w.issuer)
				if err != nil || got.Status != test.want || res.Header.Get("Content-Type") != "application/ocsp-response" {
					t.Fatalf("got %+v, %v", got, err)
				}
				if now := time.Now(); now.Before(got.ThisUpdate) || now.After(got.NextUpdate) {
					t.Errorf("it is from %v to %v", got.ThisUpdate, got.NextUpdate)
				}
			}
		})
	}
}

// TestUnknownSerialsAreBounded: signatures about certificates that were never issued are few.
func TestUnknownSerialsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := *w.cert
	later := 0
	for i := range 400 {
		stranger.SerialNumber = big.NewInt(int64(i + 1))
		request, err := ocsp.CreateRequest(&stranger, w.issuer, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, body := w.do(t, "POST", "/pki/ca/ocsp", "application/ocsp-request", request); bytes.Equal(body, ocsp.TryLaterErrorResponse) {
			later++
		}
	}
	if later == 0 {
		t.Error("all 400 were signed")
	}
}

// FuzzPath: whatever stands in the path, the answer is one that OCSP clients read, or 404.
func FuzzPath(f *testing.F) {
	w := newWorld(f)
	h := &pki.Handler{Publisher: func(string) (bindery.Publisher, bool) { return bindery.Capability[bindery.Publisher](w.driver) }}
	handler := &api.Handler{Faces: []api.Face{h.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	request, err := ocsp.CreateRequest(w.cert, w.issuer, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("ocsp/" + base64.StdEncoding.EncodeToString(request))
	f.Add("ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(request)))
	f.Add("ocsp/%zz")
	f.Add("ca.crl")
	f.Fuzz(func(t *testing.T, rest string) {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		u, err := url.ParseRequestURI("/pki/ca/" + rest)
		if err != nil {
			return
		}
		req.URL = u
		handler.ServeHTTP(rec, req)
		switch rec.Code {
		case 404, 405, 304:
		case 200:
			if rec.Header().Get("Content-Type") == "application/ocsp-response" && rec.Body.Len() < 5 {
				t.Errorf("got %x", rec.Body)
			}
		default:
			t.Errorf("got %d", rec.Code)
		}
	})
}
