package conformance

import (
	"net/http"
	"net/url"
	"testing"
)

func TestSection09BindFetchUnbind(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i, b := s.instance(t, m.plan), newID("b")
		full.do(t, http.MethodGet, bindingPath(i, b), "").wantError(t, 404, "")
		a := full.do(t, http.MethodPut, bindingPath(i, b)+m.query(), s.bindBody(m.plan, "parameters", s.bindParameters,
			"context", `{"platform":"cloudfoundry"}`, "bind_resource", `{"app_guid":"app-1","space_guid":"space-1"}`)).want(t, 201, 202)
		finish(t, bindingPath(i, b), a)
		fetched := full.do(t, http.MethodGet, bindingPath(i, b)+"?service_id=x&plan_id=y", "").want(t, 200)
		credentials := credentialsOf(t, fetched)
		if a.status == 201 && jsonText(credentialsOf(t, a)) != jsonText(credentials) {
			t.Error("the fetched credentials are others")
		}
		if got := jsonText(fetched.body["parameters"]); got != s.bindParameters {
			t.Errorf("parameters: got %s", got)
		}
		open := s.wantLogin(t, credentials)
		checkEndpoints(t, fetched, credentials)
		// Of another instance it is not there, and its id is taken.
		other := s.instance(t, m.plan)
		full.do(t, http.MethodGet, bindingPath(other, b), "").want(t, 404)
		full.do(t, http.MethodGet, bindingPath(newID("i"), b), "").want(t, 404)
		full.do(t, http.MethodDelete, bindingPath(other, b)+m.removal(s), "").wantEmpty(t, 410)
		full.do(t, http.MethodPut, bindingPath(other, b)+m.query(), s.bindBody(m.plan)).want(t, 409)
		if err := open.use(t.Context()); err != nil {
			t.Fatalf("a session ended early: %v", err)
		}
		a = full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").want(t, 200, 202)
		if a.status == 200 {
			a.wantEmpty(t, 200)
		}
		finish(t, bindingPath(i, b), a)
		wantEnded(t, open)
		s.wantRefused(t, credentials)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").wantEmpty(t, 410)
	})
}

// checkEndpoints holds the endpoints against the credentials: hosts, and ports as text.
func checkEndpoints(t *testing.T, a *answer, credentials map[string]any) {
	t.Helper()
	endpoints := list(a.body["endpoints"])
	if len(endpoints) == 0 {
		t.Error("no endpoints")
	}
	for _, e := range endpoints {
		ports, _ := e["ports"].([]any)
		if e["host"] != credentials["host"] || len(ports) != 1 || ports[0] != jsonText(credentials["port"]) {
			t.Errorf("endpoint %v, want %v:%v", e, credentials["host"], credentials["port"])
		}
	}
}

// The Kubernetes library fails to parse endpoints: below 2.15 there are none.
func TestSection09EndpointsByVersion(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		for v, want := range map[string]bool{"2.13": false, "2.14": false, "2.15": true, "2.16": true, "2.17": true, "2.18": true} {
			b := newID("b")
			for _, a := range []*answer{
				full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan), version(v)).want(t, 201),
				full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan), version(v)).want(t, 200),
				full.do(t, http.MethodGet, bindingPath(i, b), "", version(v)).want(t, 200),
			} {
				if _, there := a.body["endpoints"]; there != want {
					t.Errorf("%s, %d: endpoints %v", v, a.status, there)
				}
				for _, field := range []string{"syslog_drain_url", "route_service_url", "volume_mounts"} {
					if _, there := a.body[field]; there {
						t.Errorf("%s is there, and the offering requires nothing", field)
					}
				}
			}
		}
	})
}

