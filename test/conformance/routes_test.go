package conformance

import (
	"net/http"
	"testing"
)

// routes are all ten, on something that is not there, and what they answer then.
func routes(s *service) []route {
	i, b := instancePath(newID("i")), bindingPath(newID("i"), newID("b"))
	return []route{
		{http.MethodGet, "/v2/catalog", "", 200},
		{http.MethodPut, i, s.provisionBody("unknown"), 400},
		{http.MethodGet, i, "", 404},
		{http.MethodPatch, i, object("service_id", quote(s.id)), 404},
		{http.MethodDelete, i + s.ids(s.plan("base")), "", 410},
		{http.MethodGet, i + "/last_operation", "", 404},
		{http.MethodPut, b, s.bindBody(s.plan("base")), 404},
		{http.MethodGet, b, "", 404},
		{http.MethodDelete, b + s.ids(s.plan("base")), "", 410},
		{http.MethodGet, b + "/last_operation", "", 404},
	}
}

type route struct {
	method, path, body string
	status             int
}

func (r route) String() string { return r.method + " " + r.path }

func TestSection01EachRouteExists(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, r := range routes(s) {
			full.do(t, r.method, r.path, r.body).want(t, r.status)
		}
	})
}

func TestSection01ThereIsNoList(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v2", "/v2/", "/v2/service_instances", "/v2/service_instances/x/service_bindings", "/v2/service_instances/x/y"} {
		full.do(t, http.MethodGet, path, "").want(t, 404)
	}
	full.do(t, http.MethodPost, "/v2/catalog", "{}").want(t, 405)
	full.do(t, http.MethodPost, instancePath("x"), "{}").want(t, 405)
	full.do(t, http.MethodPatch, bindingPath("x", "y"), "{}").want(t, 405)
}

// `bindery dev` as it comes goes the whole way.
func TestSection01WalkOnDev(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		var offering, plan string
		for _, o := range list(dev.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200).body["services"]) {
			if o["name"] == s.kind {
				offering, plan = o["id"].(string), list(o["plans"])[0]["id"].(string)
			}
		}
		one := &service{kind: s.kind, id: offering, login: s.login}
		instance, binding := newID("i"), newID("b")
		dev.do(t, http.MethodPut, instancePath(instance), one.provisionBody(plan)).want(t, 201)
		dev.do(t, http.MethodGet, instancePath(instance), "").want(t, 200)
		made := credentialsOf(t, dev.do(t, http.MethodPut, bindingPath(instance, binding), one.bindBody(plan)).want(t, 201))
		open := s.wantLogin(t, made)
		dev.do(t, http.MethodDelete, bindingPath(instance, binding)+one.ids(plan), "").wantEmpty(t, 200)
		wantEnded(t, open)
		s.wantRefused(t, made)
		dev.do(t, http.MethodDelete, instancePath(instance)+one.ids(plan), "").wantEmpty(t, 200)
		dev.do(t, http.MethodDelete, instancePath(instance)+one.ids(plan), "").wantEmpty(t, 410)
	})
}

// list is a JSON array of objects.
func list(v any) (out []map[string]any) {
	all, _ := v.([]any)
	for _, one := range all {
		m, _ := one.(map[string]any)
		out = append(out, m)
	}
	return out
}
