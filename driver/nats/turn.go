package nats

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// A turn says whether a connection is the one of its installation that may write.
//
// Processes agree on it by the algorithm of Ricart and Agrawala (CACM 24, 1981): who
// wants to write asks all others, which say yes, unless they write or have asked
// earlier; then they say yes once they are done. The server knows who the others
// are. One that does not answer is ended, so a yes is never waited for in vain,
// and the turn of a process that died goes to the next.
type turn struct {
	mu      sync.Mutex
	mine    bool
	asking  bool
	busy    int           // how many are writing
	waiting []string      // whom to say yes to when they are done
	over    chan struct{} // closed when mine ends
}

const (
	subjectPrefix = "bindery."
	// settle is how long a server may work off what it had already read of a
	// connection when it was told to end it: it writes one file of at most a megabyte.
	settle = 100 * time.Millisecond
)

func (c *conn) turnSubject() string { return subjectPrefix + c.link.server.Installation + ".turn" }

// listen answers others that ask for the turn.
func (c *conn) listen() error {
	_, err := c.nc.Subscribe(c.turnSubject(), func(m *natsgo.Msg) {
		asker, err := strconv.ParseUint(string(m.Data), 10, 64)
		if err != nil || asker == c.id {
			return
		}
		t := &c.turn
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.mine && t.busy > 0 || t.asking && c.id < asker {
			t.waiting = append(t.waiting, m.Reply)
			return
		}
		t.end()
		c.yes(m.Reply)
	})
	return err
}

// yes is called with the turn's lock held. Should it get lost, the other ends this connection.
func (c *conn) yes(reply string) { _ = c.nc.Publish(reply, []byte(strconv.FormatUint(c.id, 10))) }

// end is called with the lock held.
func (t *turn) end() {
	if t.mine {
		t.mine = false
		close(t.over)
	}
}

// enter reports whether the connection may write; then leave must follow. Where it
// may not because another waits, over is closed when that one has the turn.
func (t *turn) enter() (ok bool, over <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mine && len(t.waiting) == 0 {
		t.busy++
		return true, nil
	}
	if t.mine {
		return false, t.over
	}
	return false, nil
}

func (c *conn) leave() {
	t := &c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy--
	if t.busy == 0 && len(t.waiting) > 0 {
		c.letGo()
	}
}

// letGo is called with the lock held.
func (c *conn) letGo() {
	c.turn.end()
	for _, reply := range c.turn.waiting {
		c.yes(reply)
	}
	c.turn.waiting = nil
}

// own returns the connection once no other of this installation writes or can
// write, whatever it has sent. The caller calls [conn.leave] when it has all answers.
func (l *link) own(ctx context.Context) (*conn, error) {
	for {
		c, err := l.get(ctx)
		if err != nil {
			return nil, err
		}
		ok, over := c.turn.enter()
		if ok {
			return c, nil
		}
		if over == nil {
			if err := l.askForTurn(ctx, c); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil, unavailable(context.Cause(ctx))
		}
	}
}

// askForTurn makes the turn the connection's, unless it is already.
func (l *link) askForTurn(ctx context.Context, c *conn) error {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
	t := &c.turn
	t.mu.Lock()
	if t.mine {
		t.mu.Unlock()
		return nil
	}
	t.asking = true
	t.mu.Unlock()

	err := c.clear(ctx)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking = false
	if err != nil {
		c.letGo()
		return err
	}
	t.mine, t.over = true, make(chan struct{})
	return nil
}

// clear returns when all others have said yes, or are no more.
func (c *conn) clear(ctx context.Context) error {
	all, err := c.clients(ctx, c.link.system)
	if err != nil {
		return err
	}
	others := map[uint64]bool{}
	for _, o := range all {
		if strings.HasPrefix(o.Name, c.link.family) && o.ID != c.id {
			others[o.ID] = true
		}
	}
	if len(others) == 0 {
		return nil
	}
	if err := c.askOthers(ctx, others); err != nil {
		return err
	}
	if len(others) == 0 {
		return nil
	}
	for id := range others {
		if err := c.kick(ctx, id); err != nil {
			return err
		}
	}
	select {
	case <-time.After(settle):
		return nil
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
}

// askOthers takes those out of the set that say yes in time.
func (c *conn) askOthers(ctx context.Context, others map[uint64]bool) error {
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return c.failed(ctx, "subscribe", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	if err := c.nc.PublishRequest(c.turnSubject(), inbox, []byte(strconv.FormatUint(c.id, 10))); err != nil {
		return c.failed(ctx, "ask for the turn", err)
	}
	patience, cancel := context.WithTimeout(ctx, c.link.server.Timeout/4)
	defer cancel()
	for len(others) > 0 {
		m, err := sub.NextMsgWithContext(patience)
		switch {
		case err == nil:
			if id, err := strconv.ParseUint(string(m.Data), 10, 64); err == nil {
				delete(others, id)
			}
		case ctx.Err() == nil && patience.Err() != nil:
			return nil
		default:
			return c.failed(ctx, "ask for the turn", err)
		}
	}
	return nil
}
