package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bindery/test/poll"
)

const (
	proofOf1 = "/v1/service-types/st1/hosts/127.0.0.1:authx509"
	proofOf2 = "/v1/service-types/st2/hosts/127.0.0.1:authx509"
	tokenOf2 = "/v1/service-types/st2/hosts/127.0.0.1:authoidc"
	unknown  = "Your certificate is signed by an unknown authority"
)

func TestTokenByCertificate(t *testing.T) {
	t.Parallel()
	var revoked *tls.Certificate
	w := start(t, func(o *options) {
		o.files = map[string]func(*authority) []byte{"ca.r0": func(a *authority) []byte {
			revoked = a.valid("revoked")
			return a.revoke(a.last)
		}}
	})
	w.fill()
	for cn, user := range map[string]string{
		"alice": "plain", "html": "html", "nested": "nested", "garbage": "garbage", "elsewhere": "elsewhere", "refused": "nobody",
		"revoked": "plain", "expired": "plain", "early": "plain",
	} {
		w.bind("ams-"+cn, "st1", "x509", "CN="+cn+",O=o", user)
		w.bind("web-"+cn, "st2", "x509", "/O=o/CN="+cn, user)
	}
	w.bind("slow", "st3", "x509", "CN=slow,O=o", "slow")
	w.do(request{method: "PUT", path: "/v1/service-types/st1", body: `{"hosts":["127.0.0.1","host2","host3"]}`})
	named := func(cn string, from, until time.Duration) *tls.Certificate {
		return w.ca.issue(pkix.Name{CommonName: cn, Organization: []string{"o"}}, from, until)
	}
	get := func(path string, cert *tls.Certificate) request {
		return request{method: "GET", path: path, key: "none", cert: cert}
	}

	w.wants(get(proofOf1, w.ca.valid("alice")), 200, "{\n \"token\": \"tok-token\"\n}")
	w.wants(get(proofOf2, w.ca.valid("alice")), 200, "{\n \"token\": \"tok-api_key\"\n}")
	w.wants(get(proofOf1, w.ca.valid("html")), 200, "{\n \"token\": \"\\u003ca href=\\\"x\\\"\\u003e\\u0026é\\u2028\"\n}")
	w.wants(get(proofOf1, w.ca.valid("nested")), 200,
		"{\n \"token\": {\n  \"b\": [\n   1,\n   {}\n  ],\n  \"a\": null,\n  \"c\": []\n }\n}")
	if a := w.do(request{method: "HEAD", path: proofOf1, key: "none", cert: w.ca.valid("alice")}); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %s", a.status, a.body)
	}

	alice, early, expired := w.ca.valid("alice"), named("early", time.Hour, 2*time.Hour), named("expired", -2*time.Hour, -time.Hour)
	stranger := newAuthority(t, "Test CA").valid("alice")
	st := func(path string) string { return "/v1/service-types/" + path + ":authx509" }
	for _, tt := range []struct {
		path          string
		cert          *tls.Certificate
		status        int
		word, message string
	}{
		{proofOf1, nil, 400, "BAD REQUEST", "No certificate provided"},
		{proofOf1, expired, 403, "ACCESS_FORBIDDEN", "Your certificate has expired"},
		{proofOf1, early, 403, "ACCESS_FORBIDDEN", "Your certificate is not active yet"},
		{proofOf1, revoked, 403, "ACCESS_FORBIDDEN", "Your certificate has been revoked"},
		{proofOf1, stranger, 403, "ACCESS_FORBIDDEN", unknown},
		// The order: each of these lacks all that follows too.
		{st("x/hosts/x"), nil, 400, "BAD REQUEST", "No certificate provided"},
		{st("x/hosts/x"), expired, 403, "ACCESS_FORBIDDEN", "Your certificate has expired"},
		{st("x/hosts/x"), alice, 404, "NOT FOUND", "Service-type was not found"},
		{st("st1/hosts/x"), alice, 404, "NOT FOUND", "Host was not found"},
		{st("st1/hosts/"), alice, 404, "NOT FOUND", "Host was not found"},
		{st("st1/hosts/host2"), alice, 404, "NOT FOUND", "Auth method was not found"},
		{proofOf1, w.ca.valid("nobody"), 404, "NOT FOUND", "Binding was not found"},
		{proofOf1, w.ca.valid("refused"), 502, "BAD GATEWAY", "The service refused the request"},
		{proofOf1, w.ca.valid("garbage"), 502, "BAD GATEWAY", "The service gave an answer that has no token"},
		{proofOf2, w.ca.valid("elsewhere"), 502, "BAD GATEWAY", "The service refused the request"},
		{st("st3/hosts/127.0.0.1"), w.ca.valid("slow"), 504, "GATEWAY TIMEOUT", "The service did not answer in time"},
	} {
		w.refuses(get(tt.path, tt.cert), tt.status, tt.word, tt.message)
	}
	w.do(request{method: "POST", path: "/v1/service-types", body: `{"name":"st4","hosts":["h"],"auth_types":["oidc"],"auth_method":"headers","type":"custom"}`})
	w.refuses(get(st("st4/hosts/x"), alice), 422, "UNPROCESSABLE ENTITY", "Auth type: x509 is not yet supported.Supported:[oidc]")

	// Nothing secret is in the log, and who asked is.
	s := w.log.String()
	for _, secret := range []string{adminKey, accessKey, headerValue, "tok-", "UPSTREAM-TEXT"} {
		if strings.Contains(s, secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	if !strings.Contains(s, `"caller":"CN=alice,O=o"`) || !strings.Contains(s, `"route":"/v1/service-types/{name}/hosts/{host}:authx509"`) {
		t.Errorf("the log is %s", s)
	}
	w.lastAuth("ams-alice")
}

// lastAuth waits until a binding says when it was last used.
func (w *world) lastAuth(binding string) {
	w.Helper()
	want := "\"created_on\": \"" + zulT + "\",\n \"last_auth\": \"" + zulT + "\"\n}"
	poll.Until(w, binding+" was used", func() bool {
		return strings.HasSuffix(w.do(request{method: "GET", path: "/v1/bindings/" + binding}).body, want)
	})
}

func TestCertificateOptions(t *testing.T) {
	t.Parallel()
	alice := request{method: "GET", path: proofOf1, key: "none"}
	t.Run("a revocation list is required", func(t *testing.T) {
		t.Parallel()
		w := start(t, func(o *options) { o.certificates.RequireCRL = true })
		w.fill()
		q := alice
		q.cert = w.ca.valid("alice")
		w.refuses(q, 403, "ACCESS_FORBIDDEN", "Your certificate is invalid. No CRLDistributionPoints found on the certificate")
	})
	t.Run("the certificate must name the host", func(t *testing.T) {
		t.Parallel()
		w := start(t, func(o *options) { o.certificates.CheckHost = true })
		w.fill()
		q := alice
		q.cert = w.ca.valid("elsewhere.example")
		if a := w.do(q); a.status != 403 || !strings.Contains(a.body, `"status": "ACCESS_FORBIDDEN"`) {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
	t.Run("no provers", func(t *testing.T) {
		t.Parallel()
		w := start(t)
		w.fill()
		w.handler.Certificates, w.handler.Tokens = nil, nil
		q := alice
		q.cert = w.ca.valid("alice")
		w.refuses(q, 403, "ACCESS_FORBIDDEN", unknown)
		w.refuses(request{method: "GET", path: tokenOf2, key: "none", header: bearer("x")}, 401, "UNAUTHORIZED", "Your token is of an unknown issuer")
	})
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		w := start(t)
		plain := httptest.NewServer(w.server.Config.Handler)
		defer plain.Close()
		resp, err := plain.Client().Get(plain.URL + proofOf1)
		must(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestTokenByToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	w.bind("b1", "st2", "oidc", w.issuer.URL+"#subject", "plain")
	w.bind("b2", "st2", "oidc", w.issuer.URL+"#refused", "nobody")
	for _, method := range []string{"GET", "POST"} {
		q := request{method: method, path: tokenOf2, key: "none", header: bearer(w.issuer.token("subject", "bindery", time.Hour, w.issuer.key))}
		w.wants(q, 200, "{\n \"token\": \"tok-api_key\"\n}")
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	good := func(subject string) string { return w.issuer.token(subject, "bindery", time.Hour, w.issuer.key) }
	path := func(s string) string { return "/v1/service-types/" + s + ":authoidc" }
	for name, tt := range map[string]struct {
		path, token string
		status      int
		message     string // empty: any
	}{
		"none":                  {tokenOf2, "", 401, "No token provided"},
		"not a token":           {tokenOf2, "x", 401, ""},
		"expired":               {tokenOf2, w.issuer.token("subject", "bindery", -time.Minute, w.issuer.key), 401, ""},
		"another audience":      {tokenOf2, w.issuer.token("subject", "other", time.Hour, w.issuer.key), 401, ""},
		"badly signed":          {tokenOf2, w.issuer.token("subject", "bindery", time.Hour, other), 401, ""},
		"an unknown issuer":     {tokenOf2, newIssuer(t).token("subject", "bindery", time.Hour, w.issuer.key), 401, ""},
		"a bad one comes first": {path("x/hosts/y"), "x", 401, ""},
		"no service type":       {path("x/hosts/y"), good("subject"), 404, "Service-type was not found"},
		"the wrong auth type":   {path("st1/hosts/y"), good("subject"), 422, "Auth type: oidc is not yet supported.Supported:[x509]"},
		"no host":               {path("st2/hosts/y"), good("subject"), 404, "Host was not found"},
		"no binding":            {tokenOf2, good("nobody"), 404, "Binding was not found"},
		"refused":               {tokenOf2, good("refused"), 502, "The service refused the request"},
	} {
		q := request{method: "GET", path: tt.path, key: "none"}
		if tt.token != "" {
			q.header = bearer(tt.token)
		}
		a := w.do(q)
		var f failure
		if err := json.Unmarshal([]byte(a.body), &f); err != nil || a.status != tt.status || tt.message != "" && f.Error.Message != tt.message {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
		if (a.status == 401) != (a.header.Get("Www-Authenticate") != "") {
			t.Errorf("%s: the challenge is %q", name, a.header.Get("Www-Authenticate"))
		}
	}
	if s := w.log.String(); strings.Contains(s, "eyJ") || !strings.Contains(s, `"caller":"`+w.issuer.URL+`#subject"`) {
		t.Errorf("the log is %s", s)
	}
}

// The seed's example: a binding without an identifier takes that of the
// caller's own certificate, if it proves somebody.
func TestOwnIdentity(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	body := `{"service_uuid":"` + w.uuids["st1"] + `","host":"127.0.0.1","auth_type":"x509","unique_key":"plain"}`
	empty := "binding object contains empty fields. empty value for field: auth_identifier"
	q := request{method: "POST", path: "/v1/bindings/own", body: body}
	w.refuses(q, 422, "UNPROCESSABLE ENTITY", empty)
	q.cert = newAuthority(t, "Other CA").valid("alice")
	w.refuses(q, 422, "UNPROCESSABLE ENTITY", empty)
	q.cert = w.ca.valid("alice")
	if a := w.do(q); a.status != 201 || !strings.Contains(a.body, `"auth_identifier": "CN=alice,O=o"`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	w.wants(request{method: "GET", path: proofOf1, key: "none", cert: q.cert}, 200, "{\n \"token\": \"tok-token\"\n}")
}

// Whatever a service says, the bytes are those of json.MarshalIndent.
func TestTokenBody(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`""`, `"a"`, `"a b~!"`, `"a\"b"`, `"\u0041\/"`, `"<&>"`, `"é` + "\u2028\x7f" + `"`, `1`, `-1e400`, `null`, `true`, `[]`, `{}`,
		`{"a":[1,{"b":"<"}],"c":{}}`, `[[]]`,
	} {
		want, err := json.MarshalIndent(map[string]json.RawMessage{"token": json.RawMessage(value)}, "", " ")
		must(t, err)
		if got, err := tokenBody(json.RawMessage(value)); string(got) != string(want) || err != nil {
			t.Errorf("%s: got %s (%v), want %s", value, got, err, want)
		}
	}
	for _, value := range []string{``, `"`, `"a`, `a"`, `"a"b"`, `{"SECRET"`, "\"\n\""} {
		if got, err := tokenBody(json.RawMessage(value)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s is taken for JSON: %s (%v)", value, got, err)
		}
	}
}

func BenchmarkTokenBody(b *testing.B) {
	value := json.RawMessage(`"` + strings.Repeat("0123456789abcdef", 4) + `"`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokenBody(value); err != nil {
			b.Fatal(err)
		}
	}
}
