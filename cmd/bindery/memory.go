package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// smallHeap is how large the heap may grow before it is worth collecting, and
// rarest how much garbage there may be beside what lives, in percent of it.
const (
	smallHeap = 32 << 20
	rarest    = 400
)

// paceCollector collects less often while the heap is small: a service that lives
// on a few MiB would otherwise collect hundreds of times a second under load. A
// heap of more than half of smallHeap is collected as Go always does, so that no
// bound on memory moves. A GOGC in the environment is the operator's word.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	type cycle struct{ _ [16]byte } // not tiny: those share their end with others
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var ended func(*cycle)
	ended = func(*cycle) {
		metrics.Read(sample)
		live := max(sample[0].Value.Uint64(), 1)
		debug.SetGCPercent(int(min(max(smallHeap*100/live, 200)-100, rarest)))
		runtime.SetFinalizer(new(cycle), ended) // the next collection finds it dead
	}
	ended(nil)
}

const (
	trimEvery = 10 * time.Second
	// busyBytes in one interval are work; less is what idling allocates.
	busyBytes = 16 << 20
)

// trimMemory gives memory back to the system when a burst of work is over. Go
// would do it too, but after a forced collection every two minutes and slowly
// from there; an idle service that shares its machine should not keep it.
func trimMemory(ctx context.Context) error {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	var before, trimmed uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(sample)
		now := sample[0].Value.Uint64()
		if now-before < busyBytes && now-trimmed >= busyBytes {
			debug.FreeOSMemory()
			metrics.Read(sample)
			now = sample[0].Value.Uint64()
			trimmed = now
		}
		before = now
	}
}
