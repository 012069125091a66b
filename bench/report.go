package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// targets are the ratios that are aimed at, by the words that the table has for them.
var targets = map[string]float64{
	"PostgreSQL bind, 8 clients, CREATE ROLE with a verifier": 0.85,
	"PostgreSQL unbind, 8 clients, DROP ROLE":                 0.15,
	"Redis bind, 16 clients, ACL SETUSER":                     0.07,
	"PostgreSQL bind, 8 clients, Bindery with 1,000 bindings": 0.9,
	"Redis bind, 16 clients, Bindery with 1,000 bindings":     0.6,

	"Token by certificate, 16 clients, Bindery with 1,000 bindings":    0.9,
	"Identity binding create, 16 clients, Bindery with 1,000 bindings": 0.7,
	"Identity binding read, 16 clients, Bindery with 1,000 bindings":   0.7,
	"Identity binding update, 16 clients, Bindery with 1,000 bindings": 0.7,
	"Identity binding delete, 16 clients, Bindery with 1,000 bindings": 0.7,

	"Token by certificate, 16 clients, " + bareGet:                    0.85,
	"Token by certificate, 64 clients, " + bareGet:                    0.85,
	"Token by certificate on new connections, 16 clients, " + bareGet: 0.85,
	"Token by certificate on new connections, 64 clients, " + bareGet: 0.85,
	"Token by certificate with PostgreSQL, 16 clients, " + bareGet:    0.6,
	"Token by certificate with PostgreSQL, 64 clients, " + bareGet:    0.6,
	"Token by certificate from memory, 16 clients, " + bareFixed:      0.5,
	"Token by certificate from memory, 64 clients, " + bareFixed:      0.5,
}

// A row of the table compares two rates.
type row struct {
	what     string
	clients  int
	with     string
	own, its []window // of pairs
	kinds    bool     // what is aimed at for every kind is aimed at here
}

// What is aimed at for a bind of any kind, at so many clients: a part of the bare
// call, a smaller one where that is very quick.
const (
	kindClients = 8
	kindTarget  = 0.3
	quickTarget = 0.07
	quick       = 10_000 // a second
)

type table struct {
	rows  []row
	notes []string // written below the rows
}

func created(r round) window { return r.created }
func removed(r round) window { return r.removed }

func windows(rounds []round, of func(round) window) []window {
	out := make([]window, len(rounds))
	for i, r := range rounds {
		out[i] = of(r)
	}
	return out
}

func rates(rounds []round, of func(round) window) []float64 {
	var out []float64
	for _, w := range windows(rounds, of) {
		out = append(out, w.rate())
	}
	return out
}

// addBare adds what Bindery, the first, was compared with.
func (t *table) addBare(k *backend, clients int, rounds [][]round) {
	for i, c := range k.beside {
		its := rounds[i+1]
		t.rows = append(t.rows, row{k.title + " bind", clients, c.bind, windows(rounds[0], created), windows(its, created), clients == kindClients})
		if c.unbind != "" {
			t.rows = append(t.rows, row{k.title + " unbind", clients, c.unbind, windows(rounds[0], removed), windows(its, removed), false})
		}
	}
	if k.note != "" && !slices.Contains(t.notes, k.note) {
		t.notes = append(t.notes, k.note)
	}
}

// addRows adds the comparison of a large store, the first, with a small one.
func (t *table) addRows(k *kind, clients, large int, rounds [][]round) {
	t.rows = append(t.rows, row{
		what: k.title + " bind, " + thousands(large) + " bindings", clients: clients,
		with: "Bindery with " + thousands(smallRows) + " bindings", own: windows(rounds[0], created), its: windows(rounds[1], created),
	})
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// key is how targets has a row.
func (r row) key() string {
	what, _, _ := strings.Cut(r.what, ",")
	return fmt.Sprintf("%s, %d clients, %s", what, r.clients, r.with)
}

// target finds what is aimed at, 0 for nothing.
func (r row) target() float64 {
	own, ok := targets[r.key()]
	switch {
	case ok || !r.kinds:
		return own
	case median(rateList(r.its)) > quick:
		return quickTarget
	}
	return kindTarget
}

func (r row) ratios() []float64 {
	out := make([]float64, len(r.own))
	for i := range r.own {
		out[i] = r.own[i].rate() / r.its[i].rate()
	}
	return out
}

// latencies are medians over the pairs.
func (r row) latency(share float64) float64 {
	var ms []float64
	for _, w := range r.own {
		ms = append(ms, float64(w.percentile(share))/float64(time.Millisecond))
	}
	return median(ms)
}

// cost is the processor time of one call, over all windows: one alone is too
// short for the clock.
func cost(all []window) string {
	var cpu time.Duration
	done := 0
	for _, w := range all {
		cpu, done = cpu+w.cpu.sum(), done+w.done
	}
	return strconv.FormatFloat(float64(cpu)/float64(done)/float64(time.Millisecond), 'f', 2, 64)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// spread writes median, least and most.
func spread(v []float64, digits int) string {
	f := func(x float64) string { return strconv.FormatFloat(x, 'f', digits, 64) }
	return fmt.Sprintf("%s (%s to %s)", f(median(v)), f(slices.Min(v)), f(slices.Max(v)))
}

func rateList(w []window) []float64 {
	var out []float64
	for _, one := range w {
		out = append(out, one.rate())
	}
	return out
}

func (t *table) write(out io.Writer, facts []string) error {
	var b strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&b, "- %s\n", f)
	}
	b.WriteString("\n| Over HTTP | Clients | per second | median, p99 ms | CPU ms | Beside | per second | CPU ms | Ratio | Target |\n")
	b.WriteString("|---|---:|---:|---:|---:|---|---:|---:|---:|---|\n")
	for _, r := range t.rows {
		aim := ""
		if want := r.target(); want > 0 {
			verdict := "missed"
			if median(r.ratios()) >= want {
				verdict = "met"
			}
			aim = fmt.Sprintf("%.2f, %s", want, verdict)
		}
		digits := 2
		if median(r.ratios()) < 0.1 {
			digits = 3
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %.1f, %.1f | %s | %s | %s | %s | %s | %s |\n", r.what, r.clients, spread(rateList(r.own), 0),
			r.latency(0.5), r.latency(0.99), cost(r.own), r.with, spread(rateList(r.its), 0), cost(r.its), spread(r.ratios(), digits), aim)
	}
	for _, n := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// machine says what the figures depend on, but for the servers.
func (b *bench) machine() ([]string, error) {
	flush, err := flushTime(b.dir)
	if err != nil {
		return nil, err
	}
	facts := []string{
		fmt.Sprintf("%d cores for everything: servers, Bindery and the load; %s, %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH),
		"SQLite store, synchronous=FULL",
		fmt.Sprintf("a flush to disk takes %.2f ms", float64(flush)/float64(time.Millisecond)),
		fmt.Sprintf("%d pairs of windows of %s: median (least to most)", b.pairs, b.duration),
	}
	if runtime.GOOS == "linux" {
		facts = append(facts, "CPU ms: processor time of one call, in all processes together")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if now, _, ok := strings.Cut(string(load), " "); ok {
			facts = append(facts, "load of the machine before: "+now)
		}
	}
	return facts, nil
}

// flushTime is the median time that a small write takes to reach the disk.
func flushTime(dir string) (_ time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "flush"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }() // it held nothing
	var took []float64
	for range 50 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(start)))
	}
	return time.Duration(median(took)), nil
}
