package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

// CertificateOptions are what [NewCertificates] needs. The zero value of a
// number or a time is a sensible default.
type CertificateOptions struct {
	// TrustDir holds the authorities (*.pem, *.crt, hashed names *.0), their revocation
	// lists (*.r0) and what names they may sign (*.signing_policy). It is looked at every PollEvery and
	// read again as a whole when it changed; what cannot be read leaves the last good set in place.
	TrustDir string
	// TrustFiles are further files of authorities, watched alike.
	TrustFiles []string
	// CacheDir keeps fetched revocation lists for the next start. Empty: they are kept in memory only.
	CacheDir string

	// TrustUnknown takes certificates of authorities that nobody knows: anybody can claim any name.
	TrustUnknown bool
	// Verify checks validity in time, and revocation.
	Verify bool
	// RequireCRL refuses a certificate that names no distribution point and whose authority has no list here.
	RequireCRL bool
	// StaleCRL is what happens when no current list is to be had: "refuse" (also when empty) or "warn".
	StaleCRL string
	// OCSP asks the responders that certificates name, besides the lists.
	OCSP bool
	// CheckHost demands that the certificate names the host that connects (by reverse DNS, confirmed forward).
	CheckHost bool

	MaxCRLBytes  int64         // 64 MiB
	FetchTimeout time.Duration // of one fetch, and how long a first certificate waits; 10 s
	RefreshEvery time.Duration // of lists, at the latest; 1 h
	PollEvery    time.Duration // of the trust directory; 3 s

	// Own returns what Bindery's own authorities publish, and an error beside the others' where one cannot answer;
	// nil: there are none. They are trusted, for bindings that
	// are pinned to them (see [bindery.Identity.IssuedHere]), and their lists are looked at when a certificate of theirs is.
	Own      func(ctx context.Context) ([]OwnAuthority, error)
	Log      *slog.Logger
	Now      func() time.Time
	Resolver *net.Resolver // for CheckHost
}

func (o *CertificateOptions) complete() error {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.FetchTimeout, 10 * time.Second}, {&o.RefreshEvery, time.Hour}, {&o.PollEvery, 3 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if o.MaxCRLBytes <= 0 {
		o.MaxCRLBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	switch o.StaleCRL {
	case "", staleRefuse, staleWarn:
		return nil
	}
	return errors.New(`what to do with a stale revocation list is neither "refuse" nor "warn"`)
}

const (
	staleRefuse = "refuse"
	staleWarn   = "warn"
)

// Certificates proves identities by X.509 certificates (RFC 5280).
//
// What costs time, the building of a chain, is done once for each certificate, and again when the trusted
// authorities change. What may change from one request to the next, the time and the revocation lists,
// is looked at on every request, in memory.
type Certificates struct {
	o     CertificateOptions
	trust atomic.Pointer[trustSet]
	http  *http.Client
	hosts *hosts

	proven  *recent[proofKey, *proof]
	said    *recent[string, time.Time] // when a text was last logged
	answers *recent[ocspID, *ocspState]
	slots   chan struct{} // fetches at one time
	// querySlots are for OCSP. Each authority has a few of either kind: one that hangs holds up nobody else.
	querySlots chan struct{}
	large      chan struct{} // large ones among them

	own ownAuthorities

	// stamps are of the files behind trust; only the one who reloads touches them.
	stamps map[string]stamp
	// registering guards listFiles and unread, and keeps a new authority from missing a list.
	registering sync.Mutex
	listFiles   map[string]listFile
	unread      map[authorityID]bool

	mu           sync.Mutex
	authorities  map[authorityID]*authority
	trustProblem string // why the last reading failed
	ended        bool   // no fetch begins any more

	ctx     context.Context //nolint:containedctx // of fetches, which outlive the request that began them
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewCertificates reads the trusted authorities; what it cannot read is an
// error. The proofs work before [Certificates.Run] does, but nothing is watched.
func NewCertificates(o CertificateOptions) (*Certificates, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Certificates{
		o:           o,
		http:        newHTTPClient(o.FetchTimeout),
		hosts:       newHosts(o),
		proven:      newRecent[proofKey, *proof](16 << 10),
		said:        newRecent[string, time.Time](4 << 10),
		answers:     newRecent[ocspID, *ocspState](16 << 10),
		slots:       make(chan struct{}, 128),
		querySlots:  make(chan struct{}, 128),
		large:       make(chan struct{}, largeSlots),
		authorities: make(map[authorityID]*authority),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := errors.Join(c.tidy(), c.meetOwn(c.ctx), c.reload()); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// Run watches the trust directory and refreshes the revocation lists until ctx ends. Fetches
// have ended when it returns, and none begins any more.
func (c *Certificates) Run(ctx context.Context) error {
	defer c.close()
	tick := time.NewTicker(c.o.PollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = c.meetOwn(ctx) // it has said so
			_ = c.reload()     // this too
			c.refreshDue()
		}
	}
}

func (c *Certificates) close() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	c.http.CloseIdleConnections()
}

// background runs f beside the request, unless Run has ended.
func (c *Certificates) background(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.running.Go(func() { f(c.ctx) })
	return true
}

// logged writes a warning, unless the same was written less than pause ago.
func (c *Certificates) logged(key string, pause time.Duration, text string, args ...any) {
	now := c.o.Now()
	if last, ok := c.said.get(key); ok && now.Sub(last) < pause {
		return
	}
	c.said.put(key, now)
	c.o.Log.Warn(text, args...)
}

// CertificateStats is what [Certificates] knows, for metrics.
type CertificateStats struct {
	Authorities  int       // trusted certificates
	Loaded       time.Time // when they were last read
	TrustProblem string    // why they could not be read again; empty: they could
	Proven       int       // certificates whose chain is remembered
	Lists        []ListStats
	Sources      []SourceStats
}

// ListStats describes a revocation list that is in use.
type ListStats struct {
	Issuer                 string
	Entries                int
	Number                 string // empty: none
	ThisUpdate, NextUpdate time.Time
	Partial                bool // it speaks of some of the issuer's certificates
}

// SourceStats describes a distribution point.
type SourceStats struct {
	Issuer, URL string
	Fetched     time.Time // zero: never
	Failures    int       // in a row
	Problem     string    // of the last attempt
}

// Stats describes what is known now.
func (c *Certificates) Stats() CertificateStats {
	set := c.trust.Load()
	c.mu.Lock()
	s := CertificateStats{Authorities: set.size, Loaded: set.loaded, TrustProblem: c.trustProblem, Proven: c.proven.len()}
	all := slices.Collect(maps.Values(c.authorities))
	c.mu.Unlock()
	for _, a := range all {
		issuer := issuerName(a.cert)
		for _, l := range *a.lists.Load() {
			number := ""
			if l.number != nil {
				number = l.number.String()
			}
			s.Lists = append(s.Lists, ListStats{
				Issuer: issuer, Entries: l.serials.count, Number: number,
				ThisUpdate: l.thisUpdate, NextUpdate: l.nextUpdate, Partial: l.scope.raw != "",
			})
		}
		a.mu.Lock()
		for _, source := range a.sources {
			s.Sources = append(s.Sources, SourceStats{
				Issuer: issuer, URL: source.url, Fetched: source.fetched, Failures: source.failures, Problem: source.problem,
			})
		}
		a.mu.Unlock()
	}
	return s
}

// issuerName is for logs and metrics.
func issuerName(cert *x509.Certificate) string {
	dn, err := bindery.DNFromDER(cert.RawSubject)
	if err != nil {
		return "(unreadable name)"
	}
	return dn.String()
}
