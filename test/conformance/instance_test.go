package conformance

import (
	"net/http"
	"sync"
	"testing"

	"bindery/test/poll"
)

func TestSection07ProvisionFetchDeprovision(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := newID("i")
		full.do(t, http.MethodGet, instancePath(i), "").wantError(t, 404, "")
		a := full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan, "parameters", s.parameters, "context", `{"platform":"cloudfoundry","instance_name":"mine"}`)).want(t, 201, 202)
		dashboard := a.text("dashboard_url")
		if dashboard == "" {
			t.Error("there is no dashboard_url in the first answer")
		}
		finish(t, instancePath(i), a)
		for _, hints := range []string{"", "?service_id=" + s.id + "&plan_id=" + m.plan, "?service_id=x&plan_id=y"} {
			got := full.do(t, http.MethodGet, instancePath(i)+hints, "").want(t, 200)
			if got.text("service_id") != s.id || got.text("plan_id") != m.plan || got.text("dashboard_url") != dashboard {
				t.Errorf("fetched %s", got.shown())
			}
			if want := s.parameters; want != "" && jsonText(got.body["parameters"]) != want {
				t.Errorf("parameters: got %s, want %s", jsonText(got.body["parameters"]), want)
			}
		}
		a = full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").want(t, 200, 202)
		if a.status == 200 {
			a.wantEmpty(t, 200)
		}
		finish(t, instancePath(i), a)
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 404)
		full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").wantEmpty(t, 410)
		// An id that is free again may be taken again.
		finish(t, instancePath(i), full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan)).want(t, 201, 202))
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
	})
}

// Identical is what says the same, not what is written the same; who asks and
// the context do not count.
func TestSection07Repeats(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := s.instance(t, m.plan, "parameters", s.parameters, "context", `{"platform":"kubernetes","namespace":"a"}`)
		same := map[string]string{
			"the same":         s.provisionBody(m.plan, "parameters", s.parameters),
			"another context":  s.provisionBody(m.plan, "parameters", s.parameters, "context", `{"platform":"kubernetes","namespace":"b"}`),
			"an unknown field": s.provisionBody(m.plan, "parameters", s.parameters, "x-vendor", `{"a":[1,null]}`),
			"written otherwise": object("parameters", s.parametersAgain, "space_guid", `"space\u002d1"`, "organization_guid", `"org-1"`,
				"plan_id", quote(m.plan), "service_id", quote(s.id)),
		}
		for name, body := range same {
			for _, q := range []string{"", pollable} {
				a := full.do(t, http.MethodPut, instancePath(i)+q, body)
				if a.status != 200 || a.text("dashboard_url") == "" {
					t.Errorf("%s: got %d %s", name, a.status, a.shown())
				}
			}
		}
		different := map[string]string{
			"another plan":         s.provisionBody(s.plan("other"), "parameters", s.parameters),
			"another service":      s.provisionBody(m.plan, "parameters", s.parameters, "service_id", quote(s.id+"-plain")),
			"an unknown plan":      s.provisionBody("unknown", "parameters", s.parameters),
			"another organization": s.provisionBody(m.plan, "parameters", s.parameters, "organization_guid", `"org-2"`),
			"another space":        s.provisionBody(m.plan, "parameters", s.parameters, "space_guid", `"space-2"`),
			"parameters in error":  s.provisionBody(m.plan, "parameters", `{"size":1}`),
		}
		if s.parameters != "" {
			different["other parameters"] = s.provisionBody(m.plan, "parameters", s.parametersOther)
			different["no parameters"] = s.provisionBody(m.plan)
		}
		for name, body := range different {
			for _, q := range []string{"", pollable} {
				if a := full.do(t, http.MethodPut, instancePath(i)+q, body); a.status != 409 {
					t.Errorf("%s: got %d %s", name, a.status, a.shown())
				}
			}
		}
	})
}

// After an update the original request is another one, and the current state is the same.
func TestSection07RepeatAfterUpdate(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := s.instance(t, m.plan)
		finish(t, instancePath(i), full.do(t, http.MethodPatch, instancePath(i)+m.query(), object("service_id", quote(s.id), "plan_id", quote(s.plan("other")))).want(t, 200, 202))
		full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan)).want(t, 409)
		full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(s.plan("other"))).want(t, 200)
	})
}

