package osb

import (
	"encoding/json"
	"net/http"
	"time"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

// timeFormat has a fraction, always: RFC 3339 as Go writes it leaves out a zero
// one, and the specification's pattern does not.
const timeFormat = "2006-01-02T15:04:05.0Z"

type bindingBody struct {
	Metadata        *bindingMetadata  `json:"metadata,omitempty"`
	Credentials     any               `json:"credentials,omitempty"`
	SyslogDrainURL  string            `json:"syslog_drain_url,omitempty"`
	RouteServiceURL string            `json:"route_service_url,omitempty"`
	VolumeMounts    []json.RawMessage `json:"volume_mounts,omitempty"`
	Endpoints       []endpoint        `json:"endpoints,omitempty"`
	Parameters      json.RawMessage   `json:"parameters,omitempty"` // of a fetch
}

type bindingMetadata struct {
	ExpiresAt   string `json:"expires_at,omitempty"`
	RenewBefore string `json:"renew_before,omitempty"`
}

type endpoint struct {
	Host     string   `json:"host"`
	Ports    []string `json:"ports"`
	Protocol string   `json:"protocol,omitempty"`
}

// renderBinding makes the object that carries the credentials, for a platform
// that speaks 2.minor.
func renderBinding(r broker.Result, minor int) bindingBody {
	cr := r.Credential
	b := bindingBody{
		SyslogDrainURL: cr.SyslogDrainURL, RouteServiceURL: cr.RouteServiceURL, VolumeMounts: cr.VolumeMounts,
	}
	if cr.Object != nil {
		b.Credentials = cr.Object
	}
	if !r.Binding.Expires.IsZero() || !r.Binding.RenewBefore.IsZero() {
		b.Metadata = &bindingMetadata{moment(r.Binding.Expires), moment(r.Binding.RenewBefore)}
	}
	if minor >= endpointsSince {
		for _, e := range cr.Endpoints {
			b.Endpoints = append(b.Endpoints, endpoint{e.Host, e.Ports, e.Protocol})
		}
	}
	return b
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// bindingIDs reads what a request about a binding has, in the order in which it is checked.
func (h *Handler) bindingIDs(c *api.Call) (instance, binding string, minor int, err error) {
	binding = c.Param("binding")
	if instance, err = instanceID(c); err == nil {
		err = api.CheckText("binding_id", binding)
	}
	if err == nil {
		minor, err = h.version(c)
	}
	return instance, binding, minor, err
}

func (h *Handler) bind(c *api.Call) error {
	instance, binding, minor, err := h.bindingIDs(c)
	if err != nil {
		return err
	}
	q, err := parseQuery(c)
	if err != nil {
		return err
	}
	body, err := c.Object()
	if err != nil {
		return err
	}
	req, err := bindRequest(body)
	if err != nil {
		return err
	}
	req.InstanceID, req.BindingID = instance, binding
	ctx, cancel := h.detached(c)
	defer cancel()
	r, err := h.Broker.Bind(ctx, caller(c, q.acceptsIncomplete && minor >= asyncBindSince), req)
	if err != nil {
		return err
	}
	if r.Outcome == broker.Accepted {
		h.answer(c, http.StatusAccepted, r, changed{}) // never credentials
		return nil
	}
	status := http.StatusCreated
	if r.Outcome == broker.Same {
		status = http.StatusOK
	}
	c.JSON(status, renderBinding(r, minor))
	return nil
}

// bindRequest reads the body of a bind or, where it names a predecessor, of a
// rotation, which may name nothing else: the rest is the predecessor's.
func bindRequest(body api.Object) (broker.BindRequest, error) {
	f := fields{Object: body}
	req := broker.BindRequest{
		Predecessor:  f.text("predecessor_binding_id"),
		AppGUID:      f.text("app_guid"),
		BindResource: f.inner("bind_resource"),
		Context:      f.inner("context"),
		Parameters:   f.inner("parameters"),
	}
	if req.Predecessor == "" {
		req.OfferingID, req.PlanID = f.need("service_id"), f.need("plan_id")
	} else {
		req.OfferingID, req.PlanID = f.text("service_id"), f.text("plan_id")
	}
	if f.err == nil && req.BindResource != nil {
		resource, err := api.ParseObject(req.BindResource)
		if err != nil {
			return req, err
		}
		inner := fields{Object: resource}
		if app := inner.text("app_guid"); app != "" {
			req.AppGUID = app
		}
		f.err = inner.err
	}
	return req, f.err
}

func (h *Handler) unbind(c *api.Call) error {
	instance, binding, minor, err := h.bindingIDs(c)
	if err != nil {
		return err
	}
	req, q, err := removal(c)
	if err != nil {
		return err
	}
	req.InstanceID, req.BindingID = instance, binding
	ctx, cancel := h.detached(c)
	defer cancel()
	r, err := h.Broker.Unbind(ctx, caller(c, q.acceptsIncomplete && minor >= asyncBindSince), req)
	if err != nil {
		return err
	}
	h.answer(c, http.StatusOK, r, changed{})
	return nil
}

func (h *Handler) getBinding(c *api.Call) error {
	instance, binding, minor, err := h.bindingIDs(c)
	if err != nil {
		return err
	}
	r, err := h.Broker.Binding(c.R.Context(), caller(c, false), instance, binding)
	if err != nil {
		return err
	}
	body := renderBinding(r, minor)
	body.Parameters = object(json.RawMessage(r.Binding.Parameters.Reveal()))
	c.JSON(http.StatusOK, body)
	return nil
}

// fields reads one field after the other and keeps the first problem, so that a
// request is one literal.
type fields struct {
	api.Object
	err error
}

func (f *fields) keep(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) need(key string) string {
	s, err := f.Need(key)
	f.keep(err)
	return s
}

func (f *fields) text(key string) string {
	s, err := f.Text(key)
	f.keep(err)
	return s
}

func (f *fields) inner(key string) json.RawMessage {
	raw, err := f.Inner(key)
	f.keep(err)
	return raw
}

// maintenance reads maintenance_info.version, which must be there where the object is.
func (f *fields) maintenance() *string {
	raw := f.inner("maintenance_info")
	if raw == nil {
		return nil
	}
	o, err := api.ParseObject(raw)
	if err != nil {
		f.keep(err)
		return nil
	}
	v, err := o.Text("version")
	if err == nil && v == "" {
		err = bindery.Errorf(bindery.CodeInvalid, "maintenance_info.version is missing")
	}
	f.keep(err)
	return &v
}
