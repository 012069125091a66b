package osb

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

// vacant is what a broker is where nothing was ever made and nothing can be:
// whatever the fuzzer gets through to it is one of the caller's mistakes. It
// checks that what it is given may be stored.
type vacant struct {
	shelf
	*testing.T
}

func (v *vacant) refuse(code bindery.Code, texts ...string) error {
	for _, s := range texts {
		if s != "" && api.CheckText("x", s) != nil {
			v.Errorf("the broker was given %q", s)
		}
	}
	return bindery.Errorf(code, "no")
}

func (v *vacant) caller(c broker.Caller) string {
	if c.Platform != "cf" || c.RequestID == "" {
		v.Errorf("the caller is %+v", c)
	}
	return c.Actor
}

func (v *vacant) objects(raws ...json.RawMessage) {
	for _, raw := range raws {
		var o map[string]any
		if raw != nil && json.Unmarshal(raw, &o) != nil {
			v.Errorf("the broker was given %s for an object", raw)
		}
	}
}

func (v *vacant) Provision(_ context.Context, c broker.Caller, r broker.ProvisionRequest) (broker.Result, error) {
	v.objects(r.Context, r.Parameters)
	if r.OfferingID == "" || r.PlanID == "" || r.Organization == "" || r.Space == "" {
		v.Errorf("the broker was given %+v", r)
	}
	return broker.Result{}, v.refuse(bindery.CodeInvalid, v.caller(c), r.InstanceID, r.OfferingID, r.PlanID, r.Organization, r.Space)
}

func (v *vacant) Update(_ context.Context, c broker.Caller, r broker.UpdateRequest) (broker.Result, error) {
	v.objects(r.Context, r.Parameters)
	return broker.Result{}, v.refuse(bindery.CodeNotFound, v.caller(c), r.InstanceID, r.OfferingID, r.PlanID)
}

func (v *vacant) Deprovision(_ context.Context, c broker.Caller, r broker.RemoveRequest) (broker.Result, error) {
	return broker.Result{}, v.refuse(bindery.CodeNotFound, v.caller(c), r.InstanceID, r.OfferingID, r.PlanID)
}

func (v *vacant) Bind(_ context.Context, c broker.Caller, r broker.BindRequest) (broker.Result, error) {
	v.objects(r.Context, r.Parameters, r.BindResource)
	if (r.OfferingID == "" || r.PlanID == "") && r.Predecessor == "" {
		v.Errorf("the broker was given %+v", r)
	}
	return broker.Result{}, v.refuse(bindery.CodeNotFound,
		v.caller(c), r.InstanceID, r.BindingID, r.OfferingID, r.PlanID, r.AppGUID, r.Predecessor)
}

func (v *vacant) Unbind(_ context.Context, c broker.Caller, r broker.RemoveRequest) (broker.Result, error) {
	return broker.Result{}, v.refuse(bindery.CodeNotFound, v.caller(c), r.InstanceID, r.BindingID, r.OfferingID, r.PlanID)
}

func (v *vacant) Instance(_ context.Context, c broker.Caller, id string) (bindery.Instance, error) {
	return bindery.Instance{}, v.refuse(bindery.CodeNotFound, v.caller(c), id)
}

func (v *vacant) Binding(_ context.Context, c broker.Caller, instance, binding string) (broker.Result, error) {
	return broker.Result{}, v.refuse(bindery.CodeNotFound, v.caller(c), instance, binding)
}

func (v *vacant) LastOperation(_ context.Context, c broker.Caller, instance, binding, _ string) (broker.Status, error) {
	return broker.Status{}, v.refuse(bindery.CodeNotFound, v.caller(c), instance, binding)
}

// Whatever a platform sends: no 5xx, no panic, an object for an answer, its
// identity echoed, nothing of the inside told, and nothing unfit for a record passed on.
func FuzzRequest(f *testing.F) {
	for _, q := range every {
		f.Add(q.method, q.path, "2.17", "id", "cloudfoundry eyJ1c2VyX2lkIjoiYSJ9", "application/json", q.body)
	}
	f.Add("PUT", inst+"?accepts_incomplete=maybe", "2.x", "a\x00b", "x", "text/plain; =", `{"service_id":"\ud800"}`)
	f.Add("PUT", bnd, "2.14", strings.Repeat("i", 300), "k8s e30=", "", `{"predecessor_binding_id":"b","bind_resource":{"app_guid":"\u0000"}}`)
	f.Add("GET", "/v2/service_instances/%2e%2e/%2F/last_operation?operation=%00;", "2.0", "", "", "", "")
	f.Fuzz(func(t *testing.T, method, target, version, identity, originating, contentType, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http answers these
		}
		platforms := &api.Platforms{}
		if err := platforms.Set([]api.Platform{{
			Name: "cf", Credentials: []api.Credential{{Username: "a", Password: bindery.NewSecret("b")}},
		}}); err != nil {
			t.Fatal(err)
		}
		v := &vacant{T: t}
		v.catalog.Store(&bindery.Catalog{})
		h := &Handler{Broker: v, Platforms: platforms, Now: time.Now}
		handler := &api.Handler{Faces: []api.Face{h.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		r.SetBasicAuth("a", "b")
		for name, value := range map[string]string{
			"X-Broker-API-Version": version, "X-Broker-API-Request-Identity": identity,
			"X-Broker-API-Originating-Identity": originating, "Content-Type": contentType,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code < 200 {
			t.Errorf("%s %s: got %d %s", method, target, w.Code, w.Body)
		}
		var object map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &object); err != nil && method != http.MethodHead {
			t.Errorf("%s %s: got %d %q: %v", method, target, w.Code, w.Body, err)
		}
		if leaks.Match(w.Body.Bytes()) {
			t.Errorf("the answer tells too much: %s", w.Body)
		}
		echo := w.Header().Get("X-Broker-API-Request-Identity")
		if echo != "" && echo != identity || echo == "" && w.Header().Get("X-Request-Id") == "" {
			t.Errorf("identity %q comes back as %q", identity, echo)
		}
	})
}
