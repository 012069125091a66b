package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

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

// No answer of a service makes anything but a token or an error that quotes nothing of it,
// and the token is what encoding/json would have found.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"token":"a"}`, `{"token":{"a":[1, 2]}}`, `[]`, `null`, `{"token":`, `{"token":"` + "\xff" + `"}`, ``, `{"a":1,"\u0074oken":[] ,"token": -1e3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		value, err := fieldOf(answer, "token")
		var all map[string]json.RawMessage
		_ = json.Unmarshal(answer, &all) // then there is none
		if want, ok := all["token"]; err == nil && !ok || ok && utf8.Valid(want) && errors.Is(err, errNoField) {
			t.Errorf("%q: got %q, %v; encoding/json found %q", answer, value, err, want)
		} else if err == nil {
			var plain bytes.Buffer
			if err := json.Compact(&plain, want); err != nil || plain.String() != string(value) {
				t.Errorf("%q: got %q, encoding/json found %q", answer, value, want)
			}
		}
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
