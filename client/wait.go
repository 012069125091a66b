package client

import (
	"context"
	"errors"
	"time"

	"bindery"
)

const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
	// mostRetryAfter bounds what a broker can make a caller wait between two questions.
	mostRetryAfter = 5 * time.Minute
	// mostMisses is how many questions in a row may go unanswered.
	mostMisses = 10
)

// Polling says how [OSB.Wait] asks. The zero value is a good one.
type Polling struct {
	// Limit is the plan's maximum_polling_duration; 0: as long as the context lasts.
	Limit time.Duration
	// Interval is the pause after which it asks, where the broker does not say
	// with Retry-After; 0: a tenth of a second at first, growing to five.
	Interval time.Duration
	// Progress is told every answer; nil: nobody is.
	Progress func(LastOperation)
	// Now and After are the clock; nil: time.Now and time.After.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// Wait asks about an operation until it ends. Errors: a [*FailedError] where
// the operation failed, CodeTimeout at the limit (the operation goes on), the
// context's error, and the broker's own refusal of the question. A question
// that stays unanswered is asked again, some times.
func (c *OSB) Wait(ctx context.Context, p Pending, how Polling) (LastOperation, error) {
	if how.Now == nil {
		how.Now = time.Now
	}
	if how.After == nil {
		how.After = time.After
	}
	start, misses, pause := how.Now(), 0, how.Interval
	if pause <= 0 {
		pause = firstPause
	}
	for next := pause; ; {
		if how.Limit > 0 {
			left := how.Limit - how.Now().Sub(start)
			if left <= 0 {
				return LastOperation{State: bindery.OpInProgress},
					bindery.Errorf(bindery.CodeTimeout, "still in progress after %s", how.Limit)
			}
			next = min(next, left)
		}
		select {
		case <-ctx.Done():
			return LastOperation{State: bindery.OpInProgress}, ctx.Err()
		case <-how.After(next):
		}

		last, err := c.LastOperation(ctx, p)
		wanted := last.RetryAfter
		switch {
		case err == nil && last.State == bindery.OpFailed:
			return last, &FailedError{Pending: p, Last: last}
		case err == nil && last.State == bindery.OpSucceeded:
			return last, nil
		case err == nil:
			misses = 0
			if how.Progress != nil {
				how.Progress(last)
			}
		case p.Removing && bindery.CodeOf(err) == bindery.CodeGone:
			return LastOperation{State: bindery.OpSucceeded}, nil
		default:
			refused, ok := errors.AsType[*Error](err)
			if misses++; !ok || !refused.passing() || misses >= mostMisses {
				return LastOperation{State: bindery.OpInProgress}, err
			}
			wanted = refused.RetryAfter
		}

		if how.Interval <= 0 {
			pause = min(pause*3/2, mostPause)
		}
		if next = pause; wanted > 0 {
			next = min(wanted, mostRetryAfter)
		}
	}
}
