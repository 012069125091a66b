package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/seal"
	"bindery/store"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	w, err := load(4, time.Hour, func(int) (bool, error) { return calls.Add(1) <= 100, nil })
	if err != nil || w.done != 100 || len(w.took) != 100 {
		t.Errorf("done %d of 100, %d timed: %v", w.done, len(w.took), err)
	}
	boom := errors.New("boom")
	if _, err := load(4, time.Hour, func(int) (bool, error) { return true, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want the error of a call", err)
	}
	if _, err := load(1, time.Hour, func(int) (bool, error) { return false, nil }); err == nil {
		t.Error("a window in which nothing happened counts")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	if got := spread([]float64{3, 1, 2, 5, 4}, 1); got != "3.0 (1.0 to 5.0)" {
		t.Error(got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Error(got)
	}
	for n, want := range map[int]string{7: "7", 1000: "1,000", 123456: "123,456", 1000000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	// Every target is that of a row.
	var all table
	one := [][]round{{{}}, {{}}, {{}}}
	for _, kind := range []string{kindPostgres, kindRedis} {
		for _, clients := range []int{1, 8, 16, 32} {
			all.addBare(kind, clients, one)
		}
		all.addRows(kind, rowClients[kind], 1_000_000, one)
	}
	aims := 0
	for _, r := range all.rows {
		if r.target() > 0 {
			aims++
		}
	}
	if aims != len(targets) {
		t.Errorf("%d rows have a target, and there are %d targets", aims, len(targets))
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	path, key := filepath.Join(t.TempDir(), "bindery.db"), seal.NewKey()
	if err := seed(t.Context(), path, key, 2500); err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{URL: path, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	err = s.View(t.Context(), func(tx bindery.Tx) error {
		for after := int64(0); ; {
			page, err := tx.Bindings().List(t.Context(), bindery.BindingFilter{}, bindery.Page{After: after, Limit: 1000})
			if err != nil || len(page) == 0 {
				return err
			}
			n, after = n+len(page), page[len(page)-1].Row
		}
	})
	if err != nil || n != 2500 {
		t.Errorf("%d bindings: %v", n, err)
	}
}

// TestRun plays everything once, too short to mean anything.
func TestRun(t *testing.T) {
	t.Parallel()
	if len(devserver.FindPostgres()) == 0 {
		servertest.Check(t, fmt.Errorf("postgresql: %w", devserver.ErrMissing))
	}
	var out strings.Builder
	o, err := parse([]string{"-quick", "-pairs", "1", "-duration", "20ms", "-clients", "1,8", "-rows", "2000", "-cpuprofile", ""}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Check(t, run(t.Context(), o, &out, t.Output()))
	for _, row := range []string{
		"PostgreSQL bind | 8", "PostgreSQL unbind | 8", "Redis bind | 8", "Redis unbind | 1",
		"PostgreSQL bind, 2,000 bindings | 8", "Redis bind, 2,000 bindings | 16",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("the table lacks %q:\n%s", row, out.String())
		}
	}
}
