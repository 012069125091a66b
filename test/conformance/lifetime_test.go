package conformance

import (
	"net/http"
	"testing"
	"time"

	"bindery/test/poll"
)

// moment reads a time as platforms do, with a fraction.
func moment(t *testing.T, a *answer, key string) time.Time {
	t.Helper()
	text, _ := a.object("metadata")[key].(string)
	at, err := time.Parse("2006-01-02T15:04:05.9Z", text)
	if err != nil || text != at.Format("2006-01-02T15:04:05.0Z") {
		t.Fatalf("%s is %q (%v)", key, text, err)
	}
	return at
}

// A binding of two seconds says when it ends, and does: nobody asks for that.
func TestSection09BindingsThatExpire(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("limited")
		i, b := s.instance(t, plan), newID("b")
		made := full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan)).want(t, 201)
		expires, renew := moment(t, made, "expires_at"), moment(t, made, "renew_before")
		if left := time.Until(expires); left > 2*time.Second || expires.Sub(renew) != time.Second {
			t.Errorf("it expires in %v, and is to be renewed %v before", left, expires.Sub(renew))
		}
		open := s.wantLogin(t, credentialsOf(t, made))
		poll.Until(t, "its end", func() bool {
			return full.do(t, http.MethodGet, bindingPath(i, b), "").status == http.StatusNotFound
		})
		if time.Now().Before(expires) {
			t.Errorf("it ended %v before its time", time.Until(expires))
		}
		poll.Until(t, "the end of its session", func() bool { return open.use(t.Context()) != nil })
		s.wantRefused(t, credentialsOf(t, made))

		// A longer one is asked for, kept with its parameters, and passed on to its successor.
		b = newID("b")
		asked := full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan, "parameters", `{"lifetime":"30m"}`)).want(t, 201)
		fetched := full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200)
		if got := jsonText(fetched.body["parameters"]); got != `{"lifetime":"30m"}` {
			t.Errorf("parameters: got %s", got)
		}
		first := moment(t, asked, "expires_at")
		if moment(t, fetched, "expires_at") != first || time.Until(first) < 29*time.Minute {
			t.Errorf("it expires in %v, fetched: %v", time.Until(first), moment(t, fetched, "expires_at"))
		}
		next := full.do(t, http.MethodPut, bindingPath(i, newID("b")), `{"predecessor_binding_id":`+quote(b)+`}`).want(t, 201)
		if moment(t, next, "expires_at").Before(first) {
			t.Error("the successor ends before its predecessor")
		}
		full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(plan, "parameters", `{"lifetime":"2h"}`)).want(t, 400)
		// Where the plan has no limit to it, the parameter is none.
		j := s.instance(t, s.plan("base"))
		full.do(t, http.MethodPut, bindingPath(j, newID("b")), s.bindBody(s.plan("base"), "parameters", `{"lifetime":"5s"}`)).want(t, 400)
	})
}