// An identical repeat gets the same credentials; another request is refused.
func TestSection09Repeats(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i, b := s.instance(t, m.plan), newID("b")
		body := func(more ...string) string {
			return s.bindBody(m.plan, append([]string{"parameters", s.bindParameters, "bind_resource", `{"app_guid":"app-1"}`}, more...)...)
		}
		finish(t, bindingPath(i, b), full.do(t, http.MethodPut, bindingPath(i, b)+m.query(), body()).want(t, 201, 202))
		credentials := jsonText(credentialsOf(t, full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)))
		for name, same := range map[string]string{
			"the same":          body(),
			"another context":   body("context", `{"platform":"x"}`),
			"an unknown field":  body("x-vendor", `[null]`),
			"written otherwise": body("parameters", s.bindParametersAgain, "bind_resource", ` { "app_guid" : "app\u002d1" }`),
		} {
			for _, q := range []string{"", pollable} {
				a := full.do(t, http.MethodPut, bindingPath(i, b)+q, same)
				if a.status != 200 || jsonText(a.body["credentials"]) != credentials {
					t.Errorf("%s: got %d, the same credentials: %t", name, a.status, jsonText(a.body["credentials"]) == credentials)
				}
			}
		}
		for name, other := range map[string]string{
			"other parameters":    body("parameters", s.bindParametersOther),
			"no parameters":       body("parameters", ""),
			"invalid parameters":  body("parameters", `{"no":"such"}`),
			"another application": body("bind_resource", `{"app_guid":"app-2"}`),
			"no application":      body("bind_resource", ""),
			"another plan":        body("plan_id", quote(s.plan("other"))),
			"another service":     body("service_id", quote(s.id+"-plain")),
		} {
			for _, q := range []string{"", pollable} {
				if a := full.do(t, http.MethodPut, bindingPath(i, b)+q, other); a.status != 409 {
					t.Errorf("%s: got %d %s", name, a.status, a.shown())
				}
			}
		}
		all := credentialsOf(t, full.do(t, http.MethodPut, bindingPath(i, b), body()).want(t, 200))
		s.wantLogin(t, all)
	})
}

// While a bind runs: the same operation again, 409 for another, 404 for a fetch, no credentials.
func TestSection09RepeatsWhileBinding(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		l.proxy.Hold()
		a := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		for range 3 {
			again := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
			if again.text("operation") != a.text("operation") {
				t.Errorf("first %s, then %s", a.shown(), again.shown())
			}
		}
		full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan, "parameters", s.bindParameters)).want(t, 409)
		full.do(t, http.MethodGet, bindingPath(i, b), "").wantError(t, 404, "")
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
		l.proxy.Release()
		finish(t, bindingPath(i, b), a)
		fetched := full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)
		s.wantLogin(t, credentialsOf(t, fetched))
		if again := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 200); jsonText(again.body["credentials"]) != jsonText(fetched.body["credentials"]) {
			t.Error("the credentials are others")
		}
	})
}

func TestSection09WhatCannotBeBound(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, c := range []struct{ service, plan string }{{s.id, s.plan("nonbindable")}, {s.id + "-closed", s.plan("closed-plan")}} {
			one := &service{kind: s.kind, id: c.service}
			i, b := one.instance(t, c.plan), newID("b")
			full.do(t, http.MethodPut, bindingPath(i, b)+pollable, one.bindBody(c.plan)).wantError(t, 400, "")
			full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation", "").want(t, 404)
		}
		open := &service{kind: s.kind, id: s.id + "-closed"}
		i := open.instance(t, s.plan("open-plan"))
		full.do(t, http.MethodPut, bindingPath(i, newID("b")), open.bindBody(s.plan("open-plan"))).want(t, 201)
		// An instance that is not there.
		full.do(t, http.MethodPut, bindingPath(newID("i"), newID("b")), s.bindBody(s.plan("base"))).want(t, 404)
	})
}

func TestSection09RequiresApp(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		one, plan := &service{kind: s.kind, id: s.id + "-app"}, s.plan("app-plan")
		i := one.instance(t, plan)
		for _, more := range [][]string{nil, {"bind_resource", `{}`}, {"bind_resource", `{"route":"example.com"}`}, {"app_guid", "null"}} {
			b := newID("b")
			full.do(t, http.MethodPut, bindingPath(i, b)+pollable, one.bindBody(plan, more...)).wantError(t, 422, "RequiresApp")
			full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation", "").want(t, 404)
		}
		for _, more := range [][]string{{"bind_resource", `{"app_guid":"a"}`}, {"app_guid", `"a"`}, {"app_guid", `"a"`, "bind_resource", `{"app_guid":"a"}`}} {
			full.do(t, http.MethodPut, bindingPath(i, newID("b")), one.bindBody(plan, more...)).want(t, 201)
		}
	})
}

