package exchange

import (
	"fmt"
	"testing"
	"time"

	"bindery"
)

func TestGatesAreBounded(t *testing.T) {
	t.Parallel()
	o := Options{Now: time.Now, PerHost: 1, MaxWait: time.Millisecond, BreakAfter: 1, BreakFor: time.Hour}
	h := &hosts{o: &o, gates: map[string]*gate{}}
	enter := func(n int) (entry, error) { return h.enter(t.Context(), fmt.Sprint("host-", n)) }
	down, err := enter(-1)
	if err != nil {
		t.Fatal(err)
	}
	h.leave(down, false)
	// Hosts without a call make room, those that are down last.
	for n := range 2 * maxGates {
		e, err := enter(n)
		if err != nil {
			t.Fatal(err)
		}
		h.leave(e, true)
	}
	if len(h.gates) > maxGates {
		t.Errorf("%d hosts are remembered", len(h.gates))
	}
	if _, err := enter(-1); bindery.MessageOf(err) != "The service cannot be reached" {
		t.Errorf("a host that is down was forgotten: %v", err)
	}
	clear(h.gates)
	for n := range maxGates {
		if _, err := enter(n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := enter(maxGates); bindery.MessageOf(err) != "The service is busy" {
		t.Errorf("got %v", err)
	}
}
