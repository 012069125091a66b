package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bindery"
	"bindery/store"
	"bindery/store/storetest"
)

// BenchmarkBind measures what a bind costs the store: a transaction that records
// binding, account and operation, and one that makes them ready, finished and
// audited, by 1, 8 and 16 callers, with few and with many bindings there.
func BenchmarkBind(b *testing.B) {
	for _, rows := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "bindery.db"))
			w := seed(b, s, rows)
			for _, callers := range []int{1, 8, 16} {
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { w.bench(b, callers) })
			}
		})
	}
}

func open(tb testing.TB, url string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Options{URL: url, Keys: storetest.Keys(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// A workload binds against a fixed set of instances.
type workload struct {
	s         bindery.Store
	instances []bindery.Instance
}

const benchInstances = 1000

func seed(b *testing.B, s bindery.Store, rows int) *workload {
	b.Helper()
	w := &workload{s: s}
	ctx := b.Context()
	for range benchInstances {
		row, err := s.NewID(ctx)
		if err != nil {
			b.Fatal(err)
		}
		w.instances = append(w.instances, bindery.Instance{
			Row: row, Platform: "cf", ID: guid(row), Name: bindery.Name(s.Installation(), row), OfferingID: guid(1), PlanID: guid(2),
			Kind: "redis", Server: "redis-1", Context: json.RawMessage(`{"platform":"cloudfoundry"}`),
			State: bindery.StateReady, Created: time.Now(), Updated: time.Now(),
		})
	}
	err := s.Update(ctx, func(t bindery.Tx) error {
		for _, i := range w.instances {
			if err := t.Instances().Add(ctx, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for done := 0; done < rows; done += 1000 {
		batch := make([]bind, 1000)
		for i := range batch {
			batch[i] = w.newBind(b)
		}
		err := s.Update(ctx, func(t bindery.Tx) error {
			for _, one := range batch {
				if err := one.record(ctx, t); err != nil {
					return err
				}
				if err := one.finish(ctx, t); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return w
}

func (w *workload) bench(b *testing.B, callers int) {
	ctx := b.Context()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	before := cpu(b)
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				one := w.newBind(b)
				if err := w.s.Update(ctx, func(t bindery.Tx) error { return one.record(ctx, t) }); err != nil {
					b.Error(err)
					return
				}
				if err := w.s.Update(ctx, func(t bindery.Tx) error { return one.finish(ctx, t) }); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "binds/s")
	// What a bind costs on a machine that others use too.
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/bind")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A bind is the records of one.
type bind struct {
	instance         bindery.Instance
	row, account, op int64
	event            int64
	binding          bindery.Binding
	accountRecord    bindery.Account
	operation        bindery.Operation
}

func (w *workload) newBind(tb testing.TB) bind {
	id := func() int64 {
		row, err := w.s.NewID(tb.Context())
		if err != nil {
			tb.Error(err)
		}
		return row
	}
	var o bind
	o.row, o.account, o.op, o.event = id(), id(), id(), id()
	o.instance = w.instances[int(o.row)%len(w.instances)]
	now := time.Now()
	o.binding = bindery.Binding{
		Row: o.row, InstanceRow: o.instance.Row, Platform: "cf", InstanceID: o.instance.ID, ID: guid(o.row), OfferingID: guid(1), PlanID: guid(2),
		AppGUID: guid(o.row + 1), BindResource: json.RawMessage(`{"app_guid":"` + guid(o.row+1) + `"}`),
		Context: json.RawMessage(`{"platform":"cloudfoundry"}`), State: bindery.StateCreating, Created: now, Updated: now,
	}
	o.accountRecord = bindery.Account{
		Row: o.account, BindingRow: o.row, InstanceRow: o.instance.Row, Kind: "redis", Server: "redis-1",
		Name:     bindery.Name(w.s.Installation(), o.account),
		Material: bindery.NewSecret(`{"password":"0123456789abcdef0123456789abcdef"}`), State: bindery.AccountWanted, Created: now, Updated: now,
	}
	o.operation = bindery.Operation{
		Row: o.op, Kind: bindery.OpBind, Platform: "cf", InstanceRow: o.instance.Row, BindingRow: o.row, Server: "redis-1",
		State: bindery.OpInProgress, Actor: "cloudfoundry user", RequestID: guid(o.op), Due: now, Deadline: now.Add(time.Hour),
		Owner: 1, Fence: 1, Created: now,
	}
	return o
}

func (o bind) record(ctx context.Context, t bindery.Tx) error {
	i, err := t.Instances().Find(ctx, o.instance.Platform, o.instance.ID)
	if err != nil {
		return err
	}
	if _, err := t.Operations().Active(ctx, i.Row, 0); bindery.CodeOf(err) != bindery.CodeNotFound {
		return fmt.Errorf("the instance is busy: %w", err)
	}
	if err := t.Bindings().Add(ctx, o.binding); err != nil {
		return err
	}
	if err := t.Accounts().Add(ctx, o.accountRecord); err != nil {
		return err
	}
	return t.Operations().Add(ctx, o.operation)
}

func (o bind) finish(ctx context.Context, t bindery.Tx) error {
	now := time.Now()
	o.binding.State, o.binding.Updated = bindery.StateReady, now
	if err := t.Bindings().Save(ctx, o.binding, bindery.StateCreating); err != nil {
		return err
	}
	o.accountRecord.State, o.accountRecord.Updated = bindery.AccountLive, now
	if err := t.Accounts().Save(ctx, o.accountRecord, bindery.AccountWanted); err != nil {
		return err
	}
	o.operation.State, o.operation.Finished, o.operation.Owner = bindery.OpSucceeded, now, 0
	if err := t.Operations().Save(ctx, o.operation); err != nil {
		return err
	}
	return t.Events().Add(ctx, bindery.Event{
		Row: o.event, At: now, Platform: "cf", Actor: "cloudfoundry user", RequestID: o.operation.RequestID, Action: "bind",
		InstanceID: o.instance.ID, BindingID: o.binding.ID, Account: o.accountRecord.Name, Result: "succeeded",
	})
}

// guid spreads ids over the index, as platforms' random ones are.
func guid(row int64) string {
	x := uint64(row) * 0x9e3779b97f4a7c15
	x ^= x >> 31
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", x>>32, x>>16&0xffff, x&0xfff, x>>20&0xfff, row)
}
