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

// punctual is how soon after its time a binding is dead on a machine with nothing else
// to do. On another, a try may take longer by as much as the same work, or the start,
// just took; each kind has some tries, and none takes longer than tardy.
const (
	punctual, tardy = time.Second, 30 * time.Second
	punctualTries   = 5
)

// A binding of two seconds is dead within a second of its time, of every kind whose
// revocation is proven; or, where Bindery was down then, of its being ready again.
func TestBriefBindings(t *testing.T) {
	t.Parallel()
	w := &briefWorld{life: 2 * time.Second}
	w.world = newWorld(t, pickProgram(), func(s *settings) { s.Further, s.Plans = provable, w.plans() })
	w.start()
	w.forAll(func(ctx context.Context, service string) error {
		k := &caller{world: w.world}
		if got := k.provision(ctx, service, instanceOf(service)); got != done {
			return fmt.Errorf("provision: %s: %w", got, k.last)
		}
		return nil
	})
	w.punctually("while Bindery runs", func() map[string]lateness {
		return w.ends(w.bindAll(func() {}), time.Time{}, 0)
	})
	w.punctually("while Bindery is down", func() map[string]lateness {
		bound := w.bindAll(func() { w.child().kill() })
		<-time.After(time.Until(slices.MaxFunc(slices.Collect(maps.Values(bound)), byEnd).Expires))
		began := time.Now()
		ready := w.start().since()
		return w.ends(bound, ready, ready.Sub(began))
	})
	w.settled(settleLimit)
	w.unremarkable()
}

// A briefWorld is one whose bindings live as short as the machine can bear.
type briefWorld struct {
	*world
	life  time.Duration
	tries int
}

func (w *briefWorld) plans() string { return fmt.Sprintf(", binding_lifetime: {default: %v}", w.life) }

// A briefBinding is one that ends by itself.
type briefBinding struct {
	client.AdminBinding
	credentials client.Credentials
	took        time.Duration
}

func byEnd(a, b briefBinding) int { return a.Expires.Compare(b.Expires) }

// bindAll makes a binding of every service, and then does something. All are alive
// when that is done: where the machine is too slow they live longer the next time.
func (w *briefWorld) bindAll(then func()) map[string]briefBinding {
	w.Helper()
	for {
		w.tries++
		var mu sync.Mutex
		bound := map[string]briefBinding{}
		w.forAll(func(ctx context.Context, service string) error {
			b, err := w.bindOne(ctx, service, fmt.Sprintf("%s-%d", service, w.tries))
			mu.Lock()
			defer mu.Unlock()
			bound[service] = b
			return err
		})
		then()
		if time.Now().Before(slices.MinFunc(slices.Collect(maps.Values(bound)), byEnd).Expires) {
			return bound
		}
		w.life *= 2
		w.Logf("the machine is busy: bindings live %v from now on", w.life)
		w.settings.Plans = w.plans()
		w.configure()
		w.child().kill()
		w.start()
	}
}

// bindOne makes a binding that works; one that ended meanwhile is zero.
func (w *briefWorld) bindOne(ctx context.Context, service, id string) (b briefBinding, err error) {
	k, began := &caller{world: w.world}, time.Now()
	got, c := k.bind(ctx, service, instanceOf(service), id, "")
	b.credentials, b.took = c, time.Since(began)
	if got != done && b.took < w.life {
		return b, fmt.Errorf("bind: %s: %w", got, k.last)
	}
	if got != done {
		return b, nil
	}
	if b.AdminBinding, err = w.fate(ctx, service, id); err != nil {
		return b, err
	}
	if b.Expires.IsZero() {
		return b, fmt.Errorf("%s does not expire", id)
	}
	if err := w.login(ctx, service, c); err != nil && time.Now().Before(b.Expires) {
		return b, fmt.Errorf("before its time: %w", err)
	}
	return b, nil
}

// A lateness is by how much later than it had to be something was, and what it may be
// beyond a second.
type lateness struct{ by, slack time.Duration }

func (l lateness) String() string {
	return fmt.Sprintf("%v (%v)", l.by.Round(time.Millisecond), (punctual + l.slack).Round(time.Millisecond))
}

// ends waits until all are dead and proven so, and returns by how much later than
// their time, or than Bindery was ready, the audit says that each of them ended.
func (w *briefWorld) ends(bound map[string]briefBinding, ready time.Time, start time.Duration) map[string]lateness {
	w.Helper()
	var mu sync.Mutex
	late := map[string]lateness{}
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
		late[service] = lateness{end.Sub(due), max(b.took, start)}
		mu.Unlock()
		return w.becomes(ctx, service, b.ID, revoked, unproven)
	})
	return late
}

// expired waits for the line of the audit that says that a binding ended at its time.
func (w *briefWorld) expired(ctx context.Context, b client.AdminBinding) (at time.Time, err error) {
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
func (w *briefWorld) punctually(when string, try func() map[string]lateness) {
	w.Helper()
	missing := slices.Clone(w.services)
	for range punctualTries {
		late := try()
		w.Logf("%s: dead so long after, and allowed: %v", when, late)
		for service, l := range late {
			if l.by > tardy {
				w.Errorf("%s, %s: dead %v after it had to be", service, when, l.by)
			}
		}
		missing = slices.DeleteFunc(missing, func(service string) bool { return late[service].by <= punctual+late[service].slack })
		if len(missing) == 0 {
			return
		}
	}
	w.Errorf("%s: %v were never dead within %v", when, missing, punctual)
}
