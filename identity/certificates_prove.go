package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/netip"
	"slices"
	"time"

	"bindery"
)

// What callers are told. Existing clients know the first six by their words.
var (
	errNoCertificate = bindery.Errorf(bindery.CodeInvalid, "No certificate provided")
	errExpired       = bindery.Errorf(bindery.CodeForbidden, "Your certificate has expired")
	errNotActive     = bindery.Errorf(bindery.CodeForbidden, "Your certificate is not active yet")
	errRevoked       = bindery.Errorf(bindery.CodeForbidden, "Your certificate has been revoked")
	errNoPoint       = bindery.Errorf(bindery.CodeForbidden, "Your certificate is invalid. No CRLDistributionPoints found on the certificate")
	errUnknown       = bindery.Errorf(bindery.CodeForbidden, "Your certificate is signed by an unknown authority")

	errIssuerExpired   = bindery.Errorf(bindery.CodeForbidden, "The certificate of your certificate's authority has expired")
	errIssuerNotActive = bindery.Errorf(bindery.CodeForbidden, "The certificate of your certificate's authority is not active yet")
	errIssuerRevoked   = bindery.Errorf(bindery.CodeForbidden, "The certificate of your certificate's authority has been revoked")
	errUnchecked       = bindery.Errorf(bindery.CodeForbidden, "Your certificate cannot be accepted. No current revocation list of its authority is available")
	errUsage           = bindery.Errorf(bindery.CodeForbidden, "Your certificate is not for client authentication")
	errName            = bindery.Errorf(bindery.CodeForbidden, "Your certificate has a name that its authority may not sign")
	errNoName          = bindery.Errorf(bindery.CodeForbidden, "Your certificate has no subject name, or one that cannot be read")
	errExtension       = bindery.Errorf(bindery.CodeForbidden, "Your certificate has a critical extension that is not supported")
	errChain           = bindery.Errorf(bindery.CodeForbidden, "Your certificate is invalid")
)

const (
	// maxChain bounds what a client may send; real chains have four certificates at most.
	maxChain = 10
	maxPaths = 8
	// proofLife is when a chain is built again though nothing seems to have changed: there may be
	// another one by then.
	proofLife = 10 * time.Minute
)

type proofKey [sha256.Size]byte

// A proof is what was found out of a certificate once.
type proof struct {
	set      uint64 // the generation of the trusted authorities
	until    time.Time
	identity bindery.Identity
	paths    []path // at least one
	own      bool   // Bindery itself issued it
}

// A path is a way from the certificate to a trusted authority.
type path struct {
	links   []link // the last one is the anchor
	unknown bool   // there is only the certificate, of an authority that nobody knows
}

// A link is a certificate of a path, with what every request asks of it.
type link struct {
	notBefore, notAfter time.Time
	ca                  bool
	serial              []byte
	pointed             bool       // it names distribution points, of whatever kind
	points              []string   // those that are URIs
	urls                []string   // those that are fetched
	authority           *authority // who signed it; nil: it is an anchor, or that is not known
	ocsp                *ocspState // nil: no responder, or not asked
}

// Prove says who presents the chain, its own certificate first, over a connection from remote. The chain is what
// the TLS handshake delivered: possession of the key is proven there, and everything else here, on each call.
//
// Errors: CodeInvalid without a certificate, CodeForbidden for one that is refused.
func (c *Certificates) Prove(ctx context.Context, chain []*x509.Certificate, remote netip.Addr) (bindery.Identity, error) {
	if len(chain) == 0 || chain[0] == nil {
		return bindery.Identity{}, errNoCertificate
	}
	now := c.o.Now()
	key := keyOf(chain)
	p, ok := c.proven.get(key)
	if !ok || p.set != c.trust.Load().generation || now.After(p.until) {
		var err error
		if p, err = c.build(chain, now); err != nil {
			return bindery.Identity{}, err
		}
		c.proven.put(key, p)
	}
	if p.own {
		c.lookOwn(ctx)
	}
	if c.o.Verify {
		if err := c.current(ctx, p, now); err != nil {
			return bindery.Identity{}, err
		}
	}
	if c.o.CheckHost {
		if err := c.hosts.check(ctx, chain[0], remote); err != nil {
			return bindery.Identity{}, err
		}
	}
	return p.identity, nil
}

// keyOf is of all that was sent: whether a chain can be built depends on it.
func keyOf(chain []*x509.Certificate) proofKey {
	if len(chain) == 1 {
		return sha256.Sum256(chain[0].Raw)
	}
	h := sha256.New()
	for _, cert := range chain {
		if cert != nil {
			h.Write(cert.Raw)
		}
	}
	return proofKey(h.Sum(nil))
}

