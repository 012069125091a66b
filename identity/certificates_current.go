package identity

import (
	"context"
	"crypto/x509"
	"time"

	"bindery"
)

// times are a certificate's validity.
type times struct {
	notBefore, notAfter time.Time
	issuer              bool // it is not the caller's own
}

func newTimes(cert *x509.Certificate, issuer bool) times {
	return times{cert.NotBefore, cert.NotAfter, issuer}
}

// timely says what is wrong with the time, if anything is.
func timely(t times, now time.Time) *bindery.Error {
	switch {
	case now.Before(t.notBefore) && t.issuer:
		return errIssuerNotActive
	case now.Before(t.notBefore):
		return errNotActive
	case now.After(t.notAfter) && t.issuer:
		return errIssuerExpired
	case now.After(t.notAfter):
		return errExpired
	}
	return nil
}

// current looks whether one of the paths holds now. The first one's answer is the caller's where none does.
func (c *Certificates) current(ctx context.Context, p *proof, now time.Time) error {
	var first *bindery.Error
	for i := range p.paths {
		err := c.holds(ctx, &p.paths[i], now)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// holds checks every certificate of a path: times first, since an expired certificate is on no list any
// more; then revocation by what is known already; and only then is anything waited for.
func (c *Certificates) holds(ctx context.Context, p *path, now time.Time) *bindery.Error {
	for i := range p.links {
		if err := timely(times{p.links[i].notBefore, p.links[i].notAfter, i > 0}, now); err != nil {
			return err
		}
	}
	if p.unknown && c.o.RequireCRL && !p.links[0].pointed {
		return errNoPoint
	}
	settled := true
	for i := range p.links {
		l := &p.links[i]
		if l.authority == nil {
			continue
		}
		s := l.authority.standing(l, now)
		if s == revoked {
			return revokedAt(i)
		}
		settled = settled && s == good && l.ocsp == nil
	}
	if settled {
		return nil
	}
	for i := range p.links {
		if p.links[i].authority != nil {
			if err := c.covered(ctx, &p.links[i], i, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func revokedAt(i int) *bindery.Error {
	if i == 0 {
		return errRevoked
	}
	return errIssuerRevoked
}

// covered sees to it that a certificate's revocation can be known: by its authority's lists, which a first
// certificate waits for, or by its responder.
func (c *Certificates) covered(ctx context.Context, l *link, i int, now time.Time) *bindery.Error {
	said := unlisted
	if l.ocsp != nil {
		if said = c.asked(ctx, l.ocsp, now); said == revoked {
			return revokedAt(i)
		}
	}
	if l.authority.standing(l, now) == good {
		return nil
	}
	known := c.await(ctx, l, now, said == good)
	switch {
	case known == revoked:
		return revokedAt(i)
	case known == good, said == good:
		return nil
	case known == unlisted && !l.pointed && l.ocsp == nil:
		// Neither the certificate nor its authority speaks of revocation.
		if i == 0 && c.o.RequireCRL {
			return errNoPoint
		}
		return nil
	case c.o.StaleCRL == staleWarn:
		c.logged("stale "+string(l.authority.id[:]), time.Hour,
			"certificates are accepted without a current revocation list", "authority", issuerName(l.authority.cert))
		return nil
	}
	c.logged("stale "+string(l.authority.id[:]), time.Hour,
		"certificates are refused: there is no current revocation list", "authority", issuerName(l.authority.cert))
	return errUnchecked
}

// await asks the certificate's distribution points, and waits for a first answer of theirs unless
// enough is known already.
func (c *Certificates) await(ctx context.Context, l *link, now time.Time, enough bool) standing {
	var late <-chan time.Time
	for {
		coming, changed := c.ask(l.authority, l)
		s := l.authority.standing(l, now)
		if s == good || s == revoked || !coming || enough {
			return s
		}
		if late == nil {
			timer := time.NewTimer(c.o.FetchTimeout)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			return s
		case <-ctx.Done():
			return s
		}
	}
}
