package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"bindery"
)

type plain struct{ bindery.Driver }

func (plain) Revoke(context.Context, bindery.InstanceSpec, bindery.Account) error {
	return bindery.Errorf(bindery.CodeUnavailable, "no")
}

type pinging struct{ plain }

func (pinging) Ping(context.Context) error { return nil }

func TestDriverKeepsCapabilities(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test")
	if _, ok := bindery.Capability[bindery.Pinger](m.Driver("k", "s", pinging{})); !ok {
		t.Error("a capability is lost")
	}
	if _, ok := bindery.Capability[bindery.Pinger](m.Driver("k", "s", plain{})); ok {
		t.Error("a capability comes from nowhere")
	}
}

func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	m := NewMetrics("1.2.3")
	d := m.Driver("redis", "r1", pinging{})
	_ = d.Revoke(t.Context(), bindery.InstanceSpec{}, bindery.Account{})
	m.Server("redis", "r1", nil)
	m.Pending([]string{"r1", "r2"}, []bindery.Backlog{{Server: "r1", State: bindery.AccountStuck, Count: 2}})
	m.Pending([]string{"r1"}, []bindery.Backlog{{Server: "r1", State: bindery.AccountUnproven, Count: 3}})
	m.Proof("r1", "alive")
	m.Pool("p1", map[bindery.StockState]int{bindery.StockFree: 4})
	m.Request("osb", "PUT", "/v2/service_instances/{instance_id}", 201, time.Second)
	m.Operation(bindery.Operation{Kind: bindery.OpBind, Server: "r1", State: bindery.OpSucceeded})
	m.Retry(bindery.Operation{Kind: bindery.OpBind, Server: "r1"})
	m.Reconciled("r1", 1, 2, 3, nil)
	m.Reload(nil)
	body := get(t, m, "/metrics")
	for _, want := range []string{
		DriverCalls + `{kind="redis",method="revoke",outcome="unavailable",server="r1"} 1`,
		ServerUp + `{kind="redis",server="r1"} 1`,
		Requests + `{face="osb",method="PUT",route="/v2/service_instances/{instance_id}",status="201"} 1`,
		Operations + `{kind="bind",result="succeeded",server="r1"} 1`,
		ReconcileFindings + `{finding="unknown",server="r1"} 3`,
		AccountsStuck + `{server="r1"} 0`,
		AccountsUnproven + `{server="r1"} 3`,
		AccountsUnproven + `{server="r2"} 0`,
		Proofs + `{outcome="alive",server="r1"} 1`,
		PoolItems + `{server="p1",state="free"} 4`,
		Reloads + `{result="applied"} 1`,
		Build + `{version="1.2.3"} 1`,
		"go_goroutines",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no line %s in\n%s", want, body)
		}
	}
	m.Forget("redis", "r1")
	if strings.Contains(get(t, m, "/metrics"), ServerUp+"{") {
		t.Error("a server that was forgotten is still reported")
	}
}

func get(t *testing.T, m *Metrics, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(false).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProfilesAreOptional(t *testing.T) {
	t.Parallel()
	for profiles, want := range map[bool]int{true: 200, false: 404} {
		w := httptest.NewRecorder()
		NewMetrics("").Handler(profiles).ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/cmdline", nil))
		if w.Code != want {
			t.Errorf("profiles %v: got %d, want %d", profiles, w.Code, want)
		}
	}
}

// Every metric is in the document that the operator reads.
func TestNamesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range Names {
		if !bytes.Contains(doc, []byte("`"+n+"`")) {
			t.Errorf("docs/operating.md does not list %s", n)
		}
	}
}

func TestLogNeverShowsSecrets(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	var level slog.LevelVar
	log := NewLog(&b, &level)
	log.Info("x", "password", bindery.NewSecret("hunter2"), "list", []bindery.Secret{bindery.NewSecret("hunter2")})
	log.Debug("hidden")
	level.Set(ParseLevel("debug"))
	log.Debug("shown")
	if s := b.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "hidden") || !strings.Contains(s, "shown") {
		t.Errorf("got %s", s)
	}
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}
