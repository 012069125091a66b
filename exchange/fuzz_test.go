package exchange

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bindery"
)

// Whatever stands in an identifier or a key, the request goes to the host of the
// auth method, and the path and the query are those of the template.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"uid", "a/../b", "?x=y", "#", "%2e%2e", "a b", "é\x00", "{{access_key}}", "&key=1", ";", "\\..\\", "//evil"} {
		f.Add(s, s)
	}
	types, _, err := newRetrievals(Options{Types: DefaultTypes(), PerHost: 1})
	if err != nil {
		f.Fatal(err)
	}
	r := types["ams"]
	f.Fuzz(func(t *testing.T, identifier, key string) {
		u, err := r.url("host:1", identifier, key, bindery.AuthMethodAPIKey)
		if err != nil {
			t.Fatal(err)
		}
		var line strings.Builder
		if err := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host}).Write(&line); err != nil {
			t.Fatal(err)
		}
		target := strings.Split(line.String(), " ")[1]
		sent, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if sent.Path != "/v1/users:byUUID/"+identifier || strings.Count(sent.EscapedPath(), "/") != 3 {
			t.Errorf("path %q", target)
		}
		if q, err := url.ParseQuery(sent.RawQuery); err != nil || q.Get("key") != key || len(q) != 1 {
			t.Errorf("query %q: %v", target, err)
		}
	})
}

// No answer of a service makes anything but a token or an error that quotes nothing of it.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"token":"a"}`, `{"token":{"a":[1, 2]}}`, `[]`, `null`, `{"token":`, `{"token":"` + "\xff" + `"}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		value, err := fieldOf(answer, "token")
		if err != nil {
			if bindery.CodeOf(err) != bindery.CodeUpstream || len(value) != 0 || len(err.Error()) > 120 {
				t.Errorf("got %q, %v", value, err)
			}
			return
		}
		if _, err := fieldOf([]byte(`{"token":`+string(value)+`}`), "token"); err != nil {
			t.Errorf("%q gave %q, which is no JSON", answer, value)
		}
	})
}
