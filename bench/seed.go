package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"bindery"
	"bindery/seal"
	"bindery/store"
)

// smallRows is what a store that counts as small has.
const smallRows = 1000

// rowClients is how many clients bind where stores of different size are compared.
var rowClients = map[string]int{kindPostgres: 8, kindRedis: 16}

const (
	bindingsOfInstance = 100
	seedBatch          = 1000
)

// seed puts bindings into a store, half of them on each server, as if Bindery
// had made them: with their instances, accounts, finished operations and audit
// events. The servers know nothing of them.
func seed(ctx context.Context, path string, key seal.Key, rows int) (err error) {
	keys, err := seal.NewKeyring(key)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{URL: "sqlite:" + path, Keys: keys})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w := seeder{store: s, now: time.Now()}
	for done := 0; done < rows; done += seedBatch {
		if err := w.batch(ctx, min(seedBatch, rows-done)); err != nil {
			return err
		}
	}
	return nil
}

type seeder struct {
	store *store.Store
	now   time.Time
	count int
	in    bindery.Instance // where the next bindings go
}

// batch makes everything that a transaction writes before it begins, for ids
// are not to be waited for inside.
func (w *seeder) batch(ctx context.Context, n int) error {
	var instances []bindery.Instance
	made := make([]seeded, 0, n)
	for range n {
		if w.count%bindingsOfInstance == 0 {
			if err := w.nextInstance(ctx); err != nil {
				return err
			}
			instances = append(instances, w.in)
		}
		w.count++
		one, err := w.binding(ctx)
		if err != nil {
			return err
		}
		made = append(made, one)
	}
	return w.store.Update(ctx, func(t bindery.Tx) error {
		for _, i := range instances {
			if err := t.Instances().Add(ctx, i); err != nil {
				return err
			}
		}
		for _, one := range made {
			if err := one.add(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *seeder) nextInstance(ctx context.Context) error {
	row, err := w.store.NewID(ctx)
	if err != nil {
		return err
	}
	parked := kindNamed(parkedKinds[0])
	if w.in.Kind == parked.name {
		parked = kindNamed(parkedKinds[1])
	}
	w.in = bindery.Instance{
		Row: row, Platform: platform, ID: guid(-row), Name: bindery.Name(w.store.Installation(), row),
		OfferingID: parked.offering(), PlanID: parked.parkedPlan(), Kind: parked.name, Server: parked.parked(),
		Organization: guid(2), Space: guid(3), State: bindery.StateReady, Created: w.now, Updated: w.now,
	}
	return nil
}

// seeded is everything that a finished bind leaves.
type seeded struct {
	binding   bindery.Binding
	account   bindery.Account
	operation bindery.Operation
	event     bindery.Event
}

func (w *seeder) binding(ctx context.Context) (s seeded, err error) {
	var ids [4]int64
	for i := range ids {
		if ids[i], err = w.store.NewID(ctx); err != nil {
			return s, err
		}
	}
	row, account, operation, event := ids[0], ids[1], ids[2], ids[3]
	// A negative number makes an id that no bind of this run has.
	id := guid(-row)
	s.binding = bindery.Binding{
		Row: row, InstanceRow: w.in.Row, Platform: platform, InstanceID: w.in.ID, ID: id,
		OfferingID: w.in.OfferingID, PlanID: w.in.PlanID, AppGUID: guid(1),
		BindResource: json.RawMessage(`{"app_guid":"` + guid(1) + `"}`), Context: json.RawMessage(`{"platform":"cloudfoundry"}`),
		State: bindery.StateReady, Created: w.now, Updated: w.now,
	}
	s.account = bindery.Account{
		Row: account, BindingRow: row, InstanceRow: w.in.Row, Kind: w.in.Kind, Server: w.in.Server,
		Name:     bindery.Name(w.store.Installation(), account),
		Material: bindery.NewSecret(`{"password":"` + newPassword() + `","access":"read-write"}`),
		Details:  json.RawMessage(`{}`), State: bindery.AccountLive, Created: w.now, Updated: w.now,
	}
	s.operation = bindery.Operation{
		Row: operation, Kind: bindery.OpBind, Platform: platform, InstanceRow: w.in.Row, BindingRow: row, Server: w.in.Server,
		State: bindery.OpSucceeded, RequestID: guid(-operation), Attempts: 1, Created: w.now, Finished: w.now, Fence: 1,
	}
	s.event = bindery.Event{
		Row: event, At: w.now, Platform: platform, RequestID: guid(-operation), Action: string(bindery.OpBind),
		InstanceID: w.in.ID, BindingID: id, Account: s.account.Name, Result: "succeeded",
	}
	return s, nil
}

func (s seeded) add(ctx context.Context, t bindery.Tx) error {
	if err := t.Bindings().Add(ctx, s.binding); err != nil {
		return err
	}
	if err := t.Accounts().Add(ctx, s.account); err != nil {
		return err
	}
	if err := t.Operations().Add(ctx, s.operation); err != nil {
		return err
	}
	return t.Events().Add(ctx, s.event)
}
