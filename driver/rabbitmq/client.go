package rabbitmq

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
	"time"

	"bindery"
)

const (
	// answerLimit bounds an answer: the names of half a million users.
	answerLimit = 32 << 20
	// quotedLimit is how much of a refusal an operator sees.
	quotedLimit = 300
	// idleLimit is well below the broker's own, so that it does not close a
	// connection while a request is on its way.
	idleLimit = 20 * time.Second
)

// A client sends requests to the management API over a bounded number of connections.
type client struct {
	http http.Client
	base string
}

func newClient(server bindery.Server, host string, most int) *client {
	dialer := &net.Dialer{}
	transport := &http.Transport{
		DialContext:     dialer.DialContext,
		MaxConnsPerHost: most, MaxIdleConnsPerHost: most, MaxIdleConns: most,
		IdleConnTimeout: idleLimit, DisableCompression: true,
	}
	c := &client{base: "http://" + server.Address}
	if server.TLS != nil {
		c.base = "https://" + server.Address
		transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			config, err := server.TLS.Config(host) // each time: certificates are renewed
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
		}
	}
	c.http = http.Client{
		Transport: transport,
		// What is sent carries a password, and nobody but the broker gets that.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func (c *client) close() { c.http.CloseIdleConnections() }

// An answer is a broker's, whatever it says.
type answer struct {
	status int
	body   []byte
}

// An unanswered request is one that ended before its answer came. If it was sent,
// it may be executed at any time from now on.
type unanswered struct {
	sent, reused bool
	cause        error
}

func (u *unanswered) Error() string { return u.cause.Error() }
func (u *unanswered) Unwrap() error { return u.cause }

// do sends a request as a user. The error is an [unanswered] one.
func (c *client) do(ctx context.Context, r request, as credential) (answer, error) {
	var sent, reused bool
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { sent, reused = true, i.Reused }}
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, fmt.Errorf("write a request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	target := c.base + r.path
	if r.query != "" {
		target += "?" + r.query
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), r.method, target, body)
	if err != nil {
		return answer{}, fmt.Errorf("make a request: %w", err)
	}
	req.SetBasicAuth(as.name, as.password.Reveal())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, &unanswered{sent: sent, reused: reused, cause: err}
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err == nil && len(b) > answerLimit {
		err = errors.New("the answer is too long")
	}
	if err != nil && (r.method == http.MethodGet || resp.StatusCode/100 != 2) {
		return answer{}, &unanswered{sent: true, cause: err}
	}
	return answer{status: resp.StatusCode, body: b}, nil
}

// names reads a list of objects that have names.
func (a answer) names() ([]string, error) {
	var list []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return nil, refused(a)
	}
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = o.Name
	}
	return names, nil
}

// silent is the error of a broker that does not answer.
func silent(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server does not answer").Because(cause)
}

// refused is the error of a broker whose answer is not the expected one.
func refused(a answer) error {
	said := a.body
	if len(said) > quotedLimit {
		said = said[:quotedLimit]
	}
	return bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server refused").
		Because(fmt.Errorf("HTTP status %d: %q", a.status, said))
}
