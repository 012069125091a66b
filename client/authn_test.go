package client_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/client"
)

func authn(t *testing.T, answers ...answer) (*foreign, *client.Authn) {
	t.Helper()
	f, _ := broker(t, answers...)
	return f, &client.Authn{URL: f.URL, Key: bindery.NewSecret("key-key-key"), PageSize: 2}
}

func TestIdentityListsFollowTheLink(t *testing.T) {
	t.Parallel()
	f, c := authn(t,
		answer{status: 200, body: `{"bindings":[{"name":"a","auth_identifier":"CN=a"},{"name":"b"}]}`, header: map[string]string{
			"Link": `</v1/bindings?after=7&limit=2>; rel="prev", ignored`,
		}},
	)
	names := func(c *client.Authn) (all []string, last error) {
		for b, err := range c.Bindings(t.Context()) {
			if err != nil {
				return all, err
			}
			all = append(all, b.Name)
		}
		return all, nil
	}
	if got, err := names(c); err != nil || !cmp.Equal(got, []string{"a", "b"}) || len(f.seen) != 1 {
		t.Errorf("got %v, %v after %v: that was no link to the next page", got, err, f.seen)
	}

	f, c = authn(t,
		// Only where it goes on is taken of a link, and not to whom.
		answer{status: 200, body: `{"bindings":[{"name":"a"},{"name":"b"}]}`, header: map[string]string{
			"Link": `<http://elsewhere.example/v1/bindings?after=17&limit=2>; rel="next"`,
		}},
		answer{status: 200, body: `{"bindings":[{"name":"c"}]}`},
	)
	if got, err := names(c); err != nil || !cmp.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"GET /v1/bindings?limit=2", "GET /v1/bindings?after=17&limit=2"}, f.seen); diff != "" {
		t.Error(diff)
	}
	if got := f.last.Get("X-Api-Key"); got != "key-key-key" {
		t.Errorf("sent %q", got)
	}

	// A link that leads to itself holds nobody.
	f, c = authn(t, answer{status: 200, body: `{"bindings":[{"name":"a"}]}`, header: map[string]string{"Link": `</v1/bindings?after=1>; rel="next"`}})
	if got, err := names(c); err == nil || len(got) != 2 || len(f.seen) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestIdentityPathsAreEncoded(t *testing.T) {
	t.Parallel()
	f, c := authn(t, answer{status: 404, body: `{"error":{"message":"Binding was not found","code":404,"status":"NOT FOUND"}}`})
	ctx := t.Context()
	_, err := c.Binding(ctx, "a/b ?")
	if bindery.CodeOf(err) != bindery.CodeNotFound || !strings.HasPrefix(err.Error(), "Binding was not found (GET /v1/bindings/a%2Fb%20%3F answered 404") {
		t.Errorf("got %v", err)
	}
	for _, err := range c.BindingsOf(ctx, "s/t", "[::1]", "/O=x/CN=é&f") {
		if bindery.CodeOf(err) != bindery.CodeNotFound {
			t.Error(err)
		}
	}
	_, _ = c.AuthMethod(ctx, "s t", "h")
	_ = c.DeleteServiceType(ctx, "s")
	if _, err := c.ServiceType(ctx, ".."); bindery.CodeOf(err) != bindery.CodeInvalid {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{
		"GET /v1/bindings/a%2Fb%20%3F",
		"GET /v1/service-types/s%2Ft/hosts/%5B::1%5D/bindings?authID=%2FO%3Dx%2FCN%3D%C3%A9%26f&limit=2",
		"GET /v1/service-types/s%20t/hosts/h/authm",
		"DELETE /v1/service-types/s",
	}, f.seen); diff != "" {
		t.Error(diff)
	}
}

func TestAuthMethodsCarrySecrets(t *testing.T) {
	t.Parallel()
	f, c := authn(t,
		answer{status: 201, body: `{"host":"h","port":443,"type":"api-key","created_on":"2018-05-24T09:58:17Z","access_key":"sesame"}`},
		answer{status: 200, body: `{"host":"h","port":443,"type":"headers","created_on":"2018-05-24T09:58:17Z","headers":{"X-Key":"sesame"}}`},
	)
	key, port, host := bindery.NewSecret("sesame"), 443, "h"
	m, err := c.CreateAuthMethod(t.Context(), "s", client.AuthMethodInput{Host: &host, Port: &port, AccessKey: &key})
	if err != nil || m.AccessKey.Reveal() != "sesame" {
		t.Errorf("got %v, %v", m, err)
	}
	if got, want := string(f.body), `{"host":"h","port":443,"access_key":"sesame"}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	m, err = c.UpdateAuthMethod(t.Context(), "s", "h", client.AuthMethodInput{Headers: map[string]bindery.Secret{"X-Key": key}})
	if err != nil || m.Headers["X-Key"].Reveal() != "sesame" {
		t.Errorf("got %v, %v", m, err)
	}
	if got, want := string(f.body), `{"headers":{"X-Key":"sesame"}}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%v %+v %#v %s", m, m, m, b); strings.Contains(all, "sesame") {
		t.Errorf("printed %s", all)
	}
}

func TestTokensAreFetched(t *testing.T) {
	t.Parallel()
	f, c := authn(t,
		answer{status: 200, body: "{\n \"token\": \"t0ken\"\n}"},
		answer{status: 200, body: `{"token":{"a":1}}`},
		answer{status: 403, body: `{"error":{"message":"Your certificate has expired","code":403,"status":"ACCESS_FORBIDDEN"}}`},
	)
	got, err := c.TokenByCertificate(t.Context(), "s", "h")
	if err != nil || got.Text() != "t0ken" || fmt.Sprint(got) != "[secret]" {
		t.Errorf("got %q, %v", got.Text(), err)
	}
	if f.last.Get("X-Api-Key") != "" || f.last.Get("Authorization") != "" {
		t.Errorf("a proof needs no key: sent %v", f.last)
	}
	got, err = c.TokenByOIDC(t.Context(), "s", "h", bindery.NewSecret("j.w.t"))
	if err != nil || got.Text() != `{"a":1}` || f.last.Get("Authorization") != "Bearer j.w.t" || f.last.Get("X-Api-Key") != "" {
		t.Errorf("got %q, %v; sent %v", got.Text(), err, f.last)
	}
	if _, err = c.TokenByCertificate(t.Context(), "s", "h"); bindery.CodeOf(err) != bindery.CodeForbidden || !strings.HasPrefix(err.Error(), "Your certificate has expired (GET") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{
		"GET /v1/service-types/s/hosts/h:authx509", "GET /v1/service-types/s/hosts/h:authoidc", "GET /v1/service-types/s/hosts/h:authx509",
	}, f.seen); diff != "" {
		t.Error(diff)
	}
}

func TestIdentityHealthAndVersion(t *testing.T) {
	t.Parallel()
	_, c := authn(t, answer{status: 200, body: "null"}, answer{status: 200, body: `{"golang":"go1.26","release":"1.0"}`})
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if v, err := c.Version(t.Context()); err != nil || v.Go != "go1.26" || v.Release != "1.0" {
		t.Errorf("got %v, %v", v, err)
	}
}
