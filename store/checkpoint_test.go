package store

import (
	"os"
	"strings"
	"testing"

	"bindery/test/poll"
)

// TestLogStaysSmall commits much in few transactions: their size must bring the
// checkpoints about, not their number, or the log alone fills a small disk.
func TestLogStaysSmall(t *testing.T) {
	t.Parallel()
	s, e := openFile(t)
	add := addEvent1(t.Context(), strings.Repeat("x", 128<<10))
	const n = checkpointEvery / 2 // 64 MB
	var most int64
	for range n {
		if err := s.Update(t.Context(), add); err != nil {
			t.Fatal(err)
		}
		most = max(most, e.check.size())
	}
	// What is kept fills up first; then it grows, also while it is copied.
	if limit := int64(keptLog + 3*checkpointGrowth); most > limit {
		t.Errorf("the log grew to %d bytes, want at most %d", most, limit)
	}
}

// TestFailureEmptiesLog has a commit fail: what the log holds must go into the
// database, for the room may be what the next commit lacks.
func TestFailureEmptiesLog(t *testing.T) {
	t.Parallel()
	s, e := openFile(t)
	if err := s.Update(t.Context(), addEvent1(t.Context(), strings.Repeat("x", 1<<20))); err != nil {
		t.Fatal(err)
	}
	e.writer.chore(func() {
		if err := e.writer.c.do("PRAGMA max_page_count = 1"); err != nil { // it stays at what is there
			t.Error(err)
		}
	})
	if err := s.Update(t.Context(), addEvent1(t.Context(), strings.Repeat("x", 1<<20))); err == nil {
		t.Fatal("it had room")
	}
	poll.Within(t, checkpointPause/2, "the log is empty", func() bool { return e.check.size() == 0 })
	info, err := os.Stat(strings.TrimSuffix(e.check.log, "-wal"))
	if err != nil || info.Size() < 1<<20 {
		t.Errorf("the database: got %v, %v", info, err)
	}
}
