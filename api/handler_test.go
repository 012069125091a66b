package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/test/poll"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	for _, code := range bindery.Codes {
		if s := api.Status(code); s < 400 || s > 599 || (s == 500) != (code == bindery.CodeInternal) {
			t.Errorf("%s has status %d", code, s)
		}
	}
	if s := api.Status("never heard of"); s != http.StatusInternalServerError {
		t.Errorf("an unknown code has status %d", s)
	}
}

// serve starts a server with one face, /x, that knows a route for each way to answer.
func serve(t *testing.T) (server *httptest.Server, log *poll.Buffer) {
	t.Helper()
	log = &poll.Buffer{}
	router := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: "/x/echo/{a}/{b}", Serve: func(c *api.Call) error {
			c.JSON(http.StatusOK, map[string]string{"a": c.Param("a"), "b": c.Param("b"), "none": c.Param("none")})
			return nil
		}},
		api.Route{Method: http.MethodPut, Pattern: "/x/body", Serve: func(c *api.Call) error {
			if _, err := c.Object(); err != nil {
				return err
			}
			c.JSON(http.StatusOK, struct{}{})
			return nil
		}},
		api.Route{Method: http.MethodGet, Pattern: "/x/plain", Serve: func(*api.Call) error {
			return fmt.Errorf("read row: %w", errors.New("SECRET-CAUSE"))
		}},
		api.Route{Method: http.MethodGet, Pattern: "/x/gone", Serve: func(*api.Call) error {
			return fmt.Errorf("look: %w", bindery.Errorf(bindery.CodeGone, "no more").Because(errors.New("SECRET-CAUSE")))
		}},
		api.Route{Method: http.MethodGet, Pattern: "/x/panic", Serve: func(*api.Call) error { panic("SECRET-CAUSE") }},
		api.Route{Method: http.MethodGet, Pattern: "/x/late", Serve: func(c *api.Call) error {
			c.JSON(http.StatusOK, struct{}{})
			panic("too late")
		}},
		api.Route{Method: http.MethodGet, Pattern: "/x/nothing", Serve: func(*api.Call) error { return nil }},
		api.Route{Method: http.MethodGet, Pattern: "/x/bad", Serve: func(c *api.Call) error {
			c.JSON(http.StatusOK, func() {})
			return nil
		}},
	)
	h := &api.Handler{
		Faces:   []api.Face{{Name: "x", Segment: "x", Serve: router.Serve}},
		Log:     slog.New(slog.NewJSONHandler(log, nil)),
		Now:     time.Now,
		MaxBody: 100,
	}
	server = httptest.NewUnstartedServer(h)
	server.Config = api.NewServer(h, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	return server, log
}