// Several bindings of one application, each with credentials of its own; one
// unbind revokes one.
func TestSection09CredentialsAreUnique(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		app := []string{"bind_resource", `{"app_guid":"app-1"}`}
		one, first := s.binding(t, i, plan, app...)
		_, second := s.binding(t, i, plan, app...)
		if first["username"] == second["username"] || first["password"] == second["password"] {
			t.Error("two bindings have the same credentials")
		}
		open := s.wantLogin(t, second)
		full.do(t, http.MethodDelete, bindingPath(i, one)+s.ids(plan), "").wantEmpty(t, 200)
		s.wantRefused(t, first)
		if err := open.use(t.Context()); err != nil {
			t.Errorf("the other's session ended: %v", err)
		}
		s.wantLogin(t, second)
	})
}

func TestSection09UnbindQuery(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		b, credentials := s.binding(t, i, plan)
		for _, q := range []string{"", "?service_id=" + s.id, "?plan_id=" + plan, "?service_id=&plan_id="} {
			full.do(t, http.MethodDelete, bindingPath(i, b)+q, "").wantError(t, 400, "")
		}
		s.wantLogin(t, credentials)
		full.do(t, http.MethodDelete, bindingPath(i, newID("b"))+"?service_id=unknown&plan_id=unknown", "").wantEmpty(t, 410)
		full.do(t, http.MethodDelete, bindingPath(newID("i"), b)+s.ids(plan), "").wantEmpty(t, 410)
		full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan), "").want(t, 200)
		full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(plan), "").wantEmpty(t, 410)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
	})
}

// While an unbind runs: the same operation again; the binding is not made again meanwhile.
func TestSection09RepeatsWhileUnbinding(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		b, credentials := s.binding(t, i, l.plan)
		l.proxy.Hold()
		remove := bindingPath(i, b) + s.ids(l.plan) + "&accepts_incomplete=true"
		a := full.do(t, http.MethodDelete, remove, "").want(t, 202)
		if again := full.do(t, http.MethodDelete, remove, "").want(t, 202); again.text("operation") != a.text("operation") {
			t.Errorf("first %s, then %s", a.shown(), again.shown())
		}
		full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).wantError(t, 422, "ConcurrencyError")
		l.proxy.Release()
		finish(t, bindingPath(i, b), a)
		s.wantRefused(t, credentials)
		full.do(t, http.MethodDelete, remove, "").wantEmpty(t, 410)
	})
}

// The bindings that an instance takes along are not handed out meanwhile, whether
// their turn has come or not.
func TestSection09BindingsWhileTheInstanceIsRemoved(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		made := map[string]map[string]any{}
		for range 6 { // more than are removed at once
			b, credentials := s.binding(t, i, l.plan)
			made[b] = credentials
		}
		l.proxy.Hold()
		a := full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		for b := range made {
			full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
			full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).wantError(t, 422, "ConcurrencyError")
		}
		l.proxy.Release()
		finish(t, instancePath(i), a)
		for b, credentials := range made {
			s.wantRefused(t, credentials)
			full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
			full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan), "").wantEmpty(t, 410)
		}
	})
}

// rotate asks for a successor.
func rotate(t *testing.T, s *service, m mode, instance, successor, predecessor string, more ...string) *answer {
	t.Helper()
	return full.do(t, http.MethodPut, bindingPath(instance, successor)+m.query(), object(append([]string{"predecessor_binding_id", quote(predecessor)}, more...)...))
}

// A rotation may name nothing but the predecessor. Both are good until the old
// one is removed, which takes nothing from the new one.
func TestSection09Rotation(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := s.instance(t, m.plan)
		old, before := s.binding(t, i, m.plan, "parameters", s.bindParameters, "bind_resource", `{"app_guid":"app-1"}`)
		b := newID("b")
		finish(t, bindingPath(i, b), rotate(t, s, m, i, b, old).want(t, 201, 202))
		fetched := full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)
		after := credentialsOf(t, fetched)
		if got := jsonText(fetched.body["parameters"]); got != s.bindParameters {
			t.Errorf("the parameters are not the predecessor's: %s", got)
		}
		if before["password"] == after["password"] {
			t.Error("the password is the old one")
		}
		one, two := s.wantLogin(t, before), s.wantLogin(t, after)
		// Repeats.
		again := rotate(t, s, m, i, b, old).want(t, 200)
		if jsonText(again.body["credentials"]) != jsonText(after) {
			t.Error("a repeat has other credentials")
		}
		third, _ := s.binding(t, i, m.plan)
		rotate(t, s, m, i, b, third).want(t, 409)
		rotate(t, s, m, i, third, old).want(t, 409)
		full.do(t, http.MethodPut, bindingPath(i, b)+m.query(), s.bindBody(m.plan)).want(t, 409)
		if err := one.use(t.Context()); err != nil {
			t.Errorf("the rotation ended the old session: %v", err)
		}
		finish(t, bindingPath(i, old), full.do(t, http.MethodDelete, bindingPath(i, old)+m.removal(s), "").want(t, 200, 202))
		wantEnded(t, one)
		s.wantRefused(t, before)
		if err := two.use(t.Context()); err != nil {
			t.Errorf("the new session ended with the old: %v", err)
		}
		s.wantLogin(t, after)
		// The successor has a successor, also named in full.
		next := newID("b")
		finish(t, bindingPath(i, next), rotate(t, s, m, i, next, b, "service_id", quote(s.id), "plan_id", quote(m.plan)).want(t, 201, 202))
		rotate(t, s, m, i, b, old).want(t, 200) // its predecessor is gone, it is not
	})
}

