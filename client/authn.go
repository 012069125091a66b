package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"bindery"
)

// Authn is a client of the identity face, /v1. It may be used by many
// goroutines and must not be copied after its first use. Certificates that
// prove somebody belong to HTTP: see [NewHTTP].
type Authn struct {
	URL  string // without /v1
	Key  bindery.Secret
	HTTP *http.Client // nil: one of its own, as NewHTTP makes it
	// PageSize is how many items of a list one request asks for; 0: as many as
	// surely fit into one answer.
	PageSize int

	pool pool
}

// The page sizes that fit [maxBody] with items as large as the face takes them, or nearly.
const (
	pageOfTypes    = 100
	pageOfBindings = 500
)

// The key goes in a header: a query would stand in logs.
func (c *Authn) call(ctx context.Context, r request, out any) (http.Header, error) {
	r.base, r.path = c.URL, "/v1"+r.path
	if r.accept == nil {
		r.accept = []int{http.StatusOK}
	}
	prepare := r.prepare
	r.prepare = func(req *http.Request) {
		if prepare != nil {
			prepare(req)
		} else if !c.Key.Empty() {
			req.Header.Set("X-Api-Key", c.Key.Reveal())
		}
	}
	_, header, err := c.pool.send(ctx, c.HTTP, r, out)
	return header, err
}

// item makes one call. See [join] for the path.
func (c *Authn) item(ctx context.Context, method string, in, out any, path ...string) error {
	joined, err := join(path...)
	if err != nil {
		return err
	}
	r := request{method: method, path: joined, body: in}
	switch method {
	case http.MethodPost:
		r.accept, r.creates = []int{http.StatusCreated}, true
	case http.MethodDelete:
		r.accept = []int{http.StatusNoContent}
	}
	_, err = c.call(ctx, r, out)
	return err
}

