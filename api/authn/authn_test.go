package authn

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery/devserver/servertest"
)

// The bytes of every object, as they are made, read and changed.
func TestObjects(t *testing.T) {
	t.Parallel()
	w := start(t)
	const st = `{
 "name": "s/1",
 "hosts": [
  "h1",
  "h2"
 ],
 "auth_types": [
  "x509"
 ],
 "auth_method": "api-key",
 "uuid": "UUID",
 "created_on": "2018-05-24T09:58:17Z",
 "type": "ams"
}`
	w.wants(request{method: "POST", path: "/v1/service-types", body: `{"NAME":"s/1","hosts":["h1","h2"],"auth_TYPES":["x509"],
		"auth_method":"api-key","type":"ams","uuid":"mine","created_on":"then","updated_on":"x","retrieval_field":"token"}`}, 201, st)
	w.wants(request{method: "GET", path: "/v1/service-types/s%2F1"}, 200, st)
	w.wants(request{method: "GET", path: "/v1/service-types"}, 200,
		"{\n \"service_types\": [\n  "+strings.ReplaceAll(st, "\n", "\n  ")+"\n ]\n}")
	w.wants(request{method: "PUT", path: "/v1/service-types/s%2F1", body: `{"name":"s1","type":"custom","auth_method":null}`}, 200,
		strings.NewReplacer("s/1", "s1", ` "type"`, " \"updated_on\": \"2018-05-24T09:58:17Z\",\n \"type\"").Replace(st))

	const key = `{
 "service_uuid": "UUID",
 "port": 9000,
 "host": "h1",
 "type": "api-key",
 "uuid": "UUID",
 "created_on": "2018-05-24T09:58:17Z",
 "access_key": "a\u003cb\u003e\u0026c"
}`
	w.wants(request{
		method: "POST", path: "/v1/service-types/s1/authm",
		body: `{"Host":"h1","PORT":9000,"access_key":"a<b>&c","type":"headers","uuid":"mine","service_uuid":"other","headers":{"a":"b"}}`,
	}, 201, key)
	w.wants(request{method: "GET", path: "/v1/service-types/s1/hosts/h1/authm"}, 200, key)
	w.wants(request{method: "GET", path: "/v1/authm"}, 200, "{\n \"auth_methods\": [\n  "+strings.ReplaceAll(key, "\n", "\n  ")+"\n ]\n}")
	w.wants(request{method: "GET", path: "/v1/authm", key: readOnlyKey}, 200,
		"{\n \"auth_methods\": [\n  "+strings.ReplaceAll(strings.Replace(key, `a\u003cb\u003e\u0026c`, "***", 1), "\n", "\n  ")+"\n ]\n}")
	w.wants(request{method: "PUT", path: "/v1/service-types/s1/hosts/h1/authm", body: `{"port":9001,"access_key":"***"}`}, 200,
		strings.NewReplacer("9000", "9001", ` "access_key"`, " \"updated_on\": \"2018-05-24T09:58:17Z\",\n \"access_key\"").Replace(key))

	w.wants(request{method: "PUT", path: "/v1/service-types/s1", body: `{"auth_method":"headers"}`}, 200,
		strings.NewReplacer("s/1", "s1", "api-key", "headers", ` "type"`, " \"updated_on\": \"2018-05-24T09:58:17Z\",\n \"type\"").Replace(st))
	const headers = `{
 "service_uuid": "UUID",
 "port": 1,
 "host": "h2",
 "type": "headers",
 "uuid": "UUID",
 "created_on": "2018-05-24T09:58:17Z",
 "headers": {
  "Accept": "x",
  "X-Key": "secret"
 }
}`
	w.wants(request{method: "POST", path: "/v1/service-types/s1/authm", body: `{"host":"h2","port":1,"headers":{"X-Key":"secret","Accept":"x"}}`}, 201, headers)
	w.wants(request{method: "GET", path: "/v1/service-types/s1/hosts/h2/authm", key: readOnlyKey}, 200,
		strings.NewReplacer(`"secret"`, `"***"`, `"x"`, `"***"`).Replace(headers))

	const bound = `{
 "name": "b/1",
 "service_uuid": "UUID",
 "host": "h1",
 "uuid": "UUID",
 "auth_identifier": "CN=a \u0026 b,O=o",
 "unique_key": "key",
 "auth_type": "x509",
 "created_on": "2018-05-24T09:58:17Z"
}`
	uuid := uuidForm.FindString(w.do(request{method: "GET", path: "/v1/service-types/s1"}).body)
	w.wants(request{method: "POST", path: "/v1/bindings/b%2f1", body: `{"name":"ignored","service_uuid":"` + uuid +
		`","host":"h1","AUTH_identifier":"CN=a & b,O=o","unique_key":"key","auth_type":"x509","last_auth":"then"}`}, 201, bound)
	w.wants(request{method: "GET", path: "/v1/bindings/b%2F1"}, 200, bound)
	one := "{\n \"bindings\": [\n  " + strings.ReplaceAll(bound, "\n", "\n  ") + "\n ]\n}"
	w.wants(request{method: "GET", path: "/v1/bindings"}, 200, one)
	of := "/v1/service-types/s1/hosts/h1/bindings"
	w.wants(request{method: "GET", path: of}, 200, one)
	w.wants(request{method: "GET", path: of + "?authID="}, 200, one)
	w.wants(request{method: "GET", path: of + "?authID=%2FO%3Do%2FCN%3Da%20%26%20b"}, 200, one)
	w.wants(request{method: "GET", path: "/v1/service-types/s1/hosts/h2/bindings"}, 200, "{\n \"bindings\": []\n}")
	w.wants(request{method: "PUT", path: "/v1/bindings/b%2F1", body: `{"name":"b 1","unique_key":"k2","issuer":"CN=ca"}`}, 200,
		strings.NewReplacer("b/1", "b 1", `"key"`, `"k2"`, `17Z"`, "17Z\",\n \"updated_on\": \"2018-05-24T09:58:17Z\",\n \"issuer\": \"CN=ca\"").Replace(bound))

	for _, path := range []string{"/v1/bindings/b%201", "/v1/service-types/s1/hosts/h2/authm", "/v1/service-types/s1"} {
		if a := w.wants(request{method: "DELETE", path: path}, 204, ""); a.header.Get("Content-Type") != "" {
			t.Errorf("%s: nothing is of type %s", path, a.header.Get("Content-Type"))
		}
	}
	w.wants(request{method: "GET", path: "/v1/service-types"}, 200, "{\n \"service_types\": []\n}")
	w.wants(request{method: "GET", path: "/v1/authm"}, 200, "{\n \"auth_methods\": []\n}")
	w.wants(request{method: "GET", path: "/v1/bindings"}, 200, "{\n \"bindings\": []\n}")
}

