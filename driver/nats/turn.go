package nats

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"bindery"
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
	clock   uint64 // later than every question seen (Lamport's)
	mine    bool
	asking  bool
	stamp   stamp         // of the question asked
	busy    int           // how many are writing
	waiting []string      // whom to say yes to when they are done
	over    chan struct{} // closed when mine ends
}

// A stamp orders questions.
type stamp struct {
	Clock uint64 `json:"clock"`
	ID    uint64 `json:"id"` // the connection's
}

func (s stamp) before(o stamp) bool {
	return s.Clock < o.Clock || s.Clock == o.Clock && s.ID < o.ID
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
		var asked stamp
		if err := json.Unmarshal(m.Data, &asked); err != nil || asked.ID == c.id {
			return
		}
		t := &c.turn
		t.mu.Lock()
		defer t.mu.Unlock()
		t.clock = max(t.clock, asked.Clock)
		if t.mine && t.busy > 0 || t.asking && t.stamp.before(asked) {
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
			ok, err := l.askForTurn(ctx, c)
			if err != nil {
				return nil, err
			}
			if ok {
				return c, nil
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

// askForTurn makes the turn the connection's, and enters: others may be waiting
// already for it to end. It reports false where somebody else has just done so.
func (l *link) askForTurn(ctx context.Context, c *conn) (ok bool, err error) {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return false, unavailable(context.Cause(ctx))
	}
	t := &c.turn
	t.mu.Lock()
	if t.mine {
		t.mu.Unlock()
		return false, nil
	}
	t.clock++
	t.asking, t.stamp = true, stamp{t.clock, c.id}
	question := t.stamp
	t.mu.Unlock()

	err = c.clear(ctx, question)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking = false
	if err != nil {
		c.letGo()
		return false, err
	}
	t.mine, t.busy, t.over = true, t.busy+1, make(chan struct{})
	return true, nil
}

// clear returns when all others have said yes, or are no more.
func (c *conn) clear(ctx context.Context, question stamp) error {
	if err := c.mayWrite(ctx); err != nil {
		return err
	}
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
	if err := c.askOthers(ctx, question, others); err != nil {
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
	if bindery.Sleep(ctx, settle) != nil {
		return unavailable(context.Cause(ctx))
	}
	return nil
}

// askOthers takes those out of the set that say yes in time.
func (c *conn) askOthers(ctx context.Context, question stamp, others map[uint64]bool) error {
	payload, err := json.Marshal(question)
	if err != nil {
		return err
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return c.failed(ctx, "subscribe", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	if err := c.nc.PublishRequest(c.turnSubject(), inbox, payload); err != nil {
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
