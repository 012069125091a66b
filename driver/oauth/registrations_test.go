package oauth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestRegistrationsAreBounded(t *testing.T) {
	t.Parallel()
	var r registrations
	r.open()
	defer r.close()
	hold := make(chan struct{})
	held := r.begin("held", time.Minute, func(context.Context) (*registration, error) {
		<-hold
		return &registration{ClientID: "c"}, nil
	})
	for i := range 3 * mostKept {
		r.record(fmt.Sprint("n", i), nil)
		if n := len(r.byName); n > mostKept+1 {
			t.Fatalf("%d are kept", n)
		}
	}
	close(hold)
	<-held.over
	again := r.begin("held", time.Minute, func(context.Context) (*registration, error) { return nil, errors.New("never") })
	if again != held || r.client("held") == nil {
		t.Error("what was under way, and succeeded, was forgotten")
	}
}

func TestLostAnswersAreRemembered(t *testing.T) {
	t.Parallel()
	var r registrations
	r.open()
	fail := func(err error) func(context.Context) (*registration, error) {
		return func(context.Context) (*registration, error) { return nil, err }
	}
	for _, step := range []struct {
		err  error
		lost bool
	}{{errUnsent, false}, {lost(errors.New("reset")), true}, {errUnsent, true}} {
		a := r.begin("n", time.Minute, fail(step.err))
		<-a.over
		if got := r.orphan("n"); got != step.lost {
			t.Errorf("%v: lost is %v", step.err, got)
		}
	}
	r.record("n", nil)
	if !r.orphan("n") {
		t.Error("the removal of what is known made forget what is not")
	}
	// The end of the process ends what is under way.
	a := r.begin("other", time.Minute, func(ctx context.Context) (*registration, error) {
		<-ctx.Done()
		return nil, lost(ctx.Err())
	})
	r.close()
	if !a.ended() {
		t.Error("close does not wait")
	}
}
