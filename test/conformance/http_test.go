package conformance

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery/api/openapi/openapitest"
)

// A target is a running Bindery.
type target struct {
	url, username, password, token string
	config                         string
	process                        *process
}

// client has no more patience than a platform: 60 seconds.
var client = &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}

var (
	loadDocument   sync.Once
	loadedDocument *openapitest.Document
)

func document(tb testing.TB) *openapitest.Document {
	tb.Helper()
	loadDocument.Do(func() { loadedDocument = openapitest.Load(tb) })
	return loadedDocument
}

// An answer is one response, read to its end.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any // nil where there is none
}

// An option changes a request before it is sent.
type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func without(name string) option {
	return func(r *http.Request) { r.Header.Del(name) }
}

func version(v string) option { return header("X-Broker-API-Version", v) }

func as(username, password string) option {
	return func(r *http.Request) { r.SetBasicAuth(username, password) }
}

// do sends a request and checks what holds for every answer: that the document
// allows it, that the request's identity is echoed, that it is JSON without null.
func (b *target) do(t testing.TB, method, path, body string, options ...option) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	identity := "request " + rand.Text()
	req.Header.Set("X-Broker-API-Request-Identity", identity)
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.SetBasicAuth(b.username, b.password)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, o := range options {
		o(req)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if sent := req.Header.Get("X-Broker-API-Request-Identity"); sent == identity && res.Header.Get("X-Broker-API-Request-Identity") != identity {
		t.Errorf("%s %s: %d does not echo the request's identity", method, path, a.status)
	}
	if document(t).Knows(method, path) {
		document(t).Check(t, method, path, res, a.raw)
	}
	if a.status == http.StatusNotModified {
		if len(a.raw) != 0 {
			t.Errorf("%s %s: 304 has a body", method, path)
		}
		return a
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s %s: %d has the content type %q", method, path, a.status, got)
	}
	if err := json.Unmarshal(a.raw, &a.body); err != nil || a.body == nil {
		t.Fatalf("%s %s: %d is no JSON object", method, path, a.status)
	}
	if a.status >= 400 && leaks(a.raw) > 0 {
		t.Errorf("%s %s: %d has a secret", method, path, a.status)
	}
	if hasNull(a.body) {
		t.Errorf("%s %s: %d has a null", method, path, a.status)
	}
	return a
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, inner := range v {
			if hasNull(inner) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if hasNull(inner) {
				return true
			}
		}
	}
	return false
}

// want ends the test where the status is none of these. An answer with
// credentials is not shown.
func (a *answer) want(t testing.TB, statuses ...int) *answer {
	t.Helper()
	for _, s := range statuses {
		if a.status == s {
			return a
		}
	}
	t.Fatalf("got %d, want %v: %s", a.status, statuses, a.shown())
	return nil
}

func (a *answer) shown() string {
	if bytes.Contains(a.raw, []byte("password")) {
		return "(with credentials)"
	}
	return string(bytes.TrimSpace(a.raw))
}

// wantError is want for a failure with this word in "error"; "" is none.
func (a *answer) wantError(t testing.TB, status int, word string) *answer {
	t.Helper()
	a.want(t, status)
	if got := a.text("error"); got != word {
		t.Fatalf("%d: got the error %q, want %q: %s", status, got, word, a.shown())
	}
	if a.status != http.StatusGone && a.text("description") == "" {
		t.Fatalf("%d has no description: %s", status, a.shown())
	}
	return a
}

// wantEmpty is want for exactly {}.
func (a *answer) wantEmpty(t testing.TB, status int) {
	t.Helper()
	a.want(t, status)
	if len(a.body) != 0 {
		t.Fatalf("%d: got %s, want {}", status, a.shown())
	}
}

func (a *answer) text(key string) string {
	s, _ := a.body[key].(string)
	return s
}

func (a *answer) object(key string) map[string]any {
	m, _ := a.body[key].(map[string]any)
	return m
}

// admin talks to the operators' face, which tests use to look at what is kept.
func (b *target) admin(t testing.TB, method, path, body string) *answer {
	t.Helper()
	return b.do(t, method, "/admin/v1"+path, body, header("Authorization", "Bearer "+b.token))
}

func instancePath(id string) string { return "/v2/service_instances/" + url.PathEscape(id) }

func bindingPath(instance, id string) string {
	return instancePath(instance) + "/service_bindings/" + url.PathEscape(id)
}

func newID(kind string) string { return kind + "-" + strings.ToLower(rand.Text()) }

// jsonText writes a value as JSON.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// later sends a request beside the test, which waits for its answer by the function returned.
func later(t testing.TB, send func() *answer) (result func() *answer) {
	t.Helper()
	got := make(chan *answer, 1)
	go func() {
		defer close(got) // also where send ends this goroutine
		got <- send()
	}()
	return func() *answer {
		t.Helper()
		a := <-got
		if a == nil {
			t.FailNow()
		}
		return a
	}
}
