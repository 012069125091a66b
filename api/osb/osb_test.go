package osb

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/openapi/openapitest"
)

// shelf is a broker that has a catalog and nothing else: whoever calls more of
// it panics, which is how these tests see that a bad request went too far.
type shelf struct {
	Broker
	catalog atomic.Pointer[bindery.Catalog]
}

func (s *shelf) Catalog() *bindery.Catalog { return s.catalog.Load() }

// leaks are what no answer may hold: database words, source files, the
// decoder's texts, addresses and causes.
var leaks = regexp.MustCompile(`(?i)sql|\.go\b|\bEOF\b|unexpected end|invalid character|cannot unmarshal|0x[0-9a-f]{6}|127\.0\.0\.1|panic|goroutine|nil pointer`)

func face(t testing.TB, h *Handler) *httptest.Server {
	t.Helper()
	platforms := &api.Platforms{}
	err := platforms.Set([]api.Platform{{
		Name: "cf", Credentials: []api.Credential{{Username: "broker", Password: bindery.NewSecret("pass")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.Platforms, h.Now = platforms, time.Now
	handler := &api.Handler{
		Faces: []api.Face{h.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxBody: 64 << 10,
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config = api.NewServer(handler, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func newShelf(offerings ...*bindery.Offering) *shelf {
	s := &shelf{}
	s.catalog.Store(&bindery.Catalog{Offerings: offerings})
	return s
}

// request is one that is fine; tests spoil it.
type request struct {
	method, path, body string
	header             http.Header
}

func (q request) send(t testing.TB, server *httptest.Server) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(q.method, server.URL+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("broker", "pass")
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.Header.Set("X-Broker-API-Request-Identity", "e26cee84")
	if q.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range q.header {
		if value[0] == "" {
			req.Header.Del(name)
		} else {
			req.Header[name] = value
		}
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Broker-API-Request-Identity"); got != "e26cee84" && q.header.Get("X-Broker-Api-Request-Identity") == "" {
		t.Errorf("%s %s: the request's identity comes back as %q", q.method, q.path, got)
	}
	return resp, body
}

const (
	inst = "/v2/service_instances/i-1"
	bnd  = inst + "/service_bindings/b-1"
)

// every is a good request for each route.
var every = map[string]request{
	"catalog":                {method: "GET", path: "/v2/catalog"},
	"provision":              {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp"}`},
	"fetch":                  {method: "GET", path: inst},
	"update":                 {method: "PATCH", path: inst, body: `{"service_id":"s"}`},
	"deprovision":            {method: "DELETE", path: inst + "?service_id=s&plan_id=p"},
	"last operation":         {method: "GET", path: inst + "/last_operation"},
	"bind":                   {method: "PUT", path: bnd, body: `{"service_id":"s","plan_id":"p"}`},
	"fetch binding":          {method: "GET", path: bnd},
	"unbind":                 {method: "DELETE", path: bnd + "?service_id=s&plan_id=p"},
	"binding last operation": {method: "GET", path: bnd + "/last_operation"},
}

func TestNobodyUnknownIsAnswered(t *testing.T) {
	t.Parallel()
	server, doc := face(t, &Handler{Broker: newShelf()}), openapitest.Load(t)
	try := func(q request, known bool) {
		for _, authorization := range []string{"", "Basic", "Basic YnJva2VyOm9sZA==", "Bearer cGFzcw==", "Basic \x01"} {
			if authorization == "Basic \x01" {
				continue // net/http refuses to send it
			}
			q.header = http.Header{"Authorization": {authorization}, "X-Broker-Api-Version": {""}}
			resp, body := q.send(t, server)
			if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("Www-Authenticate"), "Basic ") {
				t.Errorf("%s %s with %q: got %d %s", q.method, q.path, authorization, resp.StatusCode, body)
			}
			if known {
				doc.Check(t, q.method, q.path, resp, body)
			}
		}
	}
	for _, q := range every {
		try(q, true)
	}
	for _, q := range []request{
		{method: "GET", path: "/v2"},
		{method: "GET", path: "/v2/"},
		{method: "GET", path: "/v2/nothing"},
		{method: "POST", path: "/v2/catalog"},
		{method: "PUT", path: inst, body: "{"},
	} {
		try(q, false)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	server, old := face(t, &Handler{Broker: newShelf()}), face(t, &Handler{Broker: newShelf(), MissingVersion: 412})
	doc := openapitest.Load(t)
	for version, want := range map[string]int{
		"2.17": 200, "2.0": 200, "2.13": 200, "2.99": 200, "2.99999999999999999999999": 200, "02.017": 200,
		"": 400, "1.0": 412, "3.0": 412, "2": 412, "2.": 412, ".17": 412, "2.17garbage": 412, "2.17.1": 412, " 2.17x": 412,
		"2.-1": 412, "2.+1": 412, "22.1": 412, "two": 412, "2,17": 412, "2.1７": 412, "0.2": 412, "20.0": 412,
	} {
		for name, q := range every {
			if want == 200 && name != "catalog" {
				continue
			}
			q.header = http.Header{"X-Broker-Api-Version": {version}}
			resp, body := q.send(t, server)
			if resp.StatusCode != want {
				t.Errorf("%s with %q: got %d %s, want %d", name, version, resp.StatusCode, body, want)
			}
			doc.Check(t, q.method, q.path, resp, body)
			if want != 200 && !strings.Contains(string(body), "2.17") {
				t.Errorf("%q: the answer does not say what to send: %s", version, body)
			}
			if resp, _ = q.send(t, old); want == 400 && resp.StatusCode != 412 {
				t.Errorf("a missing version where 412 is configured: got %d", resp.StatusCode)
			}
		}
	}
}

// Bad requests end before the broker, which would panic.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	server, doc := face(t, &Handler{Broker: newShelf()}), openapitest.Load(t)
	long := strings.Repeat("x", 256)
	tests := map[string]request{
		"provision: no body":                   {method: "PUT", path: inst},
		"provision: an array":                  {method: "PUT", path: inst, body: `[]`},
		"provision: broken":                    {method: "PUT", path: inst, body: `{"service_id":`},
		"provision: two values":                {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp"}{}`},
		"provision: a key twice":               {method: "PUT", path: inst, body: `{"service_id":"s","service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp"}`},
		"provision: no service":                {method: "PUT", path: inst, body: `{"plan_id":"p","organization_guid":"o","space_guid":"sp"}`},
		"provision: service in capitals":       {method: "PUT", path: inst, body: `{"SERVICE_ID":"s","plan_id":"p","organization_guid":"o","space_guid":"sp"}`},
		"provision: no plan":                   {method: "PUT", path: inst, body: `{"service_id":"s","organization_guid":"o","space_guid":"sp"}`},
		"provision: null plan":                 {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":null,"organization_guid":"o","space_guid":"sp"}`},
		"provision: empty organization":        {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"","space_guid":"sp"}`},
		"provision: no space":                  {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o"}`},
		"provision: a number for an id":        {method: "PUT", path: inst, body: `{"service_id":7,"plan_id":"p","organization_guid":"o","space_guid":"sp"}`},
		"provision: NUL in an id":              {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o\u0000","space_guid":"sp"}`},
		"provision: a long id":                 {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"` + long + `"}`},
		"provision: parameters are a list":     {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp","parameters":[]}`},
		"provision: context is text":           {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp","context":"cf"}`},
		"provision: maintenance_info is text":  {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp","maintenance_info":"1.0.0"}`},
		"provision: maintenance_info is empty": {method: "PUT", path: inst, body: `{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"sp","maintenance_info":{}}`},
		"provision: accepts something":         {method: "PUT", path: inst + "?accepts_incomplete=yes", body: every["provision"].body},
		"provision: accepts True":              {method: "PUT", path: inst + "?accepts_incomplete=True", body: every["provision"].body},
		"provision: accepts both":              {method: "PUT", path: inst + "?accepts_incomplete=true&accepts_incomplete=false", body: every["provision"].body},
		"provision: a broken query":            {method: "PUT", path: inst + "?accepts_incomplete=%zz", body: every["provision"].body},
		"provision: a long instance id":        {method: "PUT", path: "/v2/service_instances/" + long, body: every["provision"].body},
		"provision: a line in the instance id": {method: "PUT", path: "/v2/service_instances/a%0Ab", body: every["provision"].body},
		"provision: NUL in the instance id":    {method: "PUT", path: "/v2/service_instances/a%00b", body: every["provision"].body},
		"provision: instance id is no UTF-8":   {method: "PUT", path: "/v2/service_instances/a%ffb", body: every["provision"].body},
		"provision: another content type":      {method: "PUT", path: inst, body: every["provision"].body, header: http.Header{"Content-Type": {"text/xml"}}},
		"fetch: a bell in the id":              {method: "GET", path: "/v2/service_instances/%07"},
		"update: no service":                   {method: "PATCH", path: inst, body: `{"plan_id":"p"}`},
		"update: empty plan":                   {method: "PATCH", path: inst, body: `{"service_id":"s","plan_id":""}`},
		"update: parameters are text":          {method: "PATCH", path: inst, body: `{"service_id":"s","parameters":"x"}`},
		"deprovision: no service":              {method: "DELETE", path: inst + "?plan_id=p"},
		"deprovision: no plan":                 {method: "DELETE", path: inst + "?service_id=s"},
		"deprovision: empty plan":              {method: "DELETE", path: inst + "?service_id=s&plan_id="},
		"deprovision: two plans":               {method: "DELETE", path: inst + "?service_id=s&plan_id=p&plan_id=q"},
		"deprovision: accepts 1":               {method: "DELETE", path: inst + "?service_id=s&plan_id=p&accepts_incomplete=1"},
		"bind: no service":                     {method: "PUT", path: bnd, body: `{"plan_id":"p"}`},
		"bind: no plan":                        {method: "PUT", path: bnd, body: `{"service_id":"s"}`},
		"bind: empty predecessor":              {method: "PUT", path: bnd, body: `{"service_id":"s","plan_id":"p","predecessor_binding_id":""}`},
		"bind: the resource is text":           {method: "PUT", path: bnd, body: `{"service_id":"s","plan_id":"p","bind_resource":"app"}`},
		"bind: the app is a number":            {method: "PUT", path: bnd, body: `{"service_id":"s","plan_id":"p","bind_resource":{"app_guid":1}}`},
		"bind: the app is there twice":         {method: "PUT", path: bnd, body: `{"service_id":"s","plan_id":"p","bind_resource":{"app_guid":"a","app_guid":"b"}}`},
		"bind: a long binding id":              {method: "PUT", path: inst + "/service_bindings/" + long, body: every["bind"].body},
		"unbind: no service":                   {method: "DELETE", path: bnd + "?plan_id=p"},
		"unbind: no plan":                      {method: "DELETE", path: bnd + "?service_id=s"},
		"poll: a broken query":                 {method: "GET", path: inst + "/last_operation?operation=%"},
		"poll: two operations":                 {method: "GET", path: inst + "/last_operation?operation=a&operation=b"},
	}
	for name, q := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := q.send(t, server)
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if leaks.Match(body) {
				t.Errorf("the answer tells too much: %s", body)
			}
			doc.Check(t, q.method, q.path, resp, body)
		})
	}
	t.Run("empty ids", func(t *testing.T) {
		t.Parallel()
		for _, q := range []request{
			{method: "GET", path: "/v2/service_instances/"},
			{method: "GET", path: "/v2/service_instances//last_operation"},
			{method: "GET", path: inst + "/service_bindings/"},
			{method: "GET", path: inst + "/service_bindings//last_operation"},
		} {
			if resp, body := q.send(t, server); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: got %d %s", q.path, resp.StatusCode, body)
			}
		}
	})
	t.Run("other statuses", func(t *testing.T) {
		t.Parallel()
		for want, q := range map[int]request{
			413: {method: "PUT", path: inst, body: `{"x":"` + strings.Repeat("x", 64<<10) + `"}`},
			404: {method: "GET", path: "/v2/service_instances"},
			405: {method: "POST", path: inst, body: "{}"},
		} {
			resp, body := q.send(t, server)
			var f failure
			if err := json.Unmarshal(body, &f); err != nil || f.Description == "" || resp.StatusCode != want {
				t.Errorf("got %d %s, want %d", resp.StatusCode, body, want)
			}
		}
	})
}

func TestActor(t *testing.T) {
	t.Parallel()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for sent, want := range map[string]string{
		"cloudfoundry " + encode(`{"user_id":"683ea748"}`):                      "cloudfoundry:683ea748",
		"kubernetes " + encode(`{"username":"duke","uid":"c2dde","groups":[]}`): "kubernetes:duke",
		"kubernetes " + encode(`{"uid":"c2dde"}`):                               "kubernetes:c2dde",
		"cloudfoundry  " + encode(`{"user_id":"a\u0000\n\u0085b"}`):             "cloudfoundry:ab",
		"cloudfoundry " + encode(`{"user_id":7}`):                               "",
		"cloudfoundry " + encode(`[]`):                                          "",
		"cloudfoundry " + encode(`{}`):                                          "",
		"cloudfoundry !!!":                                                      "",
		"cloudfoundry":                                                          "",
		" ":                                                                     "",
		"":                                                                      "",
	} {
		if got := actor(http.Header{"X-Broker-Api-Originating-Identity": {sent}}); got != want {
			t.Errorf("%q: got %q, want %q", sent, got, want)
		}
	}
	if got := actor(http.Header{"X-Broker-Api-Originating-Identity": {
		"p " + encode(`{"user_id":"`+strings.Repeat("é", 300)+`"}`),
	}}); len(got) > maxActor || len(got) < maxActor-2 {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestEveryCodeIsTranslated(t *testing.T) {
	t.Parallel()
	for _, code := range bindery.Codes {
		for a := none; a <= bindingRemove; a++ {
			s := status(a, code)
			// A 422 without one of the words makes Cloud Foundry clean up after a PUT.
			if s == 422 && words[code] == "" && a != instanceUpdate {
				t.Errorf("action %d: %s is a 422 without a word", a, code)
			}
			if (s >= 500) != (code == bindery.CodeUnavailable || code == bindery.CodeUpstream || code == bindery.CodeTimeout || code == bindery.CodeInternal) {
				t.Errorf("action %d: %s is %d", a, code, s)
			}
			if s == 410 && a != poll && a != instanceRemove && a != bindingRemove {
				t.Errorf("action %d: %s is %d", a, code, s)
			}
		}
	}
	for _, tt := range []struct {
		a    action
		code bindery.Code
		want int
	}{
		{instanceRemove, bindery.CodeNotFound, 410},
		{bindingRemove, bindery.CodeGone, 410},
		{poll, bindery.CodeNotFound, 404},
		{poll, bindery.CodeGone, 410},
		{fetch, bindery.CodeGone, 404},
		{create, bindery.CodeNotFound, 404},
		{instanceUpdate, bindery.CodeNotFound, 404},
		{instanceUpdate, bindery.CodeUnsupported, 422},
		{instanceUpdate, bindery.CodeQuota, 422},
		{create, bindery.CodeQuota, 400},
		{create, bindery.CodeUnsupported, 400},
		{create, bindery.CodeConflict, 409},
		{create, bindery.CodeBusy, 422},
		{fetch, bindery.CodeBusy, 422},
	} {
		if got := status(tt.a, tt.code); got != tt.want {
			t.Errorf("action %d: %s is %d, want %d", tt.a, tt.code, got, tt.want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"2.17", "2.", ".1", "2.17x", "2.1.1", "002.0", "2.99999999999999999999"} {
		f.Add(s)
	}
	strict := regexp.MustCompile(`^0*2\.[0-9]+$`)
	f.Fuzz(func(t *testing.T, s string) {
		minor, ok := parseVersion(s)
		if ok != (strict.MatchString(s) && !strings.HasSuffix(s, "\n")) || minor < 0 {
			t.Errorf("%q: got %d, %v", s, minor, ok)
		}
	})
}