func TestEveryAnswerIsAnEnvelope(t *testing.T) {
	t.Parallel()
	server, log := serve(t)
	tests := map[string]struct {
		method, path, body string
		status             int
		word               string
	}{
		"a path outside every face":     {"GET", "/nowhere", "", 404, "not_found"},
		"the root":                      {"GET", "/", "", 404, "not_found"},
		"a path that a mux would clean": {"GET", "//x/plain", "", 404, "not_found"},
		"a slash at the end":            {"GET", "/x/plain/", "", 404, "not_found"},
		"dots":                          {"GET", "/x/../x/plain", "", 404, "not_found"},
		"more segments than there are":  {"GET", "/x/1/2/3/4/5/6/7/8/9/10", "", 404, "not_found"},
		"another method":                {"POST", "/x/plain", "", 405, "method_not_allowed"},
		"a method that nobody knows":    {"BREW", "/x/plain", "", 405, "method_not_allowed"},
		"options":                       {"OPTIONS", "/x/body", "", 405, "method_not_allowed"},
		"an error without a code":       {"GET", "/x/plain", "", 500, "internal"},
		"an error with a code, wrapped": {"GET", "/x/gone", "", 410, "gone"},
		"a panic":                       {"GET", "/x/panic", "", 500, "internal"},
		"a route that says nothing":     {"GET", "/x/nothing", "", 500, "internal"},
		"what cannot be encoded":        {"GET", "/x/bad", "", 500, "internal"},
		"a body that is too large":      {"PUT", "/x/body", `{"a":"` + strings.Repeat("x", 200) + `"}`, 413, "too_large"},
		"a body that is no JSON":        {"PUT", "/x/body", `{"a":`, 400, "invalid"},
		"no body":                       {"PUT", "/x/body", ``, 400, "invalid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest(tt.method, server.URL+tt.path+"?password=QUERY-SECRET", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Broker-API-Request-Identity", "id of "+name)
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := read(t, resp)
			if resp.StatusCode != tt.status {
				t.Errorf("got %d, want %d", resp.StatusCode, tt.status)
			}
			var envelope map[string]string
			if err := json.Unmarshal(body, &envelope); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if envelope["error"] != tt.word || envelope["description"] == "" || len(envelope) != 2 {
				t.Errorf("got %s", body)
			}
			if bytes.Contains(body, []byte("SECRET")) {
				t.Errorf("the cause is in %s", body)
			}
			if tt.status == 500 && !strings.Contains(envelope["description"], "id of "+name) {
				t.Errorf("the request's id is not in %s", body)
			}
			for header, want := range map[string]string{
				"X-Broker-API-Request-Identity": "id of " + name,
				"Content-Type":                  "application/json",
				"X-Content-Type-Options":        "nosniff",
				"Cache-Control":                 "no-store",
			} {
				if got := resp.Header.Get(header); got != want {
					t.Errorf("%s: got %q, want %q", header, got, want)
				}
			}
			if tt.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	t.Cleanup(func() {
		if strings.Contains(log.String(), "QUERY-SECRET") {
			t.Error("a query is in the log")
		}
		if n := strings.Count(log.String(), `"msg":"request"`); n != len(tests) {
			t.Errorf("got %d lines for %d requests", n, len(tests))
		}
		if n := strings.Count(log.String(), "SECRET-CAUSE"); n != 2 { // the two that are 500, not the 410
			t.Errorf("the operator sees %d causes:\n%s", n, log)
		}
	})
}

func read(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestHalfAnAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	server, log := serve(t)
	resp, err := server.Client().Get(server.URL + "/x/late")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil && !strings.Contains(log.String(), "too late") {
		t.Error("neither the caller nor the operator learns of it")
	}
}

func TestIdsArriveAsTheyWereEncoded(t *testing.T) {
	t.Parallel()
	server, _ := serve(t)
	for path, want := range map[string][2]string{
		"/x/echo/1/2":           {"1", "2"},
		"/x/echo/a%2Fb/..":      {"a/b", ".."},
		"/x/echo/%2e%2e/%2E":    {"..", "."},
		"/x/echo/a%25b/%3F%23":  {"a%b", "?#"},
		"/x/echo//":             {"", ""},
		"/x/echo/a+b/%20":       {"a+b", " "},
		"/%78/echo/%c3%a9/%ff;": {"é", "\ufffd;"}, // encoding/json replaces what is no UTF-8
	} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var got map[string]string
		if err := json.Unmarshal(read(t, resp), &got); err != nil || got["a"] != want[0] || got["b"] != want[1] {
			t.Errorf("%s: got %q, want %q (%v)", path, got, want, err)
		}
		_ = c.Close()
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	server, _ := serve(t)
	get := func(header, value string) http.Header {
		req, _ := http.NewRequest(http.MethodGet, server.URL+"/x/plain", nil)
		if header != "" {
			req.Header[http.CanonicalHeaderKey(header)] = []string{value}
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = read(t, resp)
		return resp.Header
	}
	own := get("", "").Get("X-Request-Id")
	if own == "" || own == get("", "").Get("X-Request-Id") {
		t.Errorf("own ids: %q", own)
	}
	if got := get("X-Request-Id", "mine").Get("X-Request-Id"); got != "mine" {
		t.Errorf("got %q", got)
	}
	const identity = "X-Broker-API-Request-Identity"
	for name, value := range map[string]string{
		"empty": "", "long": strings.Repeat("x", 256), "not ASCII": "caf\xc3\xa9", "a tab": "a\tb",
	} {
		h := get(identity, value)
		if got := h.Get(identity); got != "" || h.Get("X-Request-Id") == "" {
			t.Errorf("%s: echoed %q", name, got)
		}
	}
	if got := get(identity, strings.Repeat("x", 255)).Get(identity); len(got) != 255 {
		t.Errorf("255 bytes came back as %d", len(got))
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	server, _ := serve(t)
	resp, err := server.Client().Head(server.URL + "/x/echo/1/2")
	if err != nil {
		t.Fatal(err)
	}
	if body := read(t, resp); resp.StatusCode != http.StatusOK || len(body) != 0 || resp.ContentLength <= 0 {
		t.Errorf("got %d, %d bytes of %d", resp.StatusCode, len(body), resp.ContentLength)
	}
}

func TestBodyThatNeverEndsIsBounded(t *testing.T) {
	t.Parallel()
	server, _ := serve(t)
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, `{"a":"`)
		for err == nil {
			_, err = w.Write(bytes.Repeat([]byte("x"), 64))
		}
	}()
	req, _ := http.NewRequest(http.MethodPut, server.URL+"/x/body", r) // chunked: no length is announced
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = read(t, resp); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
	_ = r.Close()
}
