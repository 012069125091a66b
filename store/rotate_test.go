package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/seal"
	"bindery/store"
	"bindery/store/storetest"
)

// urls names a fresh database of each kind.
var urls = map[string]func(t *testing.T) string{
	"sqlite":   path,
	"postgres": func(t *testing.T) string { return database(t, servertest.Oldest) },
}

func status(t *testing.T, s *store.Store) store.SealStatus {
	t.Helper()
	got, err := s.SealStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRotateSeal(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openFew(t, url(t), storetest.Keys(t))
			var instances []bindery.Instance
			for n := range 250 {
				instances = append(instances, addInstance(t, s, fmt.Sprint("i", n)))
			}
			if got := status(t, s).Keys; len(got) != 1 || got[0].Records != 250 || !got[0].Current {
				t.Fatalf("before: got %+v", got)
			}
			// Service goes on meanwhile.
			ctx, cancel := context.WithCancel(t.Context())
			var busy sync.WaitGroup
			busy.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					i := instances[n%len(instances)]
					err := s.Update(t.Context(), func(tx bindery.Tx) error { return tx.Instances().Save(t.Context(), i, i.State) })
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
			last := 0
			got, err := s.RotateSeal(t.Context(), func(n int) { last = n })
			cancel()
			busy.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != 2 || got.Resumed || got.Dropped != 1 || got.Records != last || got.Wrapped != 0 {
				t.Errorf("got %+v, and was told %d", got, last)
			}
			if got := status(t, s).Keys; len(got) != 1 || got[0].ID != 2 || got[0].Records != 250 {
				t.Errorf("after: got %+v", got)
			}
			for _, i := range instances {
				hasInstance(t, s, i)
			}
		})
	}
}

// TestRotateSealResumes cuts a rotation short, opens the store again, and rotates again.
func TestRotateSealResumes(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, keys := url(t), storetest.Keys(t)
			s := openFew(t, url, keys)
			var instances []bindery.Instance
			for n := range 250 {
				instances = append(instances, addInstance(t, s, fmt.Sprint("i", n)))
			}
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := s.RotateSeal(ctx, func(int) { cancel() }); err == nil {
				t.Fatal("it was not cut short")
			}
			closed(t, s)
			s = openFew(t, url, keys)
			if got := status(t, s).Keys; len(got) != 2 || got[0].Records == 0 || got[1].Records == 0 {
				t.Fatalf("half way: got %+v", got)
			}
			got, err := s.RotateSeal(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != 2 || !got.Resumed || got.Dropped != 1 || got.Records >= 250 {
				t.Errorf("got %+v", got)
			}
			for _, i := range instances {
				hasInstance(t, s, i)
			}
		})
	}
}

func TestChangeMasterKey(t *testing.T) {
	t.Parallel()
	url, old, next := path(t), seal.NewKey(), seal.NewKey()
	s := openFew(t, url, keyring(t, old))
	i := addInstance(t, s, "a")
	closed(t, s)
	s = openFew(t, url, keyring(t, next, old)) // both
	hasInstance(t, s, i)
	if got := status(t, s); got.Master != next.ID() || got.Keys[0].Master != old.ID() {
		t.Fatalf("before: got %+v", got)
	}
	if got, err := s.RotateSeal(t.Context(), nil); err != nil || got.Wrapped != 1 {
		t.Fatalf("rotate: got %+v, %v", got, err)
	}
	closed(t, s)
	s = openFew(t, url, keyring(t, next)) // the new one alone
	hasInstance(t, s, i)
	closed(t, s)
	if s, err := store.Open(t.Context(), store.Options{URL: url, Keys: keyring(t, old)}); err == nil {
		closed(t, s)
		t.Fatal("the old master key still opens it")
	}
}

// TestReplicas opens one database twice, as two replicas do.
func TestReplicas(t *testing.T) {
	t.Parallel()
	url, keys := database(t, servertest.Oldest), storetest.Keys(t)
	a, b := openFew(t, url, keys), openFew(t, url, keys)
	if a.Installation() != b.Installation() {
		t.Fatalf("installations: %s and %s", a.Installation(), b.Installation())
	}
	seen := map[int64]bool{}
	for range 20_000 {
		for _, s := range []*store.Store{a, b} {
			id, err := s.NewID(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if seen[id] {
				t.Fatalf("id %d was given twice", id)
			}
			seen[id] = true
		}
	}
	first := addInstance(t, b, "before")
	if _, err := a.RotateSeal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// The other one still seals with the key that was dropped, and must notice.
	second := addInstance(t, b, "after")
	for _, s := range []*store.Store{a, b} {
		hasInstance(t, s, first)
		hasInstance(t, s, second)
	}
	if got := status(t, b).Keys; len(got) != 1 || got[0].Records != 2 {
		t.Errorf("keys: got %+v", got)
	}
}

func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	url, keys := database(t, servertest.Oldest), storetest.Keys(t)
	var all sync.WaitGroup
	stores := make([]*store.Store, 4)
	for n := range stores {
		all.Go(func() {
			s, err := store.Open(t.Context(), store.Options{URL: url, Keys: keys, Connections: 2})
			if err != nil {
				t.Error(err)
				return
			}
			stores[n] = s
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	i := addInstance(t, stores[0], "a")
	for _, s := range stores {
		hasInstance(t, s, i)
	}
}

func TestPostgresDown(t *testing.T) {
	t.Parallel()
	p := servertest.Postgres(t, servertest.Oldest)
	s := openFew(t, p.SuperURL("postgres").Reveal(), storetest.Keys(t))
	i := addInstance(t, s, "a")
	servertest.Check(t, p.Kill())
	err := s.Ping(t.Context())
	if bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Fatalf("down: got %v, want unavailable", err)
	}
	servertest.Check(t, p.Restart(t.Context()))
	hasInstance(t, s, i)
}
