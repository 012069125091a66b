package telemetry_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"bindery/telemetry"
)

// slow is a writer that takes what it is given when it is told to.
type slow struct {
	begun, let chan struct{}
	mu         sync.Mutex
	writes     []string
}

func (s *slow) Write(p []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func write(t *testing.T, l *telemetry.Lines, text string) {
	t.Helper()
	if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestLinesGoTogetherWhileOneIsWritten(t *testing.T) {
	t.Parallel()
	s := &slow{begun: make(chan struct{}, 8), let: make(chan struct{}, 8)}
	l := telemetry.NewLines(s)
	write(t, l, "first\n")
	<-s.begun // nobody waited for it
	for n := range 3 {
		write(t, l, fmt.Sprintln(n))
	}
	s.let <- struct{}{}
	s.let <- struct{}{}
	l.Flush()
	if got := strings.Join(s.writes, "|"); got != "first\n|0\n1\n2\n" {
		t.Errorf("got %q", got)
	}
}

// TestLinesAreBounded: who writes more than may wait waits for the writer.
func TestLinesAreBounded(t *testing.T) {
	t.Parallel()
	s := &slow{begun: make(chan struct{}, 8), let: make(chan struct{}, 8)}
	l := telemetry.NewLines(s)
	write(t, l, "first")
	<-s.begun
	write(t, l, strings.Repeat("x", 1<<20))
	third := make(chan struct{})
	go func() {
		write(t, l, "third")
		close(third)
	}()
	s.let <- struct{}{}
	<-s.begun // the big one is on its way, which makes room
	<-third
	s.let <- struct{}{}
	s.let <- struct{}{}
	l.Flush()
	if len(s.writes) != 3 || s.writes[2] != "third" {
		t.Errorf("got %d writes", len(s.writes))
	}
}

func TestLinesFromMany(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	l := telemetry.NewLines(&b)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 1000 {
				write(t, l, fmt.Sprintf("%d %d\n", n, i))
			}
		})
	}
	all.Wait()
	l.Flush()
	next := map[string]int{}
	for line := range strings.Lines(b.String()) {
		who, i, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if i != fmt.Sprint(next[who]) {
			t.Fatalf("%s wrote %q, want %d", who, i, next[who])
		}
		next[who]++
	}
	if len(next) != 8 || next["0"] != 1000 || next["7"] != 1000 {
		t.Errorf("got %v", next)
	}
}
