package store

import (
	"context"
	"sync"
	"time"

	"bindery"
)

const (
	// idBlock is how many ids one durable reservation covers. A crash wastes at
	// most two blocks of 2^63 ids.
	idBlock = 16384
	// idSpare is how many are left when the next block is fetched.
	idSpare = idBlock / 2
	// idEpoch is when 2026 began, in microseconds. Each microsecond since is worth an
	// id: no store gives out more of them, and JSON's numbers hold them until 2311.
	idEpoch = 1767225600_000_000
	// fetchTimeout bounds one reservation.
	fetchTimeout = 30 * time.Second
)

// ids hands out ids from blocks that are reserved durably before they are used.
// The next block is fetched in the background while half of one is left, so that
// callers seldom wait for it.
//
// An id asked for inside an SQLite transaction must not wait for a reservation,
// which could commit only after that transaction. So the writer sees to it that
// there are enough before each batch; see writer.
type ids struct {
	reserve func(context.Context) (first int64, err error)
	ctx     context.Context
	cancel  context.CancelFunc

	mu        sync.Mutex
	next, end int64         // the block in use: next <= id < end
	later     int64         // the first id of the block after it, 0 while there is none
	fetching  chan struct{} // closed when the fetch under way ends; nil while there is none
	err       error         // of the last fetch
}

func newIDs(reserve func(context.Context) (int64, error)) *ids {
	i := &ids{reserve: reserve}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i
}

// start fetches the first block, so that no transaction is the first to ask.
func (i *ids) start(ctx context.Context) error {
	first, err := i.reserve(ctx)
	if err == nil {
		i.put(first)
	}
	return err
}

// close ends a fetch under way, and waits for it.
func (i *ids) close() {
	i.cancel()
	i.mu.Lock()
	fetching := i.fetching
	i.mu.Unlock()
	if fetching != nil {
		<-fetching
	}
}

func (i *ids) take(ctx context.Context) (int64, error) {
	for waited := false; ; waited = true {
		id, wait, err := i.try()
		switch {
		case id != 0:
			return id, nil
		case waited && err != nil:
			return 0, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, ended(ctx)
		case <-i.ctx.Done():
			return 0, errClosed
		}
	}
}

// try returns an id, or what to wait for and what went wrong last.
func (i *ids) try() (id int64, wait <-chan struct{}, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.next == i.end && i.later != 0 {
		i.next, i.end, i.later = i.later, i.later+idBlock, 0
	}
	err = i.err
	if i.left() <= idSpare && i.fetching == nil && i.ctx.Err() == nil {
		i.fetching = make(chan struct{})
		go i.fetch(i.fetching)
	}
	if i.next < i.end {
		id = i.next
		i.next++
	}
	return id, i.fetching, err
}

// left counts the ids at hand; the lock is held.
func (i *ids) left() int64 {
	left := i.end - i.next
	if i.later != 0 {
		left += idBlock
	}
	return left
}

// low says that the fetch in the background may not be quick enough.
func (i *ids) low() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.left() < idSpare/2
}

// put takes a block that was reserved. One that comes out of order is wasted,
// for ids grow.
func (i *ids) put(first int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case first < i.end || i.later != 0:
	case i.next == i.end:
		i.next, i.end = first, first+idBlock
	default:
		i.later = first
	}
}

func (i *ids) fetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(i.ctx, fetchTimeout)
	defer cancel()
	first, err := i.reserve(ctx)
	if err == nil {
		i.put(first)
	}
	i.mu.Lock()
	i.fetching, i.err = nil, err
	i.mu.Unlock()
	close(done)
}

// reserve takes the next block for this process.
func (s *Store) reserve(ctx context.Context) (first int64, err error) {
	err = s.engine.update(ctx, func(t *tx) error {
		first, err = t.reserve(ctx)
		return err
	})
	return first, err
}

// reserve moves the counter on, and at least to what the time says: a store that
// was restored from a backup has an old counter, and must not give the ids again
// that were given since. What they named may still be on the servers.
func (t *tx) reserve(ctx context.Context) (first int64, err error) {
	var next int64
	least := now() - idEpoch
	found, err := t.get(ctx, `UPDATE meta SET next_id = CASE WHEN next_id < ? THEN ? ELSE next_id END + ? WHERE id = 1 RETURNING next_id`,
		[]any{least, least, idBlock}, &next)
	if err == nil && !found {
		return 0, bindery.Errorf(bindery.CodeInternal, "the store has no counter of ids")
	}
	return next - idBlock, err
}
