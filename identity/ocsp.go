package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	maxOCSPBytes = 64 << 10
	// ocspWithoutNext is how long an answer counts that does not say when the next one comes.
	ocspWithoutNext = 5 * time.Minute
	// maxOCSPLife bounds the others.
	maxOCSPLife   = 24 * time.Hour
	ocspRetry     = time.Minute
	maxResponders = 3
)

type ocspID [sha256.Size]byte

// An ocspState is what a responder (RFC 6960) says of one certificate.
type ocspState struct {
	cert, issuer *x509.Certificate
	by           *authority
	urls         []string
	answer       atomic.Pointer[ocspAnswer] // nil: none yet

	mu      sync.Mutex
	running chan struct{} // closed when the query that runs has ended; nil: none runs
	due     time.Time
}

type ocspAnswer struct {
	standing     standing // good, revoked, or unlisted: the responder does not know
	renew, until time.Time
}

// responder returns what is shared by all who present the certificate; nil where it names no responder.
func (c *Certificates) responder(cert, issuer *x509.Certificate, by *authority) *ocspState {
	urls := fetchable(cert.OCSPServer)
	if len(urls) == 0 {
		return nil
	}
	h := sha256.New()
	h.Write(by.id[:])
	h.Write(cert.Raw)
	state, _ := c.answers.first(ocspID(h.Sum(nil)), &ocspState{cert: cert, issuer: issuer, by: by, urls: urls[:min(len(urls), maxResponders)]})
	return state
}

// asked returns the responder's word. A first query is waited for; later ones run beside the requests, from
// half of an answer's life on. Without a current answer it is unlisted.
func (c *Certificates) asked(ctx context.Context, o *ocspState, now time.Time) standing {
	answer := o.answer.Load()
	fresh := answer != nil && now.Before(answer.until)
	if fresh && now.Before(answer.renew) {
		return answer.standing
	}
	o.mu.Lock()
	if o.running == nil && !now.Before(o.due) && now.Unix() >= o.by.responderBack.Load() {
		done := make(chan struct{})
		if c.background(func(ctx context.Context) { c.query(ctx, o, done) }) {
			o.running = done
		}
	}
	running := o.running
	o.mu.Unlock()
	if !fresh && running != nil {
		timer := time.NewTimer(c.o.FetchTimeout)
		defer timer.Stop()
		select {
		case <-running:
		case <-timer.C:
		case <-ctx.Done():
		}
		answer = o.answer.Load()
		fresh = answer != nil && now.Before(answer.until)
	}
	if answer == nil || !fresh && answer.standing != revoked {
		return unlisted
	}
	return answer.standing // a revoked certificate stays so while its responder is away
}

func (c *Certificates) query(ctx context.Context, o *ocspState, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, c.o.FetchTimeout)
	defer cancel()
	answer, err := c.queryAny(ctx, o)
	if errors.Is(err, errNoResponder) {
		// Not every certificate's first caller has to find that out.
		o.by.responderBack.Store(c.o.Now().Add(ocspRetry).Unix())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	defer close(done)
	o.running = nil
	if err != nil {
		o.due = c.o.Now().Add(ocspRetry)
		c.logged("ocsp "+o.urls[0], 10*time.Minute, "an OCSP responder does not answer well", "url", o.urls[0], "error", err)
		return
	}
	o.due = answer.renew
	o.answer.Store(answer)
}

var errNoResponder = errors.New("no answer")

// queryAny asks one responder after the other, in turn with other certificates of the authority, so that its
// responders hold up nobody else's.
func (c *Certificates) queryAny(ctx context.Context, o *ocspState) (answer *ocspAnswer, err error) {
	defer caught(&err)
	for _, slots := range []chan struct{}{o.by.querySlots, c.querySlots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for _, url := range o.urls {
		if answer, err = c.askResponder(ctx, url, o); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func (c *Certificates) askResponder(ctx context.Context, url string, o *ocspState) (*ocspAnswer, error) {
	// SHA-1 is what responders index their answers by; nothing rests on its strength here.
	body, err := ocsp.CreateRequest(o.cert, o.issuer, &ocsp.RequestOptions{Hash: crypto.SHA1})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoResponder, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the responder answered %s", resp.Status)
	}
	raw, err := readBounded(resp.Body, maxOCSPBytes)
	if err != nil {
		return nil, err
	}
	return readOCSP(raw, o.cert, o.issuer, c.o.Now())
}

// readOCSP reads an answer and checks that who signed it may: the authority itself or somebody whom it
// delegated that to (RFC 6960, section 4.2.2.2). The library checks signatures, and not the delegation.
func readOCSP(raw []byte, cert, issuer *x509.Certificate, now time.Time) (*ocspAnswer, error) {
	r, err := ocsp.ParseResponseForCert(raw, cert, issuer)
	if err != nil {
		return nil, err
	}
	if signer := r.Certificate; signer != nil && !bytes.Equal(signer.Raw, issuer.Raw) {
		switch {
		case !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return nil, errors.New("the answer is signed with a certificate that is not for that")
		case now.Before(signer.NotBefore), now.After(signer.NotAfter):
			return nil, errors.New("the answer is signed with a certificate that is not valid now")
		}
	}
	until := r.NextUpdate
	if until.IsZero() {
		until = r.ThisUpdate.Add(ocspWithoutNext)
	}
	if latest := now.Add(maxOCSPLife); until.After(latest) {
		until = latest
	}
	switch {
	case r.ThisUpdate.After(now.Add(crlSkew)):
		return nil, errors.New("the answer is from the future")
	case !now.Before(until):
		return nil, errors.New("the answer is old")
	}
	answer := &ocspAnswer{until: until, renew: now.Add(until.Sub(now) / 2)}
	switch r.Status {
	case ocsp.Good:
		answer.standing = good
	case ocsp.Revoked:
		answer.standing = revoked
	}
	return answer, nil
}
