package rabbitmq_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// clients is how many binds the benchmarks make at once.
const clients = 8

// atOnce makes n calls, as many at once as there are clients.
func atOnce(t testing.TB, n int, call func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := call(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// bind makes an account of the benchmarks.
func bind(ctx context.Context, d bindery.Driver, spec bindery.InstanceSpec, i int) (bindery.Account, error) {
	a := bindery.Account{Name: bindery.Name(spec.Name[4:10], int64(i)+1)}
	var err error
	if a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name}); err == nil {
		_, err = d.Ensure(ctx, spec, a)
	}
	return a, err
}

// bareRequest sends one request to the management API, as a script does.
func bareRequest(ctx context.Context, c *http.Client, r *devserver.RabbitMQ, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, r.URL()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(r.User, r.Password.Reveal())
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s %w", method, path, resp.Status, err)
	}
	return nil
}

func bareClient(b *testing.B) *http.Client {
	transport := &http.Transport{MaxConnsPerHost: clients, MaxIdleConnsPerHost: clients}
	b.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func bareUser(ctx context.Context, c *http.Client, r *devserver.RabbitMQ, i int) error {
	name := fmt.Sprint("bare", i)
	err := bareRequest(ctx, c, r, http.MethodPut, "/api/users/"+name, `{"password":"correct-horse-battery-staple","tags":""}`)
	if err == nil {
		err = bareRequest(ctx, c, r, http.MethodPut, "/api/permissions/bare/"+name, `{"configure":".*","write":".*","read":".*"}`)
	}
	return err
}

// BenchmarkEnsure compares a bind with the two requests that any tool has to send for it.
func BenchmarkEnsure(b *testing.B) {
	r := servertest.SharedRabbitMQ(b)
	b.Run("driver", func(b *testing.B) {
		d := openDriver(b, configured(r, "bench1"))
		spec := bindery.InstanceSpec{Name: bindery.Name("bench1", 1)}
		must(b, d.Provision(b.Context(), spec))
		b.ResetTimer()
		atOnce(b, b.N, func(i int) error { _, err := bind(b.Context(), d, spec, i); return err })
		b.StopTimer()
		atOnce(b, b.N, func(i int) error {
			return d.Revoke(b.Context(), spec, bindery.Account{Name: bindery.Name("bench1", int64(i)+1)})
		})
	})
	b.Run("bare", func(b *testing.B) {
		c := bareClient(b)
		must(b, bareRequest(b.Context(), c, r, http.MethodPut, "/api/vhosts/bare", `{}`))
		b.ResetTimer()
		atOnce(b, b.N, func(i int) error { return bareUser(b.Context(), c, r, i) })
		b.StopTimer()
		atOnce(b, b.N, func(i int) error {
			return bareRequest(b.Context(), c, r, http.MethodDelete, fmt.Sprint("/api/users/bare", i), "")
		})
	})
}

// BenchmarkRevoke compares an unbind with the one request that deletes a user.
func BenchmarkRevoke(b *testing.B) {
	r := servertest.SharedRabbitMQ(b)
	b.Run("driver", func(b *testing.B) {
		d := openDriver(b, configured(r, "bench2"))
		spec := bindery.InstanceSpec{Name: bindery.Name("bench2", 1)}
		must(b, d.Provision(b.Context(), spec))
		atOnce(b, b.N, func(i int) error { _, err := bind(b.Context(), d, spec, i); return err })
		b.ResetTimer()
		atOnce(b, b.N, func(i int) error {
			return d.Revoke(b.Context(), spec, bindery.Account{Name: bindery.Name("bench2", int64(i)+1)})
		})
	})
	b.Run("bare", func(b *testing.B) {
		c := bareClient(b)
		must(b, bareRequest(b.Context(), c, r, http.MethodPut, "/api/vhosts/bare", `{}`))
		atOnce(b, b.N, func(i int) error { return bareUser(b.Context(), c, r, i) })
		b.ResetTimer()
		atOnce(b, b.N, func(i int) error {
			return bareRequest(b.Context(), c, r, http.MethodDelete, fmt.Sprint("/api/users/bare", i), "")
		})
	})
}

// TestManyBindings: ten thousand binds and unbinds leave nothing behind, and the
// last thousand cost what the first did. What they cost is the broker's processor
// time, which other work on the machine does not change.
func TestManyBindings(t *testing.T) {
	if os.Getenv("BINDERY_SOAK") != "1" {
		t.Skip("BINDERY_SOAK=1 asks for it")
	}
	r := ownServer(t)
	s := configured(r, "soak01")
	s.Timeout = time.Minute
	d := openDriver(t, s)
	spec := bindery.InstanceSpec{Name: bindery.Name("soak01", 0)}
	must(t, d.Provision(t.Context(), spec))
	before := definitions(t, r)
	const rounds, each = 10, 1000
	var cost [rounds]time.Duration
	for round := range rounds {
		started, spent := time.Now(), processorTime(t, r.Pid())
		atOnce(t, each, func(i int) error {
			a, err := bind(t.Context(), d, spec, round*each+i)
			if err != nil {
				return err
			}
			if i%20 == 0 { // some of them are used
				c, err := d.Render(spec, a)
				if err != nil {
					return err
				}
				if _, err = login(t.Context(), c); err != nil {
					return err
				}
			}
			return d.Revoke(t.Context(), spec, a)
		})
		cost[round] = processorTime(t, r.Pid()) - spent
		t.Logf("%5d to %5d: %s of the broker's processor time, %s in all",
			round*each, (round+1)*each, cost[round], time.Since(started).Round(time.Millisecond))
	}
	if ratio := float64(cost[rounds-1]) / float64(cost[0]); ratio > 1.2 {
		t.Errorf("the last thousand cost %.2f times what the first did", ratio)
	} else {
		t.Logf("the last thousand cost %.2f times what the first did", ratio)
	}
	if after := definitions(t, r); after != before {
		t.Errorf("what the broker has:\n%s\nwhat it had:\n%s", after, before)
	}
	must(t, d.Inventory(t.Context(), func(f bindery.Found) error {
		if !f.Instance {
			t.Errorf("%s is still there", f.Name)
		}
		return nil
	}))
}

// definitions are all that a broker keeps: users, permissions, limits, queues.
func definitions(t *testing.T, r *devserver.RabbitMQ) string {
	t.Helper()
	code, said := ask(t, r, http.MethodGet, "/api/definitions", "")
	if code != http.StatusOK {
		t.Fatal(code)
	}
	return said
}

// processorTime is what a process has used (proc(5), stat), in ticks of 10 ms.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
