package broker

import (
	"encoding/json"
	"time"

	"bindery"
)

// limits says when a binding of a plan with these parameters, made now, expires,
// and which of the parameters are its driver's. Where they are inherited from a
// predecessor the plan may allow less by now, and then gives that.
func limits(p *bindery.Plan, parameters bindery.Secret, inherited bool, now time.Time) (expires, renewBefore time.Time, rest bindery.Secret, err error) {
	lifetime, rest := p.Lifetime.Default, parameters
	if p.Lifetime.Max > 0 && !parameters.Empty() {
		var asked map[string]json.RawMessage
		if err := json.Unmarshal(raw(parameters), &asked); err != nil {
			return expires, renewBefore, rest, err
		}
		if text, ok := asked[bindery.LifetimeParameter]; ok {
			if lifetime, err = askedLifetime(text, p.Lifetime.Max, inherited); err != nil {
				return expires, renewBefore, rest, err
			}
			delete(asked, bindery.LifetimeParameter)
			left, err := json.Marshal(asked)
			if err != nil {
				return expires, renewBefore, rest, err
			}
			if rest, err = canonical(left); err != nil {
				return expires, renewBefore, rest, err
			}
		}
	}
	expires, renewBefore = p.Lifetime.Times(now, lifetime)
	return expires, renewBefore, rest, nil
}

func askedLifetime(text json.RawMessage, most time.Duration, orLess bool) (time.Duration, error) {
	var s string
	if json.Unmarshal(text, &s) != nil {
		return 0, bindery.Errorf(bindery.CodeInvalid, "parameters.%s: must be a duration, for example 90m", bindery.LifetimeParameter)
	}
	d, err := time.ParseDuration(s)
	if orLess {
		d = min(d, most)
	}
	switch {
	case err != nil:
		return 0, bindery.Errorf(bindery.CodeInvalid, "parameters.%s: must be a duration, for example 90m", bindery.LifetimeParameter)
	case d < time.Second || d > most:
		return 0, bindery.Errorf(bindery.CodeInvalid, "parameters.%s: must be from 1s to %s", bindery.LifetimeParameter, most)
	}
	return d, nil
}

// expired reports whether a binding's time has come: it is about to be removed.
func (b *Broker) expired(of bindery.Binding) bool {
	return !of.Expires.IsZero() && !b.Now().Before(of.Expires)
}

// sooner gives a binding whose credential ends by itself before its time that end.
func sooner(p *bindery.Plan, b bindery.Binding, expires time.Time) bindery.Binding {
	if expires.IsZero() || !b.Expires.IsZero() && !expires.Before(b.Expires) {
		return b
	}
	// It may have ended already: a lifetime of nothing would be one without an end.
	b.Expires, b.RenewBefore = p.Lifetime.Times(b.Updated, max(expires.Sub(b.Updated), 1))
	return b
}
