package mtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1" //nolint:gosec // RFC 6960 names issuers by it; nothing rests on its strength
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/time/rate"

	"bindery"
)

const (
	// answerLife is from an answer's thisUpdate to its nextUpdate, backdate apart: what
	// keeps answers for so long lets a revoked certificate in for so long.
	answerLife = 5 * time.Minute
	// answersFor is how long an answer is given out again: another process may have revoked.
	answersFor  = 200 * time.Millisecond
	mostAnswers = 4096
	// Answers about serial numbers that were never issued are each signed anew, for
	// nobody's benefit but who tries; so many a second.
	unknownRate, unknownBurst = 50, 100
)

// responder keeps what it answered last.
type responder struct {
	turn    chan struct{} // one signs at a time: this is not to take all processors
	unknown *rate.Limiter

	mu      sync.Mutex
	answers map[answerKey]answer
}

type answerKey struct {
	serial string
	hash   crypto.Hash
}

type answer struct {
	der   []byte
	until time.Time
	dirty int64
}

func (r *responder) open() {
	r.turn = make(chan struct{}, 1)
	r.unknown = rate.NewLimiter(unknownRate, unknownBurst)
	r.answers = make(map[answerKey]answer)
}

// OCSP implements [bindery.Publisher]. A nonce is left out of the answer, as RFC 5019,
// section 4, has it.
func (d *driver) OCSP(ctx context.Context, request []byte) ([]byte, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	req, err := ocsp.ParseRequest(request)
	if err != nil || !req.HashAlgorithm.Available() || req.SerialNumber == nil || req.SerialNumber.BitLen() > 160 {
		return nil, bindery.Errorf(bindery.CodeInvalid, "not an OCSP request").Because(err)
	}
	a, err := d.authority(ctx)
	if err != nil {
		return nil, err
	}
	if !a.issued(req) {
		return ocsp.UnauthorizedErrorResponse, nil // RFC 5019, section 2.2.3
	}
	key := answerKey{serialText(req.SerialNumber), req.HashAlgorithm}
	if der := d.answered(key); der != nil {
		return der, nil
	}
	select {
	case d.ocsp.turn <- struct{}{}:
		defer func() { <-d.ocsp.turn }()
	case <-ctx.Done():
		return nil, storeError(ctx.Err())
	}
	if der := d.answered(key); der != nil {
		return der, nil
	}
	return d.answer(ctx, a, key, req.SerialNumber)
}

func (d *driver) answered(key answerKey) []byte {
	d.ocsp.mu.Lock()
	defer d.ocsp.mu.Unlock()
	known, ok := d.ocsp.answers[key]
	if !ok || known.dirty != d.lists.dirty.Load() || !d.now().Before(known.until) {
		return nil
	}
	return known.der
}

func (d *driver) answer(ctx context.Context, a *authority, key answerKey, serial *big.Int) ([]byte, error) {
	dirty := d.lists.dirty.Load()
	now := d.now().UTC()
	var cert bindery.IssuedCertificate
	err := d.server.Store.View(ctx, func(tx bindery.Tx) (err error) {
		cert, err = tx.Certificates().BySerial(ctx, d.server.Name, key.serial)
		return err
	})
	template := ocsp.Response{
		Status: ocsp.Good, SerialNumber: serial, IssuerHash: key.hash,
		ThisUpdate: now.Add(-backdate).Truncate(time.Second), NextUpdate: now.Add(answerLife).Truncate(time.Second),
	}
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound:
		if !d.ocsp.unknown.AllowN(now, 1) {
			return ocsp.TryLaterErrorResponse, nil
		}
		template.Status = ocsp.Unknown
	case err != nil:
		return nil, storeError(err)
	case !cert.Revoked.IsZero():
		template.Status, template.RevokedAt = ocsp.Revoked, cert.Revoked.UTC().Truncate(time.Second)
		template.RevocationReason = ocsp.Unspecified
	}
	der, err := ocsp.CreateResponse(a.cert, a.cert, template, a.key)
	if err != nil {
		return nil, bindery.Errorf(bindery.CodeInternal, "the answer could not be signed").Because(err)
	}
	if template.Status != ocsp.Unknown {
		d.ocsp.keep(key, answer{der, now.Add(answersFor), dirty}, now)
	}
	return der, nil
}

func (r *responder) keep(key answerKey, a answer, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= mostAnswers {
		for k, old := range r.answers {
			if !now.Before(old.until) {
				delete(r.answers, k)
			}
		}
	}
	if len(r.answers) < mostAnswers {
		r.answers[key] = a
	}
}

// issued reports whether a request is about a certificate of this authority (RFC 6960, section 4.1.1).
func (a *authority) issued(req *ocsp.Request) bool {
	name, key := hash(req.HashAlgorithm, a.cert.RawSubject), hash(req.HashAlgorithm, publicBits(a.cert))
	return bytes.Equal(name, req.IssuerNameHash) && bytes.Equal(key, req.IssuerKeyHash)
}

func hash(h crypto.Hash, b []byte) []byte {
	if h == crypto.SHA1 {
		sum := sha1.Sum(b) //nolint:gosec // see the import
		return sum[:]
	}
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}

// publicBits is the key without its algorithm.
func publicBits(cert *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil // cannot happen: crypto/x509 read it
	}
	return info.Key.RightAlign()
}
