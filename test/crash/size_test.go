package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/seal"
	"bindery/store"
)

const mebibyte = 1 << 20

// fill makes a store with so many bindings, and their accounts on Redis.
func (w *world) fill(file string, rows int) {
	w.Helper()
	ctx := w.Context()
	text, err := os.ReadFile(w.file("key"))
	if err != nil {
		w.Fatal(err)
	}
	key, err := seal.ParseKey(string(text))
	if err != nil {
		w.Fatal(err)
	}
	keys, err := seal.NewKeyring(key)
	if err != nil {
		w.Fatal(err)
	}
	s, err := store.Open(ctx, store.Options{URL: "sqlite:" + w.file(file), Keys: keys})
	if err != nil {
		w.Fatal(err)
	}
	const perInstance, perBatch = 100, 1000
	var names []string
	for from := 0; from < rows; from += perBatch {
		var batch []bindery.Account
		var instances []bindery.Instance
		for n := from; n < min(rows, from+perBatch); n++ {
			if n%perInstance == 0 {
				row := w.newID(s)
				now := time.Now()
				instances = append(instances, bindery.Instance{
					Row: row, Platform: "crash", ID: fmt.Sprint("filled-", n/perInstance), Name: bindery.Name(s.Installation(), row),
					OfferingID: redisService, PlanID: planOf(redisService), Kind: "redis", Server: "redis", Organization: "org", Space: "space",
					State: bindery.StateReady, Created: now, Updated: now,
				})
			}
			binding, row, now := w.newID(s), w.newID(s), time.Now()
			batch = append(batch, bindery.Account{
				Row: row, BindingRow: binding, InstanceRow: instances[len(instances)-1].Row, Kind: "redis", Server: "redis",
				Name:     bindery.Name(s.Installation(), row),
				Material: bindery.NewSecret(`{"password":"0123456789abcdef0123456789abcdef","access":"read-write"}`),
				Details:  json.RawMessage(`{"server_version":"7.0.0"}`), State: bindery.AccountLive, Created: now, Updated: now,
			})
		}
		err := s.Update(ctx, func(tx bindery.Tx) error {
			for _, i := range instances {
				if err := tx.Instances().Add(ctx, i); err != nil {
					return err
				}
			}
			for n, a := range batch {
				err := tx.Bindings().Add(ctx, bindery.Binding{
					Row: a.BindingRow, InstanceRow: a.InstanceRow, Platform: "crash", InstanceID: fmt.Sprint("filled-", (from+n)/perInstance),
					ID: fmt.Sprint("filled-", from+n, "-binding"), OfferingID: redisService, PlanID: planOf(redisService),
					State: bindery.StateReady, Created: a.Created, Updated: a.Updated,
				})
				if err != nil {
					return err
				}
				if err := tx.Accounts().Add(ctx, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.Fatal(err)
		}
		for _, a := range batch {
			names = append(names, a.Name)
		}
	}
	if err := s.Close(); err != nil {
		w.Fatal(err)
	}
	w.makeUsers(names)
}

func (w *world) newID(s bindery.Store) int64 {
	w.Helper()
	id, err := s.NewID(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// makeUsers makes users without any rights, so that a reconcile misses none.
func (w *world) makeUsers(names []string) {
	w.Helper()
	r, err := dialRedis(w.Context(), w.redis.Addr)
	if err != nil {
		w.Fatal(err)
	}
	defer r.Close()
	if _, err := r.do("AUTH", w.redis.User, w.redis.Password.Reveal()); err != nil {
		w.Fatal(err)
	}
	for batch := range slices.Chunk(names, 500) {
		var b strings.Builder
		for _, n := range batch {
			fmt.Fprintf(&b, "*3\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$%d\r\n%s\r\n", len(n), n)
		}
		if _, err := r.Write([]byte(b.String())); err != nil {
			w.Fatal(err)
		}
		for range batch {
			if _, err := r.read(); err != nil {
				w.Fatal(err)
			}
		}
	}
	if _, err := r.do("ACL", "SAVE"); err != nil {
		w.Fatal(err)
	}
}

// The time from a start to the first answer does not grow with the store.
func TestStart(t *testing.T) {
	few, many, rounds := pick(500, 1000), pick(10_000, 100_000), pick(5, 9)
	w := newWorld(t, pickProgram(), func(s *settings) { s.Interval = "1h" })
	sizes := []int{few, many}
	for _, rows := range sizes {
		w.fill(fmt.Sprint(rows, ".db"), rows)
	}
	took := map[int]times{}
	for round := range rounds {
		for n := range sizes {
			rows := sizes[(n+round)%len(sizes)]
			w.settings.Store = fmt.Sprint(rows, ".db")
			w.configure()
			began := time.Now()
			w.start()
			a := w.ask(http.MethodGet, "/v2/service_instances/filled-3/service_bindings/filled-333-binding", "", nil)
			took[rows] = append(took[rows], time.Since(began))
			if a.status != http.StatusOK {
				t.Fatalf("with %d rows: %d %s", rows, a.status, a.text)
			}
			w.stop()
		}
	}
	for _, all := range took {
		slices.Sort(all)
	}
	t.Logf("start to first answer: %v with %d bindings, %v with %d", took[few], few, took[many], many)
	if a, b := took[few].at(50), took[many].at(50); b > a*3/2+100*time.Millisecond {
		t.Errorf("a start takes %v with %d bindings, and %v with %d", a, few, b, many)
	}
}

// Idle memory is small with many bindings, and small again after a burst.
func TestMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc here")
	}
	const rows, clients = 100_000, 64
	w := newWorld(t, plain, func(s *settings) { s.Interval = "10m" })
	w.fill("bindery.db", rows)
	w.start()
	if a := w.ask(http.MethodGet, "/v2/service_instances/filled-3/service_bindings/filled-333-binding", "", nil); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.text)
	}
	// A comparison with the server goes through all of them.
	err := eventually(t.Context(), 2*time.Minute, func(ctx context.Context) error {
		n, err := w.metric(ctx, "bindery_reconcile_runs_total", `server="redis"`, `outcome="ok"`)
		if err == nil && n < 1 {
			err = errors.New("no reconcile yet")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	idle := w.shrinks(64 * mebibyte)

	for _, s := range services {
		w.provision(s, "burst-"+s)
	}
	ctx, stop := context.WithCancel(t.Context())
	var peak atomic.Int64
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if now, err := w.resident(); err == nil {
					peak.Store(max(peak.Load(), now))
				}
			}
		}
	})
	var all sync.WaitGroup
	for n := range clients {
		service := services[n%len(services)]
		all.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("burst-%d-%d", n, i)
				w.bind(service, "burst-"+service, id)
				w.unbind(service, "burst-"+service, id)
			}
		})
	}
	all.Wait()
	stop()
	watch.Wait()
	after := w.shrinks(96 * mebibyte)
	t.Logf("with %d bindings: %s, while %d clients bind up to %s, then %s", rows, idle, clients, size(peak.Load()), after)
}

func size(b int64) string { return fmt.Sprintf("%.1f MiB", float64(b)/mebibyte) }

// shrinks waits a minute for the memory to be below a bound, and then says how it is.
func (w *world) shrinks(bound int64) string {
	w.Helper()
	var now int64
	began := time.Now()
	err := eventually(w.Context(), time.Minute, func(context.Context) (err error) {
		if now, err = w.resident(); err == nil && now >= bound {
			err = fmt.Errorf("%s of memory are resident, and %s are the bound", size(now), size(bound))
		}
		return err
	})
	if err != nil {
		w.Error(err)
	}
	return fmt.Sprintf("%s after %v", size(now), time.Since(began).Round(time.Second))
}

// resident is the memory that Bindery occupies.
func (w *world) resident() (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.child().process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in\n%s", b)
}
