package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
)

func TestADeleteDuringACreateWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	w.provision("i", "small")
	w.proxy.Hold()
	bind, err := w.Bind(t.Context(), polls, bindRequest("i", "b"))
	if err != nil || bind.Outcome != broker.Accepted {
		t.Fatalf("got %v and %v, want it accepted", bind.Outcome, err)
	}
	unbind, err := w.Unbind(t.Context(), polls, removeRequest("i", "b"))
	if err != nil || unbind.Outcome != broker.Accepted {
		t.Fatalf("got %v and %v, want it accepted", unbind.Outcome, err)
	}
	s, err := w.LastOperation(t.Context(), polls, "i", "b", bind.Operation)
	if err != nil || s.State != bindery.OpFailed {
		t.Fatalf("the create's operation is %q (%v), want it failed", s.State, err)
	}
	if again, err := w.Unbind(t.Context(), polls, removeRequest("i", "b")); err != nil || again.Operation != unbind.Operation {
		t.Fatalf("a repeat got operation %q (%v), want %q", again.Operation, err, unbind.Operation)
	}
	w.proxy.Release()
	if o := w.finishToken(unbind.Operation); o.State != bindery.OpSucceeded {
		t.Fatalf("the removal is %q", o.State)
	}
	b, accounts := w.binding("i", "b")
	if b.State != bindery.StateRemoved || accounts[0].State != bindery.AccountUnproven || !b.Parameters.Empty() {
		t.Errorf("binding %q, account %q, want both gone, the one to be proven dead", b.State, accounts[0].State)
	}
	w.empty()
	_, err = w.Unbind(t.Context(), polls, removeRequest("i", "b"))
	w.refused(err, bindery.CodeGone)
}

func TestADeprovisionDuringAProvisionWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	w.proxy.Hold()
	made, err := w.Provision(t.Context(), polls, provisionRequest("i", "small"))
	if err != nil || made.Outcome != broker.Accepted {
		t.Fatalf("got %v and %v, want it accepted", made.Outcome, err)
	}
	gone, err := w.Deprovision(t.Context(), polls, removeRequest("i", ""))
	if err != nil {
		t.Fatal(err)
	}
	w.proxy.Release()
	if o := w.finishToken(gone.Operation); o.State != bindery.OpSucceeded {
		t.Fatalf("the removal is %q", o.State)
	}
	if o := w.finishToken(made.Operation); o.State != bindery.OpFailed {
		t.Errorf("the create is %q", o.State)
	}
	if i := w.instance("i"); i.State != bindery.StateRemoved {
		t.Errorf("the instance is %q", i.State)
	}
	w.provision("i", "small") // the id is free again
}

func TestWhoCannotWaitIsUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "small")
	w.RequestWait = 100 * time.Millisecond
	w.proxy.Hold()
	_, err := w.Bind(t.Context(), waits, bindRequest("i", "b"))
	w.refused(err, bindery.CodeTimeout)
	if b, _ := w.binding("i", "b"); b.State != bindery.StateRemoving {
		t.Errorf("the binding is %q when the caller hears of it", b.State)
	}
	_, err = w.Bind(t.Context(), waits, bindRequest("i", "b"))
	w.refused(err, bindery.CodeBusy)
	w.proxy.Release()
	w.settle()
	if b, _ := w.binding("i", "b"); b.State != bindery.StateRemoved {
		t.Errorf("the binding is %q", b.State)
	}
	w.empty()
	w.RequestWait = patience
	if err := w.login(w.bind(bindRequest("i", "b")).Credential); err != nil {
		t.Errorf("the second bind of the id: %v", err)
	}
}

func TestACreateThatCannotSucceedIsUndone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault    func() error
		deadline time.Duration
		code     bindery.Code
	}{
		"because the driver refuses": {func() error {
			return bindery.Errorf(bindery.CodeQuota, "the server is full").Because(errors.New("secret place"))
		}, time.Hour, bindery.CodeQuota},
		"because the deadline is over": {func() error { return errors.New("secret place") }, time.Nanosecond, bindery.CodeTimeout},
		"because the driver panics":    {func() error { panic("secret place") }, time.Nanosecond, bindery.CodeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) { w.CreateDeadline = test.deadline })
			w.provision("i", "small")
			w.failDriver(func(method string, _ bindery.InstanceSpec) error {
				if method == "Ensure" {
					return test.fault()
				}
				return nil
			})
			_, err := w.Bind(t.Context(), waits, bindRequest("i", "b"))
			w.refused(err, test.code)
			s, err := w.LastOperation(t.Context(), polls, "i", "b", "")
			if err != nil || s.State != bindery.OpFailed || s.Kind != bindery.OpBind || strings.Contains(s.Description, "secret") {
				t.Errorf("last operation: %+v, %v", s, err)
			}
			w.settle()
			if b, a := w.binding("i", "b"); b.State != bindery.StateRemoved || a[0].State != bindery.AccountUnproven {
				t.Errorf("binding %q, account %q", b.State, a[0].State)
			}
			w.empty()
		})
	}
}

