package conformance

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"
)

// Only true is permission; what is neither true nor false is malformed.
func TestSection05AcceptsIncomplete(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("async")
		i := s.instance(t, plan)
		for _, q := range []string{"?accepts_incomplete=yes", "?accepts_incomplete=1", "?accepts_incomplete=TRUE", "?accepts_incomplete=", "?accepts_incomplete=true&accepts_incomplete=false"} {
			full.do(t, http.MethodPut, instancePath(newID("i"))+q, s.provisionBody(plan)).wantError(t, 400, "")
			full.do(t, http.MethodPatch, instancePath(i)+q, object("service_id", quote(s.id))).wantError(t, 400, "")
			full.do(t, http.MethodPut, bindingPath(i, newID("b"))+q, s.bindBody(plan)).wantError(t, 400, "")
			full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan)+"&"+q[1:], "").wantError(t, 400, "")
		}
	})
}

// All five: provision, update, bind, unbind, deprovision.
func TestSection05AsyncRequired(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("async")
		i := s.instance(t, plan)
		b, credentials := s.binding(t, i, plan)
		towards := s.instance(t, s.plan("base"))
		for _, q := range []string{"", "accepts_incomplete=false"} {
			id := newID("i")
			full.do(t, http.MethodPut, instancePath(id)+"?"+q, s.provisionBody(plan)).wantError(t, 422, "AsyncRequired")
			full.do(t, http.MethodGet, instancePath(id)+"/last_operation", "").want(t, 404)
			full.do(t, http.MethodDelete, instancePath(id)+s.ids(plan)+"&"+q, "").wantEmpty(t, 410)
			full.do(t, http.MethodPatch, instancePath(i)+"?"+q, object("service_id", quote(s.id), "plan_id", quote(s.plan("other")))).wantError(t, 422, "AsyncRequired")
			full.do(t, http.MethodPatch, instancePath(towards)+"?"+q, object("service_id", quote(s.id), "plan_id", quote(plan))).wantError(t, 422, "AsyncRequired")
			full.do(t, http.MethodPut, bindingPath(i, newID("b"))+"?"+q, s.bindBody(plan)).wantError(t, 422, "AsyncRequired")
			full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(plan)+"&"+q, "").wantError(t, 422, "AsyncRequired")
			full.do(t, http.MethodDelete, instancePath(i)+s.ids(plan)+"&"+q, "").wantError(t, 422, "AsyncRequired")
		}
		// Nothing happened, and with permission all of it does.
		s.wantLogin(t, credentials)
		m := mode{plan: plan, incomplete: true}
		finish(t, bindingPath(i, b), full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").want(t, 200, 202))
		s.wantRefused(t, credentials)
		finish(t, instancePath(i), full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").want(t, 200, 202))
	})
}

var token = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)

// An accepted answer: its status, its operation, no credentials, where to look for the end.
func TestSection05Accepted(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := newID("i"), newID("b")
		check := func(a *answer, path string) {
			t.Helper()
			operation := a.want(t, 202).text("operation")
			if !token.MatchString(operation) || len(operation) > 10000 {
				t.Errorf("%s: the operation %q", path, operation)
			}
			if a.object("credentials") != nil {
				t.Errorf("%s: 202 has credentials", path)
			}
			if got := full.do(t, http.MethodGet, path+"/last_operation?operation="+url.QueryEscape(operation), "").want(t, 200); got.text("state") != "in progress" || got.header.Get("Retry-After") == "" {
				t.Errorf("%s: %s, Retry-After %q", path, got.shown(), got.header.Get("Retry-After"))
			}
			l.proxy.Release()
			finish(t, path, a)
			if got := full.do(t, http.MethodGet, path+"/last_operation", "").want(t, 200); got.header.Get("Retry-After") != "" {
				t.Errorf("%s: Retry-After %q at the end", path, got.header.Get("Retry-After"))
			}
		}
		if s.kind == postgresKind { // on Redis nothing is asked of the server
			l.proxy.Hold()
		}
		a := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan))
		// The first answer has the address of the dashboard, 202 too.
		if want := "https://dashboard.example.com/" + s.kind + "-full/" + l.plan + "/" + i; a.text("dashboard_url") != want {
			t.Errorf("dashboard_url is %q, want %q", a.text("dashboard_url"), want)
		}
		if s.kind == postgresKind {
			check(a, instancePath(i))
		} else {
			a.want(t, 201)
		}
		l.proxy.Hold()
		check(full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)), bindingPath(i, b))
		credentials := credentialsOf(t, full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200))
		s.wantLogin(t, credentials)
		l.proxy.Hold()
		check(full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", ""), bindingPath(i, b))
		s.wantRefused(t, credentials)
		if s.kind == postgresKind {
			l.proxy.Hold()
			a = full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other)))
			if want := "https://dashboard.example.com/" + s.kind + "-full/" + l.other + "/" + i; a.text("dashboard_url") != want {
				t.Errorf("dashboard_url of the update is %q, want %q", a.text("dashboard_url"), want)
			}
			check(a, instancePath(i))
		}
		l.proxy.Hold()
		check(full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan)+"&accepts_incomplete=true", ""), instancePath(i))
	})
}

// A repeat without permission is never answered 202: it waits for the end.
func TestSection05RepeatWithoutPermissionIsNeverAccepted(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		l.proxy.Hold()
		full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		joined := later(t, func() *answer { return full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(l.plan)) })
		// A platform that never knew asynchronous binds waits too.
		old := later(t, func() *answer {
			return full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan), version("2.13"))
		})
		// As it joins, the binding is still being made.
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		l.proxy.Release()
		for _, a := range []*answer{joined().want(t, 200, 201), old().want(t, 200, 201)} {
			s.wantLogin(t, credentialsOf(t, a))
		}
	})
}

// Where nobody may wait for the end, a repeat without permission does not either.
func TestSection05RepeatOnAsyncOnlyPlanIsRefusedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := newID("i"), newID("b")
		begin := func(method, path, query, body string) {
			t.Helper()
			if s.kind == postgresKind || path != instancePath(i) { // on Redis nothing is asked of the server for an instance
				l.proxy.Hold()
			}
			a := full.do(t, method, path+"?"+query+"&accepts_incomplete=true", body).want(t, 200, 201, 202)
			if a.status == 202 {
				limit, err := time.ParseDuration(requestWait)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				full.do(t, method, path+"?"+query, body).wantError(t, 422, "AsyncRequired")
				if took := time.Since(began); took >= limit {
					t.Errorf("%s %s was refused after %v", method, path, took)
				}
				full.do(t, method, path+"?"+query+"&accepts_incomplete=true", body).want(t, 202)
			} else if path != instancePath(i) {
				t.Errorf("%s %s: want 202, got %s", method, path, a.shown())
			}
			l.proxy.Release()
			finish(t, path, a)
		}
		begin(http.MethodPut, instancePath(i), "", s.provisionBody(l.async))
		begin(http.MethodPut, bindingPath(i, b), "", s.bindBody(l.async))
		begin(http.MethodDelete, bindingPath(i, b), s.ids(l.async)[1:], "")
		begin(http.MethodDelete, instancePath(i), s.ids(l.async)[1:], "")
	})
}

// Below 2.14 there are no asynchronous binds and unbinds.
func TestSection05OldPlatformsGetNoAsyncBind(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("async")
		i := s.instance(t, plan)
		b, _ := s.binding(t, i, plan)
		full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(plan), version("2.13")).wantError(t, 422, "AsyncRequired")
		full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(plan)+"&accepts_incomplete=true", "", version("2.13")).wantError(t, 422, "AsyncRequired")
	})
}
