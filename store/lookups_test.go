package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/store/storetest"
)

// Lookups that are asked together, some of them given up, each get their own
// answer, and never one from before a change that another process had committed.
func TestLookupsTogether(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		url, keys := database(t, v), storetest.Keys(t)
		writer, reader := openFew(t, url, keys), openFew(t, url, keys)
		ctx := t.Context()
		const bindings, readers, changes = 20, 32, 200
		service := bindery.ServiceType{
			Row: newID(t, writer), UUID: "s", Name: "service", Hosts: []string{"h"}, AuthTypes: []bindery.AuthType{bindery.AuthX509},
			AuthMethod: bindery.AuthMethodAPIKey, Type: "ams", Revision: 1, Created: time.Now(),
		}
		var all [bindings]bindery.IdentityBinding
		var acknowledged [bindings]atomic.Int64
		for i := range all {
			k, err := bindery.IdentifierKeys(bindery.AuthX509, fmt.Sprintf("CN=%d", i))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = bindery.IdentityBinding{
				Row: newID(t, writer), UUID: fmt.Sprint(i), Name: fmt.Sprint(i), ServiceRow: service.Row, ServiceUUID: "s", Host: "h",
				AuthType: bindery.AuthX509, Identifier: fmt.Sprintf("CN=%d", i), Keys: k, UniqueKey: fmt.Sprintf("user-%d", i),
				Revision: 1, Created: time.Now(),
			}
			acknowledged[i].Store(1)
		}
		err := writer.Update(ctx, func(tx bindery.Tx) error {
			if err := tx.ServiceTypes().Add(ctx, service); err != nil {
				return err
			}
			for _, b := range all {
				if err := tx.IdentityBindings().Add(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}

		var wg sync.WaitGroup
		var over atomic.Bool
		var answers, given atomic.Int64
		for range readers {
			wg.Go(func() {
				for !over.Load() {
					i := rand.IntN(bindings)
					least := acknowledged[i].Load()
					c, cancel := context.WithCancel(ctx)
					if rand.IntN(4) == 0 {
						time.AfterFunc(rand.N(time.Millisecond), cancel)
					}
					got, err := reader.Resolve(c, "service", "h", bindery.AuthX509, all[i].Keys)
					cancel()
					switch {
					case err != nil && c.Err() != nil:
						given.Add(1)
					case err != nil:
						t.Errorf("resolve: %v", err)
					case got.Binding.Row != all[i].Row || got.Service.Row != service.Row:
						t.Errorf("asked for %d, got %d of service type %d", all[i].Row, got.Binding.Row, got.Service.Row)
					case got.Binding.Revision < least:
						t.Errorf("got revision %d, and %d was acknowledged before", got.Binding.Revision, least)
					case got.Binding.Revision > 1 && got.Binding.UniqueKey != fmt.Sprintf("user-%d-%d", i, got.Binding.Revision):
						t.Errorf("revision %d with key %q", got.Binding.Revision, got.Binding.UniqueKey)
					default:
						answers.Add(1)
					}
				}
			})
		}
		for n := range changes {
			i := n % bindings
			all[i].Revision++
			b := all[i]
			b.UniqueKey = fmt.Sprintf("user-%d-%d", i, b.Revision)
			if err := writer.Update(ctx, func(tx bindery.Tx) error { return tx.IdentityBindings().Save(ctx, b) }); err != nil {
				t.Errorf("save: %v", err)
			}
			acknowledged[i].Store(b.Revision)
		}
		over.Store(true)
		wg.Wait()
		if answers.Load() == 0 || given.Load() == 0 {
			t.Errorf("%d answers, %d given up: nothing was tried", answers.Load(), given.Load())
		}

		// What is gone is gone for lookups that knew it.
		if err := writer.Update(ctx, func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(ctx, service.Row) }); err != nil {
			t.Fatal(err)
		}
		got, err := reader.Resolve(ctx, "service", "h", bindery.AuthX509, all[0].Keys)
		if err != nil || got.Service.Row != 0 || got.Binding.Row != 0 {
			t.Errorf("after the removal: got %+v, %v", got, err)
		}
	})
}

// Lookups go on when the server ended their connection, or was restarted.
func TestLookupsOutliveTheirConnection(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		url := database(t, v)
		s := openFew(t, url, storetest.Keys(t))
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(context.Background()) }() // nothing was kept open
		for range 3 {
			got, err := s.Resolve(t.Context(), "service", "h", bindery.AuthX509, bindery.IdentityKeys{Exact: "k"})
			if err != nil || got.Service.Row != 0 {
				t.Errorf("got %+v, %v", got, err)
			}
			var ended int
			err = c.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&ended)
			if err != nil || ended == 0 {
				t.Fatalf("%d connections ended, %v", ended, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = s.Resolve(t.Context(), "service", "h", bindery.AuthX509, bindery.IdentityKeys{Exact: "k"})
		if bindery.CodeOf(err) != bindery.CodeUnavailable {
			t.Errorf("after the end: %v", err)
		}
	})
}
