package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

const (
	maxAuthorities = 4096
	maxSources     = 512 // distribution points of one authority
	maxLists       = 512 // lists of one authority that are kept
	crlSkew        = 5 * time.Minute
	idleAfter      = 48 * time.Hour // an authority that nobody shows certificates of is not asked any more
)

// nameKey is what names are compared by. A name that is no DN has only its bytes.
func nameKey(raw []byte) string {
	dn, err := bindery.DNFromDER(raw)
	if err != nil {
		return string(raw)
	}
	return dn.Key()
}

// An authority is a name and a key that sign certificates, with the revocation lists
// that they signed. Two authorities of one name never see each other's lists.
type authority struct {
	id   authorityID
	cert *x509.Certificate // one of those with this name and key
	name string            // the name's key
	used atomic.Int64      // when a chain was last built through it, in Unix seconds

	// lists are one for each scope: the newest. Reading them takes no lock: every
	// request does.
	lists atomic.Pointer[[]*crl]
	// unread: a list file stands beside its certificate, and cannot be used. Whom no
	// other list covers may be revoked there.
	unread atomic.Bool
	slots  chan struct{} // fetches at one time

	querySlots    chan struct{} // OCSP queries at one time
	responderBack atomic.Int64  // when its responders are asked again after they were silent, in Unix seconds

	mu      sync.Mutex // for writing lists, and for what follows
	sources map[string]*source
	changed chan struct{} // closed and made anew when a list came or an attempt ended
}

type authorityID [sha256.Size]byte

func idOf(cert *x509.Certificate) authorityID {
	h := sha256.New()
	h.Write(cert.RawSubject) // DER: its length is in it
	h.Write(cert.RawSubjectPublicKeyInfo)
	return authorityID(h.Sum(nil))
}

func newAuthority(cert *x509.Certificate) *authority {
	a := &authority{
		id: idOf(cert), cert: cert, name: nameKey(cert.RawSubject),
		slots:      make(chan struct{}, 4),
		querySlots: make(chan struct{}, 8),
		sources:    make(map[string]*source),
		changed:    make(chan struct{}),
	}
	a.lists.Store(&[]*crl{})
	return a
}

// accept takes a list in, unless it is not the authority's or older than the one that is here.
func (a *authority) accept(l *signedCRL, now time.Time) error {
	if err := l.signedBy(a.cert); err != nil {
		return err
	}
	if l.thisUpdate.After(now.Add(crlSkew)) {
		return errors.New("the revocation list is from the future")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	lists := slices.Clone(*a.lists.Load())
	i := slices.IndexFunc(lists, func(other *crl) bool { return other.scope.raw == l.scope.raw })
	kept := l.crl // without what only its signature needed
	switch {
	case i >= 0 && l.olderThan(lists[i]):
		return errors.New("the revocation list is older than the one that is known")
	case i >= 0:
		lists[i] = &kept
	default:
		if len(lists) >= maxLists {
			lists = slices.Delete(lists, oldest(lists), oldest(lists)+1)
		}
		lists = append(lists, &kept)
	}
	a.lists.Store(&lists)
	a.signal()
	return nil
}

func oldest(lists []*crl) int {
	n := 0
	for i, l := range lists {
		if l.nextUpdate.Before(lists[n].nextUpdate) {
			n = i
		}
	}
	return n
}

// signal wakes who waits for a list. a.mu is held.
func (a *authority) signal() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// A standing is what revocation lists say of a certificate.
type standing int

const (
	unlisted standing = iota // no list covers it
	stale                    // a list does, and the next one should have come, or it cannot be read
	good
	revoked
)

// standing looks a certificate up. A list that is stale still revokes what it names.
func (a *authority) standing(l *link, now time.Time) standing {
	s := unlisted
	for _, list := range *a.lists.Load() {
		switch {
		case !list.scope.covers(l.ca, l.points):
		case list.serials.has(l.serial):
			return revoked
		case now.Before(list.nextUpdate):
			s = good
		case s == unlisted:
			s = stale
		}
	}
	if s == unlisted && a.unread.Load() {
		return stale
	}
	return s
}
