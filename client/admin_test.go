package client_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/client"
)

func admin(t *testing.T, answers ...answer) (*foreign, *client.Admin) {
	t.Helper()
	f, _ := broker(t, answers...)
	return f, &client.Admin{URL: f.URL, Token: bindery.NewSecret("tok-tok-tok"), PageSize: 2}
}

func TestListsAreWalkedPageByPage(t *testing.T) {
	t.Parallel()
	f, c := admin(t,
		answer{status: 200, body: `{"items":[{"id":"a"},{"id":"b"}],"next":"17"}`},
		answer{status: 200, body: `{"items":[{"id":"c"}],"next":"18"}`},
		answer{status: 200, body: `{"items":[]}`},
	)
	var ids []string
	for i, err := range c.Instances(t.Context(), client.InstanceFilter{Platform: "cf", Removed: true}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, i.ID)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, ids); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"GET /admin/v1/instances?limit=2&platform=cf&removed=true",
		"GET /admin/v1/instances?after=17&limit=2&platform=cf&removed=true",
		"GET /admin/v1/instances?after=18&limit=2&platform=cf&removed=true",
	}, f.seen); diff != "" {
		t.Error(diff)
	}
	if got := f.last.Get("Authorization"); got != "Bearer tok-tok-tok" {
		t.Errorf("sent %q", got)
	}
}

func TestListsEndEarlyAndWithAnError(t *testing.T) {
	t.Parallel()
	page := answer{status: 200, body: `{"items":[{"id":"op-1"},{"id":"op-2"}],"next":"2"}`}
	f, c := admin(t, page)
	for _, err := range c.Operations(t.Context(), client.OperationFilter{State: bindery.OpInProgress}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if len(f.seen) != 1 || !strings.Contains(f.seen[0], "state=in+progress") {
		t.Errorf("asked %v", f.seen)
	}

	// A server that says the same "next" for ever does not hold anybody.
	_, c = admin(t, page)
	var last error
	n := 0
	for _, err := range c.Events(t.Context(), client.EventFilter{}) {
		last = err
		n++
	}
	if n != 5 || last == nil {
		t.Errorf("%d items, then %v", n, last)
	}

	_, c = admin(t, page, answer{status: 401, body: `{"error":"unauthorized","description":"wrong token"}`})
	for _, err := range c.Bindings(t.Context(), client.BindingFilter{InstanceRow: 7}) {
		last = err
	}
	if bindery.CodeOf(last) != bindery.CodeUnauthorized || !strings.HasPrefix(last.Error(), "wrong token (GET") {
		t.Errorf("got %v", last)
	}
}

func TestAdminDecisions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, c := admin(t, answer{status: 200, body: `{"id":"op-1","state":"in progress","attempts":3}`})
	if o, err := c.Cancel(ctx, "op-1", "scrapped"); err != nil || o.Attempts != 3 {
		t.Errorf("%+v, %v", o, err)
	}
	if string(f.body) != `{"reason":"scrapped"}` {
		t.Errorf("sent %s", f.body)
	}
	if _, err := c.Retry(ctx, "op-1"); err != nil || len(f.body) != 0 {
		t.Errorf("sent %s, %v", f.body, err)
	}
	f, c = admin(t, answer{status: 200, body: `{"row":7,"id":"i","state":"removed"}`})
	if i, err := c.ForgetInstance(ctx, 7, "scrapped"); err != nil || i.ID != "i" || i.State != bindery.StateRemoved {
		t.Errorf("%+v, %v", i, err)
	}
	if f.seen[0] != "POST /admin/v1/instances/7/forget" || string(f.body) != `{"reason":"scrapped"}` {
		t.Errorf("sent %s with %s", f.seen[0], f.body)
	}
	// The admin API tells codes apart that share a status.
	_, c = admin(t, answer{status: 409, body: `{"error":"busy","description":"this is under way already"}`})
	if _, err := c.Reconcile(ctx, client.ReconcileRequest{DryRun: true}); bindery.CodeOf(err) != bindery.CodeBusy {
		t.Errorf("got %v", err)
	}
	f, c = admin(t, answer{status: 200, body: `{"servers":[{"server":"r1","unknown":["bdy_x_1"]}]}`})
	r, err := c.Reconcile(ctx, client.ReconcileRequest{Service: "redis", Apply: true})
	if err != nil || r.Servers[0].Unknown[0] != "bdy_x_1" || string(f.body) != `{"service":"redis","apply":true}` {
		t.Errorf("%+v, %v, sent %s", r, err, f.body)
	}
	if _, err := c.SealStatus(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.RotateSeal(ctx); err != nil {
		t.Error(err)
	}
	if got := f.seen[len(f.seen)-1]; got != "POST /admin/v1/seal/rotate" {
		t.Error(got)
	}
}
