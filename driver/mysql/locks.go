package mysql

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"bindery"
)

// lockNames is how many sessions one installation can have at once.
const lockNames = 256

// candidate reserves the next lock that this process does not have; empty where it has it.
func (p *pool) candidate() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", errClosed
	}
	p.next = (p.next + 1) % lockNames
	name := p.locks + strconv.Itoa(p.next)
	if _, ours := p.names[name]; ours {
		return "", nil
	}
	p.names[name] = false
	return name, nil
}

func (p *pool) forget(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.names, name)
		delete(p.ids, name)
	}
}

var errLocks = fmt.Errorf("%w: all named locks of the installation are taken", errBroken)

// unsettled are the locks of sessions that may still execute something.
func (p *pool) unsettled() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for i := 0; i < lockNames && !p.greeted; i++ {
		if name := p.locks + strconv.Itoa(i); p.ids[name] == "" {
			names = append(names, name)
		}
	}
	for name, abandoned := range p.names {
		if abandoned && p.greeted {
			names = append(names, name)
		}
	}
	return names
}

// settle ends the sessions in which a statement of an earlier call or of an
// earlier process may still run, and waits until they have ended.
func (p *pool) settle(ctx context.Context) error {
	select {
	case p.settles <- struct{}{}:
		defer func() { <-p.settles }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		names := p.unsettled()
		if len(names) == 0 {
			return nil
		}
		c, err := p.any(ctx)
		if err != nil {
			return fmt.Errorf("end earlier sessions: %w", err)
		}
		used := c.used
		held, err := p.endHolders(ctx, c, names)
		p.give(c)
		if err != nil && used && c.broken && ctx.Err() == nil {
			p.dropIdle()
			continue
		}
		if err != nil {
			return fmt.Errorf("end earlier sessions: %w", err)
		}
		if !held {
			p.settled(names)
			return nil
		}
		if err := bindery.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("an earlier session does not end: %w", err)
		}
	}
}

func (p *pool) settled(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		if p.names[name] {
			delete(p.names, name)
		}
	}
	p.greeted = true
}

// endHolders ends the sessions that hold one of the locks, but for those that
// this process opened meanwhile.
func (p *pool) endHolders(ctx context.Context, c *conn, names []string) (held bool, err error) {
	results, err := p.run(ctx, c, lockHolders(names))
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	var ids []string
	for i, id := range results[0].rows[0] {
		if id != "" && p.ids[names[i]] != id {
			ids = append(ids, id)
		}
	}
	p.mu.Unlock()
	return len(ids) > 0, p.kill(ctx, c, ids)
}

// kill ends sessions. One that has ended by itself stops the statement there:
// whoever kills looks again until none is left.
func (p *pool) kill(ctx context.Context, c *conn, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := p.run(ctx, c, killSessions(ids))
	if number(err) == errNoSuchThread {
		return nil
	}
	return err
}

// How long to wait before looking again whether something has ended.
const (
	firstWait   = time.Millisecond
	longestWait = 50 * time.Millisecond
)