// While it is made: 202 with the same operation, 409 for another, 404 for a fetch.
// On Redis an instance is made at once, so this is PostgreSQL's; binds hold for both.
func TestSection07RepeatsWhileProvisioning(t *testing.T) {
	t.Parallel()
	s := services[1]
	l := takeLane(t, s)
	i := newID("i")
	l.proxy.Hold()
	a := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).want(t, 202)
	for range 3 {
		again := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan, "context", `{"platform":"x"}`)).want(t, 202)
		if again.text("operation") != a.text("operation") || again.text("dashboard_url") != a.text("dashboard_url") {
			t.Errorf("first %s, then %s", a.shown(), again.shown())
		}
	}
	full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.other)).want(t, 409)
	full.do(t, http.MethodPut, instancePath(i), s.provisionBody(l.other)).want(t, 409)
	full.do(t, http.MethodGet, instancePath(i), "").wantError(t, 404, "")
	full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other))).wantError(t, 422, "ConcurrencyError")
	full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(l.plan)).wantError(t, 422, "ConcurrencyError")
	l.proxy.Release()
	finish(t, instancePath(i), a)
	full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
	full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).want(t, 200)
}

func TestSection07MaintenanceInfoOnProvision(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan, good, bad := s.plan("maintained"), `{"version":"1.2.0+build.5"}`, `{"version":"1.1.0"}`
		id := newID("i")
		full.do(t, http.MethodPut, instancePath(id), s.provisionBody(plan, "maintenance_info", bad)).wantError(t, 422, "MaintenanceInfoConflict")
		full.do(t, http.MethodPut, instancePath(id), s.provisionBody(plan, "maintenance_info", `{"version":"1.2.0"}`)).wantError(t, 422, "MaintenanceInfoConflict")
		full.do(t, http.MethodPut, instancePath(id), s.provisionBody(s.plan("base"), "maintenance_info", good)).wantError(t, 422, "MaintenanceInfoConflict")
		full.do(t, http.MethodGet, instancePath(id)+"/last_operation", "").want(t, 404)
		full.do(t, http.MethodPut, instancePath(newID("i")), s.provisionBody(plan)).want(t, 201)
		// Only the version counts.
		full.do(t, http.MethodPut, instancePath(id), s.provisionBody(plan, "maintenance_info", `{"version":"1.2.0+build.5","description":"other"}`)).want(t, 201)
		got := full.do(t, http.MethodGet, instancePath(id), "").want(t, 200).object("maintenance_info")
		if got["version"] != "1.2.0+build.5" {
			t.Errorf("got %v", got)
		}
	})
}

func TestSection07UpdatePlan(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := s.instance(t, m.plan, "parameters", s.parameters)
		b, credentials := s.binding(t, i, m.plan)
		a := full.do(t, http.MethodPatch, instancePath(i)+m.query(), object("service_id", quote(s.id), "plan_id", quote(s.plan("other")),
			"previous_values", object("plan_id", quote(m.plan), "service_id", quote(s.id), "organization_id", `"org-1"`, "space_id", `"space-1"`))).want(t, 200, 202)
		finish(t, instancePath(i), a)
		got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
		if got.text("plan_id") != s.plan("other") {
			t.Errorf("plan %s", got.text("plan_id"))
		}
		// Parameters that are absent do not change.
		if s.parameters != "" && jsonText(got.body["parameters"]) != s.parameters {
			t.Errorf("parameters became %s", jsonText(got.body["parameters"]))
		}
		if want := "https://dashboard.example.com/" + s.kind + "-full/other/" + i; a.text("dashboard_url") != want || got.text("dashboard_url") != want {
			t.Errorf("dashboard_url: answered %q, fetched %q, want %q", a.text("dashboard_url"), got.text("dashboard_url"), want)
		}
		// Bindings live on, and are the instance's under its new plan.
		s.wantLogin(t, credentials)
		full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(s.plan("other"))).want(t, 201)
		// Orphan mitigation may still send the old plan.
		m.plan = s.plan("base")
		finish(t, bindingPath(i, b), full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").want(t, 200, 202))
		s.wantRefused(t, credentials)
	})
}

