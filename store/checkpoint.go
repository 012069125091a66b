package store

import (
	"context"
	"database/sql"
	"time"
)

const (
	// checkpointEvery is how many transactions pass between two checkpoints.
	checkpointEvery = 1000
	// bigLog is how many pages of log are too many. A passive checkpoint copies
	// without holding anybody up, but the log starts over only at a moment when
	// nobody needs it; under load that moment has to be made.
	bigLog = 16384
)

// A checkpointer copies the write-ahead log into the database, off the path of
// those who commit.
type checkpointer struct {
	db     *sql.DB
	writer *writer
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

func newCheckpointer(db *sql.DB) *checkpointer {
	c := &checkpointer{db: db, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// nudge asks for a checkpoint; false where one has been asked for already.
func (c *checkpointer) nudge() bool {
	select {
	case c.wake <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *checkpointer) run() {
	defer close(c.ended)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		}
		pages, err := c.checkpoint(c.ctx, "PASSIVE")
		if err == nil && pages > bigLog {
			c.writer.chore(func() {
				// Readers of old pages may be in the way: the next round tries again.
				ctx, cancel := context.WithTimeout(c.ctx, 100*time.Millisecond)
				defer cancel()
				_, _ = c.checkpoint(ctx, "TRUNCATE")
			})
		}
	}
}

// checkpoint returns how many pages the log has. An error means that the log
// grows until the next checkpoint, and loses nothing.
func (c *checkpointer) checkpoint(ctx context.Context, mode string) (pages int, err error) {
	var busy, done int
	err = c.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &pages, &done)
	return pages, err
}

func (c *checkpointer) stop() {
	c.cancel()
	<-c.ended
}
