package proof

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"bindery"
)

// save records what a round found, in one transaction.
func (p *Prover) save(ctx context.Context, suspects []suspect, verdicts []verdict) error {
	now := p.Now()
	after := make([]bindery.Account, len(suspects))
	for i, s := range suspects {
		after[i] = p.judge(s.Account, verdicts[i], now)
	}
	err := p.Store.Update(ctx, func(tx bindery.Tx) error {
		for i, s := range suspects {
			err := tx.Accounts().Save(ctx, after[i], s.State)
			if bindery.CodeOf(err) == bindery.CodeBusy {
				continue // another process, or an operator, was faster
			}
			if err != nil {
				return err
			}
			if after[i].State == s.State {
				continue
			}
			if err := tx.Events().Add(ctx, event(s, after[i], verdicts[i], now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	moved := false // into or out of what is stuck
	for i, s := range suspects {
		if s.State == after[i].State {
			continue
		}
		if after[i].State == bindery.AccountStuck {
			p.Log.ErrorContext(ctx, "account is stuck: it was to be dead", "server", s.Server, "account", s.Name,
				"instance", s.binding.InstanceID, "binding", s.binding.ID, "error", verdicts[i].err.Error())
		}
		moved = moved || s.State == bindery.AccountStuck || after[i].State == bindery.AccountStuck
	}
	if moved {
		return p.count(ctx)
	}
	return nil
}

// judge makes of an account what a try found of it.
func (p *Prover) judge(a bindery.Account, v verdict, now time.Time) bindery.Account {
	if v.err == nil {
		a.State, a.Updated, a.Proven, a.Proof = bindery.AccountGone, now, now, v.proof
		a.Material, a.Retry = bindery.Secret{}, time.Time{}
		return a
	}
	a.Attempts++
	a.Retry = now.Add(pause(a.Attempts))
	// It became unproven then. Nobody may have been there to try for as long: a
	// process that starts together with its servers asks more than once.
	late := now.Sub(a.Updated) >= cmp.Or(p.Bound, bound) && a.Attempts >= silence
	if a.State == bindery.AccountUnproven && (late || errors.Is(v.err, bindery.ErrAlive)) {
		a.State, a.Updated = bindery.AccountStuck, now
	}
	return a
}

// pause is the time before the next try: doubling, with jitter, bounded.
func pause(attempts int) time.Duration {
	d := min(firstPause<<min(attempts-1, 20), maxPause)
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter is no secret
}

// event is the audit's line of an account that was proven dead, or is stuck.
func event(s suspect, a bindery.Account, v verdict, now time.Time) bindery.Event {
	e := bindery.Event{
		At: now, Platform: s.binding.Platform, Actor: "bindery", Action: "prove", InstanceID: s.binding.InstanceID,
		BindingID: s.binding.ID, Account: a.Name, Result: string(bindery.OpSucceeded), Message: a.Proof,
	}
	if a.State == bindery.AccountStuck {
		e.Result, e.Message = string(bindery.OpFailed), "stuck: "+bindery.MessageOf(v.err)
	}
	return e
}
