package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bindery/test/poll"
)

// crowd is how many ask at once.
const crowd = 50

// together sends the requests at the same time and returns the answers.
func together(t *testing.T, n int, send func(k int) *answer) []*answer {
	t.Helper()
	start, waits := make(chan struct{}), make([]func() *answer, n)
	for k := range n {
		waits[k] = later(t, func() *answer {
			<-start
			return send(k)
		})
	}
	close(start)
	all := make([]*answer, n)
	for k := range n {
		all[k] = waits[k]()
	}
	return all
}

// Fifty identical binds make one account and one credential.
func TestSection08IdenticalBindsMakeOneAccount(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for name, q := range map[string]string{"sync": "", "async": pollable} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				identicalBinds(t, s, q)
			})
		}
	})
}

func identicalBinds(t *testing.T, s *service, q string) {
	l := takeLane(t, s)
	i, b := s.instance(t, l.plan), newID("b")
	before := s.accounts(t, l)
	answers := together(t, crowd, func(int) *answer {
		return full.do(t, http.MethodPut, bindingPath(i, b)+q, s.bindBody(l.plan, "parameters", s.bindParameters))
	})
	all := map[string]bool{}
	for _, a := range answers {
		if a.want(t, 200, 201, 202).status == 202 && q != "" {
			finish(t, bindingPath(i, b), a)
			continue
		}
		all[jsonText(credentialsOf(t, a))] = true
	}
	fetched := credentialsOf(t, full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200))
	if all[jsonText(fetched)] = true; len(all) != 1 {
		t.Errorf("there are %d credentials", len(all))
	}
	s.wantLogin(t, fetched)
	if got := s.accounts(t, l) - before; got != 1 {
		t.Errorf("%d accounts were made", got)
	}
}

// Fifty provisions of one id with different bodies: one winner, 49 conflicts.
func TestSection08DifferentProvisionsHaveOneWinner(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i := newID("i")
		body := func(k int) string {
			return s.provisionBody(m.plan, "space_guid", quote(fmt.Sprint("space-", k)))
		}
		winner := -1
		for k, a := range together(t, crowd, func(k int) *answer {
			return full.do(t, http.MethodPut, instancePath(i)+m.query(), body(k))
		}) {
			if a.want(t, 201, 202, 409).status == 409 {
				continue
			}
			if winner >= 0 {
				t.Errorf("%d and %d have won", winner, k)
			}
			winner = k
			finish(t, instancePath(i), a)
		}
		if winner < 0 {
			t.Fatal("nobody has won")
		}
		full.do(t, http.MethodPut, instancePath(i), body(winner)).want(t, 200)
	})
}

// Fifty identical provisions are one, and fifty deletes too.
func TestSection08IdenticalProvisionsAndDeletes(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i, operations := newID("i"), map[string]bool{}
		for _, a := range together(t, crowd, func(int) *answer {
			return full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan))
		}) {
			if a.want(t, 200, 201, 202).status == 202 {
				operations[a.text("operation")] = true
				finish(t, instancePath(i), a)
			}
		}
		if len(operations) > 1 {
			t.Errorf("%d operations", len(operations))
		}
		operations = map[string]bool{}
		for _, a := range together(t, crowd, func(int) *answer {
			return full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "")
		}) {
			if a.want(t, 200, 202, 410).status == 202 {
				operations[a.text("operation")] = true
				finish(t, instancePath(i), a)
			}
		}
		if len(operations) > 1 {
			t.Errorf("%d operations", len(operations))
		}
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 404)
	})
}

// Binds of one instance run beside each other; what changes the instance is
// refused meanwhile, with the word that keeps platforms from cleaning up.
func TestSection08BindsExcludeChanges(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		l.proxy.Hold()
		one, two := newID("b"), newID("b")
		a := full.do(t, http.MethodPut, bindingPath(i, one)+pollable, s.bindBody(l.plan)).want(t, 202)
		b := full.do(t, http.MethodPut, bindingPath(i, two)+pollable, s.bindBody(l.plan)).want(t, 202)
		full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other))).wantError(t, 422, "ConcurrencyError")
		l.proxy.Release()
		finish(t, bindingPath(i, one), a)
		finish(t, bindingPath(i, two), b)
		finish(t, instancePath(i), full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "plan_id", quote(l.other))).want(t, 200, 202))
	})
}

// A delete during the create wins: the create reports failed, the delete
// succeeded, nothing is left.
func TestSection10DeleteDuringBindWins(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		before := s.accounts(t, l)
		l.proxy.HoldReplies() // the server makes it, and nobody learns of it
		a := full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(l.plan)).want(t, 202)
		d := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		if a.text("operation") == d.text("operation") {
			t.Error("create and delete are one operation")
		}
		l.proxy.Release()
		finish(t, bindingPath(i, b), d)
		if got := end(t, bindingPath(i, b), a.text("operation")); got.text("state") != "failed" {
			t.Errorf("the create reports %s", got.shown())
		}
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan), "").wantEmpty(t, 410)
		if got := s.accounts(t, l); got != before {
			t.Errorf("there were %d accounts, and are %d", before, got)
		}
	})
}

func TestSection10DeleteDuringProvisionWins(t *testing.T) {
	t.Parallel()
	s := services[1] // the other has no provision that takes time
	l := takeLane(t, s)
	i := newID("i")
	l.proxy.HoldReplies()
	a := full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).want(t, 202)
	d := full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
	full.do(t, http.MethodPut, instancePath(i)+pollable, s.provisionBody(l.plan)).wantError(t, 422, "ConcurrencyError")
	l.proxy.Release()
	finish(t, instancePath(i), d)
	if got := end(t, instancePath(i), a.text("operation")); got.text("state") != "failed" {
		t.Errorf("the create reports %s", got.shown())
	}
	full.do(t, http.MethodGet, instancePath(i), "").want(t, 404)
	full.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan), "").wantEmpty(t, 410)
}

