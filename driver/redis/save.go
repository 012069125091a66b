package redis

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// A save writes every user and stops the server meanwhile. From 7.0 on it also
// works out the rules of each user whom it has not saved before, for up to half a
// millisecond; 6.2 does so for every user in every save.
const (
	// backgroundShare: saves that nobody waits for take a twentieth of the server's
	// time. Revocations do wait: between two saves lies as much time as the one before took.
	backgroundShare = 20
	backgroundPause = time.Second
	// mostUnsaved bounds how long one save stops the server, from 7.0 on, for users
	// whom it has not saved before. Such a save is not put off: a pause as long as
	// the save would let more users come than the save dealt with, and the next
	// would take longer, and so on.
	mostUnsaved = 500
	// lastSave is how long closing waits for the save of what nobody waits for.
	lastSave = time.Second
)

// A saver puts the users on disk: one ACL SAVE for all revocations that waited
// while the one before was running.
type saver struct {
	pool    *pool
	timeout time.Duration
	ctx     context.Context // ends when the driver closes
	cancel  context.CancelFunc

	mu      sync.Mutex
	waiting []*confirmation
	running bool
	timer   *time.Timer   // of the next save in the background; nil: none is due
	unsaved int           // users made since the last save
	took    time.Duration // by the save before
	next    time.Time     // not before this, unless many users are unsaved
	hurry   chan struct{} // has a token when many are; has room for one
	without bool          // the server has no ACL file: a restart forgets its users anyway
}

// A confirmation is a revocation that waits for its save.
type confirmation struct {
	name string
	done chan error // has room for one
}

func newSaver(p *pool, timeout time.Duration) *saver {
	ctx, cancel := context.WithCancel(context.Background())
	return &saver{pool: p, timeout: timeout, ctx: ctx, cancel: cancel, hurry: make(chan struct{}, 1)}
}

// confirm returns when a save that began after this call is done, and the user
// was found to be missing after that.
func (s *saver) confirm(ctx context.Context, name string) error {
	c := &confirmation{name: name, done: make(chan error, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	s.start()
	s.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return silent(context.Cause(ctx))
	}
}

// soon has the users saved before long, so that a server that crashes forgets
// few of them.
func (s *saver) soon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.without || s.ctx.Err() != nil {
		return
	}
	if s.unsaved++; s.due() {
		select {
		case s.hurry <- struct{}{}:
		default:
		}
		s.start()
		return
	}
	if s.timer != nil {
		return
	}
	s.timer = time.AfterFunc(max(backgroundPause, backgroundShare*s.took), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer != nil { // nil: a save came in between
			s.start()
		}
	})
}

// start starts the loop unless it runs. The caller holds the lock.
func (s *saver) start() {
	if !s.running {
		s.running = true
		go s.run()
	}
}

// due reports whether so many users are unsaved that a save should not be put off.
func (s *saver) due() bool { return s.unsaved >= mostUnsaved && s.pool.describesOnce() }

// run saves until nobody waits.
func (s *saver) run() {
	for {
		s.mu.Lock()
		pause := time.Until(s.next)
		s.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-s.hurry:
		case <-s.ctx.Done():
		}

		s.mu.Lock()
		batch := s.waiting
		s.waiting, s.unsaved = nil, 0
		s.stopTimer() // this save does its work
		s.mu.Unlock()

		started := time.Now()
		s.save(s.timeout, batch)
		ended := time.Now()

		s.mu.Lock()
		s.took = ended.Sub(started)
		s.next = ended.Add(s.took)
		if len(s.waiting) == 0 && (s.ctx.Err() != nil || !s.due()) {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

func (s *saver) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// save saves, and tells everybody in the batch how it went.
func (s *saver) save(timeout time.Duration, batch []*confirmation) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	var left []*goredis.Cmd
	err := s.pool.call(ctx, func(p goredis.Pipeliner, _ *session) {
		p.Do(ctx, saveUsers()...)
		left = left[:0]
		for _, c := range batch {
			left = append(left, p.Do(ctx, getUser(c.name)...))
		}
	})
	without := err != nil && strings.Contains(err.Error(), "not configured to use an ACL file")
	if without {
		err = nil
	}
	s.mu.Lock()
	s.without = without
	s.mu.Unlock()
	for i, c := range batch {
		if err != nil {
			c.done <- err
		} else {
			c.done <- absent(left[i])
		}
	}
}

// absent turns the answer to getUser into an error unless the user is missing.
func absent(reply *goredis.Cmd) error {
	switch _, err := reply.Result(); {
	case err == nil:
		return refused(errors.New("a user that was deleted is there again"))
	case errors.Is(err, goredis.Nil):
		return nil
	default:
		return refused(err)
	}
}

// close saves what was to be saved before long: nobody else will.
func (s *saver) close() {
	s.mu.Lock()
	s.stopTimer()
	unsaved := s.unsaved > 0 && !s.without
	s.mu.Unlock()
	if unsaved {
		s.save(min(s.timeout, lastSave), nil)
	}
	s.cancel()
}
