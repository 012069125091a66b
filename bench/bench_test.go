package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/natsd"
	"bindery/devserver/servertest"
	"bindery/seal"
	"bindery/store"
)

func TestMain(m *testing.M) {
	natsd.Main()
	if os.Getenv(bareEnv) != "" {
		main() // the bare server is this program, too
	}
	// Where scripts/install-servers has put it; make test says so itself.
	if found, _ := filepath.Glob("../.cache/oidc-provider/*"); len(found) > 0 && os.Getenv("BINDERY_OIDC_MODULES") == "" {
		_ = os.Setenv("BINDERY_OIDC_MODULES", found[len(found)-1]) // or OAuth is left out
	}
	servertest.Main(m)
}

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
	// Every target is that of a row, and every kind's bind has one.
	var all table
	one := [][]round{{{}}, {{}}, {{}}}
	for _, k := range kinds {
		compared := &backend{kind: k, beside: []beside{{nil, "ACL SETUSER", "ACL DELUSER"}}}
		if k.name == kindPostgres {
			compared.beside = []beside{{nil, "CREATE ROLE with a verifier", "DROP ROLE"}, {nil, "CREATE ROLE with a plain password", ""}}
		}
		for _, clients := range []int{1, 8, 16, 32} {
			all.addBare(compared, clients, one)
		}
	}
	for _, name := range parkedKinds {
		all.addRows(kindNamed(name), rowClients[name], 1_000_000, one)
	}
	seen := map[string]bool{}
	for _, r := range all.rows {
		if _, ok := targets[r.key()]; ok {
			seen[r.key()] = true
		}
		if bind := strings.HasSuffix(r.what, " bind"); bind && r.clients == 8 && r.target() == 0 {
			t.Errorf("nothing is aimed at for %s", r.what)
		}
	}
	for key := range targets {
		if (strings.HasPrefix(key, "PostgreSQL") || strings.HasPrefix(key, "Redis")) && !seen[key] {
			t.Errorf("no row has the target of %q", key)
		}
	}
}

func TestKindTarget(t *testing.T) {
	t.Parallel()
	for rate, want := range map[int]float64{9_000: kindTarget, 11_000: quickTarget} {
		its := window{done: rate, elapsed: time.Second}
		r := row{what: "NATS bind", clients: 8, kinds: true, its: []window{its}}
		if got := r.target(); got != want {
			t.Errorf("beside %d a second: %v", rate, got)
		}
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
	var out strings.Builder
	o, err := parse([]string{"-quick", "-pairs", "1", "-duration", "20ms", "-clients", "1,8", "-rows", "2000", "-cpuprofile", ""}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Check(t, run(t.Context(), o, &out, t.Output()))
	if strings.Contains(out.String(), "is left out") {
		servertest.Check(t, fmt.Errorf("%w:\n%s", devserver.ErrMissing, out.String()))
	}
	for _, row := range []string{
		"PostgreSQL bind | 8", "PostgreSQL unbind | 8", "Redis bind | 8", "Redis unbind | 1",
		"PostgreSQL bind, 2,000 bindings | 8", "Redis bind, 2,000 bindings | 16",
		"MariaDB bind | 8", "RabbitMQ unbind | 8", "NATS bind | 8", "OAuth bind | 8", "Certificate unbind | 8", "Static bind | 8", "Pool unbind | 8",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("the table lacks %q:\n%s", row, out.String())
		}
	}
}
