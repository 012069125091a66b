package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A crl is a certificate revocation list (RFC 5280, section 5) after its signature was
// checked: only what a look-up needs.
type crl struct {
	number                 *big.Int // nil: none
	thisUpdate, nextUpdate time.Time
	serials                serials
	scope                  crlScope
}

// crlScope says which of its issuer's certificates a list speaks of: its issuing
// distribution point (RFC 5280, section 5.2.5).
type crlScope struct {
	raw       string // two lists have the same scope if and only if theirs are equal; empty: all certificates
	onlyUsers bool
	onlyCAs   bool
	urls      []string // not empty: certificates with one of these distribution points
}

// covers reports whether the list would name a certificate if it were revoked.
func (s crlScope) covers(ca bool, points []string) bool {
	switch {
	case s.raw == "":
		return true
	case s.onlyUsers && ca, s.onlyCAs && !ca:
		return false
	case len(s.urls) == 0:
		return true
	}
	return slices.ContainsFunc(points, func(p string) bool { return slices.Contains(s.urls, p) })
}

// olderThan reports whether taking l in place of other would be a step back: a list that somebody
// replays takes revocations back.
func (l *crl) olderThan(other *crl) bool {
	if l.number != nil && other.number != nil {
		if c := l.number.Cmp(other.number); c != 0 {
			return c < 0
		}
	}
	return l.thisUpdate.Before(other.thisUpdate)
}

// A signedCRL was parsed, and its signature was not checked yet.
type signedCRL struct {
	crl
	issuer    []byte // the raw name
	tbs       []byte // what is signed
	algorithm x509.SignatureAlgorithm
	signature []byte
}

var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidReasonCode               = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate           = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber                = asn1.ObjectIdentifier{2, 5, 29, 20}
)

var errMalformedCRL = errors.New("the revocation list is malformed")

// parseCRL reads a list in DER or PEM. The standard library keeps some 400 bytes for every
// revoked certificate, and lists with a million exist, so the entries are read here, and the
// library reads the list without them.
func parseCRL(raw []byte) (*signedCRL, error) {
	if block, _ := pem.Decode(raw); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a revocation list was expected, and the PEM block is %.40q", block.Type)
		}
		raw = block.Bytes
	}
	var outer, element, body cryptobyte.String
	input := cryptobyte.String(raw)
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return nil, errMalformedCRL
	}
	tbs := element
	if !element.ReadASN1(&body, cbasn1.SEQUENCE) {
		return nil, errMalformedCRL
	}
	head, entries, ok := splitCRL(&body)
	if !ok {
		return nil, errMalformedCRL
	}
	stub, err := withoutEntries(head, body, outer)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(stub)
	if err != nil {
		return nil, err
	}
	l := &signedCRL{
		issuer: list.RawIssuer, tbs: tbs, algorithm: list.SignatureAlgorithm, signature: list.Signature,
		crl: crl{number: list.Number, thisUpdate: list.ThisUpdate, nextUpdate: list.NextUpdate},
	}
	if l.nextUpdate.IsZero() {
		return nil, errors.New("the revocation list does not say when the next one comes")
	}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidIssuingDistributionPoint):
			if l.scope, err = parseScope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical && !e.Id.Equal(oidAuthorityKeyID) && !e.Id.Equal(oidCRLNumber):
			// A delta list among others (RFC 5280, section 5.2.4).
			return nil, fmt.Errorf("the revocation list has the critical extension %s, which is not supported", e.Id)
		}
	}
	if l.serials, err = parseEntries(entries); err != nil {
		return nil, err
	}
	return l, nil
}

// splitCRL takes what stands before the revoked certificates, and them, off a
// TBSCertList. What stays in body are the list's extensions.
func splitCRL(body *cryptobyte.String) (head []byte, entries cryptobyte.String, ok bool) {
	whole := *body
	ok = body.SkipOptionalASN1(cbasn1.INTEGER) && // version
		body.SkipASN1(cbasn1.SEQUENCE) && // signature
		body.SkipASN1(cbasn1.SEQUENCE) && // issuer
		skipTime(body) // thisUpdate
	if !ok {
		return nil, nil, false
	}
	if body.PeekASN1Tag(cbasn1.UTCTime) || body.PeekASN1Tag(cbasn1.GeneralizedTime) {
		if !skipTime(body) { // nextUpdate
			return nil, nil, false
		}
	}
	head = whole[:len(whole)-len(*body)]
	if body.PeekASN1Tag(cbasn1.SEQUENCE) && !body.ReadASN1(&entries, cbasn1.SEQUENCE) {
		return nil, nil, false
	}
	return head, entries, true
}

