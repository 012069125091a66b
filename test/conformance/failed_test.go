package conformance

import (
	"net/http"
	"testing"

	"bindery/test/poll"
)

// cancel is what an operator does to an operation, which makes it fail.
func cancel(t *testing.T, operation string) {
	t.Helper()
	full.admin(t, http.MethodPost, "/operations/"+operation+"/cancel", `{"reason":"conformance"}`).want(t, 200)
}

// wantFailed follows an operation to its failure, which says something and has
// no flag that is not its kind's.
func wantFailed(t *testing.T, path, operation string, flags ...string) {
	t.Helper()
	last := end(t, path, operation)
	if last.text("state") != "failed" || last.text("description") == "" {
		t.Fatalf("got %s", last.shown())
	}
	allowed := map[string]bool{"state": true, "description": true}
	for _, f := range flags {
		allowed[f] = true
	}
	for key := range last.body {
		if !allowed[key] {
			t.Errorf("there is %s: %s", key, last.shown())
		}
	}
}

// A bind that failed is not there, and leaves nothing that a delete would miss.
func TestSection06FailedBind(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		before := s.accounts(t, l)
		l.proxy.HoldReplies()
		a := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		cancel(t, a.text("operation"))
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		// It is not there, and not yet gone: no success is answered.
		full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202, 409, 422)
		l.proxy.Release()
		wantFailed(t, bindingPath(i, b), a.text("operation"))
		d := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 200, 202, 410)
		finish(t, bindingPath(i, b), d)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		poll.Until(t, "the accounts as before", func() bool { return s.accounts(t, l) == before })
	})
}

// So is a provision.
func TestSection06FailedProvision(t *testing.T) {
	t.Parallel()
	s := services[1] // the other has no provision that takes time
	l := takeLane(t, s)
	i := newID("i")
	l.proxy.HoldReplies()
	a := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).want(t, 202)
	cancel(t, a.text("operation"))
	full.do(t, http.MethodGet, instancePath(i), "").want(t, 404)
	if again := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)); again.status < 202 {
		t.Errorf("an instance that failed is answered %d", again.status)
	}
	l.proxy.Release()
	wantFailed(t, instancePath(i), a.text("operation"))
	d := full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 200, 202, 410)
	finish(t, instancePath(i), d)
	full.do(t, http.MethodGet, instancePath(i), "").want(t, 404)
	full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan), "").wantEmpty(t, 410)
}

// An update that failed has applied nothing, and the instance is as before.
func TestSection07FailedUpdate(t *testing.T) {
	t.Parallel()
	s := services[1]
	l := takeLane(t, s)
	i := s.instance(t, l.plan)
	before := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
	l.proxy.HoldReplies()
	a := full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other), "parameters", s.parameters)).want(t, 202)
	cancel(t, a.text("operation"))
	l.proxy.Release()
	wantFailed(t, instancePath(i), a.text("operation"), "instance_usable", "update_repeatable")
	poll.Until(t, "the instance as before", func() bool {
		b := full.do(t, http.MethodPut, bindingPath(i, newID("b"))+pollable, s.bindBody(l.plan)).want(t, 201, 202, 422)
		return b.status != 422
	})
	if after := full.do(t, http.MethodGet, instancePath(i), "").want(t, 200); string(after.raw) != string(before.raw) {
		t.Errorf("was %s, is %s", before.raw, after.raw)
	}
	full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).want(t, 200)
}

// A removal that failed is carried on by the next delete.
func TestSection07FailedDeleteIsRetried(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		b, credentials := s.binding(t, i, l.plan)
		for _, one := range []struct {
			path  string
			flags []string
		}{{bindingPath(i, b), nil}, {instancePath(i), []string{"instance_usable"}}} {
			remove := one.path + s.ids(l.plan) + "&accepts_incomplete=true"
			l.proxy.Hold()
			first := full.do(t, http.MethodDelete, remove, "").want(t, 202)
			cancel(t, first.text("operation"))
			wantFailed(t, one.path, first.text("operation"), one.flags...)
			second := full.do(t, http.MethodDelete, remove, "").want(t, 202)
			if first.text("operation") == second.text("operation") {
				t.Error("the second delete is the one that failed")
			}
			l.proxy.Release()
			finish(t, one.path, second)
			full.do(t, http.MethodGet, one.path, "").want(t, 404)
			full.do(t, http.MethodDelete, remove, "").wantEmpty(t, 410)
			s.wantRefused(t, credentials)
			wantFailed(t, one.path, first.text("operation"), one.flags...)
		}
	})
}
