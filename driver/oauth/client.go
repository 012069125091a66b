package oauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"bindery"
)

// mostBody bounds an answer.
const mostBody = 256 << 10

// A client speaks HTTP to the server. Whatever URL is asked for, it is one of the
// issuer's origin, and the connection goes to the configured address.
type client struct {
	server bindery.Server
	issuer *url.URL
	http   *http.Client
}

func newClient(server bindery.Server, issuer *url.URL, connections int) *client {
	c := &client{server: server, issuer: issuer}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: c.dial, DialTLSContext: c.dialTLS,
			MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect would take a secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func (c *client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.server.Address)
}

// dialTLS reads the certificates every time, so that a renewed one is used.
func (c *client) dialTLS(ctx context.Context, _, _ string) (net.Conn, error) {
	t := c.server.TLS
	if t == nil {
		t = &bindery.ServerTLS{}
	}
	config, err := t.Config(c.issuer.Hostname())
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return (&tls.Dialer{NetDialer: &d, Config: config}).DialContext(ctx, "tcp", c.server.Address)
}

func (c *client) close() { c.http.CloseIdleConnections() }

// own refuses a URL that is not of the issuer's origin: secrets go nowhere else.
func (c *client) own(text string) error {
	u, err := url.Parse(text)
	if err != nil || len(text) > longestURL || u.Scheme != c.issuer.Scheme || u.Host != c.issuer.Host || u.User != nil || u.Fragment != "" {
		return bindery.Errorf(bindery.CodeUnavailable, "the authorization server cannot be used").
			Because(errors.New("it names an endpoint that is not of the issuer's origin"))
	}
	return nil
}

// An answer is what the server said.
type answer struct {
	status int
	body   []byte
}

// ok reports a success (RFC 9110, section 15.3).
func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// errUnsent marks a request that the server has not seen a byte of.
var errUnsent = errors.New("nothing was sent")

func unsent(err error) error { return fmt.Errorf("%w: %w", errUnsent, err) }

// send sends one request. Errors: CodeUnavailable.
func (c *client) send(ctx context.Context, r statement) (answer, error) {
	if err := c.own(r.url); err != nil {
		return answer{}, unsent(err)
	}
	var connected atomic.Bool
	req, err := http.NewRequestWithContext(
		httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}),
		r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, unsent(silent(errors.New("the URL cannot be asked for")))
	}
	req.Header.Set("Accept", "application/json")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.authorize != nil {
		r.authorize(req.Header)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL itself may be a secret
		}
		if !connected.Load() {
			err = unsent(err)
		}
		return answer{}, silent(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(res.Body, mostBody+1))
	if err == nil && len(body) > mostBody {
		err = fmt.Errorf("an answer has more than %d bytes", mostBody)
	}
	if err != nil {
		return answer{}, silent(err)
	}
	return answer{res.StatusCode, body}, nil
}

func silent(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the authorization server does not answer").Because(cause)
}

// A refusal is an answer that is no success. It has the error code (RFC 6749,
// section 5.2; RFC 7591, section 3.2.2) and none of the server's text, which may
// repeat what it was sent.
type refusal struct {
	doing  string
	status int
	code   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: answered %d %s", r.doing, r.status, r.code)
}

var errorCode = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

func (a answer) refusal(doing string) *refusal {
	var body struct {
		Error string `json:"error"`
	}
	r := &refusal{doing: doing, status: a.status}
	if json.Unmarshal(a.body, &body) == nil && errorCode.MatchString(body.Error) {
		r.code = body.Error
	}
	return r
}

// failed is a refusal as the caller may know it.
func (a answer) failed(doing string) error {
	r := a.refusal(doing)
	switch {
	case r.status == http.StatusBadRequest && final[r.code]:
		return bindery.Errorf(bindery.CodeInvalid, "the authorization server does not make such a client").Because(r)
	case r.status == http.StatusUnauthorized || r.status == http.StatusForbidden:
		return bindery.Errorf(bindery.CodeUnavailable, "the authorization server does not allow it").Because(r)
	}
	return bindery.Errorf(bindery.CodeUnavailable, "the authorization server does not do it").Because(r)
}

// final are refusals that asking again does not change.
var final = map[string]bool{
	"invalid_client_metadata": true, "invalid_redirect_uri": true, // RFC 7591, section 3.2.2
	"invalid_scope": true, "unauthorized_client": true, "unsupported_grant_type": true, // RFC 6749, section 5.2
	"invalid_target": true, // RFC 8707, section 2
}

// decode reads an answer's object. The error repeats nothing of it.
func (a answer) decode(into any) error {
	if json.Unmarshal(a.body, into) != nil {
		return errors.New("the answer is not the JSON object that it should be")
	}
	return nil
}
