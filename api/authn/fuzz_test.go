package authn

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// leaks are what no answer may hold: database words, source files, the
// decoder's texts, addresses of memory.
var leaks = regexp.MustCompile(`(?i)sqlite|constraint|\.go:|unexpected end|invalid character|cannot unmarshal|0xc[0-9a-f]{9}|panic|goroutine|nil pointer`)

// Whatever is sent, with a key or without: no panic, no 5xx, JSON for an answer,
// nothing of the inside told.
func FuzzFace(f *testing.F) {
	w := start(f)
	w.fill()
	w.bind("b1", "st1", "x509", "CN=alice,O=o", "plain")
	id := w.uuids["st1"]
	for _, seed := range [][5]string{
		{"POST", "/v1/service-types", `{"name":"a","hosts":["h"],"auth_types":["x509"],"auth_method":"api-key","type":"ams"}`, "x-api-key", adminKey},
		{"PUT", "/v1/service-types/st1", `{"hosts":["127.0.0.1","\u0000","[::1]"],"name":null}`, "x-api-key", adminKey},
		{"POST", "/v1/service-types/st1/authm", `{"host":"host2","port":1e2,"access_key":"***"}`, "x-api-key", adminKey},
		{"PUT", "/v1/service-types/st2/hosts/127.0.0.1/authm", `{"headers":{"a":"\n","":null}}`, "x-api-key", adminKey},
		{"POST", "/v1/bindings/%2e%2e%2F%ff", `{"service_uuid":"` + id + `","host":"host2","auth_type":"x509","auth_identifier":"/CN=a+b=\\","unique_key":"k"}`, "x-api-key", adminKey},
		{"PUT", "/v1/bindings/b1", `{"auth_identifier":"#04","issuer":"=","name":"` + "\xf0" + `"}`, "x-api-key", adminKey},
		{"DELETE", "/v1/bindings/%00", ``, "x-api-key", adminKey},
		{"GET", "/v1/service-types/st1/hosts/127.0.0.1/bindings?authID=%00&limit=1&after=9223372036854775807", ``, "Authorization", "Bearer " + adminKey},
		{"GET", "/v1/authm?limit=1000&after=-1", ``, "x-api-key", readOnlyKey},
		{"GET", "/v1/service-types/st1/hosts/127.0.0.1:authx509", ``, "", ""},
		{"POST", "/v1/service-types/st2/hosts/:authoidc", `x`, "Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."},
		{"GET", "/v1/version?key=%zz;a", ``, "Origin", "x"},
		{"OPTIONS", "/v1//", ``, "Access-Control-Request-Method", "PUT"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	handler := w.server.Config.Handler
	f.Fuzz(func(t *testing.T, method, target, body, header, value string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/v1/") {
			return // net/http and other faces answer these
		}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		if header != "" {
			r.Header.Set(header, value)
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		got := rec.Body.String()
		if rec.Code >= 500 || rec.Code < 200 {
			t.Errorf("%s %s: got %d %s", method, target, rec.Code, got)
		}
		if (got != "") != json.Valid(rec.Body.Bytes()) || leaks.MatchString(got) && !strings.Contains(body+target+value, leaks.FindString(got)) {
			t.Errorf("%s %s: got %d %s", method, target, rec.Code, got)
		}
		if rec.Code >= 400 && method != http.MethodHead {
			var e failure
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || e.Error.Code != rec.Code || e.Error.Message == "" || e.Error.Status != word(rec.Code) {
				t.Errorf("%s %s: got %d %s", method, target, rec.Code, got)
			}
		}
	})
}
