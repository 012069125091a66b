package broker

import "sync"

// A bell wakes the one loop that waits for it. Its zero value is ready.
type bell struct {
	once sync.Once
	c    chan struct{}
}

func (b *bell) rung() chan struct{} {
	b.once.Do(func() { b.c = make(chan struct{}, 1) })
	return b.c
}

func (b *bell) ring() {
	select {
	case b.rung() <- struct{}{}:
	default: // it rings already
	}
}
