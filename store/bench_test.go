package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// BenchmarkIdentity measures the identity face's tables with few and with many
// bindings: what an authentication looks up, and what changes a binding.
func BenchmarkIdentity(b *testing.B) {
	for _, rows := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "bindery.db"))
			w := seedIdentity(b, s, rows)
			b.Run("resolve", func(b *testing.B) {
				n, before := uint64(0), cpu(b)
				for b.Loop() {
					n = n*6364136223846793005 + 1442695040888963407
					at := int(n >> 33 % uint64(rows))
					want := w.binding(at)
					got, err := s.Resolve(b.Context(), w.service.Name, want.Host, want.AuthType, want.Keys)
					if err != nil || got.Binding.Name != want.Name || got.Method.Material.Empty() {
						b.Fatal(got, err)
					}
				}
				perOp(b, before)
			})
			b.Run("change", func(b *testing.B) {
				ctx, before := b.Context(), cpu(b)
				for b.Loop() {
					one := w.binding(w.next)
					w.next++
					one.Row = w.id(b)
					steps := []func(tx bindery.Tx) error{
						func(tx bindery.Tx) error { return tx.IdentityBindings().Add(ctx, one) },
						func(tx bindery.Tx) error { _, err := tx.IdentityBindings().ByName(ctx, one.Name); return err },
						func(tx bindery.Tx) error {
							one.Revision, one.UniqueKey = 2, "changed"
							return tx.IdentityBindings().Save(ctx, one)
						},
						func(tx bindery.Tx) error {
							one.Revision, one.Host = 3, "host-2"
							return tx.IdentityBindings().Save(ctx, one)
						},
						func(tx bindery.Tx) error { return tx.IdentityBindings().Remove(ctx, one.Row) },
					}
					for _, f := range steps {
						if err := s.Update(ctx, f); err != nil {
							b.Fatal(err)
						}
					}
				}
				perOp(b, before)
			})
			b.Run("record", func(b *testing.B) { // batches of 1000, as a busy second has
				at := time.Unix(1_700_000_000, 0)
				for b.Loop() {
					at = at.Add(time.Second)
					seen := make([]bindery.Authentication, 1000)
					for i := range seen {
						seen[i] = bindery.Authentication{BindingRow: w.rows[(i*7919+int(at.Unix()))%rows], Outcome: bindery.AuthSucceeded, At: at, Count: 1}
					}
					err := s.Update(b.Context(), func(tx bindery.Tx) error { return tx.Authentications().Record(b.Context(), seen) })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("list", func(b *testing.B) { // a page somewhere
				n := uint64(0)
				for b.Loop() {
					n = n*6364136223846793005 + 1442695040888963407
					p := bindery.Page{After: w.rows[int(n>>33%uint64(rows))]}
					err := s.View(b.Context(), func(tx bindery.Tx) error {
						_, err := tx.IdentityBindings().List(b.Context(), bindery.IdentityBindingFilter{Services: []int64{w.service.Row}, Host: "host-1"}, p)
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("remove service type", func(b *testing.B) { // the one with all bindings
				begun := time.Now()
				if err := s.Update(b.Context(), func(tx bindery.Tx) error { return tx.ServiceTypes().Remove(b.Context(), w.service.Row) }); err != nil {
					b.Fatal(err)
				}
				removed := time.Since(begun)
				var longest time.Duration
				begun = time.Now()
				for n := 1; n > 0; {
					chunk := time.Now()
					err := s.Update(b.Context(), func(tx bindery.Tx) (err error) {
						n, err = tx.ServiceTypes().Purge(b.Context(), 500)
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
					longest = max(longest, time.Since(chunk))
				}
				purged := time.Since(begun)
				for b.Loop() { // once is enough, and tells the benchmark so
				}
				b.ReportMetric(float64(removed.Microseconds()), "remove-µs")
				b.ReportMetric(purged.Seconds(), "purge-s")
				b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
			})
		})
	}
}

// perOp reports what one costs on a machine that others use too.
func perOp(b *testing.B, before time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// An identityWorkload is one service type with many bindings, which are made from
// their numbers.
type identityWorkload struct {
	s       bindery.Store
	service bindery.ServiceType
	rows    []int64
	next    int
}

func (w *identityWorkload) id(b *testing.B) int64 {
	b.Helper()
	row, err := w.s.NewID(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return row
}

func (w *identityWorkload) binding(n int) bindery.IdentityBinding {
	g := guid(int64(n))
	exact, old := sha256.Sum256([]byte("exact"+g)), sha256.Sum256([]byte("old"+g))
	return bindery.IdentityBinding{
		UUID: g, Name: "binding-" + g, ServiceRow: w.service.Row, Host: "host-1", AuthType: bindery.AuthX509,
		Identifier: "CN=" + g + ",OU=robots,O=example,C=GR", Revision: 1, UniqueKey: g, Created: time.Unix(1_700_000_000, 0),
		Keys: bindery.IdentityKeys{Exact: hex.EncodeToString(exact[:]), Old: hex.EncodeToString(old[:])},
	}
}

func seedIdentity(b *testing.B, s bindery.Store, rows int) *identityWorkload {
	b.Helper()
	w := &identityWorkload{s: s, next: rows}
	ctx := b.Context()
	w.service = bindery.ServiceType{
		Row: w.id(b), UUID: guid(1), Name: "ams", Hosts: []string{"host-1", "host-2"}, AuthTypes: []bindery.AuthType{bindery.AuthX509},
		AuthMethod: bindery.AuthMethodAPIKey, Type: "ams", Revision: 1, Created: time.Now(),
	}
	m := bindery.AuthMethod{
		Row: w.id(b), UUID: guid(2), ServiceRow: w.service.Row, Host: "host-1", Port: 443, Kind: bindery.AuthMethodAPIKey, Revision: 1,
		Material: bindery.NewSecret(`{"access_key":"0123456789abcdef0123456789abcdef"}`), Created: time.Now(),
	}
	err := s.Update(ctx, func(t bindery.Tx) error {
		if err := t.ServiceTypes().Add(ctx, w.service); err != nil {
			return err
		}
		return t.AuthMethods().Add(ctx, m)
	})
	if err != nil {
		b.Fatal(err)
	}
	for range rows {
		w.rows = append(w.rows, w.id(b))
	}
	for done := 0; done < rows; done += 1000 {
		err := s.Update(ctx, func(t bindery.Tx) error {
			for n := done; n < done+1000; n++ {
				one := w.binding(n)
				one.Row = w.rows[n]
				if err := t.IdentityBindings().Add(ctx, one); err != nil {
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
