package conformance

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

func TestSection02Version(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, r := range routes(s) {
			full.do(t, r.method, r.path, r.body, without("X-Broker-API-Version")).wantError(t, 400, "")
			for _, bad := range []string{"1.17", "3.0", "2", "2.", ".17", "2.17garbage", "two", "2.17.1", "-2.17", "2.-1", "2,17", "2.x"} {
				a := full.do(t, r.method, r.path, r.body, version(bad)).wantError(t, 412, "")
				if !strings.Contains(a.text("description"), "2.") {
					t.Errorf("%s: %q does not say which version to use", r, a.text("description"))
				}
			}
			for _, good := range []string{"2.0", "2.13", "2.14", "2.15", "2.17", "2.18", "2.99"} {
				full.do(t, r.method, r.path, r.body, version(good)).want(t, r.status)
			}
		}
	})
}

func TestSection02Authorization(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, r := range append(routes(s), route{http.MethodGet, "/v2/nothing", "", 404}, route{http.MethodPut, instancePath("x"), "{", 400}) {
			for name, o := range map[string]option{
				"none":           without("Authorization"),
				"wrong password": as(full.username, full.password+"x"),
				"wrong name":     as("nobody", full.password),
				"empty":          as("", ""),
				"bearer":         header("Authorization", "Bearer "+full.password),
				"garbage":        header("Authorization", "Basic %%%"),
				"no colon":       header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(full.username))),
			} {
				// Also with a bad version: who asks is looked at first.
				for _, v := range []string{"2.17", "9.9"} {
					a := full.do(t, r.method, r.path, r.body, o, version(v)).wantError(t, 401, "")
					if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic") {
						t.Errorf("%s, %s: WWW-Authenticate is %q", r, name, a.header.Get("WWW-Authenticate"))
					}
				}
			}
			full.do(t, r.method, r.path, r.body, as("second", secondPassword)).want(t, r.status)
		}
	})
}

// A platform sees its own instances only; its other credential sees the same.
func TestSection02PlatformsAreApart(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		b, _ := s.binding(t, i, plan)
		other := as("elsewhere", secondPassword)
		full.do(t, http.MethodGet, instancePath(i), "", as("second", secondPassword)).want(t, 200)
		full.do(t, http.MethodGet, instancePath(i), "", other).want(t, 404)
		full.do(t, http.MethodGet, bindingPath(i, b), "", other).want(t, 404)
		full.do(t, http.MethodGet, instancePath(i)+"/last_operation", "", other).want(t, 404)
		full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(plan), "", other).want(t, 410)
		full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan), "", other).want(t, 410)
		full.do(t, http.MethodPatch, instancePath(i), object("service_id", quote(s.id)), other).want(t, 404)
		full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(plan), other).want(t, 404)
		full.do(t, http.MethodPut, instancePath(i), s.provisionBody(plan), other).want(t, 201) // its own, with the same id
		full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan), "", other).want(t, 200)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)
	})
}

func TestSection02RequestIdentity(t *testing.T) {
	t.Parallel()
	const name = "X-Broker-API-Request-Identity"
	long := strings.Repeat("x", 4000)
	if got := full.do(t, http.MethodGet, "/v2/catalog", "", header(name, long)).want(t, 200).header.Get(name); len(got) > 1000 {
		t.Errorf("%d bytes are echoed", len(got))
	}
	if got := full.do(t, http.MethodGet, "/v2/catalog", "", without(name)).want(t, 200).header.Values(name); len(got) > 0 {
		t.Errorf("nothing was sent, and %q is echoed", got)
	}
	// On every status; do looks at the echo.
	full.do(t, http.MethodGet, "/v2/catalog", "", without("Authorization")).want(t, 401)
	full.do(t, http.MethodGet, "/v2/catalog", "", version("1.0")).want(t, 412)
	full.do(t, http.MethodGet, "/v2/catalog", "", without("X-Broker-API-Version")).want(t, 400)
	full.do(t, http.MethodGet, "/v2/nothing", "").want(t, 404)
	full.do(t, http.MethodGet, "/nothing", "").want(t, 404)
	full.do(t, http.MethodDelete, "/v2/catalog", "").want(t, 405)
	full.do(t, http.MethodPut, instancePath("x"), strings.Repeat(" ", 2<<20)).want(t, 413)
}

func TestSection02OriginatingIdentity(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, v := range []string{
			"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`{"user_id":"683ea748-3092-4ff4-b656-39cacc4d5360"}`)),
			"kubernetes " + base64.StdEncoding.EncodeToString([]byte(`{"username":"duke","uid":"c2dde242","groups":["a","b"],"extra":{"k":["v"]}}`)),
			"garbage", "cloudfoundry", "cloudfoundry %%%", "cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`[]`)), " ", strings.Repeat("a", 20000),
		} {
			o := header("X-Broker-API-Originating-Identity", v)
			id := newID("i")
			full.do(t, http.MethodGet, "/v2/catalog", "", o).want(t, 200)
			full.do(t, http.MethodPut, instancePath(id), s.provisionBody(s.plan("base")), o).want(t, 201)
			// Another one is no other request.
			full.do(t, http.MethodPut, instancePath(id), s.provisionBody(s.plan("base")), header("X-Broker-API-Originating-Identity", "x y")).want(t, 200)
			full.do(t, http.MethodDelete, instancePath(id)+s.ids(s.plan("base")), "").want(t, 200)
		}
	})
}

func TestSection02ContentType(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		body := s.provisionBody(s.plan("base"))
		for _, bad := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data", "/"} {
			full.do(t, http.MethodPut, instancePath(newID("i")), body, header("Content-Type", bad)).wantError(t, 400, "")
		}
		for _, good := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON"} {
			full.do(t, http.MethodPut, instancePath(newID("i")), body, header("Content-Type", good)).want(t, 201)
		}
		full.do(t, http.MethodPut, instancePath(newID("i")), body, without("Content-Type")).want(t, 201)
	})
}

func TestSection02ConditionalCatalog(t *testing.T) {
	t.Parallel()
	a := dev.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200)
	etag, modified := a.header.Get("ETag"), a.header.Get("Last-Modified")
	if etag == "" || modified == "" {
		t.Fatalf("ETag %q, Last-Modified %q", etag, modified)
	}
	for _, tags := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		if got := dev.do(t, http.MethodGet, "/v2/catalog", "", header("If-None-Match", tags)).want(t, 304).header.Get("ETag"); got != etag {
			t.Errorf("304 has the tag %q", got)
		}
	}
	dev.do(t, http.MethodGet, "/v2/catalog", "", header("If-Modified-Since", modified)).want(t, 304)
	dev.do(t, http.MethodGet, "/v2/catalog", "", header("If-None-Match", `"other"`)).want(t, 200)
	dev.do(t, http.MethodGet, "/v2/catalog", "", header("If-None-Match", `"other"`), header("If-Modified-Since", modified)).want(t, 200)
	dev.do(t, http.MethodGet, "/v2/catalog", "", header("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")).want(t, 200)
}
