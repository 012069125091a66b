package conformance

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// What never was is 404, also where the instance is there.
func TestSection06NeverThereIsNotFound(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		i := s.instance(t, s.plan("base"))
		for _, path := range []string{instancePath(newID("i")), bindingPath(newID("i"), newID("b")), bindingPath(i, newID("b"))} {
			for _, q := range []string{"", "?operation=op-1", "?service_id=x&plan_id=y"} {
				full.do(t, http.MethodGet, path+"/last_operation"+q, "").wantError(t, 404, "")
			}
		}
		// An operation that is not this one's.
		for _, operation := range []string{"op-zzzzzzzz", "garbage", "%2F%00%ff", "../x", strings.Repeat("x", 10001)} {
			full.do(t, http.MethodGet, instancePath(i)+"/last_operation?operation="+url.QueryEscape(operation), "").wantError(t, 404, "")
		}
	})
}

// The hints are never a reason to refuse: after a change of plan platforms send the old.
func TestSection06HintsDecideNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := newID("i")
		a := full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan))
		operation := a.text("operation")
		finish(t, instancePath(i), a.want(t, 201, 202))
		update := full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(s.plan("other")))).want(t, 200, 202)
		finish(t, instancePath(i), update)
		for _, hints := range []string{"", "service_id=" + s.id + "&plan_id=" + m.plan, "service_id=" + s.id + "&plan_id=" + s.plan("other"), "service_id=x&plan_id=y"} {
			for _, o := range []string{"", operation, update.text("operation")} {
				q := hints
				if o != "" {
					q += "&operation=" + url.QueryEscape(o)
				}
				if got := full.do(t, http.MethodGet, instancePath(i)+"/last_operation?"+q, "").want(t, 200); got.text("state") != "succeeded" {
					t.Errorf("%s: %s", q, got.shown())
				}
			}
		}
	})
}

// Without an operation the latest is reported; with one, that one; each stays
// answerable after its end and after the delete.
func TestSection06EachOperationIsRemembered(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		l.proxy.Hold()
		bound := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		state := func(operation string) *answer {
			t.Helper()
			q := ""
			if operation != "" {
				q = "?operation=" + url.QueryEscape(operation)
			}
			return full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation"+q, "")
		}
		for _, o := range []string{"", bound.text("operation")} {
			if got := state(o).want(t, 200); got.text("state") != "in progress" {
				t.Errorf("%q: %s", o, got.shown())
			}
		}
		l.proxy.Release()
		finish(t, bindingPath(i, b), bound)
		l.proxy.Hold()
		unbound := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		for o, want := range map[string]string{"": "in progress", unbound.text("operation"): "in progress", bound.text("operation"): "succeeded"} {
			if got := state(o).want(t, 200); got.text("state") != want {
				t.Errorf("%q: got %s, want %s", o, got.shown(), want)
			}
		}
		l.proxy.Release()
		finish(t, bindingPath(i, b), unbound)
		for _, o := range []string{"", unbound.text("operation"), bound.text("operation")} {
			if got := state(o).want(t, 200); got.text("state") != "succeeded" {
				t.Errorf("after the end, %q: %s", o, got.shown())
			}
		}
		m.plan = l.plan
		removed := full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").want(t, 200, 202)
		finish(t, instancePath(i), removed)
		// Also with the instance gone: the platform still polls.
		if got := state(unbound.text("operation")).want(t, 200); got.text("state") != "succeeded" {
			t.Errorf("with the instance gone: %s", got.shown())
		}
		if got := full.do(t, http.MethodGet, instancePath(i)+"/last_operation", "").want(t, 200); got.text("state") != "succeeded" {
			t.Errorf("of the instance: %s", got.shown())
		}
	})
}
