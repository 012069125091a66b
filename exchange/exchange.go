package exchange

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bindery"
)

// A Caller is who administers: an admin key's name and what it may do.
type Caller struct {
	Name string
	// ReadOnly keys change nothing and see no secrets.
	ReadOnly bool
	// Services are the names of the service types that the key is limited to; nil: all.
	Services []string
	// RequestID goes into the audit. May be empty.
	RequestID string
}

// allowed refuses what the key may not do to the service types of these names.
func (c Caller) allowed(names ...string) error {
	if c.Services == nil {
		return nil
	}
	for _, n := range names {
		if !slices.Contains(c.Services, n) {
			return errLimited
		}
	}
	return nil
}

// changes is allowed for a caller who wants to change something.
func (c Caller) changes(names ...string) error {
	if c.ReadOnly {
		return errReadOnly
	}
	return c.allowed(names...)
}

// What a caller sends of each object: nil is a field that was left out.
type (
	// ServiceTypeInput is a service type to be, or the changes of one.
	ServiceTypeInput struct {
		Name       *string
		Hosts      *[]string
		AuthTypes  *[]string
		AuthMethod *string
		Type       *string // not changeable; ignored in a change
	}
	// AuthMethodInput is an auth method to be, or the changes of one.
	AuthMethodInput struct {
		ServiceUUID *string // ignored at creation
		Host        *string
		Port        *int
		AccessKey   *string
		Headers     *map[string]string
	}
	// BindingInput is an identity binding to be, or the changes of one.
	BindingInput struct {
		Name        *string // ignored at creation
		ServiceUUID *string
		Host        *string
		AuthType    *string
		Identifier  *string
		UniqueKey   *string
		Issuer      *string
	}
)

// Options say how the identity face works. Zero values are the defaults.
type Options struct {
	Now func() time.Time // must be given
	Log *slog.Logger     // must be given

	// AuthTypes are those that service types may have. Default: x509.
	AuthTypes []bindery.AuthType
	// OIDCIdentifier turns the identifier of an oidc binding, as typed, into
	// issuer#value. Its error is the caller's. nil: the text itself.
	OIDCIdentifier func(text string) (string, error)
	// Reserved reports names that no service type may have: those of service offerings. May be nil.
	Reserved func(name string) bool
	// HideSecrets shows access keys and headers to nobody, not only not to read-only keys.
	HideSecrets bool

	// Types are the ways of retrieval. Default: [DefaultTypes].
	Types []Type
	// MaxResponse bounds a service's answer, in bytes. Default: 1 MiB.
	MaxResponse int64
	// PerHost bounds the calls of one host and port at a time, and MaxWait how
	// long one more waits for its turn. Defaults: 64, and a second.
	PerHost int
	MaxWait time.Duration
	// After BreakAfter failures in a row, connections that broke or took too long and
	// answers that were too long, a host is not asked for BreakFor; then one call tries
	// it. Defaults: 5, and 5 s.
	BreakAfter int
	BreakFor   time.Duration

	// CachedLookups bounds the lookups kept where [bindery.Store.Sole] allows
	// it, CachedTokens the tokens of the types that cache. Defaults: 16384 each.
	CachedLookups, CachedTokens int

	// Observe is told of every call of [Service.Token]; may be nil.
	Observe func(Outcome)
}

// An Outcome is how one call of [Service.Token] went.
type Outcome struct {
	Service  string // the service type's name; empty where it is unknown
	Type     string
	AuthType bindery.AuthType
	Code     bindery.Code // empty: it succeeded
	Duration time.Duration
	Upstream time.Duration // of the call of the service; 0 where this caller made none
	// Coalesced: the caller joined a call under way. Cached: no call was needed.
	Coalesced, Cached bool
}

// A Service is the identity face's whole work, safe for many callers at once.
type Service struct {
	o     Options
	store bindery.Store

	types map[string]*retrieval
	names []string // of types, as configured

	cached  bool // lookups are
	lookups *cache[lookupKey, *lookup]
	stamps  stamps
	told    *cache[string, struct{}] // identities whose full name the log has said

	tokens  *cache[flightKey, token]
	flying  sync.Mutex
	flights map[flightKey]*flight
	hosts   hosts

	record recorder
	purge  chan struct{} // wakes the removal of what deleted service types leave
}

// New returns the service on a store. [Service.Run] must run beside it.
func New(store bindery.Store, o Options) (*Service, error) {
	if o.Now == nil || o.Log == nil {
		return nil, errors.New("the exchange needs a clock and a log")
	}
	if len(o.AuthTypes) == 0 {
		o.AuthTypes = []bindery.AuthType{bindery.AuthX509}
	}
	if len(o.Types) == 0 {
		o.Types = DefaultTypes()
	}
	o.MaxResponse = cmp.Or(o.MaxResponse, 1<<20)
	o.PerHost = cmp.Or(o.PerHost, 64)
	o.MaxWait = cmp.Or(o.MaxWait, time.Second)
	o.BreakAfter = cmp.Or(o.BreakAfter, 5)
	o.BreakFor = cmp.Or(o.BreakFor, 5*time.Second)
	o.CachedLookups = cmp.Or(o.CachedLookups, 1<<14)
	o.CachedTokens = cmp.Or(o.CachedTokens, 1<<14)
	s := &Service{
		o: o, store: store,
		cached:  store.Sole(),
		lookups: newCache[lookupKey, *lookup](o.CachedLookups),
		told:    newCache[string, struct{}](1 << 12),
		tokens:  newCache[flightKey, token](o.CachedTokens),
		flights: make(map[flightKey]*flight),
		purge:   make(chan struct{}, 1),
	}
	s.hosts = hosts{o: &s.o, gates: make(map[string]*gate)}
	var err error
	s.types, s.names, err = newRetrievals(o)
	return s, err
}

// Run writes down who authenticated, each second, and removes what deleted
// service types leave behind, until ctx ends. What is not yet written then is
// written before it returns.
func (s *Service) Run(ctx context.Context) error {
	purged := make(chan struct{})
	go func() {
		defer close(purged)
		s.purgeAll(ctx)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.flush(ctx)
		}
	}
	<-purged
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	s.flush(last)
	return nil
}

const (
	lastFlush  = 5 * time.Second
	purgeChunk = 500
	purgeAgain = time.Minute // after an error, or though nobody asked: another process may have ended early
)

// purgeAll removes the rows of deleted service types: at the start, after each
// delete, and now and then, since another process may have ended in between.
func (s *Service) purgeAll(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-s.purge:
		}
		for n := 1; n > 0 && ctx.Err() == nil; {
			began := s.o.Now()
			err := s.store.Update(ctx, func(tx bindery.Tx) (err error) {
				n, err = tx.ServiceTypes().Purge(ctx, purgeChunk)
				return err
			})
			if err != nil {
				n = 0
				if ctx.Err() == nil {
					s.o.Log.WarnContext(ctx, "removing what deleted service types left", "error", err.Error())
				}
			}
			// Half of the time is left to others, who wait for the same disk.
			select {
			case <-ctx.Done():
			case <-time.After(s.o.Now().Sub(began)):
			}
		}
		again.Reset(purgeAgain)
	}
}
