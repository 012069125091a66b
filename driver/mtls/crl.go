package mtls

import (
	"context"
	"crypto/x509"
	"math/big"
	"sync/atomic"
	"time"

	"bindery"
)

// lists keeps the revocation list that was signed last.
type lists struct {
	turn  chan struct{} // one looks or signs at a time; the others take what it found
	now   atomic.Pointer[list509]
	dirty atomic.Int64 // how many revocations of this process there were
}

// A list509 is a signed revocation list.
type list509 struct {
	der      []byte
	signed   time.Time
	revision int64     // the number in the store that it was made for
	window   time.Time // of time, that it was made for
	looked   time.Time // when the store had that number last
	dirty    int64
	cost     time.Duration // of making it
}

const (
	// lookEvery is how old the last look at the store may be: another process may have revoked.
	lookEvery = 200 * time.Millisecond
	// mostPause bounds for how long a list that takes long to make is given out though there is a newer one.
	mostPause = 500 * time.Millisecond
	// mostWindow bounds for how long a list is not signed again though nothing was revoked.
	mostWindow = time.Hour
)

// changed says that this process revoked something.
func (d *driver) changed() { d.lists.dirty.Add(1) }

// Chain implements [bindery.Publisher].
func (d *driver) Chain(ctx context.Context) ([]byte, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	a, err := d.authority(ctx)
	if err != nil {
		return nil, err
	}
	return []byte(a.pem()), nil
}

// CRL implements [bindery.Publisher].
func (d *driver) CRL(ctx context.Context) (der []byte, signed time.Time, err error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	l, err := d.list(ctx, false)
	if err != nil {
		return nil, time.Time{}, err
	}
	return l.der, l.signed, nil
}

// window is the time within which one list is good: at its end half of the list's life is left, or more.
func (d *driver) window(now time.Time) (start time.Time, length time.Duration) {
	length = min(d.settings.CRLLifetime/2, mostWindow)
	return now.UTC().Truncate(length), length
}

// list returns the current list. Where fresh is asked for it has everything in it that was
// revoked before the call; otherwise, everything older than a second.
func (d *driver) list(ctx context.Context, fresh bool) (*list509, error) {
	asked := d.now()
	if l := d.lists.now.Load(); l != nil && d.serves(l, fresh, asked) {
		return l, nil
	}
	select {
	case d.lists.turn <- struct{}{}:
		defer func() { <-d.lists.turn }()
	case <-ctx.Done():
		return nil, storeError(ctx.Err())
	}
	// What another one found while we waited for our turn is as good.
	l := d.lists.now.Load()
	if l != nil && d.serves(l, fresh, asked) {
		return l, nil
	}
	return d.look(ctx, l)
}

// serves reports whether a list can be given out without a look at the store.
func (d *driver) serves(l *list509, fresh bool, asked time.Time) bool {
	now := d.now()
	if start, _ := d.window(now); !start.Equal(l.window) {
		return false
	}
	if fresh {
		return l.looked.After(asked)
	}
	age := now.Sub(l.looked)
	if l.dirty != d.lists.dirty.Load() {
		return age < min(4*l.cost, mostPause)
	}
	return age < lookEvery
}

// look asks the store whether there is something new, and signs a list where there is.
func (d *driver) look(ctx context.Context, last *list509) (*list509, error) {
	a, err := d.authority(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	next := &list509{dirty: d.lists.dirty.Load(), looked: d.now()}
	next.window, _ = d.window(next.looked)
	var template *x509.RevocationList
	err = d.server.Store.View(ctx, func(tx bindery.Tx) error {
		template = nil
		kept, err := tx.Authorities().Get(ctx, d.server.Name)
		if err != nil {
			return err
		}
		next.revision = kept.CRLNumber
		if last != nil && last.revision == next.revision && last.window.Equal(next.window) {
			return nil
		}
		template, err = d.revoked(ctx, tx, next)
		return err
	})
	switch {
	case err != nil:
		return nil, storeError(err)
	case template == nil:
		next.der, next.signed, next.cost = last.der, last.signed, last.cost
	default:
		if next.der, err = x509.CreateRevocationList(nil, template, a.cert, a.key); err != nil {
			return nil, bindery.Errorf(bindery.CodeInternal, "the revocation list could not be signed").Because(err)
		}
		next.cost = time.Since(began)
	}
	d.lists.now.Store(next)
	return next, nil
}

// revoked is the list that is to be signed. Nothing in it is of the moment: who makes it later, or
// elsewhere, makes the same.
func (d *driver) revoked(ctx context.Context, tx bindery.Tx, l *list509) (*x509.RevocationList, error) {
	start, length := d.window(l.looked)
	template := &x509.RevocationList{
		Number:     new(big.Int).Add(new(big.Int).Lsh(big.NewInt(l.revision), 40), big.NewInt(start.Unix())),
		NextUpdate: start.Add(d.settings.CRLLifetime),
	}
	l.signed = start
	view := func(f func(bindery.Tx) error) error { return f(tx) }
	// What has expired stays for one more list (RFC 5280, section 3.3).
	err := d.each(ctx, view, true, start.Add(-length), func(c bindery.IssuedCertificate) error {
		serial, ok := parseSerial(c.Serial)
		if !ok {
			return bindery.Errorf(bindery.CodeInternal, "a serial number in the store is damaged")
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: c.Revoked.UTC().Truncate(time.Second)})
		if c.Revoked.After(l.signed) {
			l.signed = c.Revoked
		}
		return nil
	})
	l.signed = l.signed.UTC().Truncate(time.Second)
	template.ThisUpdate = l.signed.Add(-backdate)
	return template, err
}
