package mtls_test

import (
	"testing"

	"bindery"
)

// BenchmarkEnsure is beside what it cannot do without: one commit of the store.
func BenchmarkEnsure(b *testing.B) {
	w := sqlite(b)
	m := w.made(b, "")
	bare(b, w)
	b.Run("ensure", func(b *testing.B) {
		accounts := m.prepared(b, b.N)
		b.ResetTimer()
		parallel(b, func(i int) error { _, err := m.d.Ensure(b.Context(), m.spec, accounts[i]); return err })
	})
	b.Run("revoke", func(b *testing.B) {
		accounts := m.prepared(b, b.N)
		parallel(b, func(i int) error { _, err := m.d.Ensure(b.Context(), m.spec, accounts[i]); return err })
		b.ResetTimer()
		parallel(b, func(i int) error { return m.d.Revoke(b.Context(), m.spec, accounts[i]) })
	})
}

func bare(b *testing.B, w *world) {
	b.Run("bare", func(b *testing.B) {
		parallel(b, func(int) error { return w.store.Ping(b.Context()) })
	})
}

func (m *made) prepared(b *testing.B, n int) []bindery.Account {
	b.Helper()
	out := make([]bindery.Account, n)
	for i := range out {
		m.row++
		out[i].Name = bindery.Name("abc123", m.row)
		var err error
		if out[i].Material, err = m.d.Prepare(m.spec, bindery.AccountRequest{Name: out[i].Name}); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// parallel makes b.N calls, 8 at a time.
func parallel(b *testing.B, call func(i int) error) {
	b.Helper()
	work, done := make(chan int), make(chan error)
	for range 8 {
		go func() {
			var first error
			for i := range work {
				if err := call(i); err != nil && first == nil {
					first = err
				}
			}
			done <- first
		}()
	}
	for i := range b.N {
		work <- i
	}
	close(work)
	for range 8 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
