package broker_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"bindery"
)

// TestStoreFailuresLeaveNothingBehind fails each call of the store that a bind
// or an unbind makes, one after the other, and repeats the request as a platform
// does. Whatever failed, the store and the server agree in the end.
func TestStoreFailuresLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"bind", "unbind"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.provision("i", "small")
			for n := int64(0); ; n++ {
				if n > 200 {
					t.Fatal("the calls do not end")
				}
				if !failAt(w, what, n, fmt.Sprint("b", n)) {
					t.Logf("%s makes %d calls", what, n)
					return
				}
			}
		})
	}
}

// failAt fails the call with this number; false: there is none.
func failAt(w *world, what string, n int64, id string) bool {
	w.Helper()
	var calls atomic.Int64
	var failed atomic.Pointer[string]
	arm := func() {
		w.failStore(func(table, method string) error {
			if table == "processes" || method == "Claim" || method == "NextDue" {
				return nil // the queue's own
			}
			if calls.Add(1) == n+1 {
				at := table + "." + method
				failed.Store(&at)
				return errors.New("the disk is broken")
			}
			return nil
		})
	}
	repeat := func(f func() error, fine bindery.Code) {
		w.Helper()
		var err error
		for range 20 {
			if err = f(); err == nil || bindery.CodeOf(err) == fine {
				return
			}
		}
		w.Fatalf("%s, call %d (%v): it does not recover: %v", what, n, failed.Load(), err)
	}
	bind := func() error { _, err := w.Bind(w.Context(), waits, bindRequest("i", id)); return err }
	unbind := func() error { _, err := w.Unbind(w.Context(), waits, removeRequest("i", id)); return err }

	if what == "bind" {
		arm()
	}
	repeat(bind, "")
	w.fault.Store(nil)
	w.settle()
	got, err := w.Binding(w.Context(), waits, "i", id)
	if err != nil {
		w.Fatalf("call %d: %v", n, err)
	}
	_, accounts := w.binding("i", id)
	if names := w.onServer(w.Context()); len(names) != 1 || len(accounts) != 1 || names[0] != accounts[0].Name || accounts[0].State != bindery.AccountLive {
		w.Fatalf("call %d: the server has %v, the store %d accounts", n, names, len(accounts))
	}
	if err := w.login(got.Credential); err != nil {
		w.Fatalf("call %d: login: %v", n, err)
	}

	if what == "unbind" {
		arm()
	}
	repeat(unbind, bindery.CodeGone)
	w.fault.Store(nil)
	w.settle()
	if w.login(got.Credential) == nil {
		w.Fatalf("call %d: the credential outlives its unbind", n)
	}
	w.empty()
	if b, a := w.binding("i", id); b.State != bindery.StateRemoved || a[0].State != bindery.AccountUnproven {
		w.Fatalf("call %d: binding %q, account %q", n, b.State, a[0].State)
	}
	return failed.Load() != nil
}
