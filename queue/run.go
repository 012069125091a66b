package queue

import (
	"context"
	"time"

	"bindery"
)

// Run claims what is due and keeps the lease until ctx ends. Then it lets what
// has begun go on for q.Drain, and interrupts the rest; the next start carries
// everything on that did not end.
func (q *Queue) Run(ctx context.Context) error {
	beats := make(chan struct{})
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		defer close(beats)
		q.keepLease(alive)
	}()
	q.schedule(ctx)
	q.drain()
	stop()
	<-beats
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), idle)
	defer cancel()
	owner := q.Owner()
	err := q.Store.Update(last, func(tx bindery.Tx) error { return tx.Processes().Leave(last, owner) })
	if err != nil {
		q.Log.WarnContext(last, "the lease stays until it ends", "error", err.Error())
	}
	return nil
}

func (q *Queue) drain() {
	q.mu.Lock()
	q.draining = true
	q.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		q.active.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(q.Drain):
		q.stopWork()
		<-ended
	}
	q.stopWork()
}

// stopWork interrupts everything that runs.
func (q *Queue) stopWork() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut()
}

// schedule claims what is due until ctx ends.
func (q *Queue) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.wake:
		}
		began := q.Now()
		pause, crowded := q.claim(ctx)
		if crowded {
			// To look past what waits for a crowded server takes as long as there is much of
			// it. Little of the store's time goes into that, whoever wakes.
			if bindery.Sleep(ctx, max(pause, min(lookShare*q.Now().Sub(began), longestPause))) != nil {
				return
			}
			pause = 0
		}
		timer.Reset(pause)
	}
}

// claim places what is due, and returns how long there is nothing to do, and
// whether there are crowded servers.
func (q *Queue) claim(ctx context.Context) (pause time.Duration, crowds bool) {
	owner, now, crowded := q.Owner(), q.Now(), q.crowded()
	if owner == 0 || q.unseen() > lease {
		return time.Second, false // without a lease nothing can be claimed; joining wakes the scheduler
	}
	var claimed []bindery.Operation
	var next time.Time
	var some bool
	err := q.Store.Update(ctx, func(tx bindery.Tx) (err error) {
		if claimed, err = tx.Operations().Claim(ctx, owner, now, claimAtOnce, crowded...); err != nil {
			return err
		}
		next, some, err = tx.Operations().NextDue(ctx)
		if err == nil && some && next.Sub(now) > farAhead {
			next = now
			err = tx.Operations().Hasten(ctx, now)
		}
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			q.Log.WarnContext(ctx, "looking for work", "error", err.Error())
		}
		return time.Second, false
	}
	q.mu.Lock()
	if owner == q.owner {
		for _, o := range claimed {
			q.place(o)
		}
	}
	q.mu.Unlock()
	switch {
	case len(claimed) == claimAtOnce:
		return 0, len(crowded) > 0
	case len(crowded) > 0:
		return crowdedPause, true // what is due next may be theirs
	case some:
		return max(0, min(next.Sub(q.Now()), idle)), false
	}
	return idle, false
}

// crowded are the servers for which so much waits in memory that nothing more is
// claimed. One that hangs holds up no other's work.
func (q *Queue) crowded() (servers []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, l := range q.lanes {
		if len(l.waiting) >= crowd {
			servers = append(servers, name)
		}
	}
	return servers
}

// keepLease renews the lease. Where that fails for too long, others may have
// claimed this process's operations: everything that runs is interrupted, what
// waits is forgotten, and the process joins again under a new id.
func (q *Queue) keepLease(ctx context.Context) {
	tick := time.NewTicker(lease / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A process that stood still for longer than its lease has lost it, whatever
		// a late beat would say.
		if q.unseen() > lease {
			q.Log.WarnContext(ctx, "the lease ended before it was renewed")
			q.rejoin(ctx)
			continue
		}
		try, cancel := context.WithTimeout(ctx, lease/5)
		err := q.beat(try, q.Owner())
		cancel()
		if err == nil || ctx.Err() != nil {
			continue
		}
		lost := q.unseen() > lease-lease/5
		q.Log.WarnContext(ctx, "the lease was not renewed", "lost", lost, "error", err.Error())
		if lost {
			q.rejoin(ctx)
		}
	}
}

// unseen is how long ago the lease was renewed, by the wall clock, which goes on
// while the machine sleeps.
func (q *Queue) unseen() time.Duration {
	now := q.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Round(0).Sub(q.seen.Round(0))
}

func (q *Queue) rejoin(ctx context.Context) {
	q.mu.Lock()
	q.owner = 0 // nothing is submitted meanwhile
	q.cut()
	q.work, q.cut = context.WithCancel(context.Background())
	for _, t := range q.tenants {
		t.parked = nil
	}
	for _, l := range q.lanes {
		for _, o := range l.waiting {
			q.forget(o)
		}
		l.waiting = nil
	}
	q.mu.Unlock()
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, lease/5)
		err := q.join(try)
		cancel()
		if err == nil {
			q.Wake()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// forget frees what an operation that never began holds.
func (q *Queue) forget(o bindery.Operation) {
	t := q.tenants[o.InstanceRow]
	if o.BindingRow == 0 {
		t.whole = false
	} else {
		delete(t.bindings, o.BindingRow)
	}
	if len(t.bindings) == 0 && !t.whole {
		delete(q.tenants, o.InstanceRow)
	}
}
