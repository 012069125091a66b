package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/client"
)

// A clock passes only when somebody waits on it.
type clock struct {
	now    time.Time
	pauses []time.Duration
}

func (c *clock) polling(limit time.Duration) client.Polling {
	return client.Polling{
		Limit: limit,
		Now:   func() time.Time { return c.now },
		After: func(d time.Duration) <-chan time.Time {
			c.now = c.now.Add(d)
			c.pauses = append(c.pauses, d)
			ch := make(chan time.Time, 1)
			ch <- c.now
			return ch
		},
	}
}

func running(retryAfter string) answer {
	a := answer{status: 200, body: `{"state":"in progress"}`}
	if retryAfter != "" {
		a.header = map[string]string{"Retry-After": retryAfter}
	}
	return a
}

func TestWait(t *testing.T) {
	t.Parallel()
	succeeded := answer{status: 200, body: `{"state":"succeeded"}`}
	tests := map[string]struct {
		answers  []answer
		limit    time.Duration
		removing bool
		code     bindery.Code
		failed   bool
		asked    int
		pauses   []time.Duration
	}{
		"asks at growing intervals": {
			answers: []answer{running(""), running(""), running(""), succeeded}, asked: 4,
			pauses: []time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 225 * time.Millisecond, 337500 * time.Microsecond},
		},
		"obeys Retry-After, within reason": {
			answers: []answer{running("30"), running("86400"), running("-1"), succeeded}, asked: 4,
			pauses: []time.Duration{100 * time.Millisecond, 30 * time.Second, 5 * time.Minute, 337500 * time.Microsecond},
		},
		"stops at the plan's limit, not beyond": {
			answers: []answer{running("60")}, limit: 90 * time.Second, code: bindery.CodeTimeout, asked: 3,
			pauses: []time.Duration{100 * time.Millisecond, 60 * time.Second, 29900 * time.Millisecond},
		},
		"failed is an answer":               {answers: []answer{{status: 200, body: `{"state":"failed","description":"disk full"}`}}, failed: true, code: bindery.CodeInternal, asked: 1},
		"gone is the good end of a removal": {answers: []answer{running(""), {status: 410, body: `{}`}}, removing: true, asked: 2},
		"gone is a bad end of a creation":   {answers: []answer{{status: 410, body: `{}`}}, code: bindery.CodeGone, asked: 1},
		"what never was":                    {answers: []answer{{status: 404, body: `{}`}}, code: bindery.CodeNotFound, asked: 1},
		"no access any more":                {answers: []answer{running(""), {status: 401}}, code: bindery.CodeUnauthorized, asked: 2},
		"a broker that restarts meanwhile":  {answers: []answer{{status: 502}, {status: 503}, running(""), succeeded}, asked: 4},
		"a broker that is asked to wait": {
			answers: []answer{{status: 503, header: map[string]string{"Retry-After": "9"}}, succeeded}, asked: 2,
			pauses: []time.Duration{100 * time.Millisecond, 9 * time.Second},
		},
		"a broker that does not come back": {answers: []answer{{status: 503}}, code: bindery.CodeUnavailable, asked: 10},
		"a state that nobody knows":        {answers: []answer{{status: 200, body: `{"state":"in_progress"}`}}, code: bindery.CodeInternal, asked: 1},
		"malformed JSON":                   {answers: []answer{{status: 200, body: `{"state":`}}, code: bindery.CodeInternal, asked: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := broker(t, tt.answers...)
			clk := &clock{now: time.Unix(0, 0)}
			how := clk.polling(tt.limit)
			told := 0
			how.Progress = func(client.LastOperation) { told++ }
			last, err := c.Wait(t.Context(), client.Pending{InstanceID: "i", Operation: "op", Removing: tt.removing}, how)
			if bindery.CodeOf(err) != tt.code {
				t.Fatalf("got %v, want %q", err, tt.code)
			}
			if _, failed := errors.AsType[*client.FailedError](err); failed != tt.failed {
				t.Errorf("failed: %v, want %v", failed, tt.failed)
			}
			if err == nil && last.State != bindery.OpSucceeded {
				t.Errorf("ended as %q", last.State)
			}
			if len(f.seen) != tt.asked {
				t.Errorf("asked %d times, want %d", len(f.seen), tt.asked)
			}
			if tt.pauses != nil {
				if diff := cmp.Diff(tt.pauses, clk.pauses); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, c := broker(t, running(""))
	ctx, cancel := context.WithCancel(t.Context())
	how := client.Polling{
		Progress: func(client.LastOperation) { cancel() },
		Interval: time.Nanosecond,
	}
	if _, err := c.Wait(ctx, client.Pending{InstanceID: "i"}, how); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
