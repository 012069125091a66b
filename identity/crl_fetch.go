package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"
)

const (
	firstRetry = 30 * time.Second
	lastRetry  = 10 * time.Minute
	leastPause = 10 * time.Second
	// largeCRL is from when on a body has to wait for one of a few slots, so that many large lists at
	// once do not take all memory.
	largeCRL   = 1 << 20
	largeSlots = 2
)

// A source is one distribution point of an authority. The authority's mu guards all of it,
// but for what only the running fetch touches.
type source struct {
	url      string
	running  bool
	tried    bool      // an attempt has ended
	due      time.Time // of the next attempt
	used     time.Time
	failures int
	problem  string // of the last attempt
	fetched  time.Time
	next     time.Time // when its last list says that the next one comes

	restored           bool // the file was looked for; only the running fetch touches it
	etag, lastModified string
}

// fetchable are the distribution points that are fetched. LDAP is not spoken, and https would need
// a chain of its own checked, perhaps by the very list that is fetched.
func fetchable(points []string) []string {
	var urls []string
	for _, p := range points {
		if u, err := url.Parse(p); err == nil && u.Scheme == "http" && u.Host != "" && len(p) <= 2048 && len(urls) < 8 {
			urls = append(urls, p)
		}
	}
	return urls
}

// ask begins to fetch what the certificate's distribution points have not
// delivered yet, and reports whether something worth waiting for is on its way:
// the first attempt of a source. Nobody waits for a source that failed before.
func (c *Certificates) ask(a *authority, l *link) (coming bool, changed <-chan struct{}) {
	now := c.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range l.urls {
		s := a.sources[u]
		if s == nil {
			if len(a.sources) >= maxSources {
				c.logged("sources "+a.name, time.Hour, "an authority has too many distribution points; this one is not fetched",
					"authority", issuerName(a.cert), "url", u)
				continue
			}
			s = &source{url: u}
			a.sources[u] = s
		}
		s.used = now
		if !s.running && !now.Before(s.due) {
			c.begin(a, s)
		}
		coming = coming || s.running && !s.tried
	}
	return coming, a.changed
}

// inUse keeps sources from being forgotten.
func (c *Certificates) inUse(a *authority, urls []string) {
	now := c.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range urls {
		if s := a.sources[u]; s != nil {
			s.used = now
		}
	}
}

// begin starts a fetch. a.mu is held.
func (c *Certificates) begin(a *authority, s *source) {
	s.running = c.background(func(ctx context.Context) { c.refresh(ctx, a, s) })
}

// refresh is one attempt at a source. The file of an earlier process is read first.
func (c *Certificates) refresh(ctx context.Context, a *authority, s *source) {
	if !s.restored {
		s.restored = true
		if err := c.restore(a, s); err != nil {
			c.o.Log.Warn("a kept revocation list is not used", "authority", issuerName(a.cert), "url", s.url, "error", err)
		}
	}
	err := c.download(ctx, a, s)
	now := c.o.Now()
	a.mu.Lock()
	s.running, s.tried = false, true
	was := s.problem
	if err == nil {
		s.failures, s.problem, s.fetched = 0, "", now
		s.due = now.Add(c.pause(now, s.next))
	} else {
		s.failures++
		s.problem = err.Error()
		s.due = now.Add(min(firstRetry<<min(s.failures-1, 10), lastRetry))
	}
	a.signal()
	a.mu.Unlock()
	if err != nil && ctx.Err() == nil && was != err.Error() {
		c.o.Log.Warn("a revocation list could not be fetched", "authority", issuerName(a.cert), "url", s.url, "error", err)
	}
}

// pause is how long a fresh list is left alone: until a tenth of its life is left at most.
func (c *Certificates) pause(now, next time.Time) time.Duration {
	left := next.Sub(now)
	if left <= 0 {
		return firstRetry // the source itself is late
	}
	return max(min(c.o.RefreshEvery, left-left/10), leastPause)
}

// refreshDue begins what is due, and forgets whom nobody shows certificates of any more.
func (c *Certificates) refreshDue() {
	now := c.o.Now()
	set := c.trust.Load()
	c.mu.Lock()
	all := make([]*authority, 0, len(c.authorities))
	for id, a := range c.authorities {
		if _, trusted := set.authorities[id]; !trusted && now.Sub(time.Unix(a.used.Load(), 0)) > idleAfter {
			delete(c.authorities, id)
			continue
		}
		all = append(all, a)
	}
	c.mu.Unlock()
	for _, a := range all {
		a.mu.Lock()
		for u, s := range a.sources {
			switch {
			case s.running:
			case now.Sub(s.used) > idleAfter:
				delete(a.sources, u)
			case !now.Before(s.due):
				c.begin(a, s)
			}
		}
		a.mu.Unlock()
	}
}

// caught makes an error of a panic. What is fetched comes over plain HTTP, and may be
// anybody's; should a parser fall over it, that is one attempt that failed, and not
// the end of the process.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// download fetches a list and takes it in.
func (c *Certificates) download(ctx context.Context, a *authority, s *source) (err error) {
	defer caught(&err)
	for _, slots := range []chan struct{}{a.slots, c.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.FetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return err
	}
	if s.etag != "" {
		req.Header.Set("If-None-Match", s.etag)
	}
	if s.lastModified != "" {
		req.Header.Set("If-Modified-Since", s.lastModified)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotModified && s.etag+s.lastModified != "" {
		c.touch(a, s)
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", resp.Status)
	}
	raw, err := c.readList(ctx, resp.Body)
	if err != nil {
		return err
	}
	l, err := parseCRL(raw)
	if err != nil {
		return err
	}
	if err := a.accept(l, c.o.Now()); err != nil {
		return err
	}
	s.etag, s.lastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	a.mu.Lock()
	s.next = l.nextUpdate
	a.mu.Unlock()
	if err := c.keep(a, s, raw); err != nil {
		c.logged("keep", time.Hour, "a revocation list could not be kept for the next start", "url", s.url, "error", err)
	}
	return nil
}

func (c *Certificates) readList(ctx context.Context, body io.Reader) ([]byte, error) {
	raw, err := readBounded(body, min(largeCRL, c.o.MaxCRLBytes))
	if err == nil || int64(len(raw)) > c.o.MaxCRLBytes || !errors.Is(err, errTooLarge) {
		return raw, err
	}
	select {
	case c.large <- struct{}{}:
		defer func() { <-c.large }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rest, err := readBounded(body, c.o.MaxCRLBytes-int64(len(raw)))
	return append(raw, rest...), err
}

var errTooLarge = errors.New("it is larger than allowed")

// readBounded reads limit bytes at most. With errTooLarge, what was read is returned as well.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = errTooLarge
	}
	return raw, err
}

// newHTTPClient makes the client of distribution points and responders: http only, also where redirected
// to, and no compression, whose size is known too late.
func newHTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableCompression:     true,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    1,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        30 * time.Second,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case len(via) > 3:
				return errors.New("too many redirects")
			case req.URL.Scheme != "http":
				return errors.New("a redirect leads away from http")
			}
			return nil
		},
	}
}
