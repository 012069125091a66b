package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A counted is what one combination of labels counts.
type counted struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

// remembered keeps what was found by labels: on the hot path, to find it takes
// longer than to count. There are as many as there are combinations.
type remembered[K comparable] struct {
	mu  sync.RWMutex
	all map[K]counted
}

func (r *remembered[K]) get(labels K) (counted, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.all[labels]
	return c, ok
}

func (r *remembered[K]) put(labels K, c counted) counted {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[K]counted{}
	}
	r.all[labels] = c
	return c
}
