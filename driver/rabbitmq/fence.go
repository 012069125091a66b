package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"bindery"
)

// A credential is what a request is sent with.
type credential struct {
	name     string
	password bindery.Secret
}

// A fence keeps requests that nobody waits for any longer from having an effect.
// A request that was given up may still be in a socket of a broker that hangs, or
// on its way through a bad network, and be executed at any time. So requests are
// not sent as Bindery's configured user, but as a user of this process alone,
// whose name is never used twice. Where a request was given up, that user is
// deleted before anything else is sent: the broker checks user and password when
// it executes a request, and then refuses it. A process that starts deletes the
// users that earlier ones left, and whoever is cut off by that makes a new one.
type fence struct {
	client       *client
	root         credential
	installation string
	process      string // what the names of this process's users begin with

	busy    chan struct{} // holds a token while the user is renewed
	current atomic.Pointer[login]
	settled bool // users of earlier processes are gone; guarded by busy
}

// A login is a user to send requests as.
type login struct {
	credential
	// broken: a request was given up, or the broker does not know the user.
	broken atomic.Bool
}

// settling is how long a request may take that the broker had begun to execute
// when its user was deleted: a hundred times what one does take.
const settling = 100 * time.Millisecond

func newFence(c *client, server bindery.Server) *fence {
	return &fence{
		client: c, installation: server.Installation,
		root:    credential{server.Username, server.Password},
		process: loginPrefix(server.Installation) + strings.ToLower(rand.Text()[:10]),
		busy:    make(chan struct{}, 1),
	}
}

// loginPrefix begins the names of these users. No row has an underscore, so no
// account's name begins like it.
func loginPrefix(installation string) string { return bindery.NamePrefix(installation) + "_s" }

// call sends a request and returns the broker's answer. The error carries a code.
func (f *fence) call(ctx context.Context, r request) (answer, error) {
	const tries = 4 // an idle connection that just ended, a login that was just cut off
	for try := 1; ; try++ {
		l, err := f.login(ctx)
		if err != nil {
			return answer{}, err
		}
		a, err := f.client.do(ctx, r, l.credential)
		var lost *unanswered
		switch {
		case errors.As(err, &lost):
			if lost.sent && r.changes() {
				l.broken.Store(true)
			}
			// Once more where a kept connection turned out to be dead. Every request can be repeated.
			if lost.reused && ctx.Err() == nil && try < tries {
				continue
			}
			return answer{}, silent(err)
		case err != nil:
			return answer{}, err
		case a.status == http.StatusUnauthorized && try < tries:
			l.broken.Store(true)
		default:
			return a, nil
		}
	}
}

// login returns the user of the moment.
func (f *fence) login(ctx context.Context) (*login, error) {
	if l := f.current.Load(); l != nil && !l.broken.Load() {
		return l, nil
	}
	select {
	case f.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, silent(ctx.Err())
	}
	defer func() { <-f.busy }()
	if l := f.current.Load(); l != nil && !l.broken.Load() {
		return l, nil // somebody was quicker
	}
	return f.renew(ctx)
}

// renew deletes the users of before and makes a new one.
func (f *fence) renew(ctx context.Context) (*login, error) {
	earlier := f.process
	if !f.settled {
		earlier = loginPrefix(f.installation)
	}
	gone, err := f.sweep(ctx, earlier)
	if err != nil {
		return nil, err
	}
	if gone > 0 {
		if err := bindery.Sleep(ctx, settling); err != nil {
			return nil, silent(err)
		}
	}
	f.settled = true
	l := &login{credential: credential{name: f.process + strings.ToLower(rand.Text()[:10]), password: bindery.NewPassword()}}
	a, err := f.asRoot(ctx, putUser(l.name, l.password, tagAdministrator))
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusCreated {
		return nil, refused(a)
	}
	f.current.Store(l)
	return l, nil
}

// sweep deletes the users whose names begin so, and says how many there were.
func (f *fence) sweep(ctx context.Context, prefix string) (int, error) {
	a, err := f.asRoot(ctx, listUsers())
	if err != nil {
		return 0, err
	}
	names, err := a.names()
	if err != nil {
		return 0, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	for _, name := range names {
		a, err := f.asRoot(ctx, deleteUser(name))
		if err != nil {
			return 0, err
		}
		if a.status != http.StatusNoContent && a.status != http.StatusNotFound {
			return 0, refused(a)
		}
	}
	return len(names), nil
}

// asRoot sends a request as Bindery's configured user. Whenever it is executed,
// it harms nothing: it is about names that are used once.
func (f *fence) asRoot(ctx context.Context, r request) (answer, error) {
	for try := 1; ; try++ {
		a, err := f.client.do(ctx, r, f.root)
		var lost *unanswered
		switch {
		case errors.As(err, &lost) && lost.reused && ctx.Err() == nil && try < 3:
			continue
		case err != nil:
			return answer{}, silent(err)
		case a.status == http.StatusUnauthorized:
			return answer{}, bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server does not let Bindery in").
				Because(errors.New("HTTP status 401: user or password are wrong, or the tag administrator is missing"))
		}
		return a, nil
	}
}

// close deletes what this process made, if the broker answers at once.
func (f *fence) close() {
	if f.current.Swap(nil) == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = f.sweep(ctx, f.process) // otherwise the next process does it
}