// What a PATCH does not name does not change; what changes nothing is 200.
func TestSection07UpdateOfNothing(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan, "parameters", s.parameters)
		before := string(full.do(t, http.MethodGet, instancePath(i), "").want(t, 200).raw)
		for name, body := range map[string]string{
			"only the service": object("service_id", quote(s.id)),
			"the same plan":    object("service_id", quote(s.id), "plan_id", quote(plan)),
			"null":             object("service_id", quote(s.id), "plan_id", "null", "parameters", "null", "context", "null"),
			"the same again":   object("service_id", quote(s.id), "plan_id", quote(plan), "parameters", s.parametersAgain),
			"unknown fields":   object("service_id", quote(s.id), "x-vendor", "1"),
			"context":          object("service_id", quote(s.id), "context", `{"platform":"cloudfoundry","instance_name":"renamed"}`),
		} {
			full.do(t, http.MethodPatch, instancePath(i), body).want(t, 200)
			if after := string(full.do(t, http.MethodGet, instancePath(i), "").want(t, 200).raw); after != before {
				t.Errorf("%s: was %s, is %s", name, before, after)
			}
		}
	})
}

func TestSection07UpdateParameters(t *testing.T) {
	t.Parallel()
	s := services[1] // an instance of the other takes none
	i := s.instance(t, s.plan("base"), "parameters", s.parameters)
	finish(t, instancePath(i), full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "parameters", s.parametersOther)).want(t, 200, 202))
	got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
	if got.text("plan_id") != s.plan("base") || jsonText(got.body["parameters"]) != s.parametersOther {
		t.Errorf("got %s", got.shown())
	}
	// A change that can never be made says so, and nothing is applied of it: also not the plan.
	a := full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(s.plan("other")), "parameters", `{"extensions":[]}`)).want(t, 422)
	if a.body["update_repeatable"] != false || a.text("error") != "" {
		t.Errorf("got %s", a.shown())
	}
	if after := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200); string(after.raw) != string(got.raw) {
		t.Errorf("was %s, is %s", got.raw, after.raw)
	}
	// Over a plan that is fixed parameters change all the same.
	i = s.instance(t, s.plan("fixed"))
	finish(t, instancePath(i), full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "parameters", s.parameters)).want(t, 200, 202))
}

func TestSection07UpdateRefused(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		fixed, base := s.instance(t, s.plan("fixed")), s.instance(t, s.plan("base"))
		plain := &service{kind: s.kind, id: s.id + "-plain"}
		other := plain.instance(t, s.plan("plain-a"))
		for _, q := range []string{"", pollable} {
			a := full.do(t, http.MethodPatch, instancePath(fixed)+q, object("service_id", quote(s.id), "plan_id", quote(s.plan("other")))).want(t, 422)
			if a.body["update_repeatable"] != false {
				t.Errorf("a plan that is not updateable: %s", a.shown())
			}
			full.do(t, http.MethodPatch, instancePath(other)+q, object("service_id", quote(plain.id), "plan_id", quote(s.plan("plain-b")))).want(t, 422)
			full.do(t, http.MethodPatch, instancePath(base)+q, object("service_id", quote(plain.id))).want(t, 400, 422)
			full.do(t, http.MethodPatch, instancePath(base)+q, object("service_id", quote(s.id), "plan_id", `"unknown"`)).want(t, 400, 422)
			full.do(t, http.MethodPatch, instancePath(base)+q, object("service_id", quote(s.id), "plan_id", quote(s.plan("plain-a")))).want(t, 400, 422)
			full.do(t, http.MethodPatch, instancePath(base)+q, object("service_id", quote(s.id), "plan_id", quote(s.plan("retired")))).want(t, 400, 422)
		}
		for id, plan := range map[string]string{fixed: "fixed", other: "plain-a", base: "base"} {
			if got := full.do(t, http.MethodGet, instancePath(id), "").want(t, 200).text("plan_id"); got != s.plan(plan) {
				t.Errorf("%s moved to %s", plan, got)
			}
		}
		full.do(t, http.MethodPatch, instancePath(newID("i")), object("service_id", quote(s.id))).want(t, 404)
	})
}