// build finds the paths of a certificate, whatever the time is: what was built today must still say "expired" tomorrow.
func (c *Certificates) build(chain []*x509.Certificate, now time.Time) (*proof, error) {
	leaf := chain[0]
	dn, err := bindery.DNFromDER(leaf.RawSubject)
	if err != nil {
		return nil, errNoName.Because(err)
	}
	if dn.Key() == emptyName {
		return nil, errNoName
	}
	set := c.trust.Load()
	p := &proof{set: set.generation, until: now.Add(proofLife), identity: bindery.Identity{
		AuthType: bindery.AuthX509, Name: dn.String(), Keys: dn.Keys(),
	}}
	found, err := c.chains(set, chain, now)
	if c.o.TrustUnknown && bindery.MessageOf(err) == errUnknown.Message {
		// No authority spoke, so the identity has none: a binding that is pinned to one stays closed.
		p.paths = []path{{links: []link{newLink(leaf, nil)}, unknown: true}}
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	issuer, err := bindery.DNFromDER(leaf.RawIssuer)
	if err != nil {
		return nil, errChain.Because(err)
	}
	p.identity.IssuerKey = issuer.Key()
	p.own = set.own.has(p.identity.IssuerKey)
	p.identity.IssuedHere = p.own
	for _, one := range found[:min(len(found), maxPaths)] {
		var w path
		for i, cert := range one {
			var by *authority
			if i+1 < len(one) {
				if by = c.authority(one[i+1]); by == nil {
					return nil, bindery.Errorf(bindery.CodeUnavailable, "too many authorities are in use")
				}
			}
			l := newLink(cert, by)
			if by != nil {
				c.inUse(by, l.urls)
				if c.o.OCSP && !p.own { // its list is as fresh as its answers are
					l.ocsp = c.responder(cert, one[i+1], by)
				}
			}
			w.links = append(w.links, l)
		}
		p.paths = append(p.paths, w)
	}
	c.sayFullName(leaf, dn)
	return p, nil
}

// emptyName is the key of a name without anything in it, which many certificates share.
var emptyName = bindery.DN{}.Key()

func newLink(cert *x509.Certificate, by *authority) link {
	return link{
		notBefore: cert.NotBefore, notAfter: cert.NotAfter, ca: cert.BasicConstraintsValid && cert.IsCA,
		serial: serialBytes(cert.SerialNumber), pointed: hasPoint(cert), points: cert.CRLDistributionPoints,
		urls: fetchable(cert.CRLDistributionPoints), authority: by,
	}
}

// hasPoint looks at the extension itself (RFC 5280, section 4.2.1.13): crypto/x509 leaves
// out the points that are names in a directory, as if nothing were said of revocation.
func hasPoint(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidDistributionPoints) })
}

var oidDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}

// sayFullName tells the operator of a certificate that existing bindings cannot name, once.
func (c *Certificates) sayFullName(leaf *x509.Certificate, dn bindery.DN) {
	old, whole := dn.OldForm()
	if whole {
		return
	}
	sum := sha256.Sum256(leaf.Raw)
	if _, first := c.said.first("old form "+string(sum[:]), c.o.Now()); first {
		c.o.Log.Info("the old form of a certificate's name drops some of its values: only a binding of the full name will match",
			"bind", dn.String(), "old_form", old)
	}
}

// chains returns the chains to a trusted authority, each allowed by the signing policies.
func (c *Certificates) chains(set *trustSet, sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	leaf := sent[0]
	if len(sent) > maxChain {
		return nil, errChain.Because(errors.New("the client sent too many certificates"))
	}
	// An authority's own certificate is no client's where it says so. One that does not say so and was put among
	// the trusted is taken at its word, as crypto/x509 does.
	if leaf.IsCA && leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errUsage
	}
	intermediates := set.intermediates
	if len(sent) > 1 {
		intermediates = intermediates.Clone()
		for _, cert := range sent[1:] {
			if cert != nil && len(cert.Raw) > 0 { // crypto/x509 refuses the whole chain for one that was not parsed
				intermediates.AddCert(cert)
			}
		}
	}
	found, err := leaf.Verify(x509.VerifyOptions{
		Roots: set.roots, Intermediates: intermediates, CurrentTime: within(leaf, now),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && !c.o.Verify {
		found, err = leaf.Verify(x509.VerifyOptions{
			Roots: set.roots, Intermediates: intermediates, CurrentTime: leaf.NotBefore,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
	}
	if err != nil {
		return nil, refusal(err, leaf, now)
	}
	var permitted [][]*x509.Certificate
	for _, chain := range found {
		if set.permits(chain) {
			permitted = append(permitted, chain)
		}
	}
	if len(permitted) == 0 {
		return nil, errName.Because(errors.New("the signing policy of the authority does not allow the name"))
	}
	return permitted, nil
}

// within is the moment of a certificate's life that is nearest to now.
func within(cert *x509.Certificate, now time.Time) time.Time {
	switch {
	case now.Before(cert.NotBefore):
		return cert.NotBefore
	case now.After(cert.NotAfter):
		return cert.NotAfter
	}
	return now
}

// refusal says in the caller's terms why crypto/x509 found no chain.
func refusal(err error, leaf *x509.Certificate, now time.Time) *bindery.Error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errUnknown.Because(err)
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return errExtension.Because(err)
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok {
		return errChain.Because(err)
	}
	switch invalid.Reason {
	case x509.Expired:
		for _, t := range []times{newTimes(leaf, false), newTimes(invalid.Cert, true)} {
			if why := timely(t, now); why != nil {
				return why.Because(err)
			}
		}
		return errChain.Because(err)
	case x509.IncompatibleUsage:
		return errUsage.Because(err)
	case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName:
		return errName.Because(err)
	case x509.NotAuthorizedToSign:
		return errUnknown.Because(err) // signed by what is no authority
	default:
		return errChain.Because(err)
	}
}
