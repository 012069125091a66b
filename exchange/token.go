package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"bindery"
)

// A lookup is what one authentication needs, and the call that follows from it.
type lookup struct {
	bindery.Resolution
	stamp                                // of the moment before it was read
	request atomic.Pointer[http.Request] // made by the first call, copied by each
}

// Token returns the token that is bound to a proven identity, as JSON that the
// caller must not change. Errors: CodeNotFound and CodeInvalid in the face's
// order and words, CodeUpstream, CodeTimeout; never with a cause from inside.
func (s *Service) Token(ctx context.Context, id bindery.Identity, service, host string) (json.RawMessage, error) {
	began := s.o.Now()
	o := Outcome{AuthType: id.AuthType}
	value, err := s.token(ctx, &id, service, host, began, &o)
	if s.o.Observe != nil {
		o.Duration, o.Code = s.o.Now().Sub(began), bindery.CodeOf(err)
		s.o.Observe(o)
	}
	return value, err
}

func (s *Service) token(ctx context.Context, id *bindery.Identity, service, host string, now time.Time, o *Outcome) (json.RawMessage, error) {
	l, err := s.look(ctx, id, service, host)
	if err != nil {
		return nil, err
	}
	o.Service, o.Type = l.Service.Name, l.Service.Type
	for range fetches {
		if err := check(l, id, host); err != nil {
			if errors.Is(err, errNoBinding) {
				s.record.add(0, bindery.AuthUnbound, now)
				s.tell(ctx, id, service, host)
			}
			return nil, err
		}
		value, err := s.fetch(ctx, l, now, o)
		if err != nil {
			if !errors.Is(err, context.Canceled) { // a caller who left says nothing of the service
				s.record.add(l.Binding.Row, bindery.AuthUpstream, now)
			}
			return nil, err
		}
		again := l
		if s.overtaken(l, id, now) {
			if again, err = s.look(ctx, id, service, host); err != nil {
				return nil, err
			}
		}
		if again.key() == l.key() {
			s.record.add(l.Binding.Row, bindery.AuthSucceeded, now)
			return value, nil
		}
		l = again
	}
	return nil, errBusy.Because(errChanging)
}

const (
	// fetches bounds how often a token is fetched anew because a change overtook the call.
	fetches = 3
	// slow is when a call took so long that a change by another process may well have
	// overtaken it, and the store is asked again. A call that is that slow costs so
	// much more than a lookup that nobody notices.
	slow = 20 * time.Millisecond
)

var errChanging = errors.New("the binding changes all the time")

// overtaken reports whether a change may have been acknowledged since the lookup:
// who was removed while the service took its time gets nothing. Changes by this
// process are known at once.
func (s *Service) overtaken(l *lookup, id *bindery.Identity, began time.Time) bool {
	return s.stamps.at(id.Keys) != l.stamp || !s.cached && s.o.Now().Sub(began) >= slow
}

// look finds what stands in the store now, or what stood there if nothing changed
// since, which is known only where this process alone writes the store.
func (s *Service) look(ctx context.Context, id *bindery.Identity, service, host string) (*lookup, error) {
	key := lookupKey{service: service, host: host, auth: id.AuthType, keys: id.Keys}
	now := s.stamps.at(id.Keys)
	known, ok := s.lookups.get(key)
	if ok && s.cached && known.stamp == now {
		return known, nil
	}
	r, err := s.store.Resolve(ctx, service, host, id.AuthType, id.Keys)
	l := &lookup{Resolution: r, stamp: now}
	if ok && err == nil && known.key() == l.key() {
		if known.stamp == now {
			return known, nil
		}
		l.request.Store(known.request.Load()) // it is made of nothing else
	}
	// What leads nowhere is not kept: anybody can ask for anything.
	if err == nil && r.Binding.Row != 0 && r.Method.Row != 0 {
		s.lookups.put(key, l)
	}
	return l, err
}

