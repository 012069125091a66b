package crash_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/client"
)

const (
	brief = 2 * time.Second
	// punctual is how soon after its time a binding is dead. On a machine with much
	// else to do each kind has some tries at that, and no try takes longer than tardy.
	punctual, tardy = time.Second, 15 * time.Second
	punctualTries   = 5
)

// A binding of two seconds is dead within a second of its time, of every kind whose
// revocation is proven; or, where Bindery was down then, of its being ready again.
func TestBriefBindings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pickProgram(), func(s *settings) { s.Further, s.Plans = provable, lifetime(brief) })
	w.start()
	w.forAll(func(ctx context.Context, service string) error {
		k := &caller{world: w}
		if got := k.provision(ctx, service, instanceOf(service)); got != done {
			return fmt.Errorf("provision: %s: %w", got, k.last)
		}
		return nil
	})
	tries := 0
	w.punctually("while Bindery runs", func() map[string]time.Duration {
		tries++
		return w.ends(w.bindBrief(fmt.Sprintf("up-%d-", tries)), time.Time{})
	})
	life := brief
	w.punctually("while Bindery is down", func() map[string]time.Duration {
		for {
			tries++
			bound := w.bindBrief(fmt.Sprintf("down-%d-", tries))
			w.child().kill()
			first, last := span(bound)
			if time.Now().Before(first) {
				<-time.After(time.Until(last))
				return w.ends(bound, w.start().since())
			}
			// The machine is too busy for so short a life.
			life *= 2
			w.settings.Plans = lifetime(life)
			w.configure()
			w.start()
		}
	})
	w.settled(settleLimit)
	w.unremarkable()
}

func lifetime(d time.Duration) string { return fmt.Sprintf(", binding_lifetime: {default: %v}", d) }

// A briefBinding is one that ends by itself.
type briefBinding struct {
	client.AdminBinding
	credentials client.Credentials
}

// bindBrief makes a binding of every service.
func (w *world) bindBrief(prefix string) map[string]briefBinding {
	w.Helper()
	var mu sync.Mutex
	bound := map[string]briefBinding{}
	w.forAll(func(ctx context.Context, service string) error {
		k, id := &caller{world: w}, prefix+service
		got, c := k.bind(ctx, service, instanceOf(service), id, "")
		if got != done {
			return fmt.Errorf("bind: %s: %w", got, k.last)
		}
		b, err := w.fate(ctx, service, id)
		if err != nil {
			return err
		}
		if b.Expires.IsZero() {
			return fmt.Errorf("%s does not expire", id)
		}
		if err := w.login(ctx, service, c); err != nil && time.Now().Before(b.Expires) {
			return fmt.Errorf("before its time: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		bound[service] = briefBinding{b, c}
		return nil
	})
	return bound
}

// span is when the first of them ends, and the last.
func span(bound map[string]briefBinding) (first, last time.Time) {
	order := slices.SortedFunc(maps.Values(bound), func(a, b briefBinding) int { return a.Expires.Compare(b.Expires) })
	return order[0].Expires, order[len(order)-1].Expires
}

// ends waits until all are dead and proven so, and returns by how much later than
// their time, or than Bindery was ready, the audit says that each of them ended.
func (w *world) ends(bound map[string]briefBinding, ready time.Time) map[string]time.Duration {
	w.Helper()
	var mu sync.Mutex
	late := map[string]time.Duration{}
	w.forAll(func(ctx context.Context, service string) error {
		b := bound[service]
		end, err := w.expired(ctx, b.AdminBinding)
		if err != nil {
			return err
		}
		if end.Before(b.Expires) {
			return fmt.Errorf("it ended %v before its time", b.Expires.Sub(end))
		}
		if err := w.refusal(ctx, service, b.credentials); err != nil {
			return err
		}
		due := b.Expires
		if ready.After(due) {
			due = ready
		}
		mu.Lock()
		late[service] = end.Sub(due)
		mu.Unlock()
		return w.becomes(ctx, service, b.ID, revoked, unproven)
	})
	return late
}

// expired waits for the line of the audit that says that a binding ended at its time.
func (w *world) expired(ctx context.Context, b client.AdminBinding) (at time.Time, err error) {
	err = eventually(ctx, settleLimit, func(ctx context.Context) error {
		events, err := collect(w.admin().Events(ctx, client.EventFilter{InstanceID: b.InstanceID, BindingID: b.ID}))
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Action == string(bindery.OpExpire) && e.Result == string(bindery.OpSucceeded) {
				at = e.At
				return nil
			}
		}
		return fmt.Errorf("%s has not ended, %v after its time", b.ID, time.Since(b.Expires))
	})
	return at, err
}

// punctually tries until every service was punctual once.
func (w *world) punctually(when string, try func() map[string]time.Duration) {
	w.Helper()
	missing := slices.Clone(w.services)
	for range punctualTries {
		late := try()
		w.Logf("%s: dead so long after: %v", when, late)
		for service, by := range late {
			if by > tardy {
				w.Errorf("%s, %s: dead %v after it had to be", service, when, by)
			}
		}
		missing = slices.DeleteFunc(missing, func(service string) bool { return late[service] <= punctual })
		if len(missing) == 0 {
			return
		}
	}
	w.Errorf("%s: %v were never dead within %v", when, missing, punctual)
}