func TestSection09RotationRefused(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan, m := s.plan("base"), mode{incomplete: true}
		i, other := s.instance(t, plan), s.instance(t, plan)
		b, _ := s.binding(t, i, plan)
		foreign, _ := s.binding(t, other, plan)
		gone, _ := s.binding(t, i, plan)
		full.do(t, http.MethodDelete, bindingPath(i, gone)+s.ids(plan), "").want(t, 200)
		for name, predecessor := range map[string]string{"unknown": newID("b"), "of another instance": foreign, "removed": gone} {
			t.Run(name, func(t *testing.T) {
				id := newID("b")
				rotate(t, s, m, i, id, predecessor).wantError(t, 400, "")
				full.do(t, http.MethodGet, bindingPath(i, id)+"/last_operation", "").want(t, 404)
			})
		}
		rotate(t, s, m, i, newID("b"), b, "service_id", `"unknown"`).wantError(t, 400, "")
		rotate(t, s, m, i, newID("b"), b, "plan_id", quote(s.plan("other"))).wantError(t, 400, "")
		for _, bad := range []string{"1", `{}`, `[]`, "true"} {
			full.do(t, http.MethodPut, bindingPath(i, newID("b")), object("predecessor_binding_id", bad)).wantError(t, 400, "")
		}
		plan = s.plan("unrotatable")
		i = s.instance(t, plan)
		b, _ = s.binding(t, i, plan)
		rotate(t, s, m, i, newID("b"), b).wantError(t, 400, "")
		// An instance that is not there.
		rotate(t, s, m, newID("i"), newID("b"), b).want(t, 404)
	})
}

// A predecessor that is still being made, or that is being removed, is none.
func TestSection09RotationOfWhatIsUnfinished(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l, m := takeLane(t, s), mode{incomplete: true}
		i, b := s.instance(t, l.plan), newID("b")
		l.proxy.Hold()
		a := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		rotate(t, s, m, i, newID("b"), b).wantError(t, 400, "")
		l.proxy.Release()
		finish(t, bindingPath(i, b), a)
		l.proxy.Hold()
		a = full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		rotate(t, s, m, i, newID("b"), b).wantError(t, 400, "")
		l.proxy.Release()
		finish(t, bindingPath(i, b), a)
	})
}

// A rotation that is still running is one operation.
func TestSection09RepeatsWhileRotating(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l, m := takeLane(t, s), mode{incomplete: true}
		i := s.instance(t, l.plan)
		old, before := s.binding(t, i, l.plan)
		b := newID("b")
		l.proxy.Hold()
		a := rotate(t, s, m, i, b, old).want(t, 202)
		if again := rotate(t, s, m, i, b, old).want(t, 202); again.text("operation") != a.text("operation") {
			t.Errorf("first %s, then %s", a.shown(), again.shown())
		}
		s.wantLogin(t, before) // at the server itself, not through the proxy
		last := full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation?operation="+url.QueryEscape(a.text("operation")), "").want(t, 200)
		if last.text("state") != "in progress" {
			t.Errorf("got %s", last.shown())
		}
		l.proxy.Release()
		finish(t, bindingPath(i, b), a)
		s.wantLogin(t, before)
		s.wantLogin(t, credentialsOf(t, full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)))
	})
}
