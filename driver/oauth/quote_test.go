package oauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bindery"
)

// received is a statement as a server reads it.
func received(t *testing.T, s statement) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), s.method, s.url, bytes.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", s.contentType)
	if s.authorize != nil {
		s.authorize(r.Header)
	}
	return r
}

// FuzzQuote: whatever a server gives out as a client's id and secret, and whatever
// is asked for, arrives as it was, in each way that RFC 6749 (section 2.3.1) has.
func FuzzQuote(f *testing.F) {
	for _, v := range []string{"", "a", "a:b", "a b+c%20", "ä&=;\"\\\x00\n", "\xff"} {
		f.Add(v, v, v)
	}
	f.Fuzz(func(t *testing.T, id, secret, scope string) {
		r := registration{ClientID: id, ClientSecret: bindery.NewSecret(secret)}
		for _, method := range []string{authBasic, authPost} {
			q := request{plan: plan{AuthMethod: method, Scopes: []string{scope}, Resource: scope}}
			got := received(t, getToken("https://as.example/token", r, q))
			if err := got.ParseForm(); err != nil {
				t.Fatal(err)
			}
			gotID, gotSecret := got.PostForm.Get("client_id"), got.PostForm.Get("client_secret")
			if method == authBasic {
				user, password, _ := got.BasicAuth()
				var err, failed error
				gotID, err = url.QueryUnescape(user)
				gotSecret, failed = url.QueryUnescape(password)
				if err != nil || failed != nil {
					t.Fatalf("%v, %v", err, failed)
				}
			}
			if gotID != id || gotSecret != secret || got.PostForm.Get("scope") != scope ||
				len(got.PostForm["grant_type"]) != 1 || got.PostForm.Get("grant_type") != grantClientCredentials {
				t.Errorf("%s: got %q, %q, %q, want %q, %q, %q", method, gotID, gotSecret, got.PostForm.Get("scope"), id, secret, scope)
			}
		}
	})
}

// FuzzAnswers: whatever a server answers, a client is managed at its own origin, and
// no error repeats what was answered.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","client_secret":"s","registration_access_token":"t","registration_client_uri":"https://as.example/reg/c"}`))
	f.Add([]byte(`{"client_id":"c","client_secret":"s","registration_access_token":"t","registration_client_uri":"https://as.example:443@evil.example/"}`))
	f.Add([]byte(`{"client_id":1}`))
	f.Add([]byte(`{"error":"sssssssssss secret"}`))
	issuer, _ := parseIssuer("https://as.example")
	d := &driver{client: newClient(bindery.Server{}, issuer, 2)}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := answer{200, body}
		r, err := d.parseRegistration(a, registration{})
		if err == nil {
			u, bad := url.Parse(r.URI)
			if bad != nil || u.Scheme != "https" || u.Host != "as.example" || u.User != nil {
				t.Errorf("it would be managed at %q", r.URI)
			}
			m := material{Request: request{plan: plan{Mode: modeClient}}, Registration: r}
			secret, err := m.seal()
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseMaterial(secret)
			if err != nil || fmt.Sprint(back.Registration.ClientID, back.Registration.URI, back.Registration.SecretExpires) !=
				fmt.Sprint(r.ClientID, r.URI, r.SecretExpires) {
				t.Errorf("%+v became %+v, %v", r, back.Registration, err)
			}
			return
		}
		var said struct {
			Secret string `json:"client_secret"`
		}
		if json.Unmarshal(body, &said) == nil && len(said.Secret) > 10 && strings.Contains(err.Error(), said.Secret) {
			t.Error("an error repeats a secret")
		}
		if text := a.refusal("x").Error(); strings.Count(text, " ") > 3 || len(text) > 100 {
			t.Errorf("a refusal repeats the server: %q", text)
		}
	})
}
