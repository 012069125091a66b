package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

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