func skipTime(s *cryptobyte.String) bool {
	if s.PeekASN1Tag(cbasn1.UTCTime) {
		return s.SkipASN1(cbasn1.UTCTime)
	}
	return s.SkipASN1(cbasn1.GeneralizedTime)
}

func withoutEntries(head, extensions, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(head)+len(extensions)+len(signature)+16))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(head)
			b.AddBytes(extensions)
		})
		b.AddBytes(signature)
	})
	return b.Bytes()
}

// parseScope reads an IssuingDistributionPoint. A list that names revoked certificates of
// others, for some reasons only or of attribute certificates is not used.
func parseScope(der []byte) (crlScope, error) {
	unsupported := errors.New("the revocation list is indirect, or for some reasons or attribute certificates only")
	malformed := errors.New("the issuing distribution point of the revocation list is malformed")
	context := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	scope := crlScope{raw: string(der)}
	var idp, point, names cryptobyte.String
	var hasPoint, isFull bool
	input := cryptobyte.String(der)
	if !input.ReadASN1(&idp, cbasn1.SEQUENCE) || !input.Empty() ||
		!idp.ReadOptionalASN1(&point, &hasPoint, context(0).Constructed()) {
		return scope, malformed
	}
	if hasPoint {
		if !point.ReadOptionalASN1(&names, &isFull, context(0).Constructed()) {
			return scope, malformed
		}
		if !isFull {
			return scope, errors.New("the issuing distribution point of the revocation list is a relative name, which is not supported")
		}
		for !names.Empty() {
			var name cryptobyte.String
			var tag cbasn1.Tag
			if !names.ReadAnyASN1(&name, &tag) {
				return scope, malformed
			}
			if tag == context(6) { // uniformResourceIdentifier
				scope.urls = append(scope.urls, string(name))
			}
		}
		if len(scope.urls) == 0 {
			return scope, errors.New("the issuing distribution point of the revocation list has no URI")
		}
	}
	for !idp.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !idp.ReadAnyASN1(&value, &tag) {
			return scope, malformed
		}
		set := len(value) == 1 && value[0] != 0
		switch tag {
		case context(1):
			scope.onlyUsers = set
		case context(2):
			scope.onlyCAs = set
		case context(4), context(5): // indirectCRL, onlyContainsAttributeCerts
			if set {
				return scope, unsupported
			}
		default: // onlySomeReasons, and what is not known
			return scope, unsupported
		}
	}
	return scope, nil
}

// parseEntries reads the serial numbers of the revoked certificates.
func parseEntries(entries cryptobyte.String) (serials, error) {
	var s serials
	for !entries.Empty() {
		var entry, serial, extensions cryptobyte.String
		var has bool
		if !entries.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1(&serial, cbasn1.INTEGER) ||
			!skipTime(&entry) || !entry.ReadOptionalASN1(&extensions, &has, cbasn1.SEQUENCE) || !entry.Empty() {
			return serials{}, errMalformedCRL
		}
		if err := checkEntry(extensions); err != nil {
			return serials{}, err
		}
		if !s.add(serial) {
			return serials{}, errors.New("the revocation list has a serial number that is too long")
		}
	}
	s.sort()
	return s, nil
}

// checkEntry refuses critical extensions that would change what an entry means: the certificate
// of another issuer above all (RFC 5280, section 5.3).
func checkEntry(extensions cryptobyte.String) error {
	for !extensions.Empty() {
		var extension cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!extension.ReadOptionalASN1Boolean(&critical, cbasn1.BOOLEAN, false) {
			return errMalformedCRL
		}
		if critical && !oid.Equal(oidReasonCode) && !oid.Equal(oidInvalidityDate) {
			return fmt.Errorf("the revocation list has an entry with the critical extension %s, which is not supported", oid)
		}
	}
	return nil
}

// signedBy checks that the authority made the list: its name, its key, its right to sign lists.
func (l *signedCRL) signedBy(authority *x509.Certificate) error {
	switch {
	case !bytes.Equal(l.issuer, authority.RawSubject) && nameKey(l.issuer) != nameKey(authority.RawSubject):
		return errors.New("the revocation list is another authority's")
	case authority.KeyUsage != 0 && authority.KeyUsage&x509.KeyUsageCRLSign == 0:
		return errors.New("the authority may not sign revocation lists")
	}
	if err := authority.CheckSignature(l.algorithm, l.tbs, l.signature); err != nil {
		return fmt.Errorf("signature of the revocation list: %w", err)
	}
	return nil
}
