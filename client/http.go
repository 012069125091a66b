package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"bindery"
)

const (
	// maxBody bounds what is read of an answer, maxErrorBody of a refusal.
	maxBody      = 4 << 20
	maxErrorBody = 64 << 10
	// answerTime is how long one request may take: a platform's 60 s, and some
	// more, so that the broker's own refusal arrives first.
	answerTime = 75 * time.Second
	// longTime is for the few calls of the admin API that go through everything.
	longTime = 20 * time.Minute
)

// NewHTTP returns an HTTP client for brokers, for any number of [OSB], [Admin]
// and [Authn] to share. TLS is verified against the certificates in caPEM, or the
// system's where it is empty. A certificate that is given is presented to every
// server that asks for one, whatever authorities it names: it answers better than
// a handshake does. Errors: CodeInvalid where caPEM has no certificate.
func NewHTTP(caPEM []byte, own ...tls.Certificate) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(own) > 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own[0], nil }
	}
	if len(caPEM) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(caPEM) {
			return nil, bindery.Errorf(bindery.CodeInvalid, "the CA file has no certificate in PEM form")
		}
	}
	return &http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   10 * time.Second,
			MaxIdleConns:          512,
			MaxIdleConnsPerHost:   256,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
			ForceAttemptHTTP2:     true,
		},
	}, nil
}

// pool holds the HTTP client of a caller that was given none.
type pool struct {
	once sync.Once
	own  *http.Client
	err  error
}

// use returns a copy of given, or of the caller's own, that follows no redirect.
func (p *pool) use(given *http.Client) (*http.Client, error) {
	if given == nil {
		p.once.Do(func() { p.own, p.err = NewHTTP(nil) })
		if p.err != nil {
			return nil, p.err
		}
		given = p.own
	}
	h := *given
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h, nil
}

// A request is one call of either face.
type request struct {
	method string
	base   string // the face's URL
	path   string // below it, percent-encoded
	query  url.Values
	body   any // marshalled; nil: none
	accept []int
	// creates says that the call may have made something even when it fails.
	creates bool
	long    bool // may take longer than answerTime
	header  http.Header
	prepare func(*http.Request)
}

// send makes the call and decodes the answer into out, which may be nil. The
// error is an [*Error] for what was answered, and otherwise says what kept the
// answer away.
func (p *pool) send(ctx context.Context, given *http.Client, r request, out any) (int, http.Header, error) {
	h, err := p.use(given)
	if err != nil {
		return 0, nil, err
	}
	if r.long && h.Timeout > 0 {
		h.Timeout = max(h.Timeout, longTime)
	}
	req, err := r.build(ctx)
	if err != nil {
		return 0, nil, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return 0, nil, unreachable(ctx, r, err)
	}
	defer func() { _ = resp.Body.Close() }()

	for _, status := range r.accept {
		if resp.StatusCode == status {
			if err := decode(resp, r, out); err != nil {
				return 0, nil, err
			}
			return status, resp.Header, nil
		}
	}
	return 0, nil, refusal(resp, r)
}

func (r request) build(ctx context.Context) (*http.Request, error) {
	base, err := url.Parse(r.base)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, bindery.Errorf(bindery.CodeInvalid, "the URL must begin with http:// or https:// and name a host")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, bindery.Errorf(bindery.CodeInvalid, "the URL must not hold a user name, a password, a query or a fragment")
	}
	target := strings.TrimRight(r.base, "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, bindery.Errorf(bindery.CodeInvalid, "the request is not valid JSON").Because(err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "the request cannot be made").Because(err)
	}
	for k, v := range r.header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r.prepare(req)
	return req, nil
}

// decode reads an accepted answer. An empty body is no object, but what removes
// something needs none.
func decode(resp *http.Response, r request, out any) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	malformed := func(why string, cause error) error {
		return &Error{
			Method: r.method, Path: r.path, Status: resp.StatusCode, Malformed: true,
			Description: why, Uncertain: r.creates && resp.StatusCode != http.StatusOK, cause: cause,
		}
	}
	switch {
	case len(raw) > maxBody:
		return malformed(fmt.Sprintf("the answer is longer than %d MiB", maxBody>>20), nil)
	case err != nil:
		return malformed("the answer broke off", err)
	case out == nil, r.method == http.MethodDelete && len(bytes.TrimSpace(raw)) == 0:
		return nil
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || trimmed[0] != '{' {
		return malformed("the answer is not a JSON object", nil)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		// The cause stays out of the text: it may quote a credential.
		return malformed("the answer is not the JSON that the specification describes", nil)
	}
	return nil
}

// refusal makes the error of an answer that was not accepted.
func refusal(resp *http.Response, r request) error {
	e := &Error{
		Method: r.method, Path: r.path, Status: resp.StatusCode,
		RequestID:  resp.Header.Get("X-Broker-API-Request-Identity"),
		RetryAfter: retryAfter(resp.Header, time.Now),
		Uncertain:  r.creates && (resp.StatusCode >= 500 || resp.StatusCode < 300),
	}
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get("X-Request-Id")
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var body struct {
		Key              string `json:"error"`
		Description      string `json:"description"`
		InstanceUsable   *bool  `json:"instance_usable"`
		UpdateRepeatable *bool  `json:"update_repeatable"`
	}
	// The identity face has an envelope instead.
	var envelope struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(raw, &body) == nil {
		e.Key, e.Description = Printable(body.Key), Printable(body.Description)
		e.InstanceUsable, e.UpdateRepeatable = body.InstanceUsable, body.UpdateRepeatable
	} else if json.Unmarshal(raw, &envelope) == nil {
		e.Description = Printable(envelope.Error.Message)
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Description = "redirects are not followed, as the credentials would go along"
		if l, err := resp.Location(); err == nil {
			e.Description += "; it points at " + l.Redacted()
		}
	}
	return e
}

// unreachable says why there is no answer. Who cancelled gets the context's own error.
func unreachable(ctx context.Context, r request, err error) error {
	var what *url.Error
	if errors.As(err, &what) {
		err = what.Err // without the method and the URL, which the text below has
	}
	e := &Error{Method: r.method, Path: r.path, Uncertain: r.creates, cause: err}
	var timeout interface{ Timeout() bool }
	var unknown x509.UnknownAuthorityError
	switch {
	case ctx.Err() != nil:
		e.cause = ctx.Err()
		e.Description = "no answer yet"
	case errors.As(err, &timeout) && timeout.Timeout():
		e.timedOut = true
		e.Description = "no answer in time"
	case errors.As(err, &unknown):
		e.Uncertain = false
		e.Description = "the server's certificate is not signed by a CA that is trusted here"
	default:
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			e.Uncertain = false
		}
		e.Description = "cannot reach " + hostOf(r.base)
	}
	return e
}

func hostOf(base string) string {
	if u, err := url.Parse(base); err == nil {
		return u.Host
	}
	return "the server"
}

// retryAfter reads the header as seconds or as a date; 0 where there is none.
func retryAfter(h http.Header, now func() time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now()))
	}
	return 0
}

// Printable takes the control characters out of foreign text, which would
// otherwise command somebody's terminal.
func Printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t':
			return ' '
		case c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0):
			return -1
		}
		return c
	}, s)
}

// segment encodes an id for a path. Dots alone would be resolved on the way.
func segment(id string) (string, error) {
	if id == "" || id == "." || id == ".." {
		return "", bindery.Errorf(bindery.CodeInvalid, "%q cannot be an id", id)
	}
	return url.PathEscape(id), nil
}
