package exchange

import (
	"context"
	"sync"
	"time"

	"bindery"
)

const (
	// maxSeen bounds what waits to be written: a second's worth of many bindings,
	// or the most that a store that does not answer may cost.
	maxSeen = 1 << 16
	// writeSeen bounds what one transaction writes, so that others get their turn.
	writeSeen = 1000
)

// A seen is what is counted together.
type seen struct {
	binding int64
	outcome bindery.AuthOutcome
	second  int64
}

// A recorder counts authentications until they are written.
type recorder struct {
	mu      sync.Mutex
	counts  map[seen]int
	dropped int
}

func (r *recorder) add(binding int64, outcome bindery.AuthOutcome, at time.Time) {
	r.count(seen{binding, outcome, at.Unix()}, 1)
}

func (r *recorder) count(k seen, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.counts[k]; !ok && len(r.counts) >= maxSeen {
		r.dropped += n
		return
	}
	if r.counts == nil {
		r.counts = make(map[seen]int)
	}
	r.counts[k] += n
}

func (r *recorder) take() (map[seen]int, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts, dropped := r.counts, r.dropped
	r.counts, r.dropped = nil, 0
	return counts, dropped
}

// flush writes what was counted. What cannot be written now is counted again.
func (s *Service) flush(ctx context.Context) {
	counts, dropped := s.record.take()
	if dropped > 0 {
		s.o.Log.WarnContext(ctx, "authentications were not recorded: too many wait to be written", "count", dropped)
	}
	var failed error
	write := func(batch []bindery.Authentication) {
		if len(batch) == 0 {
			return
		}
		if failed == nil {
			failed = s.store.Update(ctx, func(tx bindery.Tx) error { return tx.Authentications().Record(ctx, batch) })
		}
		if failed != nil {
			for _, a := range batch {
				s.record.count(seen{a.BindingRow, a.Outcome, a.At.Unix()}, a.Count)
			}
		}
	}
	batch := make([]bindery.Authentication, 0, min(len(counts), writeSeen))
	for k, n := range counts {
		batch = append(batch, bindery.Authentication{BindingRow: k.binding, Outcome: k.outcome, At: time.Unix(k.second, 0).UTC(), Count: n})
		if len(batch) == writeSeen {
			write(batch)
			batch = batch[:0]
		}
	}
	write(batch)
	if failed != nil {
		s.o.Log.WarnContext(ctx, "authentications wait to be recorded", "error", failed.Error())
	}
}
