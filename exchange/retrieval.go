package exchange

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"bindery"
)

// A Type is how services of one type give out tokens.
type Type struct {
	Name string
	// Path has {{identifier}}, the binding's unique key, and perhaps
	// {{access_key}}, each escaped for where it stands. A query parameter that is
	// {{access_key}} is left out for services that are asked with headers.
	Path string
	// Field of the answer, a JSON object, is the token.
	Field string
	// CAFile holds the authorities to trust instead of the system's, PEM.
	CAFile             string
	InsecureSkipVerify bool
	Timeout            time.Duration // of one call; default 10 s
	// CacheTokens is how long a token may be given again without a call. Default: not at all.
	CacheTokens time.Duration
}

// DefaultTypes are the types that every installation knows.
func DefaultTypes() []Type {
	return []Type{
		{Name: "ams", Path: "/v1/users:byUUID/{{identifier}}?key={{access_key}}", Field: "token"},
		{Name: "web-api", Path: "/api/v2/users:byID/{{identifier}}?export=flat", Field: "api_key"},
	}
}

const (
	identifierMark = "{{identifier}}"
	accessKeyMark  = "{{access_key}}"
)

// A retrieval is a type that can be used.
type retrieval struct {
	Type
	path, query string // the template in two
	http        http.RoundTripper
	max         int64
}

// newRetrievals checks the types; those with the same idea of TLS share connections.
func newRetrievals(o Options) (map[string]*retrieval, []string, error) {
	type trust struct {
		file string
		skip bool
	}
	transports := make(map[trust]http.RoundTripper)
	all, names := make(map[string]*retrieval, len(o.Types)), make([]string, 0, len(o.Types))
	for _, t := range o.Types {
		if all[t.Name] != nil || t.Name == "" || t.Field == "" {
			return nil, nil, fmt.Errorf("type %q: a name, or the field, is missing or given twice", t.Name)
		}
		r := &retrieval{Type: t, max: o.MaxResponse}
		r.Timeout = cmp.Or(r.Timeout, 10*time.Second)
		if err := r.parse(); err != nil {
			return nil, nil, fmt.Errorf("type %q: path: %w", t.Name, err)
		}
		key := trust{t.CAFile, t.InsecureSkipVerify}
		if transports[key] == nil {
			made, err := newTransport(o, t)
			if err != nil {
				return nil, nil, fmt.Errorf("type %q: %w", t.Name, err)
			}
			transports[key] = made
		}
		r.http = transports[key]
		all[t.Name], names = r, append(names, t.Name)
	}
	return all, names, nil
}

// newTransport keeps connections to all services with one idea of TLS. Every
// host may keep as many as it may have calls.
func newTransport(o Options, t Type) (*http.Transport, error) {
	trust := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1 << 10),
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // the operator's choice, said aloud at every start
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", t.CAFile)
		}
	}
	one := new(http.Protocols)
	one.SetHTTP1(true) // one call for each connection: no host's call waits behind another
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    5 * time.Second,
		Protocols:              one,
		DisableCompression:     true, // the bound is on what arrives
		MaxIdleConns:           16 * o.PerHost,
		MaxIdleConnsPerHost:    o.PerHost,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// parse checks the template, and that it stays one path and one query whatever
// is put into it.
func (r *retrieval) parse() error {
	if !strings.HasPrefix(r.Path, "/") || strings.HasPrefix(r.Path, "//") || strings.ContainsAny(r.Path, "# ") {
		return errors.New("it must begin with one / and have no fragment and no space")
	}
	if !strings.Contains(r.Path, identifierMark) {
		return errors.New("it has no {{identifier}}: everybody would get the same token")
	}
	r.path, r.query, _ = strings.Cut(r.Path, "?")
	if strings.ContainsAny(strings.NewReplacer(identifierMark, "", accessKeyMark, "").Replace(r.Path), "{}") {
		return errors.New("{{identifier}} and {{access_key}} are all that can stand in braces")
	}
	_, err := r.url("host:1", "a/b?c&d", "e/f?g&h", bindery.AuthMethodAPIKey)
	return err
}

// url is where the token of an identifier is.
func (r *retrieval) url(host, identifier, key string, kind bindery.AuthMethodKind) (*url.URL, error) {
	path := strings.NewReplacer(identifierMark, url.PathEscape(identifier), accessKeyMark, url.PathEscape(key)).Replace(r.path)
	query := r.query
	if kind != bindery.AuthMethodAPIKey && strings.Contains(query, accessKeyMark) {
		var rest []string
		for p := range strings.SplitSeq(query, "&") {
			if !strings.Contains(p, accessKeyMark) {
				rest = append(rest, p)
			}
		}
		query = strings.Join(rest, "&")
	}
	query = strings.NewReplacer(identifierMark, url.QueryEscape(identifier), accessKeyMark, url.QueryEscape(key)).Replace(query)
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, errors.New("it is no path") // the cause quotes it
	}
	u := &url.URL{Scheme: "https", Host: host, Path: decoded, RawPath: path, RawQuery: query}
	if u.EscapedPath() != path {
		return nil, errors.New("it has characters that a path cannot have")
	}
	return u, nil
}

// request is the call of a service for a binding.
func (r *retrieval) request(l *lookup) (*http.Request, error) {
	mat, err := unseal(l.Method.Material)
	if err != nil {
		return nil, err
	}
	host := net.JoinHostPort(bare(l.Method.Host), strconv.Itoa(l.Method.Port))
	u, err := r.url(host, l.Binding.UniqueKey, mat.AccessKey, l.Method.Kind)
	if err != nil {
		return nil, errUnreachable.Because(fmt.Errorf("the path of type %q: %w", r.Name, err))
	}
	q := &http.Request{
		Method: http.MethodGet, URL: u, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Accept": {"application/json"}, "User-Agent": {"bindery"}},
	}
	for name, value := range mat.Headers {
		q.Header.Set(name, value)
		if http.CanonicalHeaderKey(name) == "Host" {
			q.Host = value
		}
	}
	return q, nil
}
