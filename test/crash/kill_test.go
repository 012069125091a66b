package crash_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// settleLimit is how long everything may take to end after the last disturbance.
var settleLimit = pick(90*time.Second, 5*time.Minute)

// Bindery is killed at random moments between servers of every kind, while it starts too. Nothing that was
// acknowledged is lost, nothing that was removed is back, nothing is stuck.
func TestKill(t *testing.T) {
	t.Parallel()
	rng := chance(t)
	w := newWorld(t, raced, everything)
	l := &load{world: w, clients: 8, goal: pick(640, 9600), steady: true}
	kills := pick(5, 30)
	l.disturb(rng, kills, w.replace)
}

// disturb starts Bindery, runs the load, and calls kill at random moments of it,
// until one returns false.
func (l *load) disturb(rng *rand.Rand, kills int, kill func(*rand.Rand) bool) {
	l.start()
	l.busy.Store(true)
	killed := make(chan struct{})
	random := rand.New(rand.NewPCG(rng.Uint64(), 1))
	go func() {
		defer close(killed)
		defer l.busy.Store(false)
		for n := range kills {
			if !l.reach(int64(n)*int64(l.goal/kills) + random.Int64N(int64(l.goal/kills))) {
				return
			}
			hold(l.Context(), random, 15*time.Millisecond)
			if !kill(random) {
				return
			}
		}
	}()
	l.run(rng)
	<-killed
	l.verify(settleLimit)
}

// reach waits until so many operations have begun; false where the test has failed.
func (l *load) reach(ops int64) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.ops.Load() < ops && !l.Failed() {
		select {
		case <-l.Context().Done():
			return false
		case <-tick.C:
		}
	}
	return !l.Failed()
}

// hold lets some time pass, so that the moment is a random one.
func hold(ctx context.Context, random *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(random.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}

// replace kills Bindery and starts it again, sometimes twice.
func (w *world) replace(random *rand.Rand) bool {
	c := w.child()
	if err := c.failure(); err != nil {
		w.Error(err)
		return false
	}
	c.kill()
	for {
		c, err := w.begin()
		if err != nil {
			w.Error(err)
			return false
		}
		if random.IntN(4) == 0 {
			hold(w.Context(), random, 400*time.Millisecond)
			if err := c.failure(); err != nil {
				w.Error(err)
				return false
			}
			c.kill()
			continue
		}
		if err := c.waitReady(startLimit); err != nil {
			w.Error(err)
			return false
		}
		return true
	}
}

// The servers of every kind are killed at random moments, and started again.
func TestBackendKill(t *testing.T) {
	t.Parallel()
	rng := chance(t)
	w := newWorld(t, raced, everything)
	l := &load{world: w, clients: 8, goal: pick(480, 4800)}
	victims := w.victims()
	kills := len(victims) * pick(1, 6)
	n := 0
	l.disturb(rng, kills, func(random *rand.Rand) bool {
		b := w.backend(victims[n%len(victims)])
		n++
		if err := b.Kill(); err != nil {
			t.Errorf("kill: %v", err)
			return false
		}
		hold(t.Context(), random, 300*time.Millisecond)
		if err := b.Start(t.Context()); err != nil {
			t.Errorf("start again: %v", err)
			return false
		}
		return true
	})
}
