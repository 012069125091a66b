package osb

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestBindingObject(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	full := broker.Result{
		Binding: bindery.Binding{Expires: at.Add(time.Hour), RenewBefore: at.Add(250 * time.Millisecond)},
		Credential: bindery.Credential{
			Object:       map[string]any{"uri": "x"},
			Endpoints:    []bindery.Endpoint{{Host: "h", Ports: []string{"443", "9000-9010"}, Protocol: "tcp"}},
			VolumeMounts: []json.RawMessage{json.RawMessage(`{"driver":"d"}`)}, SyslogDrainURL: "syslog://x", RouteServiceURL: "https://r",
		},
	}
	for name, tt := range map[string]struct {
		result broker.Result
		minor  int
		want   string
	}{
		"everything": {
			full, 17, `{"metadata":{"expires_at":"2030-02-03T04:05:06.0Z","renew_before":"2030-02-03T03:05:06.2Z"},"credentials":{"uri":"x"},` +
				`"syslog_drain_url":"syslog://x","route_service_url":"https://r","volume_mounts":[{"driver":"d"}],` +
				`"endpoints":[{"host":"h","ports":["443","9000-9010"],"protocol":"tcp"}]}`,
		},
		"a platform that cannot read endpoints": {
			broker.Result{Credential: bindery.Credential{Object: map[string]any{"a": 1}, Endpoints: full.Credential.Endpoints}},
			14, `{"credentials":{"a":1}}`,
		},
		"one that can": {
			broker.Result{Credential: bindery.Credential{Endpoints: []bindery.Endpoint{{Host: "h", Ports: []string{"1"}}}}},
			15, `{"endpoints":[{"host":"h","ports":["1"]}]}`,
		},
		"credentials without keys": {broker.Result{Credential: bindery.Credential{Object: map[string]any{}}}, 17, `{"credentials":{}}`},
		"an end, no renewal": {
			broker.Result{Binding: bindery.Binding{Expires: at}}, 17, `{"metadata":{"expires_at":"2030-02-03T03:05:06.0Z"}}`,
		},
	} {
		if got := encode(t, renderBinding(tt.result, tt.minor)); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tt.want)
		}
	}
}

func TestLastOperationObject(t *testing.T) {
	t.Parallel()
	no := new(false)
	failed := func(kind bindery.OperationKind) broker.Status {
		return broker.Status{State: bindery.OpFailed, Kind: kind, Description: "d", InstanceUsable: no, UpdateRepeatable: no}
	}
	for _, tt := range []struct {
		status     broker.Status
		ofInstance bool
		want       string
	}{
		{broker.Status{State: bindery.OpInProgress}, true, `{"state":"in progress"}`},
		{broker.Status{State: bindery.OpSucceeded, InstanceUsable: no}, true, `{"state":"succeeded"}`},
		{failed(bindery.OpProvision), true, `{"state":"failed","description":"d"}`},
		{failed(bindery.OpUpdate), true, `{"state":"failed","description":"d","instance_usable":false,"update_repeatable":false}`},
		{failed(bindery.OpDeprovision), true, `{"state":"failed","description":"d","instance_usable":false}`},
		{failed(bindery.OpUnbind), false, `{"state":"failed","description":"d"}`},
		{failed(bindery.OpUpdate), false, `{"state":"failed","description":"d"}`},
	} {
		if got := encode(t, renderStatus(tt.status, tt.ofInstance)); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// The outcomes and errors of a broker, as they are sent.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := &Handler{}
	cause := errors.New("SECRET-CAUSE")
	for name, tt := range map[string]struct {
		serve  func(*api.Call)
		status int
		body   string
		retry  string
	}{
		"made": {func(c *api.Call) {
			h.answer(c, 201, broker.Result{Outcome: broker.Done}, changed{DashboardURL: "https://d"})
		}, 201, `{"dashboard_url":"https://d"}`, ""},
		"the same again": {func(c *api.Call) { h.answer(c, 201, broker.Result{Outcome: broker.Same}, changed{}) }, 200, `{}`, ""},
		"in progress": {func(c *api.Call) {
			h.answer(c, 201, broker.Result{Outcome: broker.Accepted, Operation: "op-1"}, changed{DashboardURL: "https://d"})
		}, 202, `{"operation":"op-1","dashboard_url":"https://d"}`, "2"},
		"removed": {func(c *api.Call) { h.answer(c, 200, broker.Result{Outcome: broker.Done}, changed{}) }, 200, `{}`, ""},
		"gone":    {func(c *api.Call) { fail(c, bindingRemove, bindery.Errorf(bindery.CodeGone, "no more")) }, 410, `{}`, ""},
		"busy": {
			func(c *api.Call) {
				fail(c, create, fmt.Errorf("x: %w", bindery.Errorf(bindery.CodeBusy, "wait").Because(cause)))
			},
			422, `{"error":"ConcurrencyError","description":"wait"}`, "",
		},
		"async only": {
			func(c *api.Call) { fail(c, bindingRemove, bindery.Errorf(bindery.CodeAsyncRequired, "slow")) },
			422, `{"error":"AsyncRequired","description":"slow"}`, "",
		},
		"no app": {
			func(c *api.Call) { fail(c, create, bindery.Errorf(bindery.CodeRequiresApp, "app")) },
			422, `{"error":"RequiresApp","description":"app"}`, "",
		},
		"maintenance": {
			func(c *api.Call) { fail(c, instanceUpdate, bindery.Errorf(bindery.CodeMaintenanceConflict, "v")) },
			422, `{"error":"MaintenanceInfoConflict","description":"v"}`, "",
		},
		"a change that cannot be": {
			func(c *api.Call) { fail(c, instanceUpdate, bindery.Errorf(bindery.CodeUnsupported, "no")) },
			422, `{"description":"no","update_repeatable":false}`, "",
		},
		"over quota": {
			func(c *api.Call) { fail(c, create, bindery.Errorf(bindery.CodeQuota, "full")) }, 400, `{"description":"full"}`, "",
		},
		"a backend that is down": {
			func(c *api.Call) {
				fail(c, create, bindery.Errorf(bindery.CodeUnavailable, "server s is not answering").Because(cause))
			},
			503, `{"description":"server s is not answering"}`, "",
		},
		"anything else": {func(c *api.Call) { fail(c, create, cause) }, 500, `{"description":"internal error, request id"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			face := api.Face{Segment: "v2", Serve: func(c *api.Call) error { tt.serve(c); return nil }}
			handler := &api.Handler{Faces: []api.Face{face}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v2", nil)
			r.Header.Set("X-Broker-API-Request-Identity", "id")
			handler.ServeHTTP(w, r)
			if got := w.Body.String(); w.Code != tt.status || got != tt.body+"\n" || w.Header().Get("Retry-After") != tt.retry {
				t.Errorf("got %d %s %q", w.Code, got, w.Header().Get("Retry-After"))
			}
		})
	}
}
