package redis

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// sweeps remembers how far the removal of keys got, by instance, so that a call
// that ran out of time is continued by its repeat. A process that dies forgets
// it, and the next one begins again.
type sweeps struct {
	mu sync.Mutex
	at map[string]position
}

// A position in the key space; it means something in one run of a server only.
type position struct {
	run    string
	cursor uint64
}

// sweep deletes the keys of an instance, a step of bounded work at a time.
func (d *driver) sweep(ctx context.Context, instance string) error {
	prefix := plan{}.prefix(instance)
	at := d.sweeps.get(instance)
	var keys []string
	for {
		var scan *goredis.ScanCmd
		var on string
		from := at
		err := d.pool.call(ctx, func(p goredis.Pipeliner, s *session) {
			if on = s.facts.run; on != at.run {
				from = position{run: on}
			}
			if len(keys) > 0 {
				p.Do(ctx, unlinkKeys(keys)...)
			}
			scan = goredis.NewScanCmd(ctx, nil, scanKeys(from.cursor, prefix)...)
			_ = p.Process(ctx, scan) // it only queues
		})
		if err != nil {
			return err
		}
		d.sweeps.set(instance, from) // the keys of every place before are gone
		var cursor uint64
		keys, cursor = scan.Val()
		if cursor == 0 && len(keys) == 0 {
			d.sweeps.forget(instance)
			return nil
		}
		if cursor == 0 {
			err := d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) { p.Do(ctx, unlinkKeys(keys)...) })
			if err == nil {
				d.sweeps.forget(instance)
			}
			return err
		}
		at = position{run: on, cursor: cursor}
	}
}

func (s *sweeps) get(instance string) position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[instance]
}

func (s *sweeps) set(instance string, at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = make(map[string]position)
	}
	s.at[instance] = at
}

func (s *sweeps) forget(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, instance)
}
