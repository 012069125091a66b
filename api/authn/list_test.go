package authn

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bindery"
	"bindery/api/openapi/openapitest"
	"bindery/test/poll"
)

// many makes so many bindings, with user keys of that size, without asking the face.
func (w *world) many(n, size int) {
	w.Helper()
	var service bindery.ServiceType
	rows := make([]int64, n)
	for i := range rows {
		row, err := w.store.NewID(w.Context())
		must(w, err)
		rows[i] = row
	}
	must(w, w.store.Update(w.Context(), func(tx bindery.Tx) (err error) {
		if service, err = tx.ServiceTypes().ByName(w.Context(), "st1"); err != nil {
			return err
		}
		for i, row := range rows {
			err := tx.IdentityBindings().Add(w.Context(), bindery.IdentityBinding{
				Row: row, UUID: fmt.Sprintf("uuid-%d", i), Name: fmt.Sprintf("b-%d", i), ServiceRow: service.Row, ServiceUUID: service.UUID,
				Host: "127.0.0.1", AuthType: bindery.AuthX509, Identifier: fmt.Sprintf("CN=<%d>", i),
				Keys: bindery.IdentityKeys{Exact: fmt.Sprintf("exact-%d", i)}, UniqueKey: strings.Repeat("k", size), Revision: 1, Created: now,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// indented is a list of bindings as encoding/json writes the whole of it.
func indented(t *testing.T, raw string) string {
	t.Helper()
	var v struct {
		Bindings []struct {
			Name      string `json:"name"`
			Service   string `json:"service_uuid"`
			Host      string `json:"host"`
			UUID      string `json:"uuid"`
			ID        string `json:"auth_identifier"`
			UniqueKey string `json:"unique_key"`
			AuthType  string `json:"auth_type"`
			CreatedOn string `json:"created_on"`
		} `json:"bindings"`
	}
	must(t, json.Unmarshal([]byte(raw), &v))
	out, err := json.MarshalIndent(v, "", " ")
	must(t, err)
	return string(out)
}

func TestListsStream(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	n := 2*pageSize + 7
	w.many(n, 1)
	a := w.do(request{method: "GET", path: "/v1/bindings"})
	if got := strings.Count(a.body, `"name"`); got != n || a.header.Get("Content-Length") != "" || a.header.Get("Link") != "" {
		t.Errorf("got %d bindings, %s", got, a.header)
	}
	if a.body != indented(t, a.body) {
		t.Error("the bytes are not those of json.MarshalIndent")
	}
	if of := w.do(request{method: "GET", path: "/v1/service-types/st1/hosts/127.0.0.1/bindings"}); of.body != a.body {
		t.Error("the list of the host differs")
	}
	if head := w.do(request{method: "HEAD", path: "/v1/bindings"}); head.status != 200 || head.body != "" {
		t.Errorf("HEAD: %d %s", head.status, head.body)
	}

	// Pages, joined, are the whole.
	path, names := "/v1/bindings?limit=300", []string{}
	for range 10 {
		p := w.do(request{method: "GET", path: path, key: "none", header: http.Header{"X-Api-Key": {adminKey}}})
		var v struct{ Bindings []struct{ Name string } }
		must(t, json.Unmarshal([]byte(p.body), &v))
		for _, b := range v.Bindings {
			names = append(names, b.Name)
		}
		link := p.header.Get("Link")
		if link == "" {
			break
		}
		var ok bool
		path, ok = strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if !ok || len(v.Bindings) != 300 || strings.Contains(link, "key") {
			t.Fatalf("the link is %s", link)
		}
	}
	if len(names) != n || names[0] != "b-0" || names[n-1] != fmt.Sprintf("b-%d", n-1) {
		t.Errorf("got %d names", len(names))
	}
	a = w.do(request{method: "GET", path: "/v1/service-types/st1/hosts/127.0.0.1/bindings?authID=&limit=1"})
	if link := a.header.Get("Link"); !strings.HasPrefix(link, "</v1/service-types/st1/hosts/127.0.0.1/bindings?after=") || strings.Contains(link, adminKey) {
		t.Errorf("the link is %s", link)
	}
}

// What fails in the middle does not look whole, and is an error in the log.
func TestListsBreakOff(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill()
	w.many(3000, 4<<10) // more than the sockets take before somebody reads
	resp, err := w.server.Client().Get(w.server.URL + "/v1/bindings?key=" + adminKey)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %d: %v", resp.StatusCode, err)
	}
	must(t, w.store.Close())
	rest, err := io.ReadAll(resp.Body)
	if err == nil {
		t.Errorf("%d bytes look whole", len(rest))
	}
	poll.Until(t, "the log has an error", func() bool { return strings.Contains(w.log.String(), `"level":"ERROR"`) })
	a := w.do(request{method: "GET", path: "/v1/bindings"})
	if a.status < 500 || strings.Contains(a.body, "sql") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if s := w.log.String(); strings.Contains(s, adminKey) {
		t.Error("the key is in the log")
	}
}

// Every route is in the document.
func TestDocumentIsComplete(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t)
	for _, route := range []string{
		"POST /v1/service-types", "GET /v1/service-types", "GET /v1/service-types/a", "PUT /v1/service-types/a", "DELETE /v1/service-types/a",
		"POST /v1/service-types/a/authm", "GET /v1/service-types/a/hosts/b/authm", "PUT /v1/service-types/a/hosts/b/authm",
		"DELETE /v1/service-types/a/hosts/b/authm", "GET /v1/authm", "POST /v1/bindings/a%2Fb", "GET /v1/bindings", "GET /v1/bindings/a",
		"PUT /v1/bindings/a", "DELETE /v1/bindings/a", "GET /v1/service-types/a/hosts/b/bindings", "GET /v1/service-types/a/hosts/b:authx509",
		"GET /v1/service-types/a/hosts/b:authoidc", "POST /v1/service-types/a/hosts/b:authoidc", "GET /v1/version", "GET /v1/health",
	} {
		method, path, _ := strings.Cut(route, " ")
		if !doc.Knows(method, path) {
			t.Errorf("%s is not in the document", route)
		}
	}
}
