package identity

import "sync"

// recent is a bounded map that forgets what was not asked for lately: two maps,
// of which the older is dropped when the younger is full. It has what an LRU list is wanted for,
// and a hit takes a read lock only.
type recent[K comparable, V any] struct {
	mu         sync.RWMutex
	limit      int // of each of the two
	young, old map[K]V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, young: make(map[K]V)}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	r.mu.RLock()
	v, ok := r.young[k]
	if ok {
		r.mu.RUnlock()
		return v, true
	}
	v, ok = r.old[k]
	r.mu.RUnlock()
	if ok {
		r.put(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store(k, v)
}

// first keeps v where k is not known yet, and returns what is kept.
func (r *recent[K, V]) first(k K, v V) (kept V, added bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept, ok := r.young[k]; ok {
		return kept, false
	}
	if kept, ok := r.old[k]; ok {
		r.store(k, kept)
		return kept, false
	}
	r.store(k, v)
	return v, true
}

func (r *recent[K, V]) store(k K, v V) {
	if _, ok := r.young[k]; !ok && len(r.young) >= r.limit {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}

// len counts what is kept, some of it perhaps twice.
func (r *recent[K, V]) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.young) + len(r.old)
}
