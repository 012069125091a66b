package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// identityRowClients is how many clients there are where stores of different size are compared.
const identityRowClients = 16

// compareIdentityRows compares the identity face on a small store with that on a large one.
func (i *identityBench) compareIdentityRows(ctx context.Context) error {
	small, err := i.serve(ctx, "identity-small", "", smallRows)
	if err != nil {
		return err
	}
	large, err := i.serve(ctx, "identity-large", "", i.rows)
	if err != nil {
		return err
	}
	with := "Bindery with " + thousands(smallRows) + " bindings"
	add := func(what string, own, its []window) {
		i.table.rows = append(i.table.rows, row{
			what: what + ", " + thousands(i.rows) + " bindings", clients: identityRowClients, with: with, own: own, its: its,
		})
	}
	own, its, err := i.pairsOf(ctx, i.tokens(large, sampleType, false), i.tokens(small, sampleType, false), identityRowClients)
	if err != nil {
		return err
	}
	add("Token by certificate", own, its)

	both := []*administration{{i: i, service: large}, {i: i, service: small}}
	windows := make([]map[string][]window, len(both))
	for n, a := range both {
		windows[n] = map[string][]window{}
		defer a.disconnect()
		if err := a.connect(ctx, identityRowClients); err != nil {
			return err
		}
	}
	for pair := -1; pair < i.pairs; pair++ { // the first warms up
		for n := range both {
			n = (n + max(pair, 0)) % len(both)
			round, err := both[n].round(ctx)
			if err != nil {
				return fmt.Errorf("administration, %s: %w", both[n].service.name, err)
			}
			for what, w := range round {
				if pair >= 0 {
					windows[n][what] = append(windows[n][what], w)
				}
			}
		}
	}
	for _, what := range []string{"create", "read", "update", "delete"} {
		i.say("identity binding %s: %7.0f a second with %s, %7.0f with %s", what, median(rateList(windows[0][what])), thousands(i.rows),
			median(rateList(windows[1][what])), thousands(smallRows))
		add("Identity binding "+what, windows[0][what], windows[1][what])
	}
	if err := i.list(ctx, large); err != nil {
		return err
	}
	return errors.Join(large.stop(), small.stop())
}

// administration makes, reads, changes and removes identity bindings.
type administration struct {
	i       *identityBench
	service *service
	uuid    string // of the service type
	conns   []*conn
}

func (a *administration) connect(ctx context.Context, clients int) error {
	t := a.i.tokens(a.service, sampleType, false)
	for client := range clients {
		c, err := t.dial(ctx, client)
		if err != nil {
			return err
		}
		a.conns = append(a.conns, c)
	}
	body, err := a.conns[0].call(http.MethodGet, []byte("/v1/service-types/"+sampleType), a.tail(""), http.StatusOK)
	if err != nil {
		return err
	}
	var service struct{ UUID string }
	err = json.Unmarshal(body, &service)
	a.uuid = service.UUID
	return err
}

func (a *administration) disconnect() {
	for _, c := range a.conns {
		_ = c.Close() // everything was answered
	}
}

func (a *administration) tail(body string) []byte {
	head := " HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: " + identityKey + "\r\n"
	if body == "" {
		return []byte(head + "\r\n")
	}
	return []byte(head + "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// round is one window of each kind of work, on bindings of its own.
func (a *administration) round(ctx context.Context) (map[string]window, error) {
	var mu sync.Mutex
	var made []int64
	out := map[string]window{}
	work := func(what string, d time.Duration, next func(client int) (bool, error)) error {
		w, err := load(len(a.conns), d, func(client int) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			return next(client)
		})
		out[what] = w
		return err
	}
	path := func(serial int64) []byte { return fmt.Appendf(nil, "/v1/bindings/bench-%d", serial) }
	each := func(method, body string, status int, again bool) func(int) (bool, error) {
		var at atomic.Int64
		return func(client int) (bool, error) {
			n := at.Add(1) - 1
			if n >= int64(len(made)) && !again {
				return false, nil
			}
			_, err := a.conns[client].call(method, path(made[n%int64(len(made))]), a.tail(body), status)
			return true, err
		}
	}
	err := work("create", a.i.duration, func(client int) (bool, error) {
		serial := serials.Add(1)
		mu.Lock()
		made = append(made, serial)
		mu.Unlock()
		body := fmt.Sprintf(`{"service_uuid":%q,"host":%q,"auth_type":"x509","auth_identifier":"CN=bench-%d","unique_key":"user-%d"}`,
			a.uuid, sampleHost, serial, serial)
		_, err := a.conns[client].call(http.MethodPost, path(serial), a.tail(body), http.StatusCreated)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if err := work("read", a.i.duration, each(http.MethodGet, "", http.StatusOK, true)); err != nil {
		return nil, err
	}
	if err := work("update", a.i.duration, each(http.MethodPut, `{"unique_key":"changed"}`, http.StatusOK, true)); err != nil {
		return nil, err
	}
	return out, work("delete", time.Hour, each(http.MethodDelete, "", http.StatusNoContent, false))
}

// list fetches the whole list, and says how much memory that took.
func (i *identityBench) list(ctx context.Context, s *service) error {
	pid := s.cmd.Process.Pid
	// 5 makes the peak what there is now (proc_pid_clear_refs(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		i.say("the memory of the list is not measured: %v", err)
		return nil
	}
	before, err := memory(pid, "VmRSS:")
	if err != nil {
		return err
	}
	c, err := i.tokens(s, sampleType, false).dial(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything was answered
	began := time.Now()
	if _, err := fmt.Fprintf(c, "GET /v1/bindings HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %s\r\n\r\n", identityKey); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	objects, last := 0, byte(0)
	buf := make([]byte, 1<<16)
	var size int64
	for {
		n, err := resp.Body.Read(buf)
		size += int64(n)
		objects += bytes.Count(buf[:n], []byte(`"uuid"`))
		if n > 0 {
			last = buf[n-1]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	took := time.Since(began)
	peak, err := memory(pid, "VmHWM:")
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || objects < i.rows*99/100 || last != '}' && last != '\n' {
		return fmt.Errorf("the list has %d objects, status %s", objects, resp.Status)
	}
	note := fmt.Sprintf("the list of %s identity bindings, %.0f MiB, took %s and %.1f MiB more memory (aim: under 64)",
		thousands(i.rows), float64(size)/(1<<20), took.Round(100*time.Millisecond), float64(peak-before)/1024)
	i.say("%s", note)
	i.table.notes = append(i.table.notes, note)
	return nil
}

// memory reads one line of a process's status, in KiB.
func memory(pid int, name string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("the system does not tell %s", name)
}
