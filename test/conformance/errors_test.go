package conformance

import (
	"net/http"
	"strings"
	"testing"
)

func TestSection03MalformedBodies(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		bad := map[string]string{
			"nothing": "", "not JSON": "{", "an array": "[]", "a string": `"x"`, "null": "null", "two": "{}{}",
			"not UTF-8": "{\"service_id\":\"\xff\"}", "a key twice": `{"service_id":"a","service_id":"b"}`,
			"too deep": `{"parameters":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		}
		for name, body := range bad {
			t.Run(name, func(t *testing.T) {
				full.do(t, http.MethodPut, instancePath(newID("i")), body).wantError(t, 400, "")
				full.do(t, http.MethodPatch, instancePath(i), body).wantError(t, 400, "")
				full.do(t, http.MethodPut, bindingPath(i, newID("b")), body).wantError(t, 400, "")
			})
		}
	})
}

// Each required field: missing, null, empty, and of another type.
func TestSection03RequiredFields(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		for _, value := range []string{"", "null", `""`, "1", "{}", "[]", "true", quote(strings.Repeat("x", 300)), `"a\u0000b"`} {
			for _, field := range []string{"service_id", "plan_id", "organization_guid", "space_guid"} {
				id := newID("i")
				full.do(t, http.MethodPut, instancePath(id)+pollable, s.provisionBody(plan, field, value)).wantError(t, 400, "")
				// Nothing was kept of it: the id is free.
				full.do(t, http.MethodGet, instancePath(id)+"/last_operation", "").want(t, 404)
				full.do(t, http.MethodDelete, instancePath(id)+s.ids(plan), "").wantEmpty(t, 410)
			}
			for _, field := range []string{"service_id", "plan_id"} {
				id := newID("b")
				full.do(t, http.MethodPut, bindingPath(i, id)+pollable, s.bindBody(plan, field, value)).wantError(t, 400, "")
				full.do(t, http.MethodGet, bindingPath(i, id)+"/last_operation", "").want(t, 404)
			}
			full.do(t, http.MethodPatch, instancePath(i), object("service_id", value)).wantError(t, 400, "")
		}
		for _, value := range []string{"1", `"x"`, "[]", "true"} {
			for _, field := range []string{"parameters", "context", "maintenance_info"} {
				full.do(t, http.MethodPut, instancePath(newID("i")), s.provisionBody(plan, field, value)).wantError(t, 400, "")
				full.do(t, http.MethodPatch, instancePath(i), object("service_id", quote(s.id), field, value)).wantError(t, 400, "")
			}
			for _, field := range []string{"parameters", "context", "bind_resource"} {
				full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(plan, field, value)).wantError(t, 400, "")
			}
		}
		full.do(t, http.MethodPut, instancePath(newID("i")), s.provisionBody(plan, "maintenance_info", "{}")).wantError(t, 400, "")
	})
}

func TestSection03UnknownServicesAndPlans(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		for name, change := range map[string][]string{
			"unknown service":          {"service_id", `"unknown"`},
			"unknown plan":             {"plan_id", `"unknown"`},
			"plan of another offering": {"plan_id", quote(s.plan("plain-a"))},
			"another offering":         {"service_id", quote(s.id + "-plain")},
			"retired plan":             {"plan_id", quote(s.plan("retired"))},
		} {
			t.Run(name, func(t *testing.T) {
				id := newID("i")
				full.do(t, http.MethodPut, instancePath(id)+pollable, s.provisionBody(plan, change...)).wantError(t, 400, "")
				full.do(t, http.MethodGet, instancePath(id)+"/last_operation", "").want(t, 404)
				// Of a binding they are the instance's.
				full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(plan, change...)).wantError(t, 400, "")
			})
		}
		full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(s.plan("other"))).wantError(t, 400, "")
	})
}

// An id is any text of up to 255 bytes, percent-decoded.
func TestSection03Identifiers(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		for _, id := range []string{
			strings.Repeat("x", 243) + newID("")[:12], newID("a/b"), newID("a b%"), newID("..") + "/..", newID("ü-世界"), newID("'; DROP TABLE instances; --"), newID("a?b#c&d=e+f"),
		} {
			b := newID("b/%")
			full.do(t, http.MethodPut, instancePath(id), s.provisionBody(plan)).want(t, 201)
			full.do(t, http.MethodGet, instancePath(id), "").want(t, 200)
			full.do(t, http.MethodPut, bindingPath(id, b), s.bindBody(plan)).want(t, 201)
			full.do(t, http.MethodGet, bindingPath(id, b), "").want(t, 200)
			full.do(t, http.MethodDelete, bindingPath(id, b)+s.ids(plan), "").want(t, 200)
			full.do(t, http.MethodDelete, instancePath(id)+s.ids(plan), "").want(t, 200)
		}
		for _, path := range []string{"/v2/service_instances/" + strings.Repeat("x", 256), "/v2/service_instances/a%00b", "/v2/service_instances/a%ff", "/v2/service_instances/a%0ab"} {
			full.do(t, http.MethodPut, path, s.provisionBody(plan)).wantError(t, 400, "")
			full.do(t, http.MethodGet, path, "").wantError(t, 400, "")
		}
	})
}

// instance_usable and update_repeatable are for updates, the first for a deprovision too.
func TestSection03FlagsWhereTheyBelong(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		for _, a := range []*answer{
			full.do(t, http.MethodPut, instancePath(newID("i")), "{}").want(t, 400),
			full.do(t, http.MethodPut, instancePath(i), s.provisionBody(s.plan("other"))).want(t, 409),
			full.do(t, http.MethodPut, bindingPath(i, newID("b")), "{}").want(t, 400),
			full.do(t, http.MethodGet, instancePath(newID("i")), "").want(t, 404),
			full.do(t, http.MethodDelete, instancePath(i), "").want(t, 400),
			full.do(t, http.MethodGet, instancePath(i)+"/last_operation", "").want(t, 200),
		} {
			for _, key := range []string{"instance_usable", "update_repeatable"} {
				if _, there := a.body[key]; there {
					t.Errorf("%d has %s: %s", a.status, key, a.shown())
				}
			}
		}
	})
}

// A refusal changes nothing, and a failure shows nothing from inside.
func TestSection03RefusalsChangeNothing(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		b, credentials := s.binding(t, i, plan)
		before := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200).raw
		for _, a := range []*answer{
			full.do(t, http.MethodPut, instancePath(i), s.provisionBody(plan, "parameters", `{"no":"such"}`)).want(t, 409),
			full.do(t, http.MethodPatch, instancePath(i), object("service_id", quote(s.id), "parameters", `{"no":"such"}`)).want(t, 400, 422),
			full.do(t, http.MethodPatch, instancePath(i), object("service_id", quote(s.id), "plan_id", `"unknown"`)).want(t, 400, 422),
			full.do(t, http.MethodPatch, instancePath(i), object("service_id", `"of-redis-plain"`)).want(t, 400, 422),
			full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan, "parameters", s.bindParameters)).want(t, 409),
			full.do(t, http.MethodDelete, bindingPath(i, b)+"?service_id="+s.id, "").want(t, 400),
			full.do(t, http.MethodDelete, instancePath(i)+"?plan_id="+plan, "").want(t, 400),
		} {
			for _, inside := range []string{"SQL", "sql:", ".go", "goroutine", "EOF", "127.0.0.1", "bdy_", "json:"} {
				if strings.Contains(string(a.raw), inside) {
					t.Errorf("%d shows %q: %s", a.status, inside, a.raw)
				}
			}
		}
		if after := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200).raw; string(after) != string(before) {
			t.Errorf("the instance was %s and is %s", before, after)
		}
		s.wantLogin(t, credentials)
	})
}

// Quotas are a 4xx, before anything is recorded.
func TestSection03Quota(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("quota")
		one, two, three := s.instance(t, plan), s.instance(t, plan), newID("i")
		full.do(t, http.MethodPut, instancePath(three)+pollable, s.provisionBody(plan)).wantError(t, 400, "")
		full.do(t, http.MethodGet, instancePath(three)+"/last_operation", "").want(t, 404)
		// A repeat is no new one, and another platform has its own.
		full.do(t, http.MethodPut, instancePath(one), s.provisionBody(plan)).want(t, 200)
		full.do(t, http.MethodPut, instancePath(three), s.provisionBody(plan), as("elsewhere", secondPassword)).want(t, 201)
		s.binding(t, one, plan)
		b, _ := s.binding(t, one, plan)
		full.do(t, http.MethodPut, bindingPath(one, newID("b"))+pollable, s.bindBody(plan)).wantError(t, 400, "")
		full.do(t, http.MethodDelete, bindingPath(one, b)+s.ids(plan), "").want(t, 200)
		s.binding(t, one, plan)
		// What is gone makes room; moving there is refused while there is none.
		moving := s.instance(t, s.plan("base"))
		full.do(t, http.MethodPatch, instancePath(moving)+pollable, object("service_id", quote(s.id), "plan_id", quote(plan))).want(t, 422)
		if got := full.do(t, http.MethodGet, instancePath(moving), "").want(t, 200).text("plan_id"); got != s.plan("base") {
			t.Errorf("the refused update moved it to %s", got)
		}
		full.do(t, http.MethodDelete, instancePath(two)+s.ids(plan), "").want(t, 200)
		full.do(t, http.MethodPatch, instancePath(moving), object("service_id", quote(s.id), "plan_id", quote(plan))).want(t, 200)
		full.do(t, http.MethodDelete, instancePath(one)+s.ids(plan), "").want(t, 200)
		full.do(t, http.MethodDelete, instancePath(moving)+s.ids(plan), "").want(t, 200)
		full.do(t, http.MethodDelete, instancePath(three)+s.ids(plan), "", as("elsewhere", secondPassword)).want(t, 200)
	})
}

// A plan that gives an instance a server to itself has as many as it has servers.
func TestSection03WholeServersRunOut(t *testing.T) {
	t.Parallel()
	for _, o := range list(full.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200).body["services"]) {
		for _, p := range list(o["plans"]) {
			if o["name"] != redisKind || p["name"] != "whole-server" {
				continue
			}
			s, plan := &service{kind: redisKind, id: o["id"].(string), login: redisLogin}, p["id"].(string)
			i, second := s.instance(t, plan), newID("i")
			full.do(t, http.MethodPut, instancePath(second)+pollable, s.provisionBody(plan)).wantError(t, 400, "")
			full.do(t, http.MethodGet, instancePath(second)+"/last_operation", "").want(t, 404)
			_, credentials := s.binding(t, i, plan)
			if _, there := credentials["prefix"]; there {
				t.Error("there is a prefix")
			}
			s.wantLogin(t, credentials)
			full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan), "").want(t, 200)
			s.wantRefused(t, credentials)
			full.do(t, http.MethodPut, instancePath(second), s.provisionBody(plan)).want(t, 201)
			full.do(t, http.MethodDelete, instancePath(second)+s.ids(plan), "").want(t, 200)
			return
		}
	}
	t.Fatal("dev has no such plan")
}
