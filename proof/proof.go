// Package proof shows that accounts that were removed are dead. A binding is
// gone when its server confirmed that; then, off the hot path, somebody tries to
// use the dead credential, and only a refusal for that very reason counts.
//
//	unproven ──▶ gone, with its proof, without its secret
//	    │          ▲
//	    └─▶ stuck ─┘   it still lets somebody in, or nobody could say for too long;
//	                   it is removed and tried again, for ever, or forgotten by an operator
package proof

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bindery"
)

const (
	// batch is how many accounts are looked at between two transactions, and
	// roundLimit after how long no further one is.
	batch      = 32
	roundLimit = 2 * time.Second
	// width is how many are tried beside each other on a server that has nothing else to do.
	width = 4
	// hold is how long proofs wait for a server that is busy, and share the part of
	// its time that they take after that: 1 in share.
	hold  = 3 * time.Second
	share = 20
	// lookEvery bounds the pause between two looks; a removal wakes earlier.
	lookEvery = 5 * time.Second
	// silence is after how many tries in a row that tell nothing the rest of a batch
	// is not tried, where the server does not answer Bindery either.
	silence = 3
	// bound is how long nobody may be able to say before an account is stuck.
	bound = 10 * time.Minute
	// claim is how long others leave accounts alone that a process tries.
	claim = time.Minute

	firstPause = time.Second
	maxPause   = 5 * time.Minute
)

// A Prover proves accounts dead. Its fields are set before its first use.
type Prover struct {
	Store bindery.Store
	// Drivers are those of all configured servers, by name.
	Drivers func() map[string]bindery.Driver
	// Spec is what a driver is told of an instance, a removed one too.
	Spec func(bindery.Instance) bindery.InstanceSpec
	// Busy reports whether a server has operations to work on.
	Busy func(server string) bool
	Now  func() time.Time
	Log  *slog.Logger
	// Tried is told of every try: its outcome is "proven", "alive" or "unknown". May be nil.
	Tried func(server, outcome string)
	// Pending is told of everything that is pending; may be nil.
	Pending func([]bindery.Backlog)
	// Bound is how long nobody may be able to say before an account is stuck; 0: 10 minutes.
	Bound time.Duration

	mu      sync.Mutex
	bells   map[string]chan struct{}
	backlog []bindery.Backlog
}

// Wake makes a server's accounts be looked at: it has new ones.
func (p *Prover) Wake(server string) {
	select {
	case p.bell(server) <- struct{}{}:
	default: // it rings already
	}
}

func (p *Prover) bell(server string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bells == nil {
		p.bells = map[string]chan struct{}{}
	}
	if p.bells[server] == nil {
		p.bells[server] = make(chan struct{}, 1)
	}
	return p.bells[server]
}

// Backlog is what was pending at the last look.
func (p *Prover) Backlog() []bindery.Backlog {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.backlog)
}

