package exchange

import (
	"context"
	"errors"
	"sync"
	"time"
)

// maxGates bounds how many hosts are remembered. Those without a call are forgotten first.
const maxGates = 4096

// hosts keep services apart: each host and port has a bounded number of calls,
// and a breaker, so that one that hangs or is down costs its own callers some
// time, and nobody else any.
type hosts struct {
	o     *Options
	mu    sync.Mutex
	gates map[string]*gate
}

// A gate is what is known of one host and port.
//
//	closed ──BreakAfter failures in a row──▶ open ──after BreakFor──▶ one call tries
//	   ▲                                      ▲ └──────fails──────────────┤
//	   └────────────any call is answered──────┴───────────────────────────┘
type gate struct {
	slots chan struct{}
	// Under hosts.mu.
	users    int       // calls under way, or waiting for their turn
	failures int       // in a row
	open     time.Time // zero: the breaker is closed
	trying   bool
}

var (
	errOpen   = errors.New("the last calls of this host failed: not asked")
	errGates  = errors.New("calls of too many hosts are under way")
	errNoTurn = errors.New("too many calls of this host are under way")
)

// An entry is one call's leave to go on.
type entry struct {
	*gate
	try bool // the one that tries an open breaker's host
}

// enter waits, not for long, until a call of this host may begin. [hosts.leave] must follow.
func (h *hosts) enter(ctx context.Context, host string) (entry, error) {
	e, err := h.pass(host)
	if err != nil {
		return e, err
	}
	select {
	case e.slots <- struct{}{}:
		return e, nil
	default:
	}
	turn := time.NewTimer(h.o.MaxWait)
	defer turn.Stop()
	select {
	case e.slots <- struct{}{}:
		return e, nil
	case <-turn.C:
		err = errBusy.Because(errNoTurn)
	case <-ctx.Done():
		err = errLate.Because(ctx.Err())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e.users--
	if e.try {
		e.trying = false
	}
	return e, err
}

// pass asks the breaker.
func (h *hosts) pass(host string) (entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.gates[host]
	if g == nil {
		if len(h.gates) >= maxGates && !h.forget() {
			return entry{}, errBusy.Because(errGates)
		}
		g = &gate{slots: make(chan struct{}, h.o.PerHost)}
		h.gates[host] = g
	}
	e := entry{gate: g}
	if !g.open.IsZero() {
		if g.trying || h.o.Now().Sub(g.open) < h.o.BreakFor {
			return e, errUnreachable.Because(errOpen)
		}
		g.trying, e.try = true, true
	}
	g.users++
	return e, nil
}

// forget drops the hosts that nobody calls now, those whose breaker is open last.
func (h *hosts) forget() bool {
	for _, open := range []bool{false, true} {
		for host, g := range h.gates {
			if g.users == 0 && g.open.IsZero() != open {
				delete(h.gates, host)
			}
		}
		if len(h.gates) < maxGates {
			return true
		}
	}
	return false
}

// leave ends what enter began. answered: the host is there, whatever it said within bounds.
func (h *hosts) leave(e entry, answered bool) {
	<-e.slots
	h.mu.Lock()
	defer h.mu.Unlock()
	e.users--
	if e.try {
		e.trying = false
	}
	if answered {
		e.failures, e.open = 0, time.Time{}
		return
	}
	e.failures++
	// A failure that began before the breaker opened does not keep it open longer.
	if e.try || e.open.IsZero() && e.failures >= h.o.BreakAfter {
		e.open = h.o.Now()
	}
}
