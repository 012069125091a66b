package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

// An OwnAuthority is what an authority of Bindery's own publishes.
type OwnAuthority struct {
	Chain []byte // PEM, its own certificate first
	CRL   []byte // DER
}

const (
	// lookEvery is how old the word of our own authorities may be where a certificate of theirs is presented.
	lookEvery = 250 * time.Millisecond
	// lookLimit bounds a look. One that fails leaves the lists that are known.
	lookLimit = 2 * time.Second
)

// ownAuthorities keeps what our own authorities said last.
type ownAuthorities struct {
	known atomic.Pointer[ownSet]

	mu     sync.Mutex // one looks at a time, and the others take what it found
	looked time.Time
	crls   map[authorityID][]byte
}

// An ownSet is the certificates of our own authorities. It does not change.
type ownSet struct {
	certs []*x509.Certificate
	keys  map[string]bool // of their names
}

func (s *ownSet) certificates() []*x509.Certificate {
	if s == nil {
		return nil
	}
	return s.certs
}

func (s *ownSet) has(issuerKey string) bool { return s != nil && s.keys[issuerKey] }

// meetOwn learns which authorities are our own; the next reload trusts them, and has their lists already.
func (c *Certificates) meetOwn(ctx context.Context) error {
	if c.o.Own == nil {
		return nil
	}
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	if err := c.askOwn(ctx, true); err != nil {
		c.logged("own authorities", time.Minute, "Bindery's own certificate authorities cannot be asked", "error", err)
		return fmt.Errorf("ask Bindery's own certificate authorities: %w", err)
	}
	return nil
}

// lookOwn brings the lists of our own authorities up to date.
func (c *Certificates) lookOwn(ctx context.Context) {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	if now := c.o.Now(); c.own.looked.After(now) || now.Sub(c.own.looked) >= lookEvery {
		if err := c.askOwn(ctx, false); err != nil {
			c.logged("own authorities", time.Minute, "Bindery's own certificate authorities cannot be asked", "error", err)
		}
	}
}

// askOwn asks, with own.mu held. Where one cannot answer, which ones there are stays as it was.
func (c *Certificates) askOwn(ctx context.Context, meet bool) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	now := c.o.Now()
	said, failed := c.o.Own(ctx)
	if ctx.Err() == nil || failed == nil {
		c.own.looked = now // a caller that went away is no reason to let the next ones wait
	}
	next := &ownSet{keys: make(map[string]bool)}
	crls := make(map[authorityID][]byte)
	for _, one := range said {
		cert, err := firstCertificate(one.Chain)
		if err != nil {
			return err
		}
		name, err := bindery.DNFromDER(cert.RawSubject)
		if err != nil {
			return err
		}
		next.certs = append(next.certs, cert)
		next.keys[name.Key()] = true
		id := idOf(cert)
		crls[id] = one.CRL
		if err := c.takeOwn(cert, one.CRL, c.own.crls[id]); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	c.own.crls = crls
	if meet && !sameCertificates(next.certs, c.own.known.Load().certificates()) {
		c.own.known.Store(next)
	}
	return nil
}

// takeOwn takes in a list that is not the last one. Another process may be a moment
// behind, so an older list is no error.
func (c *Certificates) takeOwn(cert *x509.Certificate, raw, last []byte) error {
	a := c.authority(cert)
	if a == nil {
		return errors.New("too many authorities are in use")
	}
	if last != nil && bytes.Equal(raw, last) {
		return nil
	}
	l, err := parseCRL(raw)
	if err != nil {
		return err
	}
	for _, known := range *a.lists.Load() {
		if known.scope.raw == l.scope.raw && l.olderThan(known) {
			return nil
		}
	}
	return a.accept(l, c.o.Now())
}

func firstCertificate(chain []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, errors.New("the authority has no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func sameCertificates(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}
