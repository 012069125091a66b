package redis

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
)

// sweeps remembers how far the removal of keys got, by instance, so that a call
// that ran out of time is continued by its repeat. A process that dies forgets
// it, and the next one begins again.
type sweeps struct {
	mu sync.Mutex
	at map[string]position
}

// A position in the key space: everything before it is done. It means something
// in one run of a server only.
type position struct {
	run      string
	database int
	cursor   uint64
}

// sweep deletes the keys of an instance in every database, a step of bounded
// work at a time. Nobody writes any: the accounts are gone.
func (d *driver) sweep(ctx context.Context, instance string) error {
	var keyspace *goredis.StringCmd
	var at position
	err := d.pool.call(ctx, func(p goredis.Pipeliner, s *session) {
		at = position{run: s.facts.run}
		keyspace = p.Info(ctx, "keyspace")
	})
	if err != nil {
		return err
	}
	if before := d.sweeps.get(instance); before.run == at.run {
		at = before
	}
	for _, database := range databases(keyspace.Val()) {
		if database < at.database {
			continue
		}
		if database > at.database {
			at = position{run: at.run, database: database}
		}
		if err := d.sweepDatabase(ctx, instance, at); err != nil {
			return err
		}
	}
	d.sweeps.forget(instance)
	return nil
}

func (d *driver) sweepDatabase(ctx context.Context, instance string, at position) error {
	prefix := plan{}.prefix(instance)
	var keys []string
	for {
		var scan *goredis.ScanCmd
		restarted := false
		err := d.pool.call(ctx, func(p goredis.Pipeliner, s *session) {
			restarted = s.facts.run != at.run
			p.Do(ctx, selectDatabase(at.database)...)
			if len(keys) > 0 {
				p.Do(ctx, unlinkKeys(keys)...)
			}
			scan = goredis.NewScanCmd(ctx, nil, scanKeys(at.cursor, prefix)...)
			_ = p.Process(ctx, scan) // it only queues
			p.Do(ctx, selectDatabase(0)...)
		})
		if err != nil {
			return err
		}
		if restarted {
			return bindery.Errorf(bindery.CodeUnavailable, "the removal has to begin again").
				Because(errors.New("the Redis server was restarted"))
		}
		// The keys found last time are gone now; those found this time are not.
		d.sweeps.set(instance, at)
		keys, at.cursor = scan.Val()
		if at.cursor == 0 {
			break
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return d.pool.call(ctx, func(p goredis.Pipeliner, _ *session) {
		p.Do(ctx, selectDatabase(at.database)...)
		p.Do(ctx, unlinkKeys(keys)...)
		p.Do(ctx, selectDatabase(0)...)
	})
}

// databases reads the numbers of those with keys, in order, from INFO keyspace.
func databases(info string) []int {
	var numbers []int
	for key := range lines(info) {
		digits, ok := strings.CutPrefix(key, "db")
		if n, err := strconv.Atoi(digits); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
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
