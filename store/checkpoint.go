package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

const (
	// checkpointEvery is how many transactions pass between two checkpoints.
	checkpointEvery = 1000
	// checkpointGrowth is by how many bytes the file of the log grows between two
	// checkpoints, and keptLog is what is kept of it when the log starts over: more
	// than it usually has by then. To write over a file is faster than to extend one,
	// and to cut one holds up the commits for several milliseconds.
	checkpointGrowth = 8 << 20
	keptLog          = 24 << 20
	// checkpointPause is how long a commit waits at most to be copied.
	checkpointPause = 10 * time.Second
	// bigLog is how many pages of log are too many. A passive checkpoint copies
	// without holding anybody up, but the log starts over only at a moment when
	// nobody needs it; under load that moment has to be made.
	bigLog = 2048
)

// A checkpointer copies the write-ahead log into the database, off the path of
// those who commit.
type checkpointer struct {
	db     *sql.DB
	log    string // the log's file
	writer *writer
	failed atomic.Bool // a commit failed: there may be no room for the log
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

func newCheckpointer(db *sql.DB, path string) *checkpointer {
	c := &checkpointer{db: db, log: path + "-wal", wake: make(chan struct{}, 1), ended: make(chan struct{})}
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

// size is the log file's.
func (c *checkpointer) size() int64 {
	info, err := os.Stat(c.log)
	if err != nil {
		return 0 // no log, or one that is counted by transactions alone
	}
	return info.Size()
}

func (c *checkpointer) run() {
	defer close(c.ended)
	tick := time.NewTicker(checkpointPause)
	defer tick.Stop()
	tooBig := bigLog
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-tick.C:
		}
		failed := c.failed.Swap(false)
		pages, err := c.checkpoint(c.ctx, "PASSIVE")
		if err != nil || pages <= tooBig && !failed {
			continue
		}
		c.writer.chore(func() {
			ctx, cancel := context.WithTimeout(c.ctx, 100*time.Millisecond)
			defer cancel()
			mode := "RESTART" // the next commit cuts the file to what is kept
			if failed {
				mode = "TRUNCATE"
			}
			if _, err := c.checkpoint(ctx, mode); err == nil {
				tooBig = bigLog
				return
			}
			// Readers of old pages are in the way. Who waits for them holds up the
			// commits, so the next attempt is a while off.
			tooBig = max(bigLog, 2*pages)
		})
	}
}

// checkpoint returns how many pages the log has. An error means that the log
// grows until the next checkpoint, and loses nothing.
func (c *checkpointer) checkpoint(ctx context.Context, mode string) (pages int, err error) {
	var busy, done int
	err = c.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &pages, &done)
	if err == nil && busy != 0 {
		err = errors.New("the log is in use")
	}
	return pages, err
}

func (c *checkpointer) stop() {
	c.cancel()
	<-c.ended
}
