package exchange

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"bindery"
)

// A cache keeps up to a number of entries, those that were used lately: when the
// young half is full it becomes the old half, whose unused entries are dropped.
type cache[K comparable, V any] struct {
	mu         sync.Mutex
	half       int
	young, old map[K]V
}

func newCache[K comparable, V any](n int) *cache[K, V] {
	return &cache[K, V]{half: max(n/2, 1), young: make(map[K]V)}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.keep(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(k, v)
}

func (c *cache[K, V]) keep(k K, v V) {
	if _, ok := c.young[k]; !ok && len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[K]V, c.half)
	}
	c.young[k] = v
}

// A lookupKey is what a lookup was asked.
type lookupKey struct {
	service, host string
	auth          bindery.AuthType
	keys          bindery.IdentityKeys
}

// stripes is how many counters stand for all keys of bindings: a change of one
// binding forgets the lookups of one in so many others too.
const stripes = 4096

// stamps tell whether a lookup is older than a change on which it stands. A
// lookup takes its stamp before it reads the store, and holds for as long as a
// new stamp would be the same. A change moves the counters after its commit and
// before anybody hears of it: whatever was read before the commit has an older
// stamp, and is found to be old by whoever asks after the answer.
type stamps struct {
	everything atomic.Uint64
	of         [stripes]atomic.Uint64
}

// A stamp is the state of the counters on which one lookup stands.
type stamp struct{ everything, exact, old uint64 }

var seed = maphash.MakeSeed()

func (s *stamps) stripe(key string) *atomic.Uint64 {
	return &s.of[maphash.String(seed, key)%stripes]
}

// at is the stamp of a lookup that begins now. An identity is found by one of
// its two keys, so a binding that could change the answer has one of them.
func (s *stamps) at(keys bindery.IdentityKeys) stamp {
	now := stamp{everything: s.everything.Load(), exact: s.stripe(keys.Exact).Load()}
	if keys.Old != "" {
		now.old = s.stripe(keys.Old).Load()
	}
	return now
}

// forget makes every lookup old that stands on what changed.
func (s *stamps) forget(c change) {
	if c.everything {
		s.everything.Add(1)
	}
	for _, k := range c.keys {
		s.stripe(k.Exact).Add(1)
		if k.Old != "" {
			s.stripe(k.Old).Add(1)
		}
	}
}
