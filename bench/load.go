package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A contender makes and removes what is compared: bindings over HTTP, or what
// stands for them on a bare server. A serial is made once and removed once. Calls
// of one client come one after the other; clients call at the same time.
type contender interface {
	name() string
	// connect prepares this many clients, before the clock starts.
	connect(ctx context.Context, clients int) error
	create(ctx context.Context, client int, serial int64) error
	remove(ctx context.Context, client int, serial int64) error
	disconnect()
}

// A filler is a contender that can quickly make more of what it removes, off the
// clock: what it creates in a window is removed in a moment too short to measure.
type filler interface {
	fill(ctx context.Context, client int, serial int64) error
}

// A window is what was done in one stretch of time.
type window struct {
	done    int
	elapsed time.Duration
	took    []time.Duration // of each call, sorted
	cpu     cpuTimes
}

func (w window) rate() float64 { return float64(w.done) / w.elapsed.Seconds() }

// percentile returns how long that share of the calls took at most.
func (w window) percentile(share float64) time.Duration {
	if len(w.took) == 0 {
		return 0
	}
	return w.took[min(int(share*float64(len(w.took))), len(w.took)-1)]
}

// load lets clients call next one after the other until the time is over or
// next says that there is nothing left. Calls that have begun are waited for and
// count, and so does the time that they take.
func load(clients int, d time.Duration, next func(client int) (more bool, err error)) (window, error) {
	var w window
	var failed error
	var mu sync.Mutex
	var wg sync.WaitGroup
	var stopped atomic.Bool
	before := cpuTime()
	start := time.Now()
	deadline := start.Add(d)
	for client := range clients {
		wg.Go(func() {
			took := make([]time.Duration, 0, 4096)
			last := start
			var err error
			for !stopped.Load() && last.Before(deadline) {
				var more bool
				if more, err = next(client); err != nil || !more {
					break
				}
				now := time.Now()
				took, last = append(took, now.Sub(last)), now
			}
			mu.Lock()
			defer mu.Unlock()
			w.took = append(w.took, took...)
			w.elapsed = max(w.elapsed, last.Sub(start))
			if err != nil {
				stopped.Store(true)
				failed = err
			}
		})
	}
	wg.Wait()
	w.cpu = cpuTime().since(before)
	w.done = len(w.took)
	slices.Sort(w.took)
	if failed == nil && w.done == 0 {
		failed = fmt.Errorf("nothing was done in %s", d)
	}
	return w, failed
}

// A round is one window of each kind of work of one contender.
type round struct{ created, removed window }

// serials are never used twice in a run.
var serials atomic.Int64

// playRound lets a contender create for some time, and then remove what it created,
// for as long. What is left is removed off the clock.
func playRound(ctx context.Context, c contender, clients int, d time.Duration) (r round, err error) {
	made := make([][]int64, clients)
	making := func(one func(context.Context, int, int64) error) func(int) (bool, error) {
		return func(client int) (bool, error) {
			serial := serials.Add(1)
			made[client] = append(made[client], serial)
			return true, one(ctx, client, serial)
		}
	}
	if r.created, err = load(clients, d, making(c.create)); err != nil {
		return r, fmt.Errorf("%s, create: %w", c.name(), err)
	}
	if f, ok := c.(filler); ok {
		if _, err = load(clients, d/2, making(f.fill)); err != nil {
			return r, fmt.Errorf("%s, fill: %w", c.name(), err)
		}
	}
	all := slices.Concat(made...)
	var taken atomic.Int64
	remove := func(client int) (bool, error) {
		i := taken.Add(1) - 1
		if i >= int64(len(all)) {
			return false, nil
		}
		return true, c.remove(ctx, client, all[i])
	}
	if r.removed, err = load(clients, d, remove); err != nil {
		return r, fmt.Errorf("%s, remove: %w", c.name(), err)
	}
	if taken.Load() < int64(len(all)) {
		if _, err = load(clients, time.Hour, remove); err != nil {
			return r, fmt.Errorf("%s, clear: %w", c.name(), err)
		}
	}
	return r, nil
}

// rounds plays the pairs: the i-th round of each contender belongs together. The
// order changes from one to the next, so that nobody always comes after the same.
func (b *bench) rounds(ctx context.Context, all []contender, clients int) (rounds [][]round, err error) {
	for _, c := range all {
		defer c.disconnect()
		if err := c.connect(ctx, clients); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name(), err)
		}
		// What is made once, connections and prepared statements, is made now.
		if _, err := playRound(ctx, c, clients, b.duration/4); err != nil {
			return nil, err
		}
	}
	rounds = make([][]round, len(all))
	for pair := range b.pairs {
		for i := range all {
			i = (i + pair) % len(all)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r, err := playRound(ctx, all[i], clients, b.duration)
			if err != nil {
				return nil, err
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	for i, c := range all {
		b.say("%-44s %2d clients: %7.0f made, %7.0f removed a second", c.name(), clients,
			median(rates(rounds[i], created)), median(rates(rounds[i], removed)))
		b.say("  CPU ms to make one: %s; to remove one: %s", cpuEach(rounds[i], created), cpuEach(rounds[i], removed))
	}
	return rounds, nil
}