// check refuses what the lookup does not allow, in the face's order.
func check(l *lookup, id *bindery.Identity, host string) error {
	if l.Service.Row == 0 {
		return errNoServiceType
	}
	if err := supports(&l.Service, id.AuthType); err != nil {
		return err
	}
	if !slices.Contains(l.Service.Hosts, host) {
		return errNoHost
	}
	if l.Method.Row == 0 || l.Method.Kind != l.Service.AuthMethod {
		return errNoAuthMethod
	}
	// What Bindery's own authority says of a name holds only where the binding
	// asks for that authority; another authority's word, wherever it is not pinned to one.
	pinned := l.Binding.IssuerKey
	if l.Binding.Row == 0 || pinned != "" && pinned != id.IssuerKey || id.IssuedHere && (pinned == "" || id.IssuerKey == "") {
		return errNoBinding
	}
	return nil
}

// tell logs, once for each identity, which name to bind: the old form of this
// one would drop some of it, so that a binding of that form is none of its.
func (s *Service) tell(ctx context.Context, id *bindery.Identity, service, host string) {
	if id.AuthType != bindery.AuthX509 || id.Keys.Old != "" {
		return
	}
	if _, ok := s.told.get(id.Keys.Exact); ok {
		return
	}
	s.told.put(id.Keys.Exact, struct{}{})
	s.o.Log.InfoContext(ctx, "no binding for a certificate whose name the old form cannot hold: bind the full name",
		"service", service, "host", host, "auth_identifier", id.Name)
}

// A flightKey is one state of everything that a call of a service depends on.
type flightKey struct {
	service, method, binding                         int64
	serviceRevision, methodRevision, bindingRevision int64
}

func (l *lookup) key() flightKey {
	return flightKey{
		service: l.Service.Row, serviceRevision: l.Service.Revision,
		method: l.Method.Row, methodRevision: l.Method.Revision,
		binding: l.Binding.Row, bindingRevision: l.Binding.Revision,
	}
}

// A flight is a call under way.
type flight struct {
	done   chan struct{} // made by the first who joins
	joined int           // who wait for done
	value  json.RawMessage
	err    error
}

// A token is one that is kept.
type token struct {
	value json.RawMessage
	until time.Time
}

// fetch returns the token, from the cache or from the service. Callers who may
// have the same token share one call, which goes on though the one who makes it
// went away, since others may wait for it.
func (s *Service) fetch(ctx context.Context, l *lookup, now time.Time, o *Outcome) (json.RawMessage, error) {
	r := s.types[l.Service.Type]
	if r == nil {
		return nil, errUnreachable.Because(errNoType)
	}
	k := l.key()
	if r.CacheTokens > 0 {
		if t, ok := s.tokens.get(k); ok && now.Before(t.until) {
			o.Cached = true
			return t.value, nil
		}
	}
	s.flying.Lock()
	if f := s.flights[k]; f != nil {
		if f.done == nil {
			f.done = make(chan struct{})
		}
		f.joined++
		s.flying.Unlock()
		o.Coalesced = true
		select {
		case <-f.done:
			return f.value, f.err
		case <-ctx.Done():
			s.flying.Lock()
			defer s.flying.Unlock()
			f.joined--
			return nil, errLate.Because(ctx.Err())
		}
	}
	f := &flight{err: errCrashed}
	s.flights[k] = f
	s.flying.Unlock()
	defer s.land(k, f)

	began := s.o.Now()
	f.value, f.err = s.call(context.WithoutCancel(ctx), r, l)
	if s.o.Observe != nil || r.CacheTokens > 0 {
		ended := s.o.Now()
		o.Upstream = ended.Sub(began)
		if r.CacheTokens > 0 && f.err == nil {
			s.tokens.put(k, token{f.value, ended.Add(r.CacheTokens)})
		}
	}
	return f.value, f.err
}

// land ends a flight, also one that panicked.
func (s *Service) land(k flightKey, f *flight) {
	s.flying.Lock()
	delete(s.flights, k)
	s.flying.Unlock()
	if f.done != nil { // nobody joins any more who could make it
		close(f.done)
	}
}

// call asks the service.
func (s *Service) call(ctx context.Context, r *retrieval, l *lookup) (json.RawMessage, error) {
	request := l.request.Load()
	if request == nil {
		made, err := r.request(l)
		if err != nil {
			return nil, err
		}
		request = made
		l.request.Store(made)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	g, err := s.hosts.enter(ctx, request.URL.Host)
	if err != nil {
		return nil, err
	}
	var answered bool
	defer func() { s.hosts.leave(g, answered) }()
	var value json.RawMessage
	value, answered, err = r.ask(request.WithContext(ctx))
	return value, err
}
