package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// keysInterval is how often keys are fetched: a key that the issuer has withdrawn is believed that long.
	keysInterval = 10 * time.Minute
	// keysLimit is how long keys are believed while the issuer cannot be asked.
	keysLimit = 24 * time.Hour
	// keysPause is the least time between two fetches that tokens cause. Whoever invents
	// key ids makes Bindery ask this often, and no oftener.
	keysPause = 3 * time.Second
	// firstKeysRetry and lastKeysRetry bound the pause after a fetch that failed.
	firstKeysRetry, lastKeysRetry = time.Second, time.Minute
	// keysWait is how long a token waits for a fetch, and maxKeysWaiting how many do at a time.
	keysWait       = 5 * time.Second
	maxKeysWaiting = 256
	// maxIssuerAnswer bounds a document of an issuer, in bytes, and maxIssuerKeys how many of its keys are used.
	maxIssuerAnswer = 1 << 20
	maxIssuerKeys   = 32
	// maxCause bounds what of an issuer's answer gets into an error, which is for the log.
	maxCause = 400
	// RFC 7518, section 3.3, asks for 2048 bits; what is far longer costs too much time.
	minRSABits, maxRSABits = 2048, 8192
)

// A tokenIssuer is one issuer and its keys.
type tokenIssuer struct {
	url        string
	claim      string
	audiences  jwt.Audience
	algorithms []jose.SignatureAlgorithm

	client  *http.Client
	timeout time.Duration
	log     *slog.Logger
	now     func() time.Time

	mu       sync.Mutex // guards what follows
	keys     issuerKeys
	fetched  time.Time // when keys were last fetched; zero: never
	tried    time.Time // when the last fetch began
	failed   error     // how it ended
	flight   *keysFlight
	waiting  int
	fetches  uint64
	failures uint64
}

// issuerKeys are replaced, never changed.
type issuerKeys struct {
	list        []jose.JSONWebKey
	fingerprint string
	generation  uint64 // another one for other keys
}

// A keysFlight is a fetch in progress.
type keysFlight struct {
	done chan struct{} // closed at the end
	err  error         // to be read then
}

func newTokenIssuer(c Issuer, timeout time.Duration, log *slog.Logger, now func() time.Time) (*tokenIssuer, error) {
	i := &tokenIssuer{
		url: c.URL, claim: c.Claim, audiences: slices.Clone(c.Audiences), algorithms: tokenAlgorithms,
		timeout: timeout, log: log.With("issuer", c.URL), now: now,
	}
	u, err := url.Parse(c.URL)
	if err != nil || !isWebURL(c.URL) {
		return nil, errors.New("it is no URL")
	}
	// OpenID Connect Discovery, section 3. # also ends the issuer within an identifier.
	if u.RawQuery != "" || u.User != nil || strings.ContainsAny(c.URL, "#?") {
		return nil, errors.New("the URL of an issuer has no user, query or fragment")
	}
	if u.Scheme != "https" && !isLoopback(u) {
		return nil, errors.New("its URL must be https")
	}
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
		return nil, errors.New("it needs audiences, and none of them may be empty")
	}
	if i.claim == "" {
		i.claim = "sub"
	}
	if len(c.Algorithms) > 0 {
		i.algorithms = nil
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(tokenAlgorithms, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("%q is no asymmetric signature algorithm that is known", name)
		}
		i.algorithms = append(i.algorithms, jose.SignatureAlgorithm(name))
	}
	i.client, err = issuerClient(c.CAFile)
	return i, err
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func isLoopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

// issuerClient makes a client that goes nowhere but where it is sent. Connections
// are not kept: there are two of them in ten minutes.
func issuerClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		b, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s has no certificate", caFile)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport:     boundedAnswers{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// boundedAnswers makes the reading of a long answer fail.
type boundedAnswers struct{ next http.RoundTripper }

func (b boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(req)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxIssuerAnswer)
	}
	return res, err
}