func TestAFailedUpdateIsReverted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "small")
	var calls []string
	w.failDriver(func(method string, spec bindery.InstanceSpec) error {
		if method == "Provision" {
			calls = append(calls, string(spec.Settings)) // one after the other: they exclude each other
			if strings.Contains(string(spec.Settings), "scripts") {
				return bindery.Errorf(bindery.CodeUnsupported, "too small")
			}
		}
		return nil
	})
	_, err := w.Update(t.Context(), waits, broker.UpdateRequest{InstanceID: "i", OfferingID: "redis", PlanID: "big", Context: json.RawMessage(`{"n":1}`)})
	w.refused(err, bindery.CodeUnsupported)
	w.settle()
	if i := w.instance("i"); i.State != bindery.StateReady || i.PlanID != "small" || len(i.Context) > 0 {
		t.Errorf("the instance is %q on %q with context %s, want it as it was", i.State, i.PlanID, i.Context)
	}
	if len(calls) != 2 || calls[1] != "{}" {
		t.Errorf("the server was told %v, want the old settings last", calls)
	}
	s, err := w.LastOperation(t.Context(), polls, "i", "", "")
	if err != nil || s.State != bindery.OpFailed || s.UpdateRepeatable == nil || *s.UpdateRepeatable || !*s.InstanceUsable {
		t.Errorf("last operation: %+v, %v", s, err)
	}
	w.driverFault.Store(nil)
	if r, err := w.Update(t.Context(), waits, broker.UpdateRequest{InstanceID: "i", OfferingID: "redis", PlanID: "big"}); err != nil || r.Instance.PlanID != "big" {
		t.Errorf("got %q and %v", r.Instance.PlanID, err)
	}
}

func TestADeprovisionRemovesBindingsFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "small")
	var all []bindery.Credential
	for n := range 6 {
		all = append(all, w.bind(bindRequest("i", fmt.Sprint("b", n))).Credential)
	}
	var once atomic.Bool
	w.failDriver(func(method string, _ bindery.InstanceSpec) error {
		if method == "Revoke" && once.CompareAndSwap(false, true) {
			panic("in a goroutine of its own")
		}
		return nil
	})
	if _, err := w.Deprovision(t.Context(), waits, removeRequest("i", "")); err != nil {
		t.Fatal(err)
	}
	for n, c := range all {
		if w.login(c) == nil {
			t.Errorf("credential %d still lets in", n)
		}
		if b, a := w.binding("i", fmt.Sprint("b", n)); b.State != bindery.StateRemoved || a[0].State != bindery.AccountUnproven {
			t.Errorf("binding %q, account %q", b.State, a[0].State)
		}
	}
	w.empty()
}

func TestBindingsLeftMayRefuseADeprovision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.RefuseBindings = true })
	w.provision("i", "small")
	w.bind(bindRequest("i", "b"))
	_, err := w.Deprovision(t.Context(), waits, removeRequest("i", ""))
	w.refused(err, bindery.CodeInvalid)
	w.unbind("i", "b")
	if _, err := w.Deprovision(t.Context(), waits, removeRequest("i", "")); err != nil {
		t.Fatal(err)
	}
}