// join makes a path: the first word stands as it is, the second is a segment to
// encode, and so on by turns.
func join(path ...string) (string, error) {
	var b strings.Builder
	for i, word := range path {
		if i%2 == 0 {
			b.WriteString(word)
			continue
		}
		s, err := segment(word)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

const (
	serviceTypesPath = "/service-types"
	bindingsPath     = "/bindings"
)

// CreateServiceType makes a service type. CodeConflict where its name is taken.
func (c *Authn) CreateServiceType(ctx context.Context, in ServiceTypeInput) (out ServiceType, err error) {
	return out, c.item(ctx, http.MethodPost, in, &out, serviceTypesPath)
}

// ServiceTypes walks all of them, oldest first.
func (c *Authn) ServiceTypes(ctx context.Context) iter.Seq2[ServiceType, error] {
	return pages[ServiceType](ctx, c, "service_types", serviceTypesPath, nil, pageOfTypes)
}

// ServiceType returns one. CodeNotFound.
func (c *Authn) ServiceType(ctx context.Context, name string) (out ServiceType, err error) {
	return out, c.item(ctx, http.MethodGet, nil, &out, serviceTypesPath+"/", name)
}

// UpdateServiceType changes what in names.
func (c *Authn) UpdateServiceType(ctx context.Context, name string, in ServiceTypeInput) (out ServiceType, err error) {
	return out, c.item(ctx, http.MethodPut, in, &out, serviceTypesPath+"/", name)
}

// DeleteServiceType removes one with its auth methods and bindings.
func (c *Authn) DeleteServiceType(ctx context.Context, name string) error {
	return c.item(ctx, http.MethodDelete, nil, nil, serviceTypesPath+"/", name)
}

// CreateAuthMethod makes the auth method of a host, which in names.
func (c *Authn) CreateAuthMethod(ctx context.Context, service string, in AuthMethodInput) (out AuthMethod, err error) {
	return out, c.item(ctx, http.MethodPost, in.body(), &out, serviceTypesPath+"/", service, "/authm")
}

// AuthMethods walks all of them, oldest first.
func (c *Authn) AuthMethods(ctx context.Context) iter.Seq2[AuthMethod, error] {
	return pages[AuthMethod](ctx, c, "auth_methods", "/authm", nil, pageOfTypes)
}

// AuthMethod returns the one of a host. CodeNotFound.
func (c *Authn) AuthMethod(ctx context.Context, service, host string) (out AuthMethod, err error) {
	return out, c.item(ctx, http.MethodGet, nil, &out, serviceTypesPath+"/", service, "/hosts/", host, "/authm")
}

// UpdateAuthMethod changes what in names.
func (c *Authn) UpdateAuthMethod(ctx context.Context, service, host string, in AuthMethodInput) (out AuthMethod, err error) {
	return out, c.item(ctx, http.MethodPut, in.body(), &out, serviceTypesPath+"/", service, "/hosts/", host, "/authm")
}

// DeleteAuthMethod removes the one of a host.
func (c *Authn) DeleteAuthMethod(ctx context.Context, service, host string) error {
	return c.item(ctx, http.MethodDelete, nil, nil, serviceTypesPath+"/", service, "/hosts/", host, "/authm")
}

// CreateBinding makes an identity binding. CodeConflict where its name is taken, or
// its identifier on that host.
func (c *Authn) CreateBinding(ctx context.Context, name string, in IdentityBindingInput) (out IdentityBinding, err error) {
	return out, c.item(ctx, http.MethodPost, in, &out, bindingsPath+"/", name)
}

// Bindings walks all of them, oldest first.
func (c *Authn) Bindings(ctx context.Context) iter.Seq2[IdentityBinding, error] {
	return pages[IdentityBinding](ctx, c, "bindings", bindingsPath, nil, pageOfBindings)
}

// BindingsOf walks those of a service type on a host, or the one that an
// identifier, in any spelling, means; "" means all. CodeNotFound where the identifier has none.
func (c *Authn) BindingsOf(ctx context.Context, service, host, identifier string) iter.Seq2[IdentityBinding, error] {
	path, err := join(serviceTypesPath+"/", service, "/hosts/", host, "/bindings")
	if err != nil {
		return func(yield func(IdentityBinding, error) bool) { yield(IdentityBinding{}, err) }
	}
	query := url.Values{}
	if identifier != "" {
		query.Set("authID", identifier)
	}
	return pages[IdentityBinding](ctx, c, "bindings", path, query, pageOfBindings)
}

// Binding returns one. CodeNotFound.
func (c *Authn) Binding(ctx context.Context, name string) (out IdentityBinding, err error) {
	return out, c.item(ctx, http.MethodGet, nil, &out, bindingsPath+"/", name)
}

// UpdateBinding changes what in names.
func (c *Authn) UpdateBinding(ctx context.Context, name string, in IdentityBindingInput) (out IdentityBinding, err error) {
	return out, c.item(ctx, http.MethodPut, in, &out, bindingsPath+"/", name)
}

// DeleteBinding removes one.
func (c *Authn) DeleteBinding(ctx context.Context, name string) error {
	return c.item(ctx, http.MethodDelete, nil, nil, bindingsPath+"/", name)
}

// TokenByCertificate fetches the token that is bound to the certificate that HTTP
// presents. CodeNotFound where none is, CodeForbidden where it proves nobody.
func (c *Authn) TokenByCertificate(ctx context.Context, service, host string) (Token, error) {
	return c.token(ctx, service, host, ":authx509", bindery.Secret{})
}

// TokenByOIDC fetches the token that is bound to whom an OpenID Connect token is
// about. CodeUnauthorized where it proves nobody.
func (c *Authn) TokenByOIDC(ctx context.Context, service, host string, proof bindery.Secret) (Token, error) {
	return c.token(ctx, service, host, ":authoidc", proof)
}

func (c *Authn) token(ctx context.Context, service, host, verb string, proof bindery.Secret) (Token, error) {
	var out struct {
		Token Token `json:"token"`
	}
	path, err := join(serviceTypesPath+"/", service, "/hosts/", host, verb)
	if err != nil {
		return out.Token, err
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: path, prepare: func(req *http.Request) {
		if !proof.Empty() {
			req.Header.Set("Authorization", "Bearer "+proof.Reveal())
		}
	}}, &out)
	return out.Token, err
}

// Version says what runs there; its release only with a key.
func (c *Authn) Version(ctx context.Context) (out AuthnVersion, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/version"}, &out)
	return out, err
}

// Health returns nil where the face answers.
func (c *Authn) Health(ctx context.Context) error {
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/health"}, nil)
	return err
}

// pages walks a paged list. The error, if any, comes last.
func pages[T any](ctx context.Context, c *Authn, name, path string, query url.Values, size int) iter.Seq2[T, error] {
	if c.PageSize > 0 {
		size = c.PageSize
	}
	return func(yield func(T, error) bool) {
		var none T
		for after := ""; ; {
			q := url.Values{"limit": {strconv.Itoa(size)}}
			for k, v := range query {
				q[k] = v
			}
			if after != "" {
				q.Set("after", after)
			}
			var page map[string][]T
			header, err := c.call(ctx, request{method: http.MethodGet, path: path, query: q}, &page)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range page[name] {
				if !yield(item, nil) {
					return
				}
			}
			next := nextAfter(header)
			if next == "" {
				return
			}
			if next == after {
				yield(none, bindery.Errorf(bindery.CodeInternal, "the list does not go on after %q", after))
				return
			}
			after = next
		}
	}
}

// nextAfter is where the link to the next page (RFC 8288) goes on; "" where there
// is none. No more than that is taken of it: a link could lead anywhere.
func nextAfter(h http.Header) string {
	for _, link := range h.Values("Link") {
		target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if !ok || !strings.Contains(rest, `rel="next"`) {
			continue
		}
		if u, err := url.Parse(target); err == nil {
			return u.Query().Get("after")
		}
	}
	return ""
}
