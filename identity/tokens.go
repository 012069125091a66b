package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"bindery"
)

const (
	defaultSkew         = 30 * time.Second
	maxSkew             = 5 * time.Minute
	defaultTokenTimeout = 10 * time.Second

	// maxToken is the longest token, in bytes. Servers commonly take headers of 8 to 16 KiB.
	maxToken = 16 << 10
	// maxProvenTokens bounds how many proven tokens are remembered.
	maxProvenTokens = 10_000
)

// tokenAlgorithms are all that a token may be signed with: whoever checks such a
// signature cannot make one (RFC 8725, sections 2.1 and 3.1).
var tokenAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// An Issuer is an OpenID provider whose tokens are believed.
type Issuer struct {
	// URL is compared with a token's iss byte by byte. It must be https, except on a loopback address.
	URL string
	// Audiences: a token must be for one of these.
	Audiences []string
	// Claim names the user; empty means sub. email counts only beside "email_verified": true.
	Claim string
	// CAFile, PEM, are the authorities to trust instead of the system's.
	CAFile string
	// Algorithms are the signatures to accept; empty means every asymmetric one.
	Algorithms []string
}

// TokenOptions say which tokens prove their owner.
type TokenOptions struct {
	Issuers []Issuer
	Skew    time.Duration // how far clocks may differ: 0 means 30 s, and 5 min is the most
	Timeout time.Duration // bounds one fetch of an issuer's keys: 0 means 10 s
	Log     *slog.Logger  // nil: nothing is logged
	Now     func() time.Time
}

// Tokens proves who somebody is by a JWT (RFC 7519) of a configured OpenID
// provider: an ID token (OpenID Connect Core, section 2) or an access token (RFC 9068).
// Its methods may be called from several goroutines.
type Tokens struct {
	issuers []*tokenIssuer
	byURL   map[string]*tokenIssuer
	skew    time.Duration
	now     func() time.Time

	mu     sync.Mutex // guards what follows
	proven map[[sha256.Size]byte]provenToken
	hits   uint64
}

// A provenToken is remembered until it expires or its issuer's keys change.
type provenToken struct {
	identity   bindery.Identity
	issuer     *tokenIssuer
	generation uint64 // of the issuer's keys
	until      time.Time
}

// NewTokens checks the options. Nothing is fetched yet.
func NewTokens(o TokenOptions) (*Tokens, error) {
	t := &Tokens{
		byURL: map[string]*tokenIssuer{}, proven: map[[sha256.Size]byte]provenToken{},
		skew: cmp.Or(o.Skew, defaultSkew), now: o.Now,
	}
	if t.skew < 0 || t.skew > maxSkew {
		return nil, fmt.Errorf("a skew of %s is not between 0 and %s", t.skew, maxSkew)
	}
	if o.Timeout < 0 {
		return nil, errors.New("a timeout cannot be negative")
	}
	if t.now == nil {
		t.now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, c := range o.Issuers {
		if t.byURL[c.URL] != nil {
			return nil, fmt.Errorf("issuer %s: it is there twice", c.URL)
		}
		i, err := newTokenIssuer(c, cmp.Or(o.Timeout, defaultTokenTimeout), o.Log, t.now)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", c.URL, err)
		}
		t.issuers = append(t.issuers, i)
		t.byURL[c.URL] = i
	}
	return t, nil
}

// Run fetches the keys of all issuers, and fetches them again from time to time,
// until the context ends. An issuer that does not answer is asked again, less and
// less often, and keeps nobody else waiting.
func (t *Tokens) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, i := range t.issuers {
		all.Go(func() { i.keepFresh(ctx) })
	}
	all.Wait()
	return nil
}

// What a caller is told. Nothing of it says more than who holds the token knows.
var (
	errTokenMissing   = refuseToken("no token was given")
	errTokenMalformed = refuseToken("the token is not a JWT signed with an asymmetric algorithm")
	errTokenKind      = refuseToken("the token is of a kind that proves nothing here")
	errTokenIssuer    = refuseToken("the token's issuer is not known here")
	errTokenAudience  = refuseToken("the token is not meant for this service")
	errTokenNoExpiry  = refuseToken("the token has no expiry time")
	errTokenExpired   = refuseToken("the token has expired")
	errTokenEarly     = refuseToken("the token is not valid yet")
	errTokenSignature = refuseToken("the token is not signed by its issuer")
	errIssuerDown     = bindery.Errorf(bindery.CodeUnavailable, "the token's issuer cannot be asked for its keys at the moment")
)

func refuseToken(format string, args ...any) *bindery.Error {
	return bindery.Errorf(bindery.CodeUnauthorized, format, args...)
}

