// Package brokertest runs a broker with its queue for tests, on a store of
// their own.
package brokertest

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/broker"
	"bindery/queue"
	"bindery/store"
	"bindery/store/storetest"
)

// Patience is long for anything that a test waits for.
const Patience = 30 * time.Second

// OpenStore opens an empty store.
func OpenStore(t *testing.T) bindery.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "b.db"), Keys: storetest.Keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Log returns a log that goes into the test's output.
func Log(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// An Engine is a broker, and the queue that it is given.
type Engine struct {
	*broker.Broker
	Queue *queue.Queue
}

// New makes an engine that waits for everything with patience. Any of it may be
// changed until it is started.
func New(t *testing.T, s bindery.Store, catalog func() *bindery.Catalog, drivers func(string) (bindery.Driver, bool)) Engine {
	t.Helper()
	log := Log(t)
	q := &queue.Queue{Store: s, Workers: 4, Drain: time.Second, Now: time.Now, Log: log}
	b := &broker.Broker{
		Store: s, Queue: q, Drivers: drivers, Current: catalog, Now: time.Now, Log: log,
		SyncBudget: Patience, RequestWait: Patience, CreateDeadline: time.Hour,
	}
	q.Work = b.Work
	return Engine{b, q}
}

// Start runs the queue until the test ends.
func (e Engine) Start(t *testing.T) {
	t.Helper()
	if err := e.Queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = e.Queue.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// Finish waits for the end of an operation.
func (e Engine) Finish(t *testing.T, s bindery.Store, row int64) bindery.Operation {
	t.Helper()
	ended, stop := e.Queue.Watch(row)
	defer stop()
	var o bindery.Operation
	if err := s.View(t.Context(), func(tx bindery.Tx) (err error) {
		o, err = tx.Operations().Get(t.Context(), row)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if o.State != bindery.OpInProgress {
		return o
	}
	select {
	case o := <-ended:
		return o
	case <-time.After(Patience):
		t.Fatalf("operation %d (%s) does not end", row, o.Kind)
	}
	return o
}

// Settle waits for everything that is in progress to end.
func (e Engine) Settle(t *testing.T, s bindery.Store) {
	t.Helper()
	for {
		var all []bindery.Operation
		if err := s.View(t.Context(), func(tx bindery.Tx) (err error) {
			all, err = tx.Operations().List(t.Context(), bindery.OperationFilter{State: bindery.OpInProgress}, bindery.Page{})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			return
		}
		e.Finish(t, s, all[0].Row)
	}
}

// Login tries a credential of a Redis.
func Login(t *testing.T, c bindery.Credential) error {
	t.Helper()
	uri, _ := c.Object["uri"].(string)
	o, err := goredis.ParseURL(uri)
	if err != nil {
		t.Fatal("the credential's uri cannot be read")
	}
	o.DisableIdentity = true
	client := goredis.NewClient(o)
	defer func() { _ = client.Close() }()
	return client.Echo(t.Context(), "hello").Err()
}
