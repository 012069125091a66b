package osb

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/api/openapi/openapitest"
)

func schema() *bindery.Schema {
	return &bindery.Schema{Raw: json.RawMessage(`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object"}`)}
}

func offering() *bindery.Offering {
	return &bindery.Offering{
		ID: "o-1", Name: "redis", Description: "Redis & more", Bindable: true, PlanUpdateable: true,
		Metadata: json.RawMessage(` {"displayName": "Redis"} `),
		Plans: []*bindery.Plan{
			{ID: "p-1", Name: "shared", Description: "a prefix", Free: true},
			{ID: "p-2", Name: "old", Description: "hidden", Retired: true},
			{
				ID: "p-3", Name: "whole", Description: "a server", Bindable: new(false), PlanUpdateable: new(false),
				BindingRotatable: true, MaximumPolling: 1500 * time.Millisecond, MaintenanceVersion: "1.2.3",
				MaintenanceNote: "new", Metadata: json.RawMessage(`null`), Schemas: bindery.Schemas{BindingCreate: schema()},
			},
		},
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	retired := &bindery.Offering{ID: "o-2", Name: "old", Description: "x", Plans: []*bindery.Plan{{ID: "p-4", Retired: true}}}
	rich := &bindery.Offering{
		ID: "o-3", Name: "pg", Description: "x", Tags: []string{"sql"}, Requires: []string{"syslog_drain"},
		AllowContextUpdates: true, Metadata: json.RawMessage(`null`),
		DashboardClient: &bindery.DashboardClient{ID: "c", Secret: bindery.NewSecret("s3"), RedirectURI: "https://x"},
		Plans:           []*bindery.Plan{{ID: "p-5", Name: "n", Description: "d", Schemas: bindery.Schemas{InstanceUpdate: schema()}}},
	}
	server := face(t, &Handler{Broker: newShelf(offering(), retired, rich)})
	q := every["catalog"]
	resp, body := q.send(t, server)
	openapitest.Load(t).Check(t, q.method, q.path, resp, body)
	want := `{"services":[{"name":"redis","id":"o-1","description":"Redis & more","bindable":true,` +
		`"instances_retrievable":true,"bindings_retrievable":true,"allow_context_updates":false,"metadata":{"displayName":"Redis"},` +
		`"plan_updateable":true,"plans":[` +
		`{"id":"p-1","name":"shared","description":"a prefix","free":true,"binding_rotatable":false},` +
		`{"id":"p-3","name":"whole","description":"a server","free":false,"bindable":false,"binding_rotatable":true,` +
		`"plan_updateable":false,"schemas":{"service_binding":{"create":{"parameters":` + string(schema().Raw) + `}}},` +
		`"maximum_polling_duration":2,"maintenance_info":{"version":"1.2.3","description":"new"}}]},` +
		`{"name":"pg","id":"o-3","description":"x","tags":["sql"],"requires":["syslog_drain"],"bindable":false,` +
		`"instances_retrievable":true,"bindings_retrievable":true,"allow_context_updates":true,` +
		`"dashboard_client":{"id":"c","secret":"s3","redirect_uri":"https://x"},"plan_updateable":false,"plans":[` +
		`{"id":"p-5","name":"n","description":"d","free":false,"binding_rotatable":false,` +
		`"schemas":{"service_instance":{"update":{"parameters":` + string(schema().Raw) + `}}}}]}]}` + "\n"
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Error(diff)
	}
}

func TestCatalogIsSentOnce(t *testing.T) {
	t.Parallel()
	broker := newShelf(offering())
	server, doc := face(t, &Handler{Broker: broker}), openapitest.Load(t)
	get := func(header ...string) *http.Response {
		t.Helper()
		q := every["catalog"]
		q.header = http.Header{}
		for i := 0; i < len(header); i += 2 {
			q.header.Add(header[i], header[i+1])
		}
		resp, body := q.send(t, server)
		doc.Check(t, q.method, q.path, resp, body)
		if resp.StatusCode == http.StatusNotModified && (len(body) > 0 || resp.Header.Get("Content-Type") != "") {
			t.Errorf("304 with a body: %s", body)
		}
		return resp
	}
	first := get()
	etag, modified := first.Header.Get("Etag"), first.Header.Get("Last-Modified")
	if first.StatusCode != 200 || etag == "" || modified == "" {
		t.Fatalf("got %d %v", first.StatusCode, first.Header)
	}
	for _, tt := range []struct {
		header []string
		want   int
	}{
		{[]string{"If-None-Match", etag}, 304},
		{[]string{"If-None-Match", "W/" + etag}, 304},
		{[]string{"If-None-Match", `"other", ` + etag}, 304},
		{[]string{"If-None-Match", "*"}, 304},
		{[]string{"If-None-Match", strings.Trim(etag, `"`)}, 200},
		{[]string{"If-None-Match", `"other"`}, 200},
		{[]string{"If-None-Match", `"other"`, "If-Modified-Since", modified}, 200}, // the tag decides
		{[]string{"If-Modified-Since", modified}, 304},
		{[]string{"If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"}, 200},
		{[]string{"If-Modified-Since", "yesterday"}, 200},
	} {
		if resp := get(tt.header...); resp.StatusCode != tt.want || resp.Header.Get("Etag") != etag {
			t.Errorf("%v: got %d %s", tt.header, resp.StatusCode, resp.Header.Get("Etag"))
		}
	}

	broker.catalog.Store(&bindery.Catalog{Offerings: []*bindery.Offering{offering()}})
	if resp := get("If-None-Match", etag, "If-Modified-Since", modified); resp.StatusCode != 304 {
		t.Error("a reload that changes nothing changes the tag")
	}
	changed := offering()
	changed.Plans[0].Description = "another prefix"
	broker.catalog.Store(&bindery.Catalog{Offerings: []*bindery.Offering{changed}})
	resp := get("If-None-Match", etag)
	if resp.StatusCode != 200 || resp.Header.Get("Etag") == etag || resp.Header.Get("Last-Modified") == modified {
		t.Errorf("a change within the same second is not seen: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := get("If-Modified-Since", modified); resp.StatusCode != 200 {
		t.Error("the old date is still good")
	}
}

func TestEmptyCatalogIsAList(t *testing.T) {
	t.Parallel()
	_, body := every["catalog"].send(t, face(t, &Handler{Broker: newShelf()}))
	if string(body) != `{"services":[]}`+"\n" {
		t.Errorf("got %s", body)
	}
}