func TestSection07MaintenanceInfoOnUpdate(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		i := s.instance(t, s.plan("maintained"))
		patch := func(more ...string) *answer {
			t.Helper()
			return full.do(t, http.MethodPatch, instancePath(i), object(append([]string{"service_id", quote(s.id)}, more...)...))
		}
		patch("maintenance_info", `{"version":"9.9.9"}`).wantError(t, 422, "MaintenanceInfoConflict")
		patch("maintenance_info", `{"version":"1.2.0+build.5"}`).want(t, 200)
		// With another plan the version is the target's.
		patch("plan_id", quote(s.plan("maintained-other")), "maintenance_info", `{"version":"1.2.0+build.5"}`).wantError(t, 422, "MaintenanceInfoConflict")
		patch("plan_id", quote(s.plan("other")), "maintenance_info", `{"version":"1.2.0+build.5"}`).wantError(t, 422, "MaintenanceInfoConflict")
		if got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200); got.text("plan_id") != s.plan("maintained") {
			t.Errorf("a refused update moved it: %s", got.shown())
		}
		patch("plan_id", quote(s.plan("maintained-other")), "maintenance_info", `{"version":"3.0.0-rc.1"}`).want(t, 200)
		got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
		if got.text("plan_id") != s.plan("maintained-other") || got.object("maintenance_info")["version"] != "3.0.0-rc.1" {
			t.Errorf("got %s", got.shown())
		}
	})
}

// While an update runs: the same again is the same operation, another is refused,
// the old state is what is fetched.
func TestSection07RepeatsWhileUpdating(t *testing.T) {
	t.Parallel()
	s := services[1]
	l := takeLane(t, s)
	i := s.instance(t, l.plan)
	l.proxy.Hold()
	change := object("service_id", quote(s.id), "plan_id", quote(l.other))
	a := full.do(t, http.MethodPatch, instancePath(i)+pollable, change).want(t, 202)
	if again := full.do(t, http.MethodPatch, instancePath(i)+pollable, change).want(t, 202); again.text("operation") != a.text("operation") {
		t.Errorf("first %s, then %s", a.shown(), again.shown())
	}
	full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "parameters", s.parameters)).wantError(t, 422, "ConcurrencyError")
	full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(l.plan)).wantError(t, 422, "ConcurrencyError")
	full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan)+"&accepts_incomplete=true", "").wantError(t, 422, "ConcurrencyError")
	got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200, 422)
	if got.status == 200 && got.text("plan_id") != l.plan {
		t.Errorf("an update that has not ended shows: %s", got.shown())
	}
	l.proxy.Release()
	finish(t, instancePath(i), a)
	if got := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200).text("plan_id"); got != l.other {
		t.Errorf("plan %s", got)
	}
}

func TestSection07DeprovisionQuery(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		i := s.instance(t, plan)
		for _, q := range []string{"", "?service_id=" + s.id, "?plan_id=" + plan, "?service_id=&plan_id=", "?service_id=" + s.id + "&plan_id="} {
			full.do(t, http.MethodDelete, instancePath(i)+q, "").wantError(t, 400, "")
			full.do(t, http.MethodDelete, instancePath(newID("i"))+q, "").wantError(t, 400, "")
		}
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
		// What is unknown is gone, whatever the hints are.
		full.do(t, http.MethodDelete, instancePath(newID("i"))+"?service_id=unknown&plan_id=unknown", "").wantEmpty(t, 410)
		// Orphan mitigation after a lost update sends the other plan.
		full.do(t, http.MethodDelete, instancePath(i)+s.ids(s.plan("other")), "").wantEmpty(t, 200)
	})
}