// Run proves what is to be proven until ctx ends. Each server is worked on by
// itself, so that one that hangs delays no other.
func (p *Prover) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	at := map[string]bool{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		servers := slices.Collect(maps.Keys(p.Drivers()))
		if err := p.count(ctx); err != nil && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "counting what is to be proven dead", "error", err.Error())
		}
		// What a server left that is no longer configured must not be lost sight of.
		for _, b := range p.Backlog() {
			servers = append(servers, b.Server)
		}
		for _, name := range servers {
			if !at[name] {
				at[name] = true
				all.Go(func() { p.serve(ctx, name) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *Prover) count(ctx context.Context) error {
	var backlog []bindery.Backlog
	err := p.Store.View(ctx, func(tx bindery.Tx) (err error) {
		backlog, err = tx.Accounts().Backlog(ctx)
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.backlog = backlog
	p.mu.Unlock()
	if p.Pending != nil {
		p.Pending(backlog)
	}
	return nil
}

// serve proves what one server removed.
func (p *Prover) serve(ctx context.Context, server string) {
	bell := p.bell(server)
	for ctx.Err() == nil {
		pause := lookEvery
		more, due, err := p.round(ctx, server)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.Log.WarnContext(ctx, "proving what was removed", "server", server, "error", err.Error())
		case more:
			continue
		case !due.IsZero():
			pause = max(0, min(due.Sub(p.Now()), lookEvery))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-bell:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// A suspect is an account with what there is to know of it.
type suspect struct {
	bindery.Account
	instance bindery.Instance
	binding  bindery.Binding
}

// round tries what is due. More: it may not have been all. Due is when the next one is.
func (p *Prover) round(ctx context.Context, server string) (more bool, due time.Time, err error) {
	suspects, due, err := p.load(ctx, server, false)
	if err != nil || len(suspects) == 0 {
		return false, due, err
	}
	if !p.settle(ctx, server) {
		return false, due, ctx.Err()
	}
	// Again, as much may have come meanwhile; and others look elsewhere from here on.
	if suspects, due, err = p.load(ctx, server, true); err != nil || len(suspects) == 0 {
		return false, due, err
	}
	verdicts := p.try(ctx, server, suspects)
	if ctx.Err() != nil {
		return false, due, ctx.Err()
	}
	return true, due, p.save(ctx, suspects[:len(verdicts)], verdicts)
}

// load reads what is due, or says when something is.
func (p *Prover) load(ctx context.Context, server string, claims bool) (out []suspect, due time.Time, err error) {
	now := p.Now()
	read := func(tx bindery.Tx) error {
		out, due = nil, time.Time{}
		accounts, err := tx.Accounts().Due(ctx, server, now, batch)
		if err != nil {
			return err
		}
		if len(accounts) == 0 {
			due, _, err = tx.Accounts().NextDue(ctx, server)
			if err != nil || due.Sub(now) <= maxPause {
				return err
			}
			// Nobody waits that long: the clock was ahead when it was set.
			if accounts, err = tx.Accounts().Due(ctx, server, due, batch); err != nil {
				return err
			}
		}
		for _, a := range accounts {
			s := suspect{Account: a}
			if s.instance, err = tx.Instances().Get(ctx, a.InstanceRow); err != nil {
				return err
			}
			if s.binding, err = tx.Bindings().Get(ctx, a.BindingRow); err != nil {
				return err
			}
			out = append(out, s)
			if !claims || p.Store.Sole() {
				continue
			}
			a.Retry = now.Add(claim)
			if err := tx.Accounts().Save(ctx, a, a.State); err != nil {
				return err
			}
		}
		return nil
	}
	if claims && !p.Store.Sole() {
		return out, due, p.Store.Update(ctx, read)
	}
	return out, due, p.Store.View(ctx, read)
}

// settle waits while a server is busy, but not for long. It returns whether ctx goes on.
func (p *Prover) settle(ctx context.Context, server string) bool {
	const look = 100 * time.Millisecond
	for waited := time.Duration(0); p.Busy(server) && waited < hold; waited += look {
		if bindery.Sleep(ctx, look) != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

// A verdict is what a try found: a proof, or why there is none.
type verdict struct {
	proof string
	err   error
}

// try tries what is due, or as much of it as a round has time for: some beside
// each other on a server that has nothing else to do, else one after the other
// with pauses.
func (p *Prover) try(ctx context.Context, server string, suspects []suspect) []verdict {
	verdicts := make([]verdict, len(suspects))
	driver := p.Drivers()[server]
	begun, silent := time.Now(), 0
	for n := 0; n < len(suspects); {
		switch {
		case silent >= silence && !answers(ctx, driver): // nor would it say anything of the others
			for ; n < len(suspects); n++ {
				verdicts[n] = verdicts[n-1]
			}
			return verdicts
		case time.Since(begun) > roundLimit && (silent == 0 || silent >= silence):
			return verdicts[:n]
		}
		end, paced := min(n+width, len(suspects)), p.Busy(server) || silent > 0
		if paced {
			end = n + 1
		}
		step := time.Now()
		var g errgroup.Group
		for i := n; i < end; i++ {
			g.Go(func() error {
				verdicts[i] = p.one(ctx, server, driver, suspects[i])
				return nil
			})
		}
		_ = g.Wait()
		if ctx.Err() != nil || paced && bindery.Sleep(ctx, min(time.Since(step)*(share-1), hold)) != nil {
			return nil
		}
		for ; n < end; n++ {
			silent = counted(silent, verdicts[n])
		}
	}
	return verdicts
}

// answers reports whether a server does; one that cannot be asked might not.
func answers(ctx context.Context, d bindery.Driver) bool {
	p, ok := bindery.Capability[bindery.Pinger](d)
	return ok && p.Ping(ctx) == nil
}

// counted is how many tries in a row told nothing.
func counted(silent int, v verdict) int {
	if v.err == nil || errors.Is(v.err, bindery.ErrAlive) {
		return 0
	}
	return silent + 1
}

var (
	errNoServer = bindery.Errorf(bindery.CodeUnavailable, "its server is not configured")
	errNoProver = bindery.Errorf(bindery.CodeUnsupported, "its driver cannot prove anything")
	errPanic    = bindery.Errorf(bindery.CodeInternal, "its driver panicked")
)

// one tries an account. One that is alive is removed again.
func (p *Prover) one(ctx context.Context, server string, d bindery.Driver, s suspect) (v verdict) {
	defer func() {
		if recover() != nil { // a driver that panics must not take the process with it
			v = verdict{err: errPanic}
		}
		p.tell(ctx, server, v)
	}()
	if d == nil {
		return verdict{err: errNoServer}
	}
	prover, ok := bindery.Capability[bindery.Prover](d)
	if !ok {
		return verdict{err: errNoProver}
	}
	spec := p.Spec(s.instance)
	if v.proof, v.err = prover.Prove(ctx, spec, s.Account); !errors.Is(v.err, bindery.ErrAlive) {
		return v
	}
	if err := d.Revoke(ctx, spec, s.Account); err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "account still lets somebody in, and cannot be removed again", "server", server,
			"account", s.Name, "error", err.Error())
	}
	return v
}

func (p *Prover) tell(ctx context.Context, server string, v verdict) {
	if p.Tried == nil || ctx.Err() != nil {
		return
	}
	switch {
	case v.err == nil:
		p.Tried(server, "proven")
	case errors.Is(v.err, bindery.ErrAlive):
		p.Tried(server, "alive")
	default:
		p.Tried(server, "unknown")
	}
}
