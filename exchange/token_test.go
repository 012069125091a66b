package exchange_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/exchange"
)

func TestTokenChecksInOrder(t *testing.T) {
	t.Parallel()
	w, u := newWorld(t), newUpstream(t, giveToken)
	ctx := t.Context()
	s := must(w.CreateServiceType(ctx, admin, exchange.ServiceTypeInput{
		Name: ptr("st1"), Hosts: &[]string{u.host, "h2"}, AuthTypes: &[]string{"x509"}, AuthMethod: ptr("api-key"), Type: ptr("ams"),
	}))(t)
	alice := who(t, "CN=alice,O=Example")
	somebody := bindery.Identity{AuthType: bindery.AuthOIDC, Name: "i#s", Keys: must(bindery.IdentifierKeys(bindery.AuthOIDC, "i#s"))(t)}
	ask := func(id bindery.Identity, service, host string) error {
		_, err := w.Token(ctx, id, service, host)
		return err
	}
	refused(t, ask(somebody, "none", "h9"), bindery.CodeNotFound, "Service-type was not found")
	refused(t, ask(somebody, "st1", "h9"), bindery.CodeInvalid, "Auth type: oidc is not yet supported.Supported:[x509]")
	refused(t, ask(alice, "st1", "h9"), bindery.CodeNotFound, "Host was not found")
	refused(t, ask(alice, "st1", u.host), bindery.CodeNotFound, "Auth method was not found")
	w.method("st1", u.host, u.port)
	refused(t, ask(alice, "st1", u.host), bindery.CodeNotFound, "Binding was not found")
	w.binding("b1", s, u.host, "/O=Example/CN=alice")
	if got := must(w.Token(ctx, alice, "st1", u.host))(t); string(got) != wantToken {
		t.Errorf("got %s, want %s", got, wantToken)
	}
	refused(t, ask(who(t, "CN=bob,O=Example"), "st1", u.host), bindery.CodeNotFound, "Binding was not found")

	// What a binding stands on goes away, and comes back.
	steps := []struct {
		change exchange.ServiceTypeInput
		code   bindery.Code
		want   string
	}{
		{exchange.ServiceTypeInput{Hosts: &[]string{"h2"}}, bindery.CodeNotFound, "Host was not found"},
		{exchange.ServiceTypeInput{Hosts: &[]string{u.host}}, "", ""},
		{exchange.ServiceTypeInput{AuthTypes: &[]string{"oidc"}}, bindery.CodeInvalid, "Auth type: x509 is not yet supported.Supported:[oidc]"},
		{exchange.ServiceTypeInput{AuthTypes: &[]string{"x509"}}, "", ""},
		{exchange.ServiceTypeInput{AuthMethod: ptr("headers")}, bindery.CodeNotFound, "Auth method was not found"},
		{exchange.ServiceTypeInput{AuthMethod: ptr("api-key")}, "", ""},
	}
	for _, step := range steps {
		must(w.UpdateServiceType(ctx, admin, "st1", step.change))(t)
		if err := ask(alice, "st1", u.host); step.code != "" || err != nil {
			refused(t, err, step.code, step.want)
		}
	}
	must(w.UpdateServiceType(ctx, admin, "st1", exchange.ServiceTypeInput{Name: ptr("renamed")}))(t)
	refused(t, ask(alice, "st1", u.host), bindery.CodeNotFound, "Service-type was not found")
	must(w.Token(ctx, alice, "renamed", u.host))(t)
}

func TestIssuerPins(t *testing.T) {
	t.Parallel()
	w, u, alice := bound(t, giveToken)
	const ours, theirs = "CN=Bindery CA", "CN=Grid CA"
	tests := []struct {
		pin, issuer string
		issuedHere  bool
		ok          bool
	}{
		{"", theirs, false, true},
		{theirs, theirs, false, true},
		{"/CN=Grid CA", theirs, false, true},
		{ours, theirs, false, false},
		{"", ours, true, false}, // our own word is asked for, or does not count
		{theirs, ours, true, false},
		{ours, ours, true, true},
		{ours, ours, false, true},
	}
	for _, tt := range tests {
		must(w.UpdateBinding(t.Context(), admin, "ams1-alice", exchange.BindingInput{Issuer: &tt.pin}))(t)
		id := alice
		id.IssuerKey, id.IssuedHere = issuerKey(t, tt.issuer), tt.issuedHere
		for range 2 { // the second time from the cache
			switch _, err := w.Token(t.Context(), id, "ams1", u.host); {
			case tt.ok && err != nil:
				t.Errorf("%+v: %v", tt, err)
			case !tt.ok:
				refused(t, err, bindery.CodeNotFound, "Binding was not found")
			}
		}
	}
}

