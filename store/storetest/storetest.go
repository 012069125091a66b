// Package storetest is the promise that every store keeps, as a test suite: what
// no test here demands is not promised. It also breaks stores on purpose, see
// [Faulty], so that no test needs a mock.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/seal"
)

// Run checks that a store keeps its promise. Every test opens one of its own,
// which open must close when the test ends.
func Run(t *testing.T, open func(t *testing.T) bindery.Store) {
	t.Helper()
	groups := map[string]map[string]func(world){
		"instances":    instanceTests,
		"bindings":     bindingTests,
		"accounts":     accountTests,
		"operations":   operationTests,
		"claims":       claimTests,
		"events":       eventTests,
		"transactions": transactionTests,
		"races":        raceTests,
		"models":       modelTests,
		"pending":      pendingTests,
		"expiry":       expiryTests,
		"stock":        stockTests,
		"authorities":  authorityTests,
		"certificates": certificateTests,

		"service types":     serviceTypeTests,
		"auth methods":      authMethodTests,
		"identity bindings": identityBindingTests,
		"authentications":   authenticationTests,
		"resolve":           resolveTests,
		"identity races":    identityRaceTests,
		"identity models":   identityModelTests,
	}
	for group, tests := range groups {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(world{T: t, s: open(t), ctx: t.Context()})
				})
			}
		})
	}
}

// Keys makes a keyring with a fresh master key.
func Keys(tb testing.TB) bindery.Keyring {
	tb.Helper()
	k, err := seal.NewKeyring(seal.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// A world is one test with its store, and makes records with every field filled,
// so that a field that a store forgets is found.
type world struct {
	*testing.T
	s   bindery.Store
	ctx context.Context
}

// errUndo is what functions return that only want their transaction undone.
var errUndo = errors.New("undo")

// start is a time with the precision that stores keep: microseconds.
var start = time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)

func (w world) id() int64 {
	w.Helper()
	id, err := w.s.NewID(w.ctx)
	if err != nil {
		w.Fatalf("new id: %v", err)
	}
	return id
}

func (w world) update(f func(bindery.Tx) error) {
	w.Helper()
	if err := w.s.Update(w.ctx, f); err != nil {
		w.Fatalf("update: %v", err)
	}
}

// refused runs an update that must end with the code.
func (w world) refused(want bindery.Code, f func(bindery.Tx) error) {
	w.Helper()
	if err := w.s.Update(w.ctx, f); bindery.CodeOf(err) != want {
		w.Fatalf("update: got %v, want code %q", err, want)
	}
}

func (w world) view(f func(bindery.Tx) error) {
	w.Helper()
	if err := w.s.View(w.ctx, f); err != nil {
		w.Fatalf("view: %v", err)
	}
}

// missing checks that an error is CodeNotFound, and turns it into none.
func missing(err error) error {
	if bindery.CodeOf(err) != bindery.CodeNotFound {
		return errors.New("got " + errorText(err) + ", want not found")
	}
	return nil
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// same compares records; secrets and times have an Equal method, which cmp uses.
func (w world) same(what string, got, want any) {
	w.Helper()
	if d := cmp.Diff(want, got); d != "" {
		w.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// newInstance makes a record; it does not add it.
func (w world) newInstance() bindery.Instance {
	w.Helper()
	row := w.id()
	n := strconv.FormatInt(row, 10)
	return bindery.Instance{
		Row: row, Platform: "platform", ID: "instance-" + n, Name: bindery.Name(w.s.Installation(), row),
		OfferingID: "offering", PlanID: "plan", Kind: "redis", Server: "server", Organization: "org", Space: "space",
		Parameters: bindery.NewSecret(`{"size":` + n + `}`), Context: json.RawMessage(`{ "n": ` + n + ` }`),
		MaintenanceVersion: "1.2.3", DashboardURL: "https://dashboard.example/" + n, State: bindery.StateReady,
		Created: start, Updated: start.Add(time.Second),
	}
}

// instance adds one.
func (w world) instance(change ...func(*bindery.Instance)) bindery.Instance {
	w.Helper()
	i := w.newInstance()
	for _, f := range change {
		f(&i)
	}
	w.update(func(tx bindery.Tx) error { return tx.Instances().Add(w.ctx, i) })
	return i
}

func (w world) newBinding(i bindery.Instance) bindery.Binding {
	w.Helper()
	row := w.id()
	n := strconv.FormatInt(row, 10)
	return bindery.Binding{
		Row: row, InstanceRow: i.Row, Platform: i.Platform, InstanceID: i.ID, ID: "binding-" + n, OfferingID: i.OfferingID,
		PlanID: i.PlanID, AppGUID: "app-" + n, BindResource: json.RawMessage(`{"app_guid":"app"}`), Context: json.RawMessage(`{}`),
		Parameters: bindery.NewSecret(`{"role":"reader"}`), Predecessor: "before-" + n, Expires: start.Add(time.Hour),
		RenewBefore: start.Add(time.Minute), State: bindery.StateReady, Created: start, Updated: start.Add(time.Second),
	}
}

func (w world) binding(i bindery.Instance, change ...func(*bindery.Binding)) bindery.Binding {
	w.Helper()
	b := w.newBinding(i)
	for _, f := range change {
		f(&b)
	}
	w.update(func(tx bindery.Tx) error { return tx.Bindings().Add(w.ctx, b) })
	return b
}

func (w world) account(b bindery.Binding, change ...func(*bindery.Account)) bindery.Account {
	w.Helper()
	row := w.id()
	a := bindery.Account{
		Row: row, BindingRow: b.Row, InstanceRow: b.InstanceRow, Kind: "redis", Server: "server",
		Name: bindery.Name(w.s.Installation(), row), Material: bindery.NewSecret(`{"password":"p"}`),
		Details: json.RawMessage(`{"oid":1}`), Expires: start.Add(time.Hour), State: bindery.AccountWanted, Created: start, Updated: start,
		Proof: "proof", Proven: start.Add(time.Minute), Attempts: 3,
	}
	for _, f := range change {
		f(&a)
	}
	w.update(func(tx bindery.Tx) error { return tx.Accounts().Add(w.ctx, a) })
	return a
}

func (w world) newOperation(instanceRow, bindingRow int64) bindery.Operation {
	w.Helper()
	return bindery.Operation{
		Row: w.id(), Kind: bindery.OpBind, Platform: "platform", InstanceRow: instanceRow, BindingRow: bindingRow, Server: "server",
		State: bindery.OpInProgress, Undo: true, Request: bindery.NewSecret(`{"plan":"big"}`),
		Actor: "actor", RequestID: "request", Attempts: 3, Problem: "problem", Due: start, Deadline: start.Add(time.Hour),
		Fence: 7, Code: bindery.CodeQuota, Message: "message", Created: start,
	}
}

func (w world) operation(instanceRow, bindingRow int64, change ...func(*bindery.Operation)) bindery.Operation {
	w.Helper()
	o := w.newOperation(instanceRow, bindingRow)
	for _, f := range change {
		f(&o)
	}
	w.update(func(tx bindery.Tx) error { return tx.Operations().Add(w.ctx, o) })
	return o
}