func TestARotationInherits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "small")
	first := bindRequest("i", "old")
	first.AppGUID, first.Parameters = "app", json.RawMessage(`{"access":"read-only"}`)
	first.BindResource = json.RawMessage(`{"app_guid": "app"}`)
	old := w.bind(first)
	if _, err := w.Update(t.Context(), waits, broker.UpdateRequest{InstanceID: "i", OfferingID: "redis", PlanID: "big"}); err != nil {
		t.Fatal(err)
	}
	rotate := broker.BindRequest{InstanceID: "i", BindingID: "new", Predecessor: "old"}
	made := w.bind(rotate)
	b, _ := w.binding("i", "new")
	if b.AppGUID != "app" || string(b.BindResource) != `{"app_guid":"app"}` || b.Parameters.Reveal() != `{"access":"read-only"}` || b.PlanID != "big" {
		t.Errorf("inherited %q, %s, %q", b.AppGUID, b.BindResource, b.PlanID)
	}
	if again := w.bind(rotate); again.Outcome != broker.Same {
		t.Errorf("a repeat is %v", again.Outcome)
	}
	other := rotate
	other.Predecessor = "new"
	_, err := w.Bind(t.Context(), waits, other)
	w.refused(err, bindery.CodeConflict)
	other.BindingID, other.Predecessor = "third", "none"
	_, err = w.Bind(t.Context(), waits, other)
	w.refused(err, bindery.CodeInvalid)
	w.unbind("i", "old")
	if w.login(old.Credential) == nil || w.login(made.Credential) != nil {
		t.Error("want the old credential dead and the new one alive")
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "few")
	w.provision("j", "small")
	request := bindRequest("i", "b")
	request.PlanID, request.Parameters = "few", json.RawMessage(`{"access":"read-only"}`)
	var g sync.WaitGroup
	var made atomic.Int32
	uris := make([]any, 8)
	for n := range uris {
		g.Go(func() {
			r, err := w.Bind(t.Context(), waits, request)
			if err != nil {
				t.Errorf("an identical bind: %v", err)
				return
			}
			if r.Outcome == broker.Done {
				made.Add(1)
			}
			uris[n] = r.Credential.Object["uri"]
		})
	}
	g.Wait()
	for _, u := range uris {
		if u != uris[0] {
			t.Fatal("identical binds got different credentials")
		}
	}
	if n := len(w.onServer(t.Context())); made.Load() != 1 || n != 1 {
		t.Errorf("%d answers say that they made it, and the server has %d accounts", made.Load(), n)
	}
	request.Parameters = json.RawMessage(` { "access" : "read-only" } `)
	if w.bind(request).Outcome != broker.Same {
		t.Error("the same parameters in another spelling are another request")
	}
	for name, change := range map[string]func(*broker.BindRequest){
		"parameters":  func(r *broker.BindRequest) { r.Parameters = nil },
		"application": func(r *broker.BindRequest) { r.AppGUID = "other" },
		"plan":        func(r *broker.BindRequest) { r.PlanID = "small" },
	} {
		other := request
		change(&other)
		if _, err := w.Bind(t.Context(), waits, other); bindery.CodeOf(err) != bindery.CodeConflict {
			t.Errorf("another %s: %v", name, err)
		}
	}
	_, err := w.Bind(t.Context(), waits, bindRequest("j", "b"))
	w.refused(err, bindery.CodeConflict)
	again := provisionRequest("i", "few")
	if r, err := w.Provision(t.Context(), waits, again); err != nil || r.Outcome != broker.Same {
		t.Errorf("an identical provision: %v, %v", r.Outcome, err)
	}
	again.Space = "other"
	_, err = w.Provision(t.Context(), waits, again)
	w.refused(err, bindery.CodeConflict)
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.provision("i", "few")
	_, err := w.Provision(t.Context(), waits, provisionRequest("j", "few"))
	w.refused(err, bindery.CodeQuota)
	request := bindRequest("i", "a")
	request.PlanID = "few"
	w.bind(request)
	request.BindingID = "b"
	_, err = w.Bind(t.Context(), waits, request)
	w.refused(err, bindery.CodeQuota)
	w.unbind("i", "a")
	w.bind(request)
}

func TestExclusiveServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var g sync.WaitGroup
	var mu sync.Mutex
	servers, refused := map[string]int{}, 0
	for n := range 3 {
		g.Go(func() {
			r, err := w.Provision(t.Context(), waits, provisionRequest(fmt.Sprint("i", n), "alone"))
			mu.Lock()
			defer mu.Unlock()
			switch bindery.CodeOf(err) {
			case "":
				servers[r.Instance.Server]++
			case bindery.CodeQuota:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	g.Wait()
	if servers["x1"] != 1 || servers["x2"] != 1 || refused != 1 {
		t.Errorf("got %v and %d refused, want each server once and one refused", servers, refused)
	}
}

func TestACanceledRemovalIsNotTakenForOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	w.provision("i", "small")
	w.bind(bindRequest("i", "b"))
	w.refuseRevoke()
	r, err := w.Deprovision(t.Context(), polls, removeRequest("i", ""))
	if err != nil {
		t.Fatal(err)
	}
	row, _ := bindery.ParseToken(r.Operation)
	if err := w.Cancel(t.Context(), row, "it must stay"); err != nil {
		t.Fatal(err)
	}
	if o := w.finish(row); o.State != bindery.OpFailed || o.Code == bindery.CodeGone {
		t.Errorf("the operation is %q with %q: a platform would think the instance removed", o.State, o.Code)
	}
	w.driverFault.Store(nil)
	w.unbind("i", "b") // nothing is in progress on the instance
	if _, err := w.Deprovision(t.Context(), waits, removeRequest("i", "")); err != nil {
		t.Fatal(err)
	}
	w.empty()
}
