package poll

import (
	"bytes"
	"strings"
	"sync"
)

// A Buffer is what somebody writes, a log say, readable meanwhile.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Count says how often a text is in it.
func (b *Buffer) Count(text string) int { return strings.Count(b.String(), text) }