// Every row of the table of errors that needs no proof.
func TestErrors(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		errorsOf(t, start(t))
	})
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		url := servertest.Postgres(t, v).SuperURL("postgres").Reveal()
		errorsOf(t, start(t, func(o *options) { o.database = url }))
	})
}

func errorsOf(t *testing.T, w *world) {
	t.Helper()
	w.fill()
	w.bind("b1", "st1", "x509", "CN=alice,O=o", "plain")
	w.bind("b2", "st1", "x509", "CN=bob,O=o", "plain")
	st1 := w.uuids["st1"]
	binding := func(change ...string) string {
		s := `{"service_uuid":"` + st1 + `","host":"127.0.0.1","auth_type":"x509","auth_identifier":"CN=x","unique_key":"k"}`
		return strings.NewReplacer(change...).Replace(s)
	}
	service := func(change ...string) string {
		s := `{"name":"n","hosts":["h"],"auth_types":["x509"],"auth_method":"api-key","type":"ams"}`
		return strings.NewReplacer(change...).Replace(s)
	}
	const (
		sts, authm = "/v1/service-types", "/v1/service-types/st1/authm"
		bad, un    = "BAD REQUEST", "UNPROCESSABLE ENTITY"
		emptyIn    = " object contains empty fields. empty value for field: "
	)
	for _, tt := range []struct {
		method, path, body string
		status             int
		word, message      string
	}{
		{"POST", sts, `{"name":`, 400, bad, "Poorly formatted JSON. the body is not valid JSON, as seen at byte 8"},
		{"POST", sts, `{"name":1}`, 400, bad, "Poorly formatted JSON. name must be a string, and is a number"},
		{"POST", sts, service() + "x", 400, bad, "Poorly formatted JSON. the body is not valid JSON, as seen at byte 86"},
		{"POST", sts, "null", 400, bad, "Poorly formatted JSON. the body must be an object"},
		{"POST", authm, "null", 400, bad, "Poorly formatted JSON. the body must be an object"},
		{"POST", "/v1/bindings/x", "null", 400, bad, "Poorly formatted JSON. the body must be an object"},
		{"PUT", "/v1/bindings/b1", "[]", 400, bad, "Poorly formatted JSON. the body must be an object"},
		{"POST", authm, `{"port":"9000"}`, 400, bad, "Poorly formatted JSON. port must be a whole number, and is a string"},
		{"PUT", "/v1/bindings/b1", "", 400, bad, "Poorly formatted JSON. the body is empty"},

		{"POST", sts, service(`"n"`, `""`), 422, un, "service-type" + emptyIn + "name"},
		{"POST", sts, service(`["h"]`, `[]`), 422, un, "service-type" + emptyIn + "hosts"},
		{"POST", sts, service(`"ams"`, `""`), 422, un, "service-type" + emptyIn + "type"},
		{"POST", sts, service(`"auth_method"`, `"x"`), 422, un, "service-type" + emptyIn + "auth_method"},
		{"POST", authm, `{"host":"host2","access_key":"k"}`, 422, un, "auth method" + emptyIn + "port"},
		{"POST", authm, `{"port":1,"access_key":"k"}`, 422, un, "auth method" + emptyIn + "host"},
		{"POST", authm, `{"host":"host2","port":1}`, 422, un, "auth method" + emptyIn + "access_key"},
		{"POST", "/v1/service-types/st2/authm", `{"host":"host2","port":1}`, 422, un, "auth method" + emptyIn + "headers"},
		{"POST", "/v1/bindings/x", `{}`, 422, un, "binding" + emptyIn + "service_uuid"},
		{"POST", "/v1/bindings/x", binding(`"127.0.0.1"`, `""`), 422, un, "binding" + emptyIn + "host"},
		{"POST", "/v1/bindings/x", binding(`auth_identifier`, `x`), 422, un, "binding" + emptyIn + "auth_identifier"},
		{"POST", "/v1/bindings/x", binding(`"k"`, `null`), 422, un, "binding" + emptyIn + "unique_key"},
		{"POST", "/v1/bindings/x", binding(`auth_type`, `x`), 422, un, "binding" + emptyIn + "auth_type"},

		{"POST", sts, service(`["x509"]`, `["x509","kerberos"]`), 422, un, "auth_types: kerberos is not yet supported.Supported:[x509 oidc]"},
		{"POST", sts, service(`["x509"]`, `[]`), 422, un, "auth_types: empty is not yet supported.Supported:[x509 oidc]"},
		{"POST", sts, service(`api-key`, `basic`), 422, un, "auth_method: basic is not yet supported.Supported:[api-key headers]"},
		{"POST", sts, service(`ams`, `x`), 422, un, "type: x is not yet supported.Supported:[ams web-api custom]"},
		{"POST", "/v1/bindings/x", binding(`"x509"`, `"oidc"`), 422, un, "Auth type: oidc is not yet supported.Supported:[x509]"},

		{"GET", sts + "/x", "", 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/%00", "", 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/%ff", "", 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/st1/hosts/%00:authx509", "", 400, bad, "No certificate provided"},
		{"GET", sts + "/st1/hosts/%ff/authm", "", 404, "NOT FOUND", "Host was not found"},
		{"DELETE", "/v1/bindings/%00", "", 404, "NOT FOUND", "Binding was not found"},
		{"PUT", "/v1/bindings/%ff", "{}", 404, "NOT FOUND", "Binding was not found"},
		{"PUT", sts + "/st1/hosts/127.0.0.1/authm", `{"service_uuid":"\u0000"}`, 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/st1/hosts/127.0.0.1/bindings?authID=%00", "", 404, "NOT FOUND", "Binding was not found"},
		{"PUT", sts + "/x", "{}", 404, "NOT FOUND", "Service-type was not found"},
		{"DELETE", sts + "/x", "", 404, "NOT FOUND", "Service-type was not found"},
		{"POST", sts + "/x/authm", "{}", 404, "NOT FOUND", "Service-type was not found"},
		{"POST", "/v1/bindings/x", binding(st1, "x"), 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/x/hosts/127.0.0.1/bindings", "", 404, "NOT FOUND", "Service-type was not found"},
		{"GET", sts + "/st1/hosts/x/authm", "", 404, "NOT FOUND", "Host was not found"},
		{"GET", sts + "/st1/hosts/x/bindings", "", 404, "NOT FOUND", "Host was not found"},
		{"POST", authm, `{"host":"x","port":1,"access_key":"k"}`, 404, "NOT FOUND", "Host was not found"},
		{"POST", "/v1/bindings/x", binding("127.0.0.1", "x"), 404, "NOT FOUND", "Host was not found"},
		{"GET", sts + "/st1/hosts/host2/authm", "", 404, "NOT FOUND", "Auth method was not found"},
		{"PUT", sts + "/st1/hosts/host2/authm", "{}", 404, "NOT FOUND", "Auth method was not found"},
		{"DELETE", sts + "/st1/hosts/host2/authm", "", 404, "NOT FOUND", "Auth method was not found"},
		{"GET", "/v1/bindings/x", "", 404, "NOT FOUND", "Binding was not found"},
		{"PUT", "/v1/bindings/x", "{}", 404, "NOT FOUND", "Binding was not found"},
		{"DELETE", "/v1/bindings/x", "", 404, "NOT FOUND", "Binding was not found"},
		{"GET", sts + "/st1/hosts/127.0.0.1/bindings?authID=CN%3Dx", "", 404, "NOT FOUND", "Binding was not found"},

		{"POST", sts, service(`"n"`, `"st1"`), 409, "CONFLICT", "service-type object with name: st1 already exists"},
		{"PUT", sts + "/st1", `{"name":"st2"}`, 409, "CONFLICT", "service-type object with name: st2 already exists"},
		{"POST", authm, `{"host":"127.0.0.1","port":1,"access_key":"k"}`, 409, "CONFLICT", "Auth method object with host: 127.0.0.1 already exists"},
		{"POST", "/v1/bindings/b2", binding("CN=x", "/O=o/CN=alice"), 409, "CONFLICT", "binding object with auth_identifier: /O=o/CN=alice already exists"},
		{"POST", "/v1/bindings/b2", binding(), 409, "CONFLICT", "binding object with name: b2 already exists"},
		{"PUT", "/v1/bindings/b2", `{"auth_identifier":"CN=alice,O=o"}`, 409, "CONFLICT", "binding object with auth_identifier: CN=alice,O=o already exists"},
		{"PUT", "/v1/bindings/b2", `{"name":"b1"}`, 409, "CONFLICT", "binding object with name: b1 already exists"},

		{"GET", "/v1/bindings?limit=0", "", 400, bad, "limit must be 1 to 1000"},
		{"GET", "/v1/bindings?limit=1001", "", 400, bad, "limit must be 1 to 1000"},
		{"GET", "/v1/authm?after=x", "", 400, bad, "after must be a number, as the link to the next page has it"},
		{"GET", "/v1/nothing", "", 404, "NOT FOUND", "there is nothing at this path"},
		{"GET", "/v1", "", 404, "NOT FOUND", "there is nothing at this path"},
		{"GET", sts + "/st1/", "", 404, "NOT FOUND", "there is nothing at this path"},
		{"PATCH", sts, "", 405, "METHOD NOT ALLOWED", "this path does not know this method"},
		{"BREW", "/v1/bindings/x", "", 405, "METHOD NOT ALLOWED", "this path does not know this method"},
		{"POST", "/v1/health", "", 405, "METHOD NOT ALLOWED", "this path does not know this method"},
		{"POST", sts + "/st1/hosts/127.0.0.1:authx509", "", 405, "METHOD NOT ALLOWED", "this path does not know this method"},
		{"POST", sts, `{"name":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "REQUEST ENTITY TOO LARGE", "the body is larger than 65536 bytes"},
	} {
		a := w.refuses(request{method: tt.method, path: tt.path, body: tt.body}, tt.status, tt.word, tt.message)
		if tt.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tt.method, tt.path)
		}
	}
}

func TestKeyComesFirst(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	for _, q := range []request{
		{method: "GET", path: "/v1/service-types"},
		{method: "POST", path: "/v1/service-types", body: "{"},
		{method: "GET", path: "/v1/service-types/x"},
		{method: "PUT", path: "/v1/service-types/x"},
		{method: "DELETE", path: "/v1/service-types/st1"},
		{method: "POST", path: "/v1/service-types/x/authm"},
		{method: "GET", path: "/v1/service-types/x/hosts/y/authm"},
		{method: "PUT", path: "/v1/service-types/x/hosts/y/authm"},
		{method: "DELETE", path: "/v1/service-types/x/hosts/y/authm"},
		{method: "GET", path: "/v1/authm"},
		{method: "POST", path: "/v1/bindings/x", body: strings.Repeat("x", 1<<17)},
		{method: "GET", path: "/v1/bindings"},
		{method: "GET", path: "/v1/bindings/x"},
		{method: "PUT", path: "/v1/bindings/x"},
		{method: "DELETE", path: "/v1/bindings/x"},
		{method: "GET", path: "/v1/service-types/x/hosts/y/bindings"},
		{method: "GET", path: "/v1/nothing"},
		{method: "PATCH", path: "/v1/bindings"},
		{method: "GET", path: "/v1/bindings?limit=x"},
	} {
		for _, key := range []string{"none", "", "wrong", strings.ToLower(adminKey)} {
			q.key = key
			if q.key == "" {
				q.key, q.header = "none", http.Header{"Authorization": {"Basic " + adminKey}, "X-Api-Key": {"x" + adminKey}}
			}
			if a := w.refuses(q, 401, "UNAUTHORIZED", "Wrong Credentials"); a.header.Get("Www-Authenticate") == "" {
				t.Errorf("%s %s: no challenge", q.method, q.path)
			}
		}
	}
	for name, h := range map[string]http.Header{
		"x-api-key": {"X-Api-Key": {adminKey}}, "bearer": {"Authorization": {"bearer " + adminKey}},
	} {
		if a := w.do(request{method: "GET", path: "/v1/bindings", key: "none", header: h}); a.status != 200 {
			t.Errorf("%s: got %d", name, a.status)
		}
	}
	// The log has the names of keys, and no key, right or wrong.
	if s := w.log.String(); !strings.Contains(s, `"caller":"root"`) || strings.Contains(s, "SECRET") || strings.Contains(s, "secret") || strings.Contains(s, "wrong") {
		t.Errorf("the log is %s", s)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	a := w.do(request{method: "POST", path: "/v1/bindings/x", body: "{}", key: readOnlyKey})
	if a.status != 403 || !strings.Contains(a.body, `"status": "ACCESS_FORBIDDEN"`) {
		t.Errorf("a read-only key changes: %d %s", a.status, a.body)
	}
	if a := w.do(request{method: "GET", path: "/v1/service-types/st2", key: limitedKey}); a.status != 403 {
		t.Errorf("a limited key sees another service type: %d", a.status)
	}
	a = w.do(request{method: "GET", path: "/v1/service-types", key: limitedKey})
	if !strings.Contains(a.body, `"st1"`) || strings.Contains(a.body, `"st2"`) {
		t.Errorf("a limited key sees %s", a.body)
	}
}

func TestOpenRoutes(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.wants(request{method: "GET", path: "/v1/health", key: "none"}, 200, "null")
	const version = `{
 "build_time": "2026-01-02T03:04:05Z",
 "golang": "go1.26",
 "compiler": "gc",
 "os": "linux",
 "architecture": "amd64",
 "release": "1.2.3",
 "distro": "Debian"
}`
	w.wants(request{method: "GET", path: "/v1/version"}, 200, version)
	without := strings.Replace(version, " \"release\": \"1.2.3\",\n", "", 1)
	w.wants(request{method: "GET", path: "/v1/version", key: "none"}, 200, without)
	w.wants(request{method: "GET", path: "/v1/version", key: "wrong"}, 200, without)
	for _, path := range []string{"/v1/health", "/v1/version", "/v1/bindings", "/v1/bindings/none"} {
		get, head := w.do(request{method: "GET", path: path}), w.do(request{method: "HEAD", path: path})
		if head.status != get.status || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(get.body)) {
			t.Errorf("HEAD of %s: %d, %s", path, head.status, head.header)
		}
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		a := w.do(request{method: "OPTIONS", path: "/v1/bindings/x", key: "none", header: http.Header{
			"Origin": {"https://elsewhere.example"}, "Access-Control-Request-Method": {method},
		}})
		allowed := strings.Split(a.header.Get("Access-Control-Allow-Methods"), ", ")
		if a.status != 200 || a.body != "" || !slices.Contains(allowed, method) {
			t.Errorf("%s: got %d %v", method, a.status, a.header)
		}
	}
	w.refuses(request{method: "OPTIONS", path: "/v1/bindings/x", key: "none"}, 401, "UNAUTHORIZED", "Wrong Credentials")
}

// Too many failures make wait who fails, and nobody else.
func TestFailedProofsAreLimited(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *options) { o.limit = Limit{PerMinute: 1, Burst: 3} })
	w.fill()
	w.bind("b1", "st1", "x509", "CN=alice,O=o", "plain")
	const path = "/v1/service-types/st1/hosts/127.0.0.1:authx509"
	alice, stranger := w.ca.valid("alice"), newAuthority(t, "Other CA").valid("alice")
	unknown := "Your certificate is signed by an unknown authority"

	w.refuses(request{method: "GET", path: "/v1/bindings", key: "wrong"}, 401, "UNAUTHORIZED", "Wrong Credentials")
	for range 5 { // what sends no proof has none that fails
		w.refuses(request{method: "GET", path: "/v1/bindings", key: "none"}, 401, "UNAUTHORIZED", "Wrong Credentials")
		w.refuses(request{method: "GET", path: path, key: "none"}, 400, "BAD REQUEST", "No certificate provided")
	}
	w.refuses(request{method: "GET", path: path, key: "none", cert: stranger}, 403, "ACCESS_FORBIDDEN", unknown)
	w.refuses(request{
		method: "GET", path: "/v1/service-types/st2/hosts/127.0.0.1:authoidc", key: "none",
		header: http.Header{"Authorization": {"Bearer x"}},
	}, 401, "UNAUTHORIZED", "the token is not a JWT signed with an asymmetric algorithm")
	for _, q := range []request{
		{method: "GET", path: "/v1/bindings", key: "wrong"},
		{method: "GET", path: "/v1/version", key: "wrong"},
		{method: "GET", path: path, key: "none", cert: stranger},
		{method: "GET", path: "/v1/service-types/st2/hosts/127.0.0.1:authoidc", key: "none", header: http.Header{"Authorization": {"Bearer x"}}},
	} {
		a := w.refuses(q, 429, "TOO MANY REQUESTS", "Too many failed attempts, try again later")
		if wait, err := time.ParseDuration(a.header.Get("Retry-After") + "s"); err != nil || wait <= 0 || wait > time.Minute {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
	}
	for range 5 {
		if a := w.do(request{method: "GET", path: "/v1/bindings"}); a.status != 200 {
			t.Errorf("the right key is answered %d", a.status)
		}
		if a := w.do(request{method: "GET", path: path, key: "none", cert: alice}); a.status != 200 {
			t.Errorf("the right certificate is answered %d", a.status)
		}
	}
}

// Of many who bind one identity at once, spelled in several ways, one does, and
// authentication works.
func TestOneOfManyBinds(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	spellings := []string{"CN=alice,O=o", "cn=alice, o=o", "/O=o/CN=alice", `CN=\\61lice,O=o`, "2.5.4.3=alice,2.5.4.10=o"}
	var made, taken atomic.Int64
	var all sync.WaitGroup
	for i := range 50 {
		body := `{"service_uuid":"` + w.uuids["st1"] + `","host":"127.0.0.1","auth_type":"x509","auth_identifier":"` +
			spellings[i%len(spellings)] + `","unique_key":"plain"}`
		all.Go(func() {
			switch a := w.do(request{method: "POST", path: fmt.Sprintf("/v1/bindings/b%d", i), body: body}); a.status {
			case 201:
				made.Add(1)
			case 409:
				taken.Add(1)
			default:
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 || taken.Load() != 49 {
		t.Errorf("%d bind, %d are told that it is taken", made.Load(), taken.Load())
	}
	q := request{method: "GET", path: "/v1/service-types/st1/hosts/127.0.0.1:authx509", key: "none", cert: w.ca.valid("alice")}
	w.wants(q, 200, "{\n \"token\": \"tok-token\"\n}")
}
