package store

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"bindery"
)

// lookups answer Resolve on PostgreSQL, where other processes change the tables
// and every lookup has to ask. Those at the same time ask together, in one round
// trip, and only for ids and revisions: what a row holds at a revision never
// changes, so that it is read once and remembered.
//
// Nobody waits for company but for those who are about to ask anyhow: a lookup that
// finds nobody asking lets what can run run, asks for all who came meanwhile, and
// then lets one of the next ones ask.
type lookups struct {
	ask     func(all []*lookup) error // fills in what each of them found
	read    func(ctx context.Context, l *lookup) (bindery.Resolution, error)
	mu      sync.Mutex
	asking  int
	waiting []*lookup
	known   map[version]bindery.Resolution
}

const (
	// asksAtOnce is how many round trips may be under way. With one, more callers
	// share each, which was the fastest of one, two and three at 16 callers.
	asksAtOnce = 1
	// mostAsked bounds one of them, and askLimit how long it takes.
	mostAsked = 128
	askLimit  = 10 * time.Second
	// mostKnown bounds what is remembered.
	mostKnown = 16 << 10
)

// A lookup is what one caller wants to know.
type lookup struct {
	service, host, auth string
	keys                bindery.IdentityKeys

	found version
	err   error
	turn  chan bool // true: this one asks for all who wait; false: it was asked for
}

// A version is which rows, at which revisions, a lookup found: 0 for none.
type version struct {
	host, auth                                                          string
	service, serviceAt, method, methodAt, binding, bindingAt, byOldForm int64
}

func (l *lookups) resolve(ctx context.Context, one *lookup) (bindery.Resolution, error) {
	if err := l.look(ctx, one); err != nil {
		return bindery.Resolution{}, err
	}
	if one.found.service == 0 {
		return bindery.Resolution{}, nil
	}
	l.mu.Lock()
	known, ok := l.known[one.found]
	l.mu.Unlock()
	if ok {
		return known, nil
	}
	// This may see a later state than the look did: that is as true.
	read, err := l.read(ctx, one)
	if err == nil && read.Service.Row != 0 {
		l.remember(versionOf(one, read), read)
	}
	return read, err
}

// look fills in what was found.
func (l *lookups) look(ctx context.Context, one *lookup) error {
	one.turn = make(chan bool, 1)
	l.mu.Lock()
	lead := l.asking < asksAtOnce
	if lead {
		l.asking++
	} else {
		l.waiting = append(l.waiting, one)
	}
	l.mu.Unlock()
	if !lead {
		select {
		case lead = <-one.turn:
		case <-ctx.Done():
			if l.withdraw(one) {
				return ended(ctx)
			}
			lead = <-one.turn // it is being asked for, or has to ask for others
		}
	}
	if lead {
		l.lead(one)
	}
	return one.err
}

func (l *lookups) withdraw(one *lookup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.waiting {
		if l.waiting[i] == one {
			l.waiting = append(l.waiting[:i:i], l.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead asks for one and for those who wait, and then lets the next one do that.
func (l *lookups) lead(one *lookup) {
	// Where processors are short, others are ready to run that will ask too. Where
	// they are not, this returns at once.
	runtime.Gosched()
	l.mu.Lock()
	n := min(len(l.waiting), mostAsked-1)
	all := append([]*lookup{one}, l.waiting[:n]...)
	l.waiting = l.waiting[n:]
	l.mu.Unlock()

	err := errCrashed
	// Also where it panics: the others would wait for ever, and so would all who come later.
	defer func() { l.asked(all, err) }()
	// Others wait for this one: its caller's end is not theirs.
	err = l.ask(all)
}

var errCrashed = errors.New("the lookup that this one shared a round trip with panicked")

// asked tells all what came of it, and lets the next one ask.
func (l *lookups) asked(all []*lookup, err error) {
	all[0].err = err
	for _, o := range all[1:] {
		o.err = err
		o.turn <- false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting = nil
		l.asking--
		return
	}
	next := l.waiting[0]
	l.waiting = l.waiting[1:]
	next.turn <- true
}

func (l *lookups) remember(v version, r bindery.Resolution) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := range l.known {
		if len(l.known) < mostKnown {
			break
		}
		delete(l.known, other) // any: maps are walked in no order
	}
	l.known[v] = r
}

func versionOf(l *lookup, r bindery.Resolution) version {
	v := version{
		host: l.host, auth: l.auth, service: r.Service.Row, serviceAt: r.Service.Revision,
		method: r.Method.Row, methodAt: r.Method.Revision, binding: r.Binding.Row, bindingAt: r.Binding.Revision,
	}
	if r.ByOldForm {
		v.byOldForm = 1
	}
	return v
}

// Everything that a lookup finds depends on these ids and revisions alone; a
// service type that lacks the host has neither method nor binding for it.
const askVersions = `SELECT k.n, s.id, s.revision, COALESCE(m.id, 0), COALESCE(m.revision, 0),
		COALESCE(x.id, o.id, 0), COALESCE(x.revision, o.revision, 0),
		CAST(CASE WHEN x.id IS NULL AND o.id IS NOT NULL THEN 1 ELSE 0 END AS bigint)
	FROM unnest(CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]))
		WITH ORDINALITY AS k (service, host, auth, exact, old, n)
	JOIN service_types s ON s.name = k.service AND s.removed = 0
	LEFT JOIN auth_methods m ON m.service_row = s.id AND m.host = k.host
	LEFT JOIN identity_bindings x ON x.exact_key = k.exact AND x.service_row = s.id AND x.host = k.host AND x.auth_type = k.auth
	LEFT JOIN identity_bindings o ON o.old_key = CASE WHEN x.id IS NULL THEN k.old END AND o.old_key <> ''
		AND o.service_row = s.id AND o.host = k.host AND o.auth_type = k.auth`
