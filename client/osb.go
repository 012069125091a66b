package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"bindery"
)

// Version is the version of the Open Service Broker API that [OSB] speaks by itself.
const Version = "2.17"

// OSB is a client of an Open Service Broker. It may be used by many goroutines
// and must not be copied after its first use.
type OSB struct {
	URL      string // without /v2
	Username string
	Password bindery.Secret
	HTTP     *http.Client // nil: one of its own, as NewHTTP makes it
	Version  string       // of X-Broker-API-Version; empty: [Version]
	// Header is sent along, for example X-Broker-API-Originating-Identity.
	Header http.Header
	// SyncOnly leaves accepts_incomplete away, so that no answer is 202.
	SyncOnly bool

	pool pool
}

// Catalog returns what the broker offers.
func (c *OSB) Catalog(ctx context.Context) (Catalog, error) {
	var out Catalog
	_, _, err := c.call(ctx, request{method: http.MethodGet, path: "/v2/catalog", accept: []int{200}}, &out)
	return out, err
}

// Provision makes an instance. The same call again is answered 200, or 202 while it runs.
func (c *OSB) Provision(ctx context.Context, id string, r ProvisionRequest) (InstanceAnswer, error) {
	var out InstanceAnswer
	path, err := instancePath(id)
	if err != nil {
		return out, err
	}
	out.Status, _, err = c.call(ctx, request{
		method: http.MethodPut, path: path, query: c.async(nil), body: r, accept: []int{200, 201, 202}, creates: true,
	}, &out)
	return out, err
}

// Instance fetches an instance, of brokers that declare instances_retrievable.
// CodeNotFound while it is being made, too.
func (c *OSB) Instance(ctx context.Context, id string) (Instance, error) {
	var out Instance
	path, err := instancePath(id)
	if err != nil {
		return out, err
	}
	_, _, err = c.call(ctx, request{method: http.MethodGet, path: path, accept: []int{200}}, &out)
	return out, err
}

// Update changes an instance.
func (c *OSB) Update(ctx context.Context, id string, r UpdateRequest) (InstanceAnswer, error) {
	var out InstanceAnswer
	path, err := instancePath(id)
	if err != nil {
		return out, err
	}
	out.Status, _, err = c.call(ctx, request{
		method: http.MethodPatch, path: path, query: c.async(nil), body: r, accept: []int{200, 202},
	}, &out)
	return out, err
}

// Deprovision removes an instance. CodeGone where there is none.
func (c *OSB) Deprovision(ctx context.Context, id, serviceID, planID string) (Answer, error) {
	path, err := instancePath(id)
	if err != nil {
		return Answer{}, err
	}
	return c.remove(ctx, path, serviceID, planID)
}

// Bind makes a binding; with a predecessor it is a rotation. Where the answer
// is in progress it holds no credentials: [OSB.Wait], then [OSB.Binding].
func (c *OSB) Bind(ctx context.Context, instanceID, id string, r BindRequest) (Binding, error) {
	var out Binding
	path, err := bindingPath(instanceID, id)
	if err != nil {
		return out, err
	}
	out.Status, _, err = c.call(ctx, request{
		method: http.MethodPut, path: path, query: c.async(nil), body: r, accept: []int{200, 201, 202}, creates: true,
	}, &out)
	return out, err
}

// Binding fetches a binding with its credentials, of brokers that declare
// bindings_retrievable. CodeNotFound while it is being made, too.
func (c *OSB) Binding(ctx context.Context, instanceID, id string) (Binding, error) {
	var out Binding
	path, err := bindingPath(instanceID, id)
	if err != nil {
		return out, err
	}
	out.Status, _, err = c.call(ctx, request{method: http.MethodGet, path: path, accept: []int{200}}, &out)
	return out, err
}

// Unbind removes a binding. CodeGone where there is none.
func (c *OSB) Unbind(ctx context.Context, instanceID, id, serviceID, planID string) (Answer, error) {
	path, err := bindingPath(instanceID, id)
	if err != nil {
		return Answer{}, err
	}
	return c.remove(ctx, path, serviceID, planID)
}

// LastOperation asks how an operation is doing. CodeGone is how some brokers
// report a removal that is done; CodeNotFound is what never was.
func (c *OSB) LastOperation(ctx context.Context, p Pending) (LastOperation, error) {
	var out LastOperation
	path, err := instancePath(p.InstanceID)
	if err == nil && p.BindingID != "" {
		path, err = bindingPath(p.InstanceID, p.BindingID)
	}
	if err != nil {
		return out, err
	}
	query := url.Values{}
	for key, value := range map[string]string{"service_id": p.ServiceID, "plan_id": p.PlanID, "operation": p.Operation} {
		if value != "" {
			query.Set(key, value)
		}
	}
	path += "/last_operation"
	status, header, err := c.call(ctx, request{method: http.MethodGet, path: path, query: query, accept: []int{200}}, &out)
	if err != nil {
		return out, err
	}
	out.RetryAfter = retryAfter(header, time.Now)
	out.Description = Printable(out.Description)
	switch out.State {
	case bindery.OpInProgress, bindery.OpSucceeded, bindery.OpFailed:
		return out, nil
	}
	return out, &Error{
		Method: http.MethodGet, Path: path, Status: status, Malformed: true,
		Description: "the answer's state is none of the three that the specification knows",
	}
}

func (c *OSB) remove(ctx context.Context, path, serviceID, planID string) (Answer, error) {
	var out Answer
	query := c.async(url.Values{"service_id": {serviceID}, "plan_id": {planID}})
	status, _, err := c.call(ctx, request{method: http.MethodDelete, path: path, query: query, accept: []int{200, 202}}, &out)
	out.Status = status
	return out, err
}

func (c *OSB) async(query url.Values) url.Values {
	if c.SyncOnly {
		return query
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("accepts_incomplete", "true")
	return query
}

func (c *OSB) call(ctx context.Context, r request, out any) (int, http.Header, error) {
	r.base, r.header = c.URL, c.Header
	r.prepare = func(req *http.Request) {
		version := c.Version
		if version == "" {
			version = Version
		}
		req.Header.Set("X-Broker-Api-Version", version)
		if c.Username != "" || !c.Password.Empty() {
			req.SetBasicAuth(c.Username, c.Password.Reveal())
		}
	}
	return c.pool.send(ctx, c.HTTP, r, out)
}

func instancePath(id string) (string, error) {
	s, err := segment(id)
	return "/v2/service_instances/" + s, err
}

func bindingPath(instanceID, id string) (string, error) {
	path, err := instancePath(instanceID)
	if err != nil {
		return "", err
	}
	s, err := segment(id)
	return path + "/service_bindings/" + s, err
}