// The old form of a name finds a binding where it drops nothing; where it would,
// the log says what to bind.
func TestOldForm(t *testing.T) {
	t.Parallel()
	w, u := newWorld(t), newUpstream(t, giveToken)
	s := w.service("ams1", u.host)
	w.method("ams1", u.host, u.port)
	w.binding("old", s, u.host, "E=a@argo.gr,CN=robot,OU=ou1+OU=ou2,O=o,L=Athens,C=GR,DC=gr+DC=argo")
	other := who(t, "CN=robot,E=a@argo.gr,C=GR,O=o,OU=ou2,OU=ou1,L=Athens,DC=argo,DC=gr")
	if other.Keys.Old == "" {
		t.Fatal("the name has no old form, so that nothing is tested")
	}
	must(w.Token(t.Context(), other, "ams1", u.host))(t)
	// A binding of the exact name goes before, from the moment that it is there.
	exact := bindingInput(s, u.host, other.Name)
	exact.UniqueKey = ptr("exact")
	must(w.CreateBinding(t.Context(), admin, "exact", exact, nil))(t)
	if got := must(w.Token(t.Context(), other, "ams1", u.host))(t); string(got) != `"token-of-exact"` {
		t.Errorf("got %s", got)
	}
	if err := w.DeleteBinding(t.Context(), admin, "exact"); err != nil {
		t.Fatal(err)
	}
	if got := must(w.Token(t.Context(), other, "ams1", u.host))(t); string(got) != wantToken {
		t.Errorf("got %s", got)
	}
	// Changes of the one that is found by its old form are seen, and of one that becomes the exact one.
	must(w.UpdateBinding(t.Context(), admin, "old", exchange.BindingInput{UniqueKey: ptr("old-2")}))(t)
	if got := must(w.Token(t.Context(), other, "ams1", u.host))(t); string(got) != `"token-of-old-2"` {
		t.Errorf("got %s", got)
	}
	w.binding("becomes", s, u.host, "CN=somebody else")
	must(w.UpdateBinding(t.Context(), admin, "becomes", exchange.BindingInput{Identifier: &other.Name}))(t)
	if got := must(w.Token(t.Context(), other, "ams1", u.host))(t); string(got) != wantToken {
		t.Errorf("got %s", got)
	}
	two := who(t, "CN=robot,CN=alice,O=x")
	for range 3 {
		_, err := w.Token(t.Context(), two, "ams1", u.host)
		refused(t, err, bindery.CodeNotFound, "Binding was not found")
	}
	if n := strings.Count(w.log.String(), "CN=robot,CN=alice,O=x"); n != 1 {
		t.Errorf("the log says %d times what to bind, want once:\n%s", n, w.log.String())
	}
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Everything that could end a path, a query or a placeholder.
	const nasty = `a/b?c#d&e=f%2F+ ;{{access_key}}é"`
	tests := map[string]struct {
		typ, method, field string
		check              func(r *http.Request) string
	}{
		"api key": {"ams", "api-key", "token", func(r *http.Request) string {
			if r.URL.Query().Get("key") != nasty || len(r.URL.Query()) != 1 {
				return "query " + r.URL.RawQuery
			}
			if r.URL.Path != "/v1/users:byUUID/"+nasty || strings.Count(r.URL.EscapedPath(), "/") != 3 {
				return "path " + r.URL.EscapedPath()
			}
			return ""
		}},
		"headers": {"web-api", "headers", "api_key", func(r *http.Request) string {
			if r.URL.RawQuery != "export=flat" || r.Header.Get("X-Key") != headerSecret || r.Header.Get("x-other") != "two" {
				return fmt.Sprint(r.URL.RawQuery, r.Header)
			}
			return ""
		}},
		"headers where the path has a key": {"ams", "headers", "token", func(r *http.Request) string {
			if r.URL.RawQuery != "" || r.Header.Get("X-Key") != headerSecret {
				return fmt.Sprint(r.URL.RawQuery, r.Header)
			}
			return ""
		}},
		"a template of the operator's": {"custom", "api-key", "t", func(r *http.Request) string {
			if q := r.URL.Query(); q.Get("a") != nasty || q.Get("u") != nasty || len(q) != 2 {
				return r.URL.RawQuery
			}
			return ""
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprintf(w, `{"%s": "t", "%s2": 1}`, tt.field, tt.field)
			})
			st := "st " + name
			in := serviceInput(st, u.host)
			in.Type, in.AuthMethod = &tt.typ, &tt.method
			s := must(w.CreateServiceType(t.Context(), admin, in))(t)
			must(w.CreateAuthMethod(t.Context(), admin, st, exchange.AuthMethodInput{
				Host: &u.host, Port: &u.port, AccessKey: ptr(nasty), Headers: &map[string]string{"X-Key": headerSecret, "x-other": "two"},
			}))(t)
			b := bindingInput(s, u.host, "CN=alice")
			b.UniqueKey = ptr(nasty)
			must(w.CreateBinding(t.Context(), admin, name, b, nil))(t)
			if got := must(w.Token(t.Context(), who(t, "CN=alice"), st, u.host))(t); string(got) != `"t"` {
				t.Errorf("got %s", got)
			}
			all := u.requests()
			if len(all) != 1 || all[0].Method != http.MethodGet {
				t.Fatalf("got %d requests", len(all))
			}
			if wrong := tt.check(all[0]); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

func TestTokenIsWhateverJSONItIs(t *testing.T) {
	t.Parallel()
	var answer string
	w, u, alice := bound(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
	for in, want := range map[string]string{
		`{"token": "a\u003cb"}`:                      `"a\u003cb"`,
		`{"token" : { "a" : [ 1 , "b c" ] }, "x":1}`: `{"a":[1,"b c"]}`,
		`{"token": 12345678901234567890}`:            `12345678901234567890`,
		` {"token":null} `:                           `null`,
	} {
		answer = in
		got := must(w.Token(t.Context(), alice, "ams1", u.host))(t)
		if string(got) != want || !json.Valid(got) {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	w, u, alice := bound(t, giveToken)
	for range 50 {
		must(w.Token(t.Context(), alice, "ams1", u.host))(t)
	}
	if n := u.connections(); n != 1 {
		t.Errorf("50 calls made %d connections", n)
	}
}

func TestTokensAreCached(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w, u, alice := bound(t, giveToken, func(o *exchange.Options) {
		o.Types[0].CacheTokens = time.Minute
		o.Now = func() time.Time { return now }
	})
	ask := func(want int) {
		t.Helper()
		must(w.Token(t.Context(), alice, "ams1", u.host))(t)
		if n := len(u.requests()); n != want {
			t.Errorf("the service was asked %d times, want %d", n, want)
		}
	}
	ask(1)
	ask(1)
	if all := w.seen.list(); all[0].Cached || !all[1].Cached || all[1].Service != "ams1" || all[1].Type != "ams" || all[1].Code != "" {
		t.Errorf("observed %+v", all)
	}
	now = now.Add(time.Minute)
	ask(2)
	must(w.UpdateBinding(t.Context(), admin, "ams1-alice", exchange.BindingInput{UniqueKey: ptr("uid-2")}))(t)
	if got := must(w.Token(t.Context(), alice, "ams1", u.host))(t); string(got) != `"token-of-uid-2"` {
		t.Errorf("got %s of another unique key", got)
	}
	ask(3)
	must(w.UpdateAuthMethod(t.Context(), admin, "ams1", u.host, exchange.AuthMethodInput{AccessKey: ptr("another")}))(t)
	ask(4)
	if err := w.DeleteBinding(t.Context(), admin, "ams1-alice"); err != nil {
		t.Fatal(err)
	}
	_, err := w.Token(t.Context(), alice, "ams1", u.host)
	refused(t, err, bindery.CodeNotFound, "Binding was not found")
}

// One call is under way however many ask, and goes on though its first caller left.
func TestCallsAreShared(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	w, u, alice := bound(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-goOn
		giveToken(w, r)
	})
	first, leave := context.WithCancel(t.Context())
	type answer struct {
		token string
		err   error
	}
	answers := make(chan answer, 100)
	ask := func(ctx context.Context) {
		got, err := w.Token(ctx, alice, "ams1", u.host)
		answers <- answer{string(got), err}
	}
	go ask(first)
	<-begun
	const joined = 20
	for range joined {
		go ask(t.Context())
	}
	impatient, giveUp := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() {
		_, err := w.Token(impatient, alice, "ams1", u.host)
		given <- err
	}()
	// Somebody else is not who the call is for, and is refused at once.
	_, err := w.Token(t.Context(), who(t, "CN=bob"), "ams1", u.host)
	refused(t, err, bindery.CodeNotFound, "Binding was not found")
	leave()
	giveUp()
	if err := <-given; bindery.CodeOf(err) != bindery.CodeTimeout {
		t.Errorf("one who gave up got %v", err)
	}
	eventually(t, "all wait, and nobody else", func() bool { return w.Waiting() == joined })
	close(goOn)
	for range joined + 1 {
		if a := <-answers; a.err != nil || a.token != wantToken {
			t.Errorf("got %s, %v", a.token, a.err)
		}
	}
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d calls were made", n)
	}
	n := 0
	for _, o := range w.seen.list() {
		if o.Coalesced && o.Code == "" {
			n++
		}
	}
	if n != joined {
		t.Errorf("%d joined, want %d", n, joined)
	}
}