// While it is removed: the same operation again, nothing else is let in.
func TestSection07RepeatsWhileDeprovisioning(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		b, credentials := s.binding(t, i, l.plan)
		open := s.wantLogin(t, credentials)
		l.proxy.Hold()
		remove := instancePath(i) + s.ids(l.plan) + "&accepts_incomplete=true"
		a := full.do(t, http.MethodDelete, remove, "").want(t, 202)
		if again := full.do(t, http.MethodDelete, remove, "").want(t, 202); again.text("operation") != a.text("operation") {
			t.Errorf("first %s, then %s", a.shown(), again.shown())
		}
		full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).wantError(t, 422, "ConcurrencyError")
		full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other))).wantError(t, 422, "ConcurrencyError")
		full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(l.plan)).wantError(t, 422, "ConcurrencyError")
		l.proxy.Release()
		finish(t, instancePath(i), a)
		// The bindings that were left went along, with their sessions.
		wantEnded(t, open)
		s.wantRefused(t, credentials)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan), "").wantEmpty(t, 410)
		full.do(t, http.MethodDelete, remove, "").wantEmpty(t, 410)
	})
}

// A reload retires one plan and gives another a new version. What is there is
// served, repeats work, nothing new is made.
func TestSection07CatalogChanges(t *testing.T) {
	t.Parallel()
	type made struct{ retiring, maturing, binding string }
	all := map[*service]made{}
	for _, s := range services {
		i := s.instance(t, s.plan("retiring"))
		b, _ := s.binding(t, i, s.plan("retiring"))
		all[s] = made{i, s.instance(t, s.plan("maturing"), "maintenance_info", `{"version":"1.0.0"}`), b}
	}
	before := full.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200).header.Get("ETag")
	reload(t, "retired", "2.0.0")
	// As before for the next run; the catalog is then the first one, to its tag.
	defer func() {
		reload(t, "", "1.0.0")
		poll.Until(t, "the first catalog", func() bool {
			return full.do(t, http.MethodGet, "/v2/catalog", "", header("If-None-Match", before)).want(t, 200, 304).status == 304
		})
	}()
	poll.Until(t, "another catalog", func() bool {
		return full.do(t, http.MethodGet, "/v2/catalog", "", header("If-None-Match", before)).want(t, 200, 304).status == 200
	})
	var each sync.WaitGroup
	for _, s := range services {
		each.Go(func() {
			m, plan := all[s], s.plan("retiring")
			full.do(t, http.MethodGet, instancePath(m.retiring), "").want(t, 200)
			full.do(t, http.MethodPut, instancePath(m.retiring), s.provisionBody(plan)).want(t, 200)
			full.do(t, http.MethodPut, instancePath(newID("i")), s.provisionBody(plan)).wantError(t, 400, "")
			full.do(t, http.MethodPut, bindingPath(m.retiring, m.binding), s.bindBody(plan)).want(t, 200)
			full.do(t, http.MethodPut, bindingPath(m.retiring, newID("b")), s.bindBody(plan)).want(t, 201)
			full.do(t, http.MethodDelete, instancePath(m.retiring)+s.ids(plan), "").want(t, 200)

			maintained := func() any {
				return full.do(t, http.MethodGet, instancePath(m.maturing), "").want(t, 200).object("maintenance_info")["version"]
			}
			if got := maintained(); got != "1.0.0" {
				t.Errorf("%s: an instance from before has version %v", s.kind, got)
			}
			full.do(t, http.MethodPut, instancePath(m.maturing), s.provisionBody(s.plan("maturing"), "maintenance_info", `{"version":"1.0.0"}`)).want(t, 200)
			full.do(t, http.MethodPatch, instancePath(m.maturing), object("service_id", quote(s.id), "maintenance_info", `{"version":"1.0.0"}`)).wantError(t, 422, "MaintenanceInfoConflict")
			full.do(t, http.MethodPatch, instancePath(m.maturing), object("service_id", quote(s.id))).want(t, 200)
			if got := maintained(); got != "1.0.0" {
				t.Errorf("%s: nobody asked for an upgrade, and the version is %v", s.kind, got)
			}
			full.do(t, http.MethodPatch, instancePath(m.maturing), object("service_id", quote(s.id), "maintenance_info", `{"version":"2.0.0"}`)).want(t, 200)
			if got := maintained(); got != "2.0.0" {
				t.Errorf("%s: upgraded, and the version is %v", s.kind, got)
			}
		})
	}
	each.Wait()
}
