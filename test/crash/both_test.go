package crash_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Redis forgets at a kill what it has not saved, and Bindery is killed with it the
// moment after a bind was answered. No reconcile is due for long: the restart alone
// is the reason to compare, whichever of the two is back first.
func TestAServerAndBinderyAreKilledAtOnce(t *testing.T) {
	t.Parallel()
	const limit = 15 * time.Second
	w := newWorld(t, raced, func(s *settings) { s.Interval = "10m" })
	w.start()
	w.provision(redisService, "i")
	forgotten := 0
	for round := range 4 {
		c := w.bind(redisService, "i", fmt.Sprint("b", round))
		w.child().kill()
		if err := w.redis.Kill(); err != nil {
			t.Fatal(err)
		}
		serverFirst := round%2 == 0
		if !serverFirst {
			w.start()
		}
		if err := w.redis.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := login(t.Context(), redisService, c); errors.Is(err, errRefused) {
			forgotten++
		}
		if serverFirst {
			w.start()
		}
		began := time.Now()
		err := eventually(t.Context(), limit, func(ctx context.Context) error { return login(ctx, redisService, c) })
		if err != nil {
			t.Fatalf("round %d: an acknowledged credential does not log in: %v", round, err)
		}
		t.Logf("server first %v: %v until the credential worked", serverFirst, time.Since(began).Round(time.Millisecond))
	}
	if forgotten == 0 {
		t.Error("the server forgot nothing in any round, so that nothing was tested")
	}
	w.settled(settleLimit)
	w.unremarkable()
}
