package store

import (
	"context"
	"time"

	"bindery"
)

// idBlock is how many ids one durable reservation covers. A crash wastes at most
// two blocks of 2^63 ids.
const idBlock = 4096

// ids hands out ids from blocks that are reserved durably before they are used.
// The next block is fetched in the background while half of one is left, so that
// callers seldom wait for it; and so that an id asked for inside an SQLite
// transaction, during which no other can commit, does not wait for itself.
type ids struct {
	reserve func(context.Context) (first int64, err error)
	state   chan idState // holds the state, or is empty while somebody works on it
	filled  chan reservation
	ctx     context.Context
	cancel  context.CancelFunc
}

type idState struct {
	next, end int64 // the block in use: next <= id < end
	later     int64 // the first id of the block after it, 0 while there is none
	fetching  bool
}

// take counts a fetch that ended, and returns its error.
func (s *idState) take(r reservation) error {
	s.fetching = false
	if r.err == nil {
		s.later = r.first
	}
	return r.err
}

type reservation struct {
	first int64
	err   error
}

func newIDs(reserve func(context.Context) (int64, error)) *ids {
	i := &ids{reserve: reserve, state: make(chan idState, 1), filled: make(chan reservation, 1)}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.state <- idState{}
	return i
}

// close ends a fetch under way, and waits for it.
func (i *ids) close() {
	i.cancel()
	if s := <-i.state; s.fetching {
		<-i.filled
	}
	i.state <- idState{}
}

// spare is when the next block is fetched.
const spare = idBlock / 2

func (i *ids) next(ctx context.Context) (int64, error) {
	var s idState
	select {
	case s = <-i.state:
	case <-ctx.Done():
		return 0, ended(ctx)
	}
	defer func() { i.state <- s }()
	if s.fetching {
		select {
		case r := <-i.filled:
			_ = s.take(r) // a failure matters once the block is used up
		default:
		}
	}
	if s.end-s.next <= spare && s.later == 0 && !s.fetching && i.ctx.Err() == nil {
		s.fetching = true
		go i.fetch()
	}
	if s.next == s.end && s.later == 0 {
		select {
		case r := <-i.filled:
			if err := s.take(r); err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ended(ctx)
		case <-i.ctx.Done():
			return 0, errClosed
		}
	}
	if s.next == s.end {
		s.next, s.end, s.later = s.later, s.later+idBlock, 0
	}
	id := s.next
	s.next++
	return id, nil
}

func (i *ids) fetch() {
	ctx, cancel := context.WithTimeout(i.ctx, 30*time.Second)
	defer cancel()
	first, err := i.reserve(ctx)
	i.filled <- reservation{first: first, err: err}
}

// reserve takes the next block for this process.
func (s *Store) reserve(ctx context.Context) (first int64, err error) {
	err = s.engine.update(ctx, func(t *tx) error {
		found, err := t.get(ctx, `UPDATE meta SET next_id = next_id + ? WHERE id = 1 RETURNING next_id`,
			[]any{idBlock}, &first)
		if err == nil && !found {
			return bindery.Errorf(bindery.CodeInternal, "the store has no counter of ids")
		}
		return err
	})
	return first - idBlock, err
}
