package osb

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

// A Broker is what /v2 is the face of; *broker.Broker is one. Every method may
// be repeated. Errors carry a code of package bindery and a message that may be shown.
type Broker interface {
	Instances
	Bindings
	// Catalog is what is offered now. An unchanged one keeps its address.
	Catalog() *bindery.Catalog
	// LastOperation reports the operation with this token, or the latest where the
	// token is empty; on the instance where bindingID is empty. Errors:
	// CodeNotFound for what never was, CodeGone for what was removed and forgotten.
	LastOperation(ctx context.Context, caller broker.Caller, instanceID, bindingID, token string) (broker.Status, error)
}

// Instances is the broker's half that is about service instances.
type Instances interface {
	Provision(context.Context, broker.Caller, broker.ProvisionRequest) (broker.Result, error)
	Update(context.Context, broker.Caller, broker.UpdateRequest) (broker.Result, error)
	Deprovision(context.Context, broker.Caller, broker.RemoveRequest) (broker.Result, error)
	// Instance: CodeNotFound where there is none, or not yet, or no more.
	Instance(ctx context.Context, caller broker.Caller, instanceID string) (bindery.Instance, error)
}

// Bindings is the broker's half that is about service bindings.
type Bindings interface {
	Bind(context.Context, broker.Caller, broker.BindRequest) (broker.Result, error)
	Unbind(context.Context, broker.Caller, broker.RemoveRequest) (broker.Result, error)
	// Binding: CodeNotFound where there is none, or not yet, or no more.
	Binding(ctx context.Context, caller broker.Caller, instanceID, bindingID string) (broker.Result, error)
}

// Handler serves /v2.
type Handler struct {
	Broker    Broker
	Platforms *api.Platforms
	Now       func() time.Time
	// MissingVersion is the status for a request without X-Broker-API-Version:
	// 400, which is the specification's since 2.16, or 412, which older platforms and
	// checkers expect. 0: 400.
	MissingVersion int
	// RetryAfter is how soon a platform is told to ask for an operation again; 0: 2 seconds.
	RetryAfter time.Duration
	// MaxWait bounds a call of the broker; 0: 58 seconds. Platforms give up after 60.
	MaxWait time.Duration

	catalog atomic.Pointer[published]
}

const (
	instancePath = "/v2/service_instances/{instance}"
	bindingPath  = instancePath + "/service_bindings/{binding}"
)

// Face makes /v2.
func (h *Handler) Face() api.Face {
	router := api.NewRouter(
		h.route(catalog, http.MethodGet, "/v2/catalog", h.getCatalog),
		h.route(instanceRemove, http.MethodDelete, instancePath, h.deprovision),
		h.route(create, http.MethodPut, instancePath, h.provision),
		h.route(fetch, http.MethodGet, instancePath, h.getInstance),
		h.route(instanceUpdate, http.MethodPatch, instancePath, h.update),
		h.route(poll, http.MethodGet, instancePath+"/last_operation", h.lastOperation),
		h.route(create, http.MethodPut, bindingPath, h.bind),
		h.route(bindingRemove, http.MethodDelete, bindingPath, h.unbind),
		h.route(fetch, http.MethodGet, bindingPath, h.getBinding),
		h.route(poll, http.MethodGet, bindingPath+"/last_operation", h.lastOperation),
	)
	return api.Face{
		Name:    "osb",
		Segment: "v2",
		Serve: func(c *api.Call) error {
			platform, ok := h.Platforms.Check(c.R)
			if !ok {
				return c.Unauthorized("Basic")
			}
			c.Platform = platform
			if _, err := h.version(c); err != nil {
				return err
			}
			return router.Serve(c)
		},
		Fail: func(c *api.Call, err error) { fail(c, none, err) },
	}
}

// route serves a pattern, with errors rendered as they must be for what it does.
func (h *Handler) route(a action, method, pattern string, serve func(*api.Call) error) api.Route {
	return api.Route{Method: method, Pattern: pattern, Serve: func(c *api.Call) error {
		err := serve(c)
		if errors.Is(err, context.DeadlineExceeded) && bindery.CodeOf(err) == bindery.CodeInternal {
			err = bindery.Errorf(bindery.CodeTimeout, "the work did not end in time").Because(err)
		}
		if err != nil {
			fail(c, a, err)
		}
		return nil
	}}
}

// caller is who asks. canPoll is whether it takes 202 for an answer.
func caller(c *api.Call, canPoll bool) broker.Caller {
	return broker.Caller{Platform: c.Platform, Actor: actor(c.R.Header), RequestID: c.RequestID, CanPoll: canPoll}
}

// detached is the context of a call that changes something. It does not end
// with the connection: what the platform will ask about must be recorded, and half a wait undone is worse
// than a whole one that nobody reads.
func (h *Handler) detached(c *api.Call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.R.Context()), cmp.Or(h.MaxWait, 58*time.Second))
}

func (h *Handler) retryAfter(c *api.Call) {
	seconds := int((cmp.Or(h.RetryAfter, 2*time.Second) + time.Second - 1) / time.Second)
	c.Header()["Retry-After"] = []string{strconv.Itoa(seconds)}
}
