package authn

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"bindery"
	"bindery/api"
	"bindery/exchange"
)

// A CertificateProver proves who presents a certificate. Errors: CodeForbidden
// for one that proves nobody, with a text for the caller.
type CertificateProver interface {
	// Prove is given the chain as the client sent it, the client's own certificate first.
	Prove(ctx context.Context, chain []*x509.Certificate, remote netip.Addr) (bindery.Identity, error)
}

// A TokenProver proves who presents a token. Errors: CodeUnauthorized for one
// that proves nobody, with a text for the caller.
type TokenProver interface {
	Prove(ctx context.Context, raw string) (bindery.Identity, error)
}

// Handler serves /v1.
type Handler struct {
	Service *exchange.Service
	// Certificates and Tokens may be nil: then no certificate, no token proves anybody.
	Certificates CertificateProver
	Tokens       TokenProver
	Keys         *Keys
	Version      Version
	// FailedProofs bounds what fails for one client address.
	FailedProofs Limit
	Now          func() time.Time

	failures failures
}

// contentType goes with every body, as clients of old know it.
const contentType = "application/json; charset=utf-8"

const (
	serviceTypePath = "/v1/service-types/{name}"
	hostPath        = serviceTypePath + "/hosts/{host}"
	bindingPath     = "/v1/bindings/{name}"
)

// Face makes /v1.
func (h *Handler) Face() api.Face {
	h.failures.Limit = h.FailedProofs
	open := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: hostPath + ":authx509", Serve: h.authX509},
		api.Route{Method: http.MethodGet, Pattern: hostPath + ":authoidc", Serve: h.authOIDC},
		api.Route{Method: http.MethodPost, Pattern: hostPath + ":authoidc", Serve: h.authOIDC},
		api.Route{Method: http.MethodGet, Pattern: "/v1/version", Serve: h.version},
		api.Route{Method: http.MethodGet, Pattern: "/v1/health", Serve: health},
	)
	keyed := api.NewRouter(
		api.Route{Method: http.MethodPost, Pattern: "/v1/service-types", Serve: h.createServiceType},
		api.Route{Method: http.MethodGet, Pattern: "/v1/service-types", Serve: h.serviceTypes},
		api.Route{Method: http.MethodGet, Pattern: serviceTypePath, Serve: h.serviceType},
		api.Route{Method: http.MethodPut, Pattern: serviceTypePath, Serve: h.updateServiceType},
		api.Route{Method: http.MethodDelete, Pattern: serviceTypePath, Serve: h.deleteServiceType},
		api.Route{Method: http.MethodPost, Pattern: serviceTypePath + "/authm", Serve: h.createAuthMethod},
		api.Route{Method: http.MethodGet, Pattern: hostPath + "/authm", Serve: h.authMethod},
		api.Route{Method: http.MethodPut, Pattern: hostPath + "/authm", Serve: h.updateAuthMethod},
		api.Route{Method: http.MethodDelete, Pattern: hostPath + "/authm", Serve: h.deleteAuthMethod},
		api.Route{Method: http.MethodGet, Pattern: "/v1/authm", Serve: h.authMethods},
		api.Route{Method: http.MethodPost, Pattern: bindingPath, Serve: h.createBinding},
		api.Route{Method: http.MethodGet, Pattern: "/v1/bindings", Serve: h.bindings},
		api.Route{Method: http.MethodGet, Pattern: bindingPath, Serve: h.binding},
		api.Route{Method: http.MethodPut, Pattern: bindingPath, Serve: h.updateBinding},
		api.Route{Method: http.MethodDelete, Pattern: bindingPath, Serve: h.deleteBinding},
		api.Route{Method: http.MethodGet, Pattern: hostPath + "/bindings", Serve: h.bindingsOf},
	)
	return api.Face{
		Name:    "authn",
		Segment: "v1",
		Serve: func(c *api.Call) error {
			if preflight(c) {
				return nil
			}
			if err := open.Serve(c); c.Route != "" || bindery.CodeOf(err) != bindery.CodeNotFound {
				return err
			}
			// Whatever is not open asks for the key first, and so tells
			// nobody else which paths there are.
			by, err := h.admit(c)
			if err != nil {
				return err
			}
			c.R = c.R.WithContext(context.WithValue(c.R.Context(), callerKey{}, by))
			return keyed.Serve(c)
		},
		Fail: fail,
	}
}

// admit says whose key came with the call.
func (h *Handler) admit(c *api.Call) (exchange.Caller, error) {
	by, sent, ok := h.Keys.Check(c.R)
	if ok {
		c.Caller, by.RequestID = by.Name, c.RequestID
		return by, nil
	}
	err := challenge(c, errWrongKey)
	if sent {
		err = h.failed(c, err)
	}
	return exchange.Caller{}, err
}

var errWrongKey = bindery.Errorf(bindery.CodeUnauthorized, "Wrong Credentials")

// challenge adds to a 401 what RFC 9110, section 11.6.1, wants there.
func challenge(c *api.Call, err error) error {
	if bindery.CodeOf(err) == bindery.CodeUnauthorized {
		c.Header()["Www-Authenticate"] = []string{`Bearer realm="bindery"`}
	}
	return err
}

type callerKey struct{}

// caller is who was admitted.
func caller(c *api.Call) exchange.Caller {
	return c.R.Context().Value(callerKey{}).(exchange.Caller)
}

// sought is a part of the path that names something. What no store can hold
// names nothing, as the empty text does.
func sought(c *api.Call, param string) string {
	s := c.Param(param)
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return ""
	}
	return s
}

// maxWait bounds a change.
const maxWait = 55 * time.Second

// detached is the context of a call that changes something. It does not end
// with the connection: what happened would then be unknown to the log.
func detached(c *api.Call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.R.Context()), maxWait)
}

// remote is the client's address; the zero one where the connection has none.
func remote(c *api.Call) netip.Addr {
	at, _ := netip.ParseAddrPort(c.R.RemoteAddr)
	return at.Addr().Unmap()
}