// keepFresh fetches the keys now and again until the context ends.
func (i *tokenIssuer) keepFresh(ctx context.Context) {
	retry := firstKeysRetry
	for ctx.Err() == nil {
		next := keysInterval
		if err := i.renew(ctx, 0); err == nil {
			retry = firstKeysRetry
		} else {
			next, retry = retry, min(2*retry, lastKeysRetry)
		}
		next -= rand.N(next / 4) //nolint:gosec // processes that start together should not ask together
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// renew fetches the keys, or waits for the fetch in progress. Where the last one began
// less than a pause ago its outcome is returned.
func (i *tokenIssuer) renew(ctx context.Context, pause time.Duration) error {
	i.mu.Lock()
	f := i.flight
	if f == nil {
		if ago := i.now().Sub(i.tried); !i.tried.IsZero() && ago >= 0 && ago < pause {
			defer i.mu.Unlock()
			return i.failed
		}
		f = &keysFlight{done: make(chan struct{})}
		i.flight, i.tried = f, i.now()
		// Others may come to wait for it, so it does not end with the one who asked first.
		go i.fly(context.WithoutCancel(ctx), f)
	}
	i.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fly fetches the keys once.
func (i *tokenIssuer) fly(ctx context.Context, f *keysFlight) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	list, err := i.fetch(ctx)
	if err != nil {
		text := err.Error()
		err = errors.New(text[:min(len(text), maxCause)])
	}
	i.mu.Lock()
	recovered, broke, changed := err == nil && i.failed != nil, err != nil && i.failed == nil, false
	if err == nil {
		if mark := keysFingerprint(list); mark != i.keys.fingerprint {
			i.keys, changed = issuerKeys{list, mark, i.keys.generation + 1}, true
		}
		i.fetched = i.now()
		i.fetches++
	} else {
		i.failures++
	}
	known := len(i.known())
	i.failed, f.err, i.flight = err, err, nil
	i.mu.Unlock()
	close(f.done)
	switch {
	case broke:
		i.log.Warn("the keys of an issuer cannot be fetched; it is asked again", "error", err.Error(), "keys_known", known)
	case recovered, changed:
		i.log.Info("the keys of an issuer were fetched", "keys", known)
	}
}

// fetch reads the issuer's metadata (OpenID Connect Discovery, section 4) and the keys that they point to.
func (i *tokenIssuer) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx = oidc.ClientContext(ctx, i.client)
	provider, err := oidc.NewProvider(ctx, i.url) // fails where the metadata are another issuer's
	if err != nil {
		return nil, err
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, err
	}
	u, err := url.Parse(metadata.JWKSURI)
	if err != nil || u.Scheme != "https" && (strings.HasPrefix(i.url, "https:") || !isLoopback(u)) {
		return nil, fmt.Errorf("its jwks_uri %q is not https", metadata.JWKSURI)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata.JWKSURI, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read only
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", metadata.JWKSURI, res.Status)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return readKeys(b)
}

// readKeys returns the keys of a JWK set (RFC 7517, section 5) that can verify tokens.
// Others, and what cannot be read, are passed over, as that section asks.
func readKeys(b []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("its key set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var secret struct {
			D any `json:"d"`
			K any `json:"k"`
		}
		if err := json.Unmarshal(raw, &secret); err != nil || secret.D != nil || secret.K != nil {
			continue // everybody has it, so it proves nothing
		}
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err == nil && usableKey(key) && len(keys) < maxIssuerKeys {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("its key set has no usable key")
	}
	return keys, nil
}

func usableKey(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// keysFingerprint is the same for two key sets if and only if they verify the same tokens.
func keysFingerprint(keys []jose.JSONWebKey) string {
	var lines []string
	for _, key := range keys {
		sum, err := key.Thumbprint(crypto.SHA256) // RFC 7638
		if err != nil {
			continue // no key of a usable kind
		}
		lines = append(lines, fmt.Sprintf("%s %q %q", base64.RawURLEncoding.EncodeToString(sum), key.KeyID, key.Algorithm))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// known returns the keys that may be used, none where they are too old. It is
// called with mu held.
func (i *tokenIssuer) known() []jose.JSONWebKey {
	if i.now().Sub(i.fetched) > keysLimit {
		return nil
	}
	return i.keys.list
}

// stands reports whether what the keys of a generation have proven is still true.
func (i *tokenIssuer) stands(generation uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys.generation == generation && len(i.known()) > 0
}

// verify checks the token's signature, and returns the generation of the keys. Where
// the key is not known the issuer is asked first, if that was not done just now.
func (i *tokenIssuer) verify(ctx context.Context, token *parsedToken) (uint64, error) {
	generation, found, err := i.verifyKnown(token)
	if err == nil || found {
		return generation, err
	}
	if err := i.ask(ctx); err != nil {
		return 0, errIssuerDown.Because(err)
	}
	generation, _, err = i.verifyKnown(token)
	return generation, err
}

// ask fetches the keys for a token, and bounds who waits and how long.
func (i *tokenIssuer) ask(ctx context.Context) error {
	i.mu.Lock()
	if i.waiting >= maxKeysWaiting {
		i.mu.Unlock()
		return errors.New("too many tokens with unknown keys wait for it")
	}
	i.waiting++
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		i.waiting--
		i.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	return i.renew(ctx, keysPause)
}

// verifyKnown checks the signature with the keys that are there. found: the key that
// the token names is among them, so that asking again is of no use.
func (i *tokenIssuer) verifyKnown(token *parsedToken) (generation uint64, found bool, err error) {
	i.mu.Lock()
	keys, generation := i.known(), i.keys.generation
	i.mu.Unlock()
	for _, key := range keys {
		if token.keyID != "" && key.KeyID != token.keyID {
			continue
		}
		found = token.keyID != "" // a key without an id is not known for sure
		// RFC 7517, section 4.4: a key may be for one algorithm only. That its type fits is checked below.
		if key.Algorithm != "" && key.Algorithm != string(token.algorithm) {
			continue
		}
		if _, err := token.signed.Verify(key.Key); err == nil {
			return generation, true, nil
		}
	}
	return 0, found, errTokenSignature
}

func (i *tokenIssuer) stats() IssuerStats {
	i.mu.Lock()
	defer i.mu.Unlock()
	return IssuerStats{
		URL: i.url, Keys: len(i.known()), Fetched: i.fetched, Failing: i.failed != nil, Fetches: i.fetches, Failures: i.failures,
	}
}
