package admin_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
	"bindery/broker/brokertest"
	"bindery/driver/given"
)

// ends moves the bindings that fill made to their ends.
func (w *world) ends(accounts ...bindery.Account) {
	w.Helper()
	if err := w.store.Update(w.Context(), func(tx bindery.Tx) error {
		for n, end := range accounts {
			b, err := tx.Bindings().Find(w.Context(), []string{"cf", "k8s"}[n%2], fmt.Sprintf("i-%d", n), fmt.Sprintf("b-%d", n))
			if err != nil {
				return err
			}
			b.State = bindery.StateRemoved
			if err := tx.Bindings().Save(w.Context(), b, bindery.StateReady); err != nil {
				return err
			}
			of, err := tx.Accounts().OfBinding(w.Context(), b.Row)
			if err != nil {
				return err
			}
			a := of[0]
			a.State, a.Proof, a.Proven, a.Attempts, a.Retry = end.State, end.Proof, end.Proven, end.Attempts, end.Retry
			if err := tx.Accounts().Save(w.Context(), a, bindery.AccountLive); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
}

func TestRemovedBindingsSayHowTheyEnded(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(5)
	at := time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
	w.ends(
		bindery.Account{State: bindery.AccountGone, Proof: "login refused", Proven: at},
		bindery.Account{State: bindery.AccountUnproven},
		bindery.Account{State: bindery.AccountStuck, Attempts: 7, Retry: at},
		bindery.Account{State: bindery.AccountGone, Proof: "the set lives on"},
	)
	_, page := w.call("GET", "/bindings?removed=true", "")
	var got []string
	for _, item := range page["items"].([]any) {
		b := item.(map[string]any)
		got = append(got, fmt.Sprint(b["state"], " ", b["proof"], " ", b["proven_at"]))
	}
	want := []string{
		"revoked login refused 2026-01-02T04:00:00Z", "unproven <nil> <nil>", "stuck <nil> <nil>",
		"removed the set lives on <nil>", "ready <nil> <nil>",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, page = w.call("GET", "/bindings?stuck=true", "")
	if items := page["items"].([]any); len(items) != 1 || items[0].(map[string]any)["id"] != "b-2" {
		t.Errorf("stuck: got %v", items)
	}
	_, page = w.call("GET", "/accounts?server=redis-1&state=stuck", "")
	if items := page["items"].([]any); len(items) != 1 || items[0].(map[string]any)["attempts"] != 7.0 || items[0].(map[string]any)["retry_at"] != "2026-01-02T04:00:00Z" {
		t.Errorf("stuck accounts: got %v", items)
	}
}

// operated gives the handler a broker, in front of a pool of three.
func (w *world) operated() {
	w.Helper()
	d, err := given.Pool.Open(bindery.Server{
		Name: "p1", Kind: "pool", Installation: w.store.Installation(), Timeout: time.Second,
		Secrets: map[string]bindery.Secret{"stock": bindery.NewSecret(`[{"name":"a","credentials":{"key":"` + hidden + `"}},
			{"name":"b","credentials":{"key":"` + hidden + `"}},{"name":"c","credentials":{"key":"` + hidden + `"}}]`)},
	})
	if err != nil {
		w.Fatal(err)
	}
	catalog := &bindery.Catalog{Offerings: []*bindery.Offering{{ID: "o", Name: "o", Bindable: true, Plans: []*bindery.Plan{
		{ID: "p", Name: "p", Kind: "pool", Servers: []string{"p1"}, Revocation: bindery.RevocationReleased},
	}}}}
	e := brokertest.New(w.T, w.store, func() *bindery.Catalog { return catalog }, func(name string) (bindery.Driver, bool) { return d, name == "p1" })
	e.Start(w.T)
	w.handler.Operator, w.handler.Stocks = e.Broker, e.Broker
	caller := broker.Caller{Platform: "cf"}
	if _, err := e.Provision(w.Context(), caller, broker.ProvisionRequest{InstanceID: "pooled", OfferingID: "o", PlanID: "p", Organization: "o", Space: "s"}); err != nil {
		w.Fatal(err)
	}
	for _, id := range []string{"b1", "b2"} {
		if _, err := e.Bind(w.Context(), caller, broker.BindRequest{InstanceID: "pooled", BindingID: id, OfferingID: "o", PlanID: "p"}); err != nil {
			w.Fatal(err)
		}
	}
	if _, err := e.Unbind(w.Context(), caller, broker.RemoveRequest{InstanceID: "pooled", BindingID: "b1", OfferingID: "o", PlanID: "p"}); err != nil {
		w.Fatal(err)
	}
}

func TestOperatorsForget(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(2)
	w.ends(bindery.Account{State: bindery.AccountStuck})
	w.operated()
	_, all := w.call("GET", "/bindings?stuck=true", "")
	row := all["items"].([]any)[0].(map[string]any)["row"].(float64)
	path := fmt.Sprintf("/bindings/%.0f/forget", row)
	for _, bad := range []struct {
		path, body string
		want       int
	}{
		{path, `{}`, http.StatusBadRequest},
		{path, `{"reason":""}`, http.StatusBadRequest},
		{"/bindings/0/forget", `{"reason":"r"}`, http.StatusNotFound},
		{"/bindings/x/forget", `{"reason":"r"}`, http.StatusNotFound},
		{"/bindings/999999999/forget", `{"reason":"r"}`, http.StatusNotFound},
	} {
		if status, body := w.call("POST", bad.path, bad.body); status != bad.want {
			t.Errorf("%s %s: got %d %v, want %d", bad.path, bad.body, status, body, bad.want)
		}
	}
	status, b := w.call("POST", path, `{"reason":"scrapped"}`)
	if status != http.StatusOK || b["id"] != "b-0" || b["state"] != "removed" || b["proof"] != "forgotten by an operator: scrapped" {
		t.Errorf("got %d %v", status, b)
	}
	if status, b = w.call("POST", path, `{"reason":"again"}`); status != http.StatusConflict {
		t.Errorf("again: got %d %v", status, b)
	}
	_, events := w.call("GET", "/events?binding_id=b-0", "")
	if list := events["items"].([]any); len(list) != 1 || list[0].(map[string]any)["message"] != "scrapped" {
		t.Errorf("the audit has %v", list)
	}
}

func TestOperatorsForgetInstances(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fill(2)
	var row int64
	if err := w.store.Update(w.Context(), func(tx bindery.Tx) error {
		i, err := tx.Instances().Find(w.Context(), "cf", "i-0")
		if err != nil {
			return err
		}
		row, i.State = i.Row, bindery.StateRemoving
		return tx.Instances().Save(w.Context(), i, bindery.StateReady)
	}); err != nil {
		t.Fatal(err)
	}
	w.operated()
	used := w.instance("k8s", "i-1")
	path := fmt.Sprintf("/instances/%d/forget", row)
	for _, bad := range []struct {
		path, body string
		want       int
	}{
		{path, `{}`, http.StatusBadRequest},
		{path, `{"reason":""}`, http.StatusBadRequest},
		{"/instances/0/forget", `{"reason":"r"}`, http.StatusNotFound},
		{"/instances/x/forget", `{"reason":"r"}`, http.StatusNotFound},
		{"/instances/999999999/forget", `{"reason":"r"}`, http.StatusNotFound},
		{fmt.Sprintf("/instances/%d/forget", used.Row), `{"reason":"r"}`, http.StatusConflict},
	} {
		if status, body := w.call("POST", bad.path, bad.body); status != bad.want {
			t.Errorf("%s %s: got %d %v, want %d", bad.path, bad.body, status, body, bad.want)
		}
	}
	status, i := w.call("POST", path, `{"reason":"scrapped"}`)
	if status != http.StatusOK || i["id"] != "i-0" || i["state"] != "removed" {
		t.Errorf("got %d %v", status, i)
	}
	if status, i = w.call("POST", path, `{"reason":"again"}`); status != http.StatusConflict {
		t.Errorf("again: got %d %v", status, i)
	}
	_, all := w.call("GET", "/bindings?removed=true&instance_id=i-0", "")
	if b := all["items"].([]any)[0].(map[string]any); b["state"] != "removed" || b["proof"] != "forgotten by an operator: scrapped" {
		t.Errorf("its binding is %v", b)
	}
	_, events := w.call("GET", "/events?instance_id=i-0", "")
	list := events["items"].([]any)
	if last := list[len(list)-1].(map[string]any); last["action"] != "forget" || last["message"] != "scrapped" || last["binding_id"] != nil {
		t.Errorf("the audit ends with %v", last)
	}
}

func (w *world) instance(platform, id string) (i bindery.Instance) {
	w.Helper()
	if err := w.store.View(w.Context(), func(tx bindery.Tx) (err error) {
		i, err = tx.Instances().Find(w.Context(), platform, id)
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return i
}

func TestOperatorsRelease(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/pool", "/pool?server=p1"} {
		if status, _ := w.call("GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s where there is none: got %d", path, status)
		}
	}
	w.operated()
	items := func(query string) (out []string) {
		t.Helper()
		status, page := w.call("GET", "/pool"+query, "")
		if status != http.StatusOK {
			t.Fatalf("pool%s: got %d %v", query, status, page)
		}
		for _, x := range page["items"].([]any) {
			i := x.(map[string]any)
			out = append(out, fmt.Sprint(i["name"], " ", i["state"], " ", i["binding_id"]))
		}
		return out
	}
	if got, want := items(""), []string{"a quarantine b1", "b taken b2", "c free <nil>"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := items("?server=p1&state=taken"); len(got) != 1 {
		t.Errorf("taken: got %q", got)
	}
	for path, want := range map[string]int{
		"/pool/p1/b/release": http.StatusConflict, "/pool/p1/c/release": http.StatusNotFound,
		"/pool/p1/nothing/release": http.StatusNotFound, "/pool/p2/a/release": http.StatusNotFound,
	} {
		if status, body := w.call("POST", path, ""); status != want {
			t.Errorf("%s: got %d %v, want %d", path, status, body, want)
		}
	}
	if status, i := w.call("POST", "/pool/p1/a/release", ""); status != http.StatusOK || i["state"] != "free" {
		t.Errorf("got %d %v", status, i)
	}
	if got, want := items(""), []string{"a free <nil>", "b taken b2", "c free <nil>"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if status, _ := w.call("GET", "/pool?server=p2", ""); status != http.StatusNotFound {
		t.Errorf("an unknown pool: got %d", status)
	}
	if status, _ := w.call("GET", "/pool?state=lost", ""); status != http.StatusBadRequest {
		t.Errorf("an unknown state: got %d", status)
	}
}
