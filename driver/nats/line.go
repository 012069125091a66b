package nats

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/jwt/v2"

	"bindery"
)

// A line is the changes of one instance that wait for each other. Those that wait
// while one push is under way share the next.
type line struct{ waiting []*change }

// A change is one call's.
type change struct {
	ctx context.Context //nolint:containedctx // whoever gave up is left out
	// apply changes the claims, which are new where the account does not exist, and
	// reports whether it did. It may be called again, with others.
	apply func(c *jwt.AccountClaims, exists bool) (changed bool, err error)
	// ends says that sessions end by it.
	ends bool
	// remove, in place of apply, removes the instance.
	remove bool

	err  error
	done chan struct{}
}

// lines are those that have anybody in them.
type lines struct {
	mu      sync.Mutex
	closed  bool
	of      map[string]*line // by the instance's name
	running sync.WaitGroup
}

// active are the instances that have changes under way.
func (ls *lines) active() []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Collect(maps.Keys(ls.of))
}

// change puts a change into its instance's line and waits for it. When the caller
// gives up, it may still happen; what is put into the line later comes after it.
func (d *driver) change(ctx context.Context, instance string, ch *change) error {
	ch.ctx, ch.done = ctx, make(chan struct{})
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	ls := &d.lines
	ls.mu.Lock()
	if ls.closed {
		ls.mu.Unlock()
		return errClosed
	}
	l := ls.of[instance]
	if l == nil {
		l = &line{}
		ls.of[instance] = l
		ls.running.Go(func() { d.run(instance, l) })
	}
	l.waiting = append(l.waiting, ch)
	ls.mu.Unlock()
	select {
	case <-ch.done:
		return ch.err
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
}

// run works a line off.
func (d *driver) run(instance string, l *line) {
	for {
		batch := d.take(instance, l)
		if batch == nil {
			return
		}
		d.settle(instance, batch)
		for _, ch := range batch {
			close(ch.done)
		}
	}
}

// take returns what can be done together: changes, or one removal. The line ends with nil.
func (d *driver) take(instance string, l *line) []*change {
	ls := &d.lines
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(ch *change) bool { return ch.ctx.Err() != nil })
	if len(l.waiting) == 0 {
		delete(ls.of, instance)
		return nil
	}
	n := slices.IndexFunc(l.waiting, func(ch *change) bool { return ch.remove })
	switch n {
	case -1:
		n = len(l.waiting)
	case 0:
		n = 1
	}
	batch := slices.Clone(l.waiting[:n])
	l.waiting = slices.Clone(l.waiting[n:])
	return batch
}

// settle does what a batch asks for, and gives every change its error. It ends when
// all have given up: nothing is begun that nobody waits for any more.
func (d *driver) settle(instance string, batch []*change) {
	ctx, cancel := context.WithTimeout(d.life, d.server.Timeout)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(batch)))
	for _, ch := range batch {
		defer context.AfterFunc(ch.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	err := again(ctx, func() error {
		if batch[0].remove {
			return d.removeInstance(ctx, instance)
		}
		return d.pushBatch(ctx, instance, batch)
	})
	if errors.Is(err, errTooLarge) {
		if len(batch) > 1 { // one of them may still fit
			for _, ch := range batch {
				d.settle(instance, []*change{ch})
			}
			return
		}
		err = errFull
	}
	for _, ch := range batch {
		if err != nil {
			ch.err = err
		}
	}
}

// pushBatch applies changes and pushes them together.
func (d *driver) pushBatch(ctx context.Context, instance string, batch []*change) error {
	key, err := accountKey(instance)
	if err != nil {
		return err
	}
	c, err := d.link.own(ctx)
	if err != nil {
		return err
	}
	defer c.leave()
	claims, err := c.lookup(ctx, key)
	if err != nil {
		return err
	}
	exists := claims != nil
	if !exists {
		if claims, err = newClaims(instance); err != nil {
			return err
		}
	}
	changed, ends := false, false
	for _, ch := range batch {
		if ch.err = ch.ctx.Err(); ch.err != nil {
			continue // whoever asked may have asked another process for the contrary since
		}
		var did bool
		did, ch.err = ch.apply(claims, exists || changed)
		changed, ends = changed || did, ends || ch.ends
	}
	if changed {
		if err := c.push(ctx, claims, d.secrets.Operator); err != nil {
			return err
		}
	}
	if ends && exists {
		return c.evict(ctx, claims)
	}
	return nil
}

// evict ends the sessions that claims do not allow. The server has done that, but for
// one that was logging in at the same moment.
func (c *conn) evict(ctx context.Context, claims *jwt.AccountClaims) error {
	open, err := c.clients(ctx, claims.Subject)
	if err != nil {
		return err
	}
	for _, o := range open {
		if claims.SigningKeys.Contains(o.Issuer) {
			continue
		}
		if err := c.kick(ctx, o.ID); err != nil {
			return err
		}
	}
	return nil
}

// removeInstance removes an account with everything that it has stored.
func (d *driver) removeInstance(ctx context.Context, instance string) error {
	key, err := accountKey(instance)
	if err != nil {
		return err
	}
	c, err := d.link.own(ctx)
	if err != nil {
		return err
	}
	defer c.leave()
	claims, err := c.lookup(ctx, key)
	if err != nil {
		return err
	}
	// Nobody may store anything from here on. Where there is no account, streams of one may
	// still be there, and a server takes two seconds to look for an account that it has not.
	if claims == nil || len(claims.SigningKeys) > 0 {
		if claims, err = newClaims(instance); err != nil {
			return err
		}
		if err := c.push(ctx, claims, d.secrets.Operator); err != nil {
			return err
		}
		if err := c.evict(ctx, claims); err != nil {
			return err
		}
	}
	if err := c.purge(ctx, key); err != nil {
		return err
	}
	if err := c.remove(ctx, key, d.secrets.Operator); err != nil {
		return err
	}
	if claims, err = c.lookup(ctx, key); err != nil {
		return err
	}
	if claims != nil {
		return bindery.Errorf(bindery.CodeUnavailable, "the NATS server still has the account that it deleted")
	}
	return nil
}