// A caller that goes away, as platforms do after 60 seconds, leaves something
// that is recorded and can be deleted.
func TestSection10TheCallerGoesAway(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		before := s.accounts(t, l)
		l.proxy.Hold()
		abandon(t, bindingPath(i, b), s.bindBody(l.plan))
		poll.Until(t, "a record", func() bool {
			return full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation", "").want(t, 200, 404).status == 200
		})
		d := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 200, 202)
		l.proxy.Release()
		finish(t, bindingPath(i, b), d)
		if got := s.accounts(t, l); got != before {
			t.Errorf("there were %d accounts, and are %d", before, got)
		}
		// Without a delete the work goes on to its end.
		b = newID("b")
		l.proxy.Hold()
		abandon(t, bindingPath(i, b), s.bindBody(l.plan))
		l.proxy.Release()
		poll.Until(t, "the binding", func() bool {
			return full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 200, 404).status == 200
		})
		s.wantLogin(t, credentialsOf(t, full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(l.plan)).want(t, 200)))
	})
}

// abandon sends a PUT and hangs up before the answer.
func abandon(t *testing.T, path, body string) {
	t.Helper()
	ctx, hangUp := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer hangUp()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, full.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.SetBasicAuth(full.username, full.password)
	if res, err := client.Do(req); err == nil {
		_ = res.Body.Close()
		t.Fatalf("answered %d before anybody could hang up", res.StatusCode)
	}
}

// Who cannot poll is answered within the platform's 60 seconds: with a failure
// that makes it send a delete, and nothing is left.
func TestSection10SlowWorkIsUndoneInTime(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i, b := s.instance(t, l.plan), newID("b")
		before := s.accounts(t, l)
		l.proxy.Hold()
		began := time.Now()
		a := full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(l.plan))
		if a.status < 500 || time.Since(began) > 55*time.Second {
			t.Errorf("answered %d after %s", a.status, time.Since(began))
		}
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		l.proxy.Release()
		d := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 200, 202, 410)
		finish(t, bindingPath(i, b), d)
		full.do(t, http.MethodGet, bindingPath(i, b), "").want(t, 404)
		poll.Until(t, "the accounts as before", func() bool { return s.accounts(t, l) == before })
	})
}

// A server that cannot be reached fails nothing that can wait; deletes that were
// accepted are carried out when it is back.
func TestSection10BackendAway(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		i := s.instance(t, l.plan)
		b, credentials := s.binding(t, i, l.plan)
		if err := l.proxy.Refuse(true); err != nil {
			t.Fatal(err)
		}
		l.proxy.Cut()
		another := newID("b")
		made := full.do(t, http.MethodPut, bindingPath(i, another)+pollable, s.bindBody(l.plan)).want(t, 202)
		removed := full.do(t, http.MethodDelete, bindingPath(i, b)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		// What is known needs no backend.
		full.do(t, http.MethodGet, instancePath(i), "").want(t, 200)
		full.do(t, http.MethodPut, instancePath(i), s.provisionBody(l.plan)).want(t, 200)
		if err := l.proxy.Refuse(false); err != nil {
			t.Fatal(err)
		}
		finish(t, bindingPath(i, another), made)
		finish(t, bindingPath(i, b), removed)
		s.wantRefused(t, credentials)
	})
}

// What is unknown, half made or gone: a delete is always answered.
func TestSection10DeleteIsIdempotent(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service, m mode) {
		i, b := newID("i"), newID("b")
		full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").wantEmpty(t, 410)
		full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").wantEmpty(t, 410)
		finish(t, instancePath(i), full.do(t, http.MethodPut, instancePath(i)+m.query(), s.provisionBody(m.plan)).want(t, 201, 202))
		full.do(t, http.MethodDelete, bindingPath(i, b)+m.removal(s), "").wantEmpty(t, 410)
		finish(t, instancePath(i), full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").want(t, 200, 202))
		for range 3 {
			full.do(t, http.MethodDelete, instancePath(i)+m.removal(s), "").wantEmpty(t, 410)
		}
		// No body of it all: also with permission that nobody needs, and odd ids.
		full.do(t, http.MethodDelete, instancePath(i)+"?service_id=x&plan_id=y&accepts_incomplete=true", "").wantEmpty(t, 410)
	})
}

// Contexts of all platforms are opaque.
func TestSection11ContextsAreOpaque(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan := s.plan("base")
		for _, c := range []string{
			`{"platform":"cloudfoundry","organization_guid":"o","organization_name":"n","space_guid":"s","space_name":"n","instance_name":"i","organization_annotations":{"a/b":"c"}}`,
			`{"platform":"kubernetes","namespace":"n","clusterid":"c","instance_name":"i","namespace_annotations":{"a":"b"}}`,
			`{"platform":"of-tomorrow","x":[{"y":null}]}`, `{}`, "null",
		} {
			i, b := newID("i"), newID("b")
			full.do(t, http.MethodPut, instancePath(i), s.provisionBody(plan, "context", c)).want(t, 201)
			full.do(t, http.MethodPut, bindingPath(i, b), s.bindBody(plan, "context", c)).want(t, 201)
			full.do(t, http.MethodPatch, instancePath(i), object("service_id", quote(s.id), "context", c)).want(t, 200)
		}
	})
}
