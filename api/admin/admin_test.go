package admin_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/admin"
	"bindery/api/openapi/openapitest"
	"bindery/seal"
	"bindery/store"
)

const hidden = "HIDDEN-SECRET"

// a world is a served admin face over a real store.
type world struct {
	*testing.T
	store   bindery.Store
	handler *admin.Handler
	server  *httptest.Server
	doc     *openapitest.Document
}

func start(t *testing.T) *world {
	t.Helper()
	keys, err := seal.NewKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Options{URL: filepath.Join(t.TempDir(), "bindery.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	tokens := &api.Tokens{}
	if err := tokens.Set([]bindery.Secret{bindery.NewSecret("token")}); err != nil {
		t.Fatal(err)
	}
	h := &admin.Handler{Store: st, Tokens: tokens, Now: time.Now}
	server := httptest.NewServer(&api.Handler{
		Faces: []api.Face{h.Face()}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	t.Cleanup(server.Close)
	return &world{T: t, store: st, handler: h, server: server, doc: openapitest.Load(t)}
}

// fill records n of everything, in order.
func (w *world) fill(n int) {
	w.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rows := make([][5]int64, n)
	for i := range rows {
		for j := range rows[i] {
			row, err := w.store.NewID(w.Context())
			if err != nil {
				w.Fatal(err)
			}
			rows[i][j] = row
		}
	}
	err := w.store.Update(w.Context(), func(tx bindery.Tx) error {
		for i, r := range rows {
			platform := []string{"cf", "k8s"}[i%2]
			id := fmt.Sprintf("i-%d", i)
			instance := bindery.Instance{
				Row: r[0], Platform: platform, ID: id, Name: fmt.Sprintf("bdy_x_%d", i), OfferingID: "o", PlanID: "p",
				Kind: "redis", Server: "redis-1", Organization: "org", Space: "space",
				Parameters: bindery.NewSecret(`{"a":"` + hidden + `"}`), Context: json.RawMessage(`{"a":"` + hidden + `"}`),
				State: bindery.StateReady, Created: at, Updated: at,
			}
			if err := tx.Instances().Add(w.Context(), instance); err != nil {
				return err
			}
			binding := bindery.Binding{
				Row: r[1], InstanceRow: r[0], Platform: platform, InstanceID: id, ID: fmt.Sprintf("b-%d", i), OfferingID: "o",
				PlanID: "p", Parameters: bindery.NewSecret(`{"a":"` + hidden + `"}`), State: bindery.StateReady,
				Created: at, Updated: at, Expires: at.Add(time.Hour),
			}
			if err := tx.Bindings().Add(w.Context(), binding); err != nil {
				return err
			}
			account := bindery.Account{
				Row: r[2], BindingRow: r[1], InstanceRow: r[0], Kind: "redis", Server: "redis-1", Name: fmt.Sprintf("bdy_y_%d", i),
				Material: bindery.NewSecret(`{"password":"` + hidden + `"}`), State: bindery.AccountLive, Created: at, Updated: at,
			}
			if err := tx.Accounts().Add(w.Context(), account); err != nil {
				return err
			}
			operation := bindery.Operation{
				Row: r[3], Kind: bindery.OpBind, Platform: platform, InstanceRow: r[0], BindingRow: r[1], Server: "redis-1",
				State: bindery.OpInProgress, Request: bindery.NewSecret(`{"a":"` + hidden + `"}`), Due: at, Created: at,
			}
			if err := tx.Operations().Add(w.Context(), operation); err != nil {
				return err
			}
			event := bindery.Event{
				Row: r[4], At: at, Platform: platform, Actor: "cloudfoundry:u", Action: "provision", InstanceID: id, Result: "succeeded",
			}
			if err := tx.Events().Add(w.Context(), event); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

// call makes a request, checks the answer against the document, and returns it.
func (w *world) call(method, path, body string) (int, map[string]any) {
	w.Helper()
	req, err := http.NewRequest(method, w.server.URL+"/admin/v1"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token")
	resp, err := w.server.Client().Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	if strings.Contains(string(raw), hidden) {
		w.Errorf("%s %s shows a secret: %s", method, path, raw)
	}
	w.doc.Check(w, method, "/admin/v1"+path, resp, raw)
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		w.Fatalf("%s %s: %v: %s", method, path, err, raw)
	}
	return resp.StatusCode, out
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(25)
	for path, key := range map[string]string{
		"/instances": "row", "/bindings": "row", "/operations": "id", "/events": "row",
		"/accounts?server=redis-1&state=live": "row",
	} {
		seen, pages := map[any]bool{}, 0
		for after := ""; ; pages++ {
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			status, page := w.call("GET", path+sep+"limit=10&after="+after, "")
			if status != http.StatusOK {
				t.Fatalf("%s: got %d %v", path, status, page)
			}
			for _, item := range page["items"].([]any) {
				seen[item.(map[string]any)[key]] = true
			}
			next, ok := page["next"]
			if !ok {
				break
			}
			after = next.(string)
		}
		if len(seen) != 25 || pages != 2 {
			t.Errorf("%s: got %d items in %d pages", path, len(seen), pages+1)
		}
		if _, whole := w.call("GET", path, ""); len(whole["items"].([]any)) != 25 {
			t.Errorf("%s: got %d items", path, len(whole["items"].([]any)))
		}
	}
}

func TestListsAreFiltered(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(4)
	_, all := w.call("GET", "/instances", "")
	row := fmt.Sprintf("%.0f", all["items"].([]any)[0].(map[string]any)["row"])
	for path, want := range map[string]int{
		"/instances?platform=cf":                      2,
		"/instances?platform=nobody":                  0,
		"/instances?plan_id=p&server=redis-1":         4,
		"/instances?removed=true":                     4,
		"/bindings?platform=k8s":                      2,
		"/bindings?instance_row=" + row:               1,
		"/bindings?instance_id=i-1":                   1,
		"/bindings?instance_id=i-1&platform=cf":       0, // it is the other platform's
		"/bindings?instance_id=i-9":                   0,
		"/operations?state=in+progress":               4,
		"/operations?state=failed":                    0,
		"/operations?platform=cf&instance_row=" + row: 1,
		"/events?instance_id=i-0":                     1,
		"/events?platform=cf":                         2,
		"/events?binding_id=b-0":                      0,
		"/accounts?server=redis-1&state=gone":         0,
		"/accounts?server=other&state=live":           0,
	} {
		status, page := w.call("GET", path, "")
		if items, _ := page["items"].([]any); status != http.StatusOK || len(items) != want {
			t.Errorf("%s: got %d with %d items, want %d", path, status, len(items), want)
		}
	}
}

func TestOneOperation(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(1)
	_, list := w.call("GET", "/operations", "")
	first := list["items"].([]any)[0].(map[string]any)
	status, one := w.call("GET", "/operations/"+first["id"].(string), "")
	if status != http.StatusOK || one["instance_id"] != "i-0" || one["binding_id"] != "b-0" || one["kind"] != "bind" {
		t.Errorf("got %d %v", status, one)
	}
	for _, id := range []string{"op-zzzzzz", "op-", "1", "..%2F..", "op-0", "%00"} {
		if status, body := w.call("GET", "/operations/"+id, ""); status != http.StatusNotFound {
			t.Errorf("%s: got %d %v", id, status, body)
		}
	}
}

func TestBadQuestions(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{
		"/instances?limit=0", "/instances?limit=1001", "/instances?limit=x", "/instances?after=x", "/instances?after=-1",
		"/instances?removed=maybe", "/instances?platform=%00", "/bindings?instance_id=%00", "/instances?platform=%zz", "/operations?state=done",
		"/bindings?instance_row=x", "/accounts", "/accounts?server=s", "/accounts?server=s&state=x", "/events?after=99999999999999999999",
	} {
		if status, body := w.call("GET", path, ""); status != http.StatusBadRequest || body["error"] != "invalid" {
			t.Errorf("%s: got %d %v", path, status, body)
		}
	}
	for path, body := range map[string]string{
		"/operations/op-1/cancel": `{}`,
	} {
		if status, answer := w.call("POST", path, body); status != http.StatusBadRequest {
			t.Errorf("%s: got %d %v", path, status, answer)
		}
	}
	for _, path := range []string{"/seal/status"} {
		if status, answer := w.call("GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: got %d %v", path, status, answer)
		}
	}
}

func TestOnlyOperatorsAreAnswered(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/admin/v1/instances", "/admin/v1/nothing", "/admin", "/admin/v2", "/admin/v1/operations/op-1/retry"} {
		for _, authorization := range []string{"", "Bearer", "Bearer wrong", "Basic dG9rZW46"} {
			req, _ := http.NewRequest(http.MethodGet, w.server.URL+path, nil)
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			resp, err := w.server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Www-Authenticate") != `Bearer realm="bindery"` {
				t.Errorf("%s with %q: got %d", path, authorization, resp.StatusCode)
			}
		}
	}
}
