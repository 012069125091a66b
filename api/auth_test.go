package api_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"bindery"
	"bindery/api"
)

func platform(name string, pairs ...string) api.Platform {
	p := api.Platform{Name: name}
	for i := 0; i < len(pairs); i += 2 {
		p.Credentials = append(p.Credentials, api.Credential{Username: pairs[i], Password: bindery.NewSecret(pairs[i+1])})
	}
	return p
}

func basic(username, password string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth(username, password)
	return r
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	var p api.Platforms
	if _, ok := p.Check(basic("", "")); ok {
		t.Error("the zero value knows somebody")
	}
	if err := p.Set([]api.Platform{platform("cf", "broker", "old", "broker", "new"), platform("k8s", "broker", "other")}); err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]string{"old": "cf", "new": "cf", "other": "k8s", "": "", "newer": "", "NEW": ""} {
		if got, ok := p.Check(basic("broker", password)); got != want || ok != (want != "") {
			t.Errorf("%q proves %q", password, got)
		}
	}
	if _, ok := p.Check(basic("other", "old")); ok {
		t.Error("a foreign user name is fine")
	}
	for name, bad := range map[string][]api.Platform{
		"no password": {platform("cf", "a", "")},
		"no user":     {platform("cf", "", "a")},
		"a colon":     {platform("cf", "a:b", "c")},
		"shared":      {platform("cf", "a", "b"), platform("k8s", "a", "b")},
		"no name":     {platform("", "a", "b")},
	} {
		if err := p.Set(bad); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if _, ok := p.Check(basic("broker", "new")); !ok {
		t.Error("a refused set has replaced the old one")
	}
	for _, header := range []string{"", "Basic", "Basic !!", "Bearer bmV3", "Basic bm9jb2xvbg=="} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		if _, ok := p.Check(r); ok {
			t.Errorf("%q proves somebody", header)
		}
	}
}

func TestPlatformsCanBeSetWhileTheyAreChecked(t *testing.T) {
	t.Parallel()
	var p api.Platforms
	set := func(extra string) {
		if err := p.Set([]api.Platform{platform("cf", "a", "stays", "a", extra)}); err != nil {
			t.Error(err)
		}
	}
	set("x")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if _, ok := p.Check(basic("a", "stays")); !ok {
					t.Error("a valid password was refused")
					return
				}
			}
		})
	}
	for _, e := range []string{"y", "z", "y", "z"} {
		set(e)
	}
	wg.Wait()
}

func TestTokens(t *testing.T) {
	t.Parallel()
	var tokens api.Tokens
	check := func(header string) bool {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		return tokens.Check(r)
	}
	if check("Bearer ") || check("") {
		t.Error("the zero value knows somebody")
	}
	if err := tokens.Set([]bindery.Secret{bindery.NewSecret("one"), bindery.NewSecret("two")}); err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		"Bearer one": true, "bearer two": true, "Bearer  one": true, "Bearer": false, "Bearer ": false, "": false,
		"one": false, "Basic one": false, "Bearer on": false, "Bearer onetwo": false,
	} {
		if got := check(header); got != want {
			t.Errorf("%q: got %v", header, got)
		}
	}
	if err := tokens.Set([]bindery.Secret{{}}); err == nil || !check("Bearer one") {
		t.Error("an empty token was taken")
	}
}
