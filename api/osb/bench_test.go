package osb

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

// prompt is a broker that is done at once: what is measured is everything around it.
type prompt struct{ Broker }

func (prompt) Bind(context.Context, broker.Caller, broker.BindRequest) (broker.Result, error) {
	return broker.Result{Credential: bindery.Credential{Object: map[string]any{
		"uri": "redis://u:p@h:1?x=1&y=2", "username": "u", "password": "p", "host": "h", "port": 1,
	}}}, nil
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header           { return d.header }
func (discard) Write(p []byte) (int, error)     { return len(p), nil }
func (discard) WriteHeader(int)                 {}
func (discard) SetReadDeadline(time.Time) error { return nil }

// What the HTTP layer itself costs per bind: authentication, headers, routing,
// the body, the answer and the line in the log.
func BenchmarkBind(b *testing.B) {
	platforms := &api.Platforms{}
	if err := platforms.Set([]api.Platform{
		{Name: "cf", Credentials: []api.Credential{{Username: "a", Password: bindery.NewSecret("b")}}},
		{Name: "k8s", Credentials: []api.Credential{{Username: "c", Password: bindery.NewSecret("d")}}},
	}); err != nil {
		b.Fatal(err)
	}
	h := &Handler{Broker: prompt{}, Platforms: platforms, Now: time.Now}
	handler := &api.Handler{
		Faces: []api.Face{h.Face()}, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: time.Now,
	}
	const body = `{"service_id":"a1a6c6f0-0000-4000-8000-000000000001","plan_id":"a1a6c6f0-0000-4000-8000-000000000002",` +
		`"context":{"platform":"cloudfoundry","space_guid":"a1a6c6f0-0000-4000-8000-000000000003"},` +
		`"bind_resource":{"app_guid":"a1a6c6f0-0000-4000-8000-000000000004"},"parameters":{"access":"read-only"}}`
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPut, "/v2/service_instances/i-1/service_bindings/b-1?accepts_incomplete=true", strings.NewReader(body))
		r.SetBasicAuth("a", "b")
		r.Header.Set("X-Broker-API-Version", "2.17")
		r.Header.Set("X-Broker-API-Request-Identity", "a1a6c6f0-0000-4000-8000-000000000005")
		r.Header.Set("X-Broker-API-Originating-Identity", "cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgifQ==")
		handler.ServeHTTP(discard{http.Header{}}, r)
	}
}
