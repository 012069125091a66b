package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/api"
)

func TestReadyzNeverHangs(t *testing.T) {
	t.Parallel()
	var storeFails atomic.Bool
	rounds, hung := make(chan struct{}, 1000), make(chan struct{})
	h := &api.Health{
		Checks: func() []api.Check {
			return []api.Check{
				{Name: "store", Essential: true, Ping: func(context.Context) error {
					defer func() { rounds <- struct{}{} }()
					if storeFails.Load() {
						return bindery.Errorf(bindery.CodeUnavailable, "the store does not answer").Because(errors.New("SECRET-CAUSE"))
					}
					return nil
				}},
				{Name: "redis-1", Ping: func(context.Context) error { <-hung; return nil }},
				{Name: "pg-1", Ping: func(context.Context) error { return errors.New("SECRET-CAUSE") }},
			}
		},
		Every: 5 * time.Millisecond, Now: time.Now,
	}
	server := httptest.NewServer(&api.Handler{Faces: h.Faces(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	defer server.Close()
	get := func(path string) (int, string, api.Readiness) {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body := read(t, resp)
		var r api.Readiness
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), r
	}
	if status, body, _ := get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("before any check: %d %s", status, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	three := func() { // the answer of at least one whole round after now
		for range 3 {
			<-rounds
		}
	}
	three()
	status, body, r := get("/readyz")
	if status != http.StatusOK || r.Status != "ready" || len(r.Checks) != 3 {
		t.Fatalf("got %d %s", status, body)
	}
	for i, want := range []string{"ok", "unknown", "failing"} {
		if r.Checks[i].Status != want {
			t.Errorf("%s is %s, want %s", r.Checks[i].Name, r.Checks[i].Status, want)
		}
	}
	storeFails.Store(true)
	for len(rounds) > 0 {
		<-rounds
	}
	three()
	status, body, _ = get("/readyz")
	if status != http.StatusServiceUnavailable || strings.Contains(body, "SECRET") || !strings.Contains(body, "does not answer") {
		t.Errorf("got %d %s", status, body)
	}
	storeFails.Store(false)
	for len(rounds) > 0 {
		<-rounds
	}
	three()
	h.Drain()
	if status, body, _ = get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("got %d %s", status, body)
	}
	if status, _, _ := get("/livez"); status != http.StatusOK {
		t.Errorf("livez: %d", status)
	}
	close(hung)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
