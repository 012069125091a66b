package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"bindery"
	"bindery/broker"
)

// scrapped makes the server of a world refuse everything from now on.
func (w *world) scrapped() {
	w.Helper()
	if err := w.proxy.Refuse(true); err != nil {
		w.Fatal(err)
	}
	w.proxy.Cut()
	w.Cleanup(func() { // to be swept
		if err := w.proxy.Refuse(false); err != nil {
			w.Error(err)
		}
	})
}

// forgotten returns the audit's lines of that, of an instance or of its bindings.
func (w *world) forgotten(instance string) (whole, accounts []bindery.Event) {
	w.Helper()
	for after := int64(0); ; {
		var events []bindery.Event
		w.view(func(tx bindery.Tx) (err error) {
			events, err = tx.Events().List(w.Context(), bindery.EventFilter{InstanceID: instance}, bindery.Page{After: after, Limit: 1000})
			return err
		})
		if len(events) == 0 {
			return whole, accounts
		}
		for _, e := range events {
			after = e.Row
			switch {
			case e.Action != "forget":
			case e.BindingID == "":
				whole = append(whole, e)
			default:
				accounts = append(accounts, e)
			}
		}
	}
}

// unused checks that no live instance keeps the configuration from changing.
func (w *world) unused() {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		uses, err := tx.Instances().InUse(w.Context())
		if len(uses) > 0 {
			w.Errorf("the configuration must keep %v", uses)
		}
		return err
	})
}

// TestAnInstanceOfAScrappedServerIsForgotten: while its removal is tried, and
// after an operator canceled that.
func TestAnInstanceOfAScrappedServerIsForgotten(t *testing.T) {
	t.Parallel()
	for _, canceled := range []bool{false, true} {
		t.Run(fmt.Sprint("canceled ", canceled), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
			row := w.provision("i", "small").Row
			for _, id := range []string{"used", "unbound", "unproven"} {
				w.bind(bindRequest("i", id))
			}
			w.unbind("i", "unproven")
			w.refused(w.ForgetInstance(t.Context(), row, "too early"), bindery.CodeConflict)
			w.scrapped()
			unbind, err := w.Unbind(t.Context(), polls, removeRequest("i", "unbound"))
			if err != nil || unbind.Outcome != broker.Accepted {
				t.Fatalf("got %v and %v, want it accepted", unbind.Outcome, err)
			}
			// A removal of the instance waits for those of its bindings that a platform asked for.
			unbound, _ := bindery.ParseToken(unbind.Operation)
			if err := w.Cancel(t.Context(), unbound, "the instance goes"); err != nil {
				t.Fatal(err)
			}
			gone, err := w.Deprovision(t.Context(), polls, removeRequest("i", ""))
			if err != nil || gone.Outcome != broker.Accepted {
				t.Fatalf("got %v and %v, want it accepted", gone.Outcome, err)
			}
			if canceled {
				deprovision, _ := bindery.ParseToken(gone.Operation)
				if err := w.Cancel(t.Context(), deprovision, "the server is gone"); err != nil {
					t.Fatal(err)
				}
				if unbind, err = w.Unbind(t.Context(), polls, removeRequest("i", "unbound")); err != nil || unbind.Outcome != broker.Accepted {
					t.Fatalf("got %v and %v, want it accepted", unbind.Outcome, err)
				}
			}

			if err := w.ForgetInstance(t.Context(), row, "scrapped"); err != nil {
				t.Fatal(err)
			}
			w.settle()
			for _, token := range []string{unbind.Operation, gone.Operation} {
				if o := w.finishToken(token); o.State != bindery.OpFailed {
					t.Errorf("nobody confirmed it, and the %s is %q", o.Kind, o.State)
				}
			}
			if i := w.instance("i"); i.State != bindery.StateRemoved {
				t.Errorf("the instance is %q", i.State)
			}
			for _, id := range []string{"used", "unbound", "unproven"} {
				b, a := w.binding("i", id)
				if b.State != bindery.StateRemoved || a[0].State != bindery.AccountGone || !a[0].Material.Empty() ||
					a[0].Proof != "forgotten by an operator: scrapped" || !a[0].Proven.IsZero() {
					t.Errorf("binding %s is %q, its account %q, proof %q", id, b.State, a[0].State, a[0].Proof)
				}
			}
			whole, accounts := w.forgotten("i")
			if len(whole) != 1 || whole[0].Message != "scrapped" || whole[0].Actor != "operator" || len(accounts) != 3 {
				t.Errorf("the audit has %v of the instance and %v of its accounts", whole, accounts)
			}
			w.unused()
			_, err = w.Deprovision(t.Context(), polls, removeRequest("i", ""))
			w.refused(err, bindery.CodeGone)
			w.refused(w.ForgetInstance(t.Context(), row, "again"), bindery.CodeConflict)
			w.refused(w.ForgetInstance(t.Context(), 1<<40, "what?"), bindery.CodeNotFound)
		})
	}
}

