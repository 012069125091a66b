package broker

import (
	"context"
	"time"

	"bindery"
)

// An undertaker knows what the end of a binding promises.
type undertaker struct {
	promise bindery.Revocation
	proves  bool // there is somebody who can show that an account is dead
	stocked bool // accounts are taken from a stock
}

func undertakerOf(d bindery.Driver, plan *bindery.Plan) undertaker {
	_, proves := bindery.Capability[bindery.Prover](d)
	_, stocked := bindery.Capability[bindery.Stocker](d)
	return undertaker{promise: plan.Revocation, proves: proves, stocked: stocked}
}

// entomb gives an account that its server confirmed as removed its end. Where
// the promise is proof, the proof follows, and takes the secret with it.
func (u undertaker) entomb(a bindery.Account, now time.Time) bindery.Account {
	a.State, a.Updated = bindery.AccountGone, now
	switch u.promise {
	case bindery.RevocationReleased:
		a.Proof = "released: the set lives on, only this binding has ended"
	case bindery.RevocationExpires:
		a.Proof = "the server confirmed the removal; what was given out validates by itself until it expires"
		if !a.Expires.IsZero() {
			a.Proof += ", " + a.Expires.UTC().Format(time.RFC3339)
		}
	default:
		if u.proves {
			a.State, a.Retry, a.Attempts = bindery.AccountUnproven, time.Time{}, 0
			return a
		}
		a.Proof = "the server confirmed the removal"
	}
	a.Material = bindery.Secret{}
	return a
}

// bury records that a binding is gone, and its accounts as the undertaker has
// them. The binding's secrets go with it.
func (b *Broker) bury(ctx context.Context, tx bindery.Tx, u undertaker, binding bindery.Binding, gone []bindery.Account) error {
	now := b.Now()
	for _, a := range gone {
		if err := tx.Accounts().Save(ctx, u.entomb(a, now), a.State); err != nil {
			return err
		}
		if u.stocked {
			if err := quarantine(ctx, tx, a, now); err != nil {
				return err
			}
		}
	}
	from := binding.State
	binding.State, binding.Parameters, binding.Updated = bindery.StateRemoved, bindery.Secret{}, now
	return tx.Bindings().Save(ctx, binding, from)
}

// buried tells of what a transaction buried: what is left to do waits for no request.
func (b *Broker) buried(u undertaker, server string) {
	if u.stocked {
		b.stocks.ring()
	}
	if u.proves && b.Unproven != nil {
		b.Unproven(server)
	}
}
