package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"bindery"
	"bindery/client"
)

func TestNamesBecomeIDs(t *testing.T) {
	t.Parallel()
	const id = "01234567-89ab-cdef-0123-456789abcdef"
	tests := map[string]struct{ ids, typed, want string }{
		"a name is scoped to its instance": {idsByName, "web", "orders~web"},
		"a GUID is an id":                  {idsByName, id, id},
		"a name with ~ is an id":           {idsByName, "orders~web", "orders~web"},
		"another instance's is one too":    {idsByName, "other~web", "other~web"},
		"raw is as typed":                  {idsRaw, "web", "web"},
		"a GUID stays one":                 {idsGUID, id, id},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &session{ids: tt.ids}
			got, err := s.bindingID("orders", tt.typed)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	s := &session{ids: idsByName}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "ü", strings.Repeat("x", 201), "a\x00"} {
		if _, err := s.instanceID(name); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", name, err)
		}
	}
	s = &session{ids: idsGUID}
	a, errA := s.bindingID("i", "web")
	b, errB := s.bindingID("j", "web")
	if errA != nil || errB != nil || a == b || !guid.MatchString(a) {
		t.Errorf("%q (%v), %q (%v)", a, errA, b, errB)
	}
}

// FuzzNames: what is shown for an id means the same id when it is typed again.
func FuzzNames(f *testing.F) {
	f.Add("orders", "web")
	f.Add("a~b", "c~d")
	f.Add("a", "a~a~")
	f.Fuzz(func(t *testing.T, instance, name string) {
		s := &session{ids: idsByName}
		id, err := s.bindingID(instance, name)
		if err != nil {
			return
		}
		again, err := s.bindingID(instance, bindingName(instance, id))
		if err != nil || again != id {
			t.Errorf("%q of %q is %q, shown as %q, which is %q (%v)", name, instance, id, bindingName(instance, id), again, err)
		}
	})
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web": "web-2", "web-2": "web-3", "web-9": "web-10", "web-": "web--2", "web-02": "web-02-2", "-1": "-2",
	} {
		if got := successor(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	want := map[bindery.Code]int{
		bindery.CodeNotFound: 3, bindery.CodeGone: 3, bindery.CodeConflict: 4, bindery.CodeBusy: 4,
		bindery.CodeUnauthorized: 5, bindery.CodeForbidden: 5, bindery.CodeTimeout: 6, bindery.CodeUnavailable: 7,
	}
	for _, code := range bindery.Codes {
		exit, ok := want[code]
		if !ok {
			exit = 1
		}
		if got := exitCode(fmt.Errorf("x: %w", hintf(bindery.Errorf(code, "y"), "z"))); got != exit {
			t.Errorf("%s: %d, want %d", code, got, exit)
		}
	}
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{usagef("x"), 2},
		{errors.New(`unknown command "x" for "bindery"`), 2},
		{fmt.Errorf("x: %w", context.Canceled), 130},
		{&client.FailedError{}, 1},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestAmbiguousNames(t *testing.T) {
	t.Parallel()
	c := client.Catalog{Services: []client.Service{
		{ID: "1", Name: "db", Plans: []client.Plan{{ID: "p", Name: "x"}}},
		{ID: "2", Name: "db", Plans: []client.Plan{{ID: "q", Name: "x"}}},
	}}
	_, err := choose(c, "db", "x")
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "db (1), db (2)") {
		t.Errorf("got %v", err)
	}
	if what, err := choose(c, "2", "x"); err != nil || what.plan.ID != "q" {
		t.Errorf("got %+v, %v", what, err)
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	t.Parallel()
	drawn := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/catalog":
			_, _ = io.WriteString(w, `{"services":[{"id":"s","name":"db","plans":[{"id":"p","name":"x"}]}]}`)
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"operation":"op-1"}`)
		default:
			<-drawn // a line was drawn
			_, _ = io.WriteString(w, `{"state":"succeeded"}`)
		}
	}))
	defer server.Close()
	for _, terminal := range []bool{true, false} {
		screen := &screen{drawn: drawn}
		var out bytes.Buffer
		if !terminal {
			drawn <- struct{}{}
		}
		code := run(t.Context(), []string{"provision", "orders", "--broker", server.URL}, streams{
			In: strings.NewReader(""), Out: &out, Err: screen, Env: func(string) string { return "" }, Terminal: terminal,
		})
		if code != 0 || out.String() != "orders: ready (db x)\n" {
			t.Errorf("%d, %s", code, out.String())
		}
		if has := regexp.MustCompile(`\r\x1b\[K[|/\\-] provisioning orders \d+s`).MatchString(screen.String()); has != terminal {
			t.Errorf("terminal %v: %q", terminal, screen.String())
		}
		if terminal && !strings.HasSuffix(screen.String(), "\r\x1b[K") {
			t.Errorf("the line is left behind: %q", screen.String())
		}
	}
}

type screen struct {
	bytes.Buffer
	drawn chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("provisioning")) {
		select {
		case s.drawn <- struct{}{}:
		default:
		}
	}
	return s.Buffer.Write(p)
}