// Prove returns who the token is about: the name is issuer#value, the value being
// the claim that the issuer's configuration names.
//
// Errors: CodeUnauthorized; CodeUnavailable where the key that signed is not known
// and the issuer cannot be asked.
func (t *Tokens) Prove(ctx context.Context, raw string) (bindery.Identity, error) {
	switch {
	case raw == "":
		return bindery.Identity{}, errTokenMissing
	case len(raw) > maxToken:
		return bindery.Identity{}, refuseToken("the token is longer than %d bytes", maxToken)
	}
	sum := sha256.Sum256([]byte(raw))
	if id, ok := t.recall(sum); ok {
		return id, nil
	}
	token, err := parseToken(raw)
	if err != nil {
		return bindery.Identity{}, err
	}
	i := t.byURL[token.claims.Issuer]
	if i == nil {
		return bindery.Identity{}, errTokenIssuer
	}
	// Whatever costs least is looked at first: only a token that would do in all other
	// ways is worth a signature check, or even a question to its issuer.
	if err := t.checkClaims(token, i); err != nil {
		return bindery.Identity{}, err
	}
	generation, err := i.verify(ctx, token)
	if err != nil {
		return bindery.Identity{}, err
	}
	value, err := token.value(i.claim)
	if err != nil {
		return bindery.Identity{}, err
	}
	id := bindery.Identity{AuthType: bindery.AuthOIDC, Name: i.url + "#" + value}
	if id.Keys, err = bindery.IdentifierKeys(id.AuthType, id.Name); err != nil {
		return bindery.Identity{}, refuseToken("the token's claim %s is not usable", i.claim).Because(err)
	}
	t.remember(sum, provenToken{id, i, generation, token.claims.Expiry.Time().Add(t.skew)})
	return id, nil
}

// checkClaims checks what RFC 7519, section 4.1, and RFC 9068, section 4, ask for
// besides the issuer and the signature.
func (t *Tokens) checkClaims(token *parsedToken, i *tokenIssuer) error {
	if !slices.Contains(i.algorithms, token.algorithm) {
		return refuseToken("the token is signed with an algorithm that is not accepted from its issuer")
	}
	if token.claims.Expiry == nil {
		return errTokenNoExpiry
	}
	err := token.claims.ValidateWithLeeway(jwt.Expected{Time: t.now(), AnyAudience: i.audiences}, t.skew)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrInvalidAudience):
		return errTokenAudience
	case errors.Is(err, jwt.ErrExpired):
		return errTokenExpired
	default:
		return errTokenEarly.Because(err) // nbf or iat
	}
}

// recall returns the identity of a token that was proven before.
func (t *Tokens) recall(sum [sha256.Size]byte) (bindery.Identity, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.proven[sum]
	if !ok {
		return bindery.Identity{}, false
	}
	if t.now().After(p.until) || !p.issuer.stands(p.generation) {
		delete(t.proven, sum)
		return bindery.Identity{}, false
	}
	t.hits++
	return p.identity, true
}

func (t *Tokens) remember(sum [sha256.Size]byte, p provenToken) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.proven {
		if len(t.proven) < maxProvenTokens {
			break
		}
		delete(t.proven, other) // any: maps are walked in no order
	}
	t.proven[sum] = p
}

// Identifier completes an identifier that an operator typed. A bare value becomes
// issuer#value while there is a single issuer; an identifier with an issuer, known
// or not, stays as it is.
//
// Errors: CodeInvalid.
func (t *Tokens) Identifier(text string) (string, error) {
	if issuer, value, ok := strings.Cut(text, "#"); ok && (t.byURL[issuer] != nil || isWebURL(issuer)) {
		if value == "" {
			return "", bindery.Errorf(bindery.CodeInvalid, "auth_identifier has no value after the issuer and #")
		}
		return text, nil
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "", bindery.Errorf(bindery.CodeInvalid, "auth_identifier is empty")
	case len(t.issuers) != 1:
		return "", bindery.Errorf(bindery.CodeInvalid, "auth_identifier must be issuer#value: "+
			"a value alone does only where exactly one issuer is configured, and here it is %d", len(t.issuers))
	}
	return t.issuers[0].url + "#" + text, nil
}

// TokenStats say how proof by token is doing.
type TokenStats struct {
	Remembered int    // proven tokens that need no signature check
	Recalled   uint64 // how often one of them came again
	Issuers    []IssuerStats
}

// IssuerStats say how one issuer is doing.
type IssuerStats struct {
	URL      string
	Keys     int       // 0: none are known, or what is known is too old
	Fetched  time.Time // when its keys were last fetched; zero: never
	Failing  bool      // the last fetch failed
	Fetches  uint64    // that succeeded
	Failures uint64    // fetches that did not
}

// Stats returns what is measured now.
func (t *Tokens) Stats() TokenStats {
	t.mu.Lock()
	s := TokenStats{Remembered: len(t.proven), Recalled: t.hits}
	t.mu.Unlock()
	for _, i := range t.issuers {
		s.Issuers = append(s.Issuers, i.stats())
	}
	return s
}
