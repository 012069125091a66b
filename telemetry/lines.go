package telemetry

import (
	"io"
	"sync"
)

// mostLines is how many bytes of lines wait at most; whoever writes more waits, too.
const mostLines = 1 << 20

// Lines passes a log's lines on to w, beside those who write them: a line is on
// its way at once, and those that come while w takes it go together after it. So
// a busy log costs few writes, and nobody waits for w until much is waiting.
// What w does not take is lost, as nobody could do anything about it.
type Lines struct {
	w io.Writer

	mu       sync.Mutex
	passed   sync.Cond // what waited was passed on
	waiting  []byte
	spare    []byte // the memory of what was passed on before
	underway bool
}

// NewLines returns one that passes lines on to w.
func NewLines(w io.Writer) *Lines {
	l := &Lines{w: w}
	l.passed.L = &l.mu
	return l
}

// Write implements [io.Writer]. It never fails.
func (l *Lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 && len(l.waiting)+len(line) > mostLines {
		l.passed.Wait()
	}
	l.waiting = append(l.waiting, line...)
	if !l.underway {
		l.underway = true
		go l.pass()
	}
	return len(line), nil
}

// Flush returns when everything that was written before has been passed on.
func (l *Lines) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.underway {
		l.passed.Wait()
	}
}

func (l *Lines) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 {
		lines := l.waiting
		l.waiting = l.spare[:0]
		l.mu.Unlock()
		_, _ = l.w.Write(lines)
		l.mu.Lock()
		l.spare = lines
		l.passed.Broadcast()
	}
	l.underway = false
	l.passed.Broadcast()
}