// TestWhatARemovedInstanceLeftIsForgotten: its server confirmed the removal, and
// can no longer show that the accounts are dead.
func TestWhatARemovedInstanceLeftIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	row := w.provision("i", "small").Row
	w.bind(bindRequest("i", "b"))
	if _, err := w.Deprovision(t.Context(), waits, removeRequest("i", "")); err != nil {
		t.Fatal(err)
	}
	if _, a := w.binding("i", "b"); a[0].State != bindery.AccountUnproven {
		t.Fatalf("the account is %q", a[0].State)
	}
	if err := w.ForgetInstance(t.Context(), row, "scrapped"); err != nil {
		t.Fatal(err)
	}
	if _, a := w.binding("i", "b"); a[0].State != bindery.AccountGone {
		t.Errorf("the account is %q", a[0].State)
	}
	if whole, accounts := w.forgotten("i"); len(whole) != 0 || len(accounts) != 1 {
		t.Errorf("the audit has %v of the instance, which was removed, and %v of its account", whole, accounts)
	}
	w.refused(w.ForgetInstance(t.Context(), row, "again"), bindery.CodeConflict)
}

// TestForgettingManyBindingsIsCarriedOn: what was forgotten before it was cut
// short stays so, and is not told twice.
func TestForgettingManyBindingsIsCarriedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.SyncBudget = 50 * time.Millisecond })
	i := w.provision("i", "small")
	const many = 450
	w.stuff(i, many)
	w.scrapped()
	if _, err := w.Deprovision(t.Context(), polls, removeRequest("i", "")); err != nil {
		t.Fatal(err)
	}
	w.failStore(func(table, method string) error {
		if table == "instances" && method == "Save" {
			return errors.New("the disk is broken")
		}
		return nil
	})
	if err := w.ForgetInstance(t.Context(), i.Row, "scrapped"); err == nil {
		t.Fatal("it succeeded on a broken disk")
	}
	w.fault.Store(nil)
	left := 0
	w.view(func(tx bindery.Tx) (err error) {
		left, err = tx.Bindings().Count(t.Context(), i.Row, many)
		return err
	})
	if now := w.instance("i"); now.State != bindery.StateRemoving || left == 0 || left == many {
		t.Fatalf("the instance is %q and has %d bindings left, want some", now.State, left)
	}
	if err := w.ForgetInstance(t.Context(), i.Row, "scrapped"); err != nil {
		t.Fatal(err)
	}
	if now := w.instance("i"); now.State != bindery.StateRemoved {
		t.Errorf("the instance is %q", now.State)
	}
	if whole, accounts := w.forgotten("i"); len(whole) != 1 || len(accounts) != many {
		t.Errorf("the audit has %d lines of the instance and %d of its accounts, want 1 and %d", len(whole), len(accounts), many)
	}
	w.unused()
	w.settle()
}

// stuff gives an instance bindings that the server never heard of.
func (w *world) stuff(i bindery.Instance, n int) {
	w.Helper()
	rows := make([]int64, 2*n)
	for k := range rows {
		var err error
		if rows[k], err = w.store.NewID(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
	now := time.Now()
	if err := w.store.Update(w.Context(), func(tx bindery.Tx) error {
		for k := range n {
			b := bindery.Binding{
				Row: rows[2*k], InstanceRow: i.Row, Platform: i.Platform, InstanceID: i.ID, ID: fmt.Sprint("b", k),
				OfferingID: i.OfferingID, PlanID: i.PlanID, State: bindery.StateReady, Created: now, Updated: now,
			}
			a := bindery.Account{
				Row: rows[2*k+1], BindingRow: b.Row, InstanceRow: i.Row, Kind: i.Kind, Server: i.Server,
				Name: bindery.Name(w.store.Installation(), rows[2*k+1]), State: bindery.AccountLive, Created: now, Updated: now,
			}
			if err := tx.Bindings().Add(w.Context(), b); err != nil {
				return err
			}
			if err := tx.Accounts().Add(w.Context(), a); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
}
