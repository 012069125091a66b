package conformance

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bindery/test/poll"
)

// another starts a Bindery of its own, with lines added to the configuration.
// The function returned kills it, as nothing in it expects, and starts it again.
func another(t *testing.T, s *service, name string, lines ...string) (b *target, restart func()) {
	t.Helper()
	raw, err := os.ReadFile(full.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), "sqlite:conformance.db", "sqlite:"+name+".db", 1) + "\n" + strings.Join(lines, "\n") + "\n"
	dir := filepath.Dir(full.config)
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b = &target{username: full.username, password: full.password, token: full.token, config: file}
	n := 0
	begin := func() {
		n++
		b.process, err = start(full.process.cmd.Path, dir, fmt.Sprintf("%s-%d", name, n), "serve", "-c", file)
		if err != nil {
			t.Fatal(err)
		}
		if b.url, err = b.process.listening(); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	t.Cleanup(func() {
		if err := b.process.stop(); err != nil {
			t.Error(err)
		}
	})
	return b, func() {
		t.Helper()
		if err := b.process.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-b.process.exited
		begin()
	}
}

// Killed in the middle of a bind and of an unbind, the work goes on to its end;
// nothing fails because of it, and nothing stays in progress.
func TestSection06RestartInTheMiddle(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		l := takeLane(t, s)
		b, restart := another(t, s, "restart-"+s.kind)
		i, old, fresh := newID("i"), newID("b"), newID("b")
		b.do(t, http.MethodPut, instancePath(i), s.provisionBody(l.plan)).want(t, 201)
		credentials := credentialsOf(t, b.do(t, http.MethodPut, bindingPath(i, old), s.bindBody(l.plan)).want(t, 201))
		l.proxy.Hold()
		bound := b.do(t, http.MethodPut, bindingPath(i, fresh)+pollable, s.bindBody(l.plan)).want(t, 202)
		unbound := b.do(t, http.MethodDelete, bindingPath(i, old)+s.ids(l.plan)+"&accepts_incomplete=true", "").want(t, 202)
		restart()
		// What was acknowledged is known, the same repeats have the same operations.
		if again := b.do(t, http.MethodPut, bindingPath(i, fresh)+pollable, s.bindBody(l.plan)).want(t, 202); again.text("operation") != bound.text("operation") {
			t.Errorf("before %s, after %s", bound.shown(), again.shown())
		}
		full.do(t, http.MethodGet, bindingPath(i, fresh), "").want(t, 404) // another's
		l.proxy.Release()
		for path, a := range map[string]*answer{bindingPath(i, fresh): bound, bindingPath(i, old): unbound} {
			var last *answer
			poll.Until(t, "the end of "+path, func() bool {
				last = b.do(t, http.MethodGet, path+"/last_operation?operation="+url.QueryEscape(a.text("operation")), "").want(t, 200)
				return last.text("state") != "in progress"
			})
			if last.text("state") != "succeeded" {
				t.Errorf("%s: %s", path, last.shown())
			}
		}
		s.wantRefused(t, credentials)
		s.wantLogin(t, credentialsOf(t, b.do(t, http.MethodGet, bindingPath(i, fresh), "").want(t, 200)))
		b.do(t, http.MethodDelete, instancePath(i)+s.ids(l.plan), "").want(t, 200)
	})
}

// Where platforms disagree, the configuration decides.
func TestSection02And07Options(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		b, _ := another(t, s, "options-"+s.kind, "options: {missing_version_status: 412, deprovision_with_bindings: refuse}")
		b.do(t, http.MethodGet, "/v2/catalog", "", without("X-Broker-API-Version")).wantError(t, 412, "")
		i, binding, plan := newID("i"), newID("b"), s.plan("base")
		b.do(t, http.MethodPut, instancePath(i), s.provisionBody(plan)).want(t, 201)
		credentials := credentialsOf(t, b.do(t, http.MethodPut, bindingPath(i, binding), s.bindBody(plan)).want(t, 201))
		for _, q := range []string{"", "&accepts_incomplete=true"} {
			a := b.do(t, http.MethodDelete, instancePath(i)+s.ids(plan)+q, "").wantError(t, 400, "")
			if !strings.Contains(a.text("description"), "1") {
				t.Errorf("%q does not say how many", a.text("description"))
			}
		}
		s.wantLogin(t, credentials)
		b.do(t, http.MethodDelete, bindingPath(i, binding)+s.ids(plan), "").want(t, 200)
		b.do(t, http.MethodDelete, instancePath(i)+s.ids(plan), "").want(t, 200)
	})
}
