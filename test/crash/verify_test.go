package crash_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"bindery"
	"bindery/client"
)

// collect reads a whole list.
func collect[T any](list iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for item, err := range list {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

// A snapshot is what the store says, as the admin API tells it.
type snapshot struct {
	instances []client.AdminInstance
	bindings  []client.AdminBinding
}

// settled waits until nothing is in progress and the store equals what the
// servers have, and returns what the store says then.
func (w *world) settled(limit time.Duration) snapshot {
	w.Helper()
	var s snapshot
	began := time.Now()
	err := eventually(w.Context(), limit, func(ctx context.Context) error {
		operations, err := collect(w.admin().Operations(ctx, client.OperationFilter{State: bindery.OpInProgress}))
		if err != nil {
			return err
		}
		for _, o := range operations {
			return fmt.Errorf("%d operations are in progress, first %s of %s %s on %s: attempts %d, problem %q, due in %v",
				len(operations), o.Kind, o.InstanceID, o.BindingID, o.Server, o.Attempts, o.Problem, time.Until(o.Due))
		}
		s, err = w.compare(ctx)
		return err
	})
	if err != nil {
		w.Fatalf("Bindery and its servers do not settle: %v", err)
	}
	w.Logf("settled after %v: %d instances, %d bindings", time.Since(began).Round(time.Millisecond), len(s.instances), len(s.bindings))
	// The prover lets a server that works under load alone, and catches up after it.
	for _, server := range services {
		if err := eventually(w.Context(), 4*limit, func(ctx context.Context) error { return w.proven(ctx, server) }); err != nil {
			w.Fatalf("not everything that was removed is proven dead: %v", err)
		}
	}
	w.Logf("all proven after %v", time.Since(began).Round(time.Millisecond))
	return s
}

// compare says where the store and the servers differ.
func (w *world) compare(ctx context.Context) (s snapshot, err error) {
	if s.instances, err = collect(w.admin().Instances(ctx, client.InstanceFilter{})); err != nil {
		return s, err
	}
	if s.bindings, err = collect(w.admin().Bindings(ctx, client.BindingFilter{})); err != nil {
		return s, err
	}
	if len(s.instances) == 0 {
		return s, errors.New("there are no instances; the test shows nothing")
	}
	id, ok := installation(s.instances[0].Name)
	if !ok {
		return s, fmt.Errorf("%q is no name of an instance", s.instances[0].Name)
	}
	names := map[string][]string{} // of instances, by server
	for _, i := range s.instances {
		if i.State != bindery.StateReady {
			return s, fmt.Errorf("instance %s is %s", i.ID, i.State)
		}
		names[i.Server] = append(names[i.Server], i.Name)
	}
	open := map[int64]bool{} // bindings without an account
	for _, b := range s.bindings {
		if b.State != bindery.StateReady {
			return s, fmt.Errorf("binding %s is %s", b.ID, b.State)
		}
		open[b.Row] = true
	}
	onServers, databases, err := w.onServers(ctx, bindery.NamePrefix(id))
	if err != nil {
		return s, err
	}
	if diff := difference(names[postgresService], databases); diff != "" {
		return s, fmt.Errorf("instances (-) and databases (+):\n%s", diff)
	}
	for _, server := range w.services {
		live, err := w.accounts(ctx, server, open)
		if err != nil {
			return s, err
		}
		if w.further[server] != nil {
			if err := w.compareFurther(ctx, server, id, names[server], live); err != nil {
				return s, err
			}
			continue
		}
		if diff := difference(live, onServers[server]); diff != "" {
			return s, fmt.Errorf("accounts (-) and what %s has (+):\n%s", server, diff)
		}
		instances, accounts, err := w.inventory(ctx, server, id)
		if err != nil {
			return s, err
		}
		if diff := difference(live, accounts); diff != "" {
			return s, fmt.Errorf("accounts (-) and the inventory of %s (+):\n%s", server, diff)
		}
		if diff := difference(names[server], instances); server == postgresService && diff != "" {
			return s, fmt.Errorf("instances (-) and the inventory of %s (+):\n%s", server, diff)
		}
	}
	if len(open) > 0 {
		return s, fmt.Errorf("%d bindings have no live account", len(open))
	}
	return s, w.checkKeys(ctx, bindery.NamePrefix(id), names[redisService])
}

// proven is an error while something that was removed from a server is not proven dead.
func (w *world) proven(ctx context.Context, server string) error {
	for _, state := range []bindery.AccountState{bindery.AccountUnproven, bindery.AccountStuck} {
		rest, err := collect(w.admin().Accounts(ctx, server, state))
		if err != nil {
			return err
		}
		for _, a := range rest {
			return fmt.Errorf("%d accounts are still %s, first %s after %d tries", len(rest), state, a.Name, a.Attempts)
		}
	}
	return nil
}

// accounts returns the names of the live ones, and takes their bindings out of open.
func (w *world) accounts(ctx context.Context, server string, open map[int64]bool) ([]string, error) {
	for _, state := range []bindery.AccountState{bindery.AccountWanted, bindery.AccountRemoving} {
		rest, err := collect(w.admin().Accounts(ctx, server, state))
		if err != nil {
			return nil, err
		}
		for _, a := range rest {
			return nil, fmt.Errorf("%d accounts are still %s, first %s", len(rest), state, a.Name)
		}
	}
	all, err := collect(w.admin().Accounts(ctx, server, bindery.AccountLive))
	var names []string
	for _, a := range all {
		if !open[a.BindingRow] {
			return nil, fmt.Errorf("account %s is live and has no binding, or one with another account", a.Name)
		}
		delete(open, a.BindingRow)
		names = append(names, a.Name)
	}
	return names, err
}

// inventory asks a driver of its own what the server has.
func (w *world) inventory(ctx context.Context, server, id string) (instances, accounts []string, err error) {
	s := bindery.Server{Name: server, Kind: server, Installation: id, Timeout: 20 * time.Second}
	if server == redisService {
		s.Address, s.Username, s.Password = w.redis.Addr, w.redis.User, w.redis.Password
	} else {
		s.Address, s.Username, s.Password = w.postgres.Addr, w.postgres.User, w.postgres.Password
	}
	return list(ctx, s)
}

// checkKeys finds keys of Redis instances that are no more.
func (w *world) checkKeys(ctx context.Context, prefix string, instances []string) error {
	keys, err := w.redisDo(ctx, "KEYS", prefix+"*")
	if err != nil {
		return err
	}
	for _, k := range keys {
		owner := k
		if at := strings.IndexFunc(k, func(c rune) bool {
			return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
		}); at >= 0 {
			owner = k[:at]
		}
		if !slices.Contains(instances, owner) {
			return fmt.Errorf("the key %s outlives its instance", k)
		}
	}
	return nil
}

func difference(a, b []string) string {
	slices.Sort(a)
	slices.Sort(b)
	if slices.Equal(a, b) {
		return ""
	}
	return cmp.Diff(slices.Clone(a), slices.Clone(b))
}

// unremarkable asks for a reconcile, which must find nothing to do.
func (w *world) unremarkable() {
	w.Helper()
	var report client.ReconcileReport
	err := eventually(w.Context(), time.Minute, func(ctx context.Context) (err error) { // one runs at a time
		report, err = w.admin().Reconcile(ctx, client.ReconcileRequest{DryRun: true})
		return err
	})
	if err != nil {
		w.Errorf("reconcile: %v", err)
		return
	}
	if len(report.Servers) != len(w.services) {
		w.Errorf("reconcile looked at %d servers", len(report.Servers))
	}
	for _, s := range report.Servers {
		if s.Error != "" || len(s.Removed)+len(s.Unknown)+len(s.Restored)+len(s.Failed) > 0 {
			w.Errorf("reconcile still finds: %+v", s)
		}
	}
}

// verify compares what the clients were told with what is.
func (l *load) verify(limit time.Duration) {
	l.Helper()
	if l.Failed() {
		return
	}
	s := l.settled(limit)
	l.unremarkable()
	live := map[string]client.AdminBinding{}
	for _, b := range s.bindings {
		live[b.ID] = b
	}
	known := map[string]*record{}
	for _, r := range l.records {
		known[r.id] = r
		switch _, there := live[r.id]; {
		case r.fate == bound && !there:
			l.Errorf("%s %s was acknowledged and is not there", r.service, r.id)
		case r.fate == unbound && there:
			l.Errorf("%s %s was acknowledged as removed and is there", r.service, r.id)
		}
	}
	var checked struct{ in, out int }
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	try := func(f func()) {
		slots <- struct{}{}
		all.Go(func() { defer func() { <-slots }(); f() })
	}
	for id := range maps.Keys(live) {
		r := known[id]
		if r == nil {
			l.Errorf("nobody asked for %s", id)
			continue
		}
		checked.in++
		try(func() {
			c, err := (&caller{world: l.world}).fetch(l.Context(), r.instance, id)
			if err != nil {
				l.Error(err)
				return
			}
			if !r.credentials.IsZero() && r.credentials.Reveal() != c.Reveal() {
				l.Errorf("%s %s: the credential is not the one that was acknowledged", r.service, id)
			}
			l.mustLogin(r.service, c)
		})
	}
	for _, r := range l.records {
		if _, there := live[r.id]; there || r.credentials.IsZero() || l.lives(r.service) {
			continue
		}
		checked.out++
		try(func() { l.mustRefuse(r.service, r.credentials) })
	}
	all.Wait()
	l.Logf("%d credentials log in, %d are refused", checked.in, checked.out)
	if checked.in == 0 || checked.out == 0 {
		l.Error("the load left nothing to check")
	}
}
