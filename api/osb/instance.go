package osb

import (
	"encoding/json"
	"net/http"

	"bindery"
	"bindery/api"
	"bindery/broker"
)

// changed is the answer to a PUT, PATCH or DELETE that has no credentials to carry.
type changed struct {
	Operation    string `json:"operation,omitempty"`
	DashboardURL string `json:"dashboard_url,omitempty"`
}

type instanceBody struct {
	ServiceID       string           `json:"service_id"`
	PlanID          string           `json:"plan_id"`
	DashboardURL    string           `json:"dashboard_url,omitempty"`
	Parameters      json.RawMessage  `json:"parameters,omitempty"`
	MaintenanceInfo *maintenanceBody `json:"maintenance_info,omitempty"`
}

// answer writes the outcome of a call that changes something.
func (h *Handler) answer(c *api.Call, done int, r broker.Result, body changed) {
	status := http.StatusOK
	switch r.Outcome {
	case broker.Done:
		status = done
	case broker.Accepted:
		status, body.Operation = http.StatusAccepted, r.Operation
		h.retryAfter(c)
	case broker.Same:
	}
	c.JSON(status, body)
}

func instanceID(c *api.Call) (string, error) {
	id := c.Param("instance")
	return id, api.CheckText("instance_id", id)
}

// readInstance reads what a request about an instance has, in the order in which it is checked.
func readInstance(c *api.Call) (id string, q query, f fields, err error) {
	if id, err = instanceID(c); err == nil {
		q, err = parseQuery(c)
	}
	if err == nil {
		f.Object, err = c.Object()
	}
	return id, q, f, err
}

func (h *Handler) provision(c *api.Call) error {
	id, q, f, err := readInstance(c)
	if err != nil {
		return err
	}
	req := broker.ProvisionRequest{
		InstanceID:         id,
		OfferingID:         f.need("service_id"),
		PlanID:             f.need("plan_id"),
		Organization:       f.need("organization_guid"),
		Space:              f.need("space_guid"),
		Context:            f.inner("context"),
		Parameters:         f.inner("parameters"),
		MaintenanceVersion: f.maintenance(),
	}
	if f.err != nil {
		return f.err
	}
	ctx, cancel := h.detached(c)
	defer cancel()
	r, err := h.Broker.Provision(ctx, caller(c, q.acceptsIncomplete), req)
	if err != nil {
		return err
	}
	h.answer(c, http.StatusCreated, r, changed{DashboardURL: r.Instance.DashboardURL})
	return nil
}

func (h *Handler) update(c *api.Call) error {
	id, q, f, err := readInstance(c)
	if err != nil {
		return err
	}
	req := broker.UpdateRequest{
		InstanceID:         id,
		OfferingID:         f.need("service_id"),
		PlanID:             f.text("plan_id"),
		Parameters:         f.inner("parameters"),
		Context:            f.inner("context"),
		MaintenanceVersion: f.maintenance(),
	}
	// previous_values is not read: what was before stands in the store.
	if f.err != nil {
		return f.err
	}
	ctx, cancel := h.detached(c)
	defer cancel()
	r, err := h.Broker.Update(ctx, caller(c, q.acceptsIncomplete), req)
	if err != nil {
		return err
	}
	h.answer(c, http.StatusOK, r, changed{DashboardURL: r.Instance.DashboardURL})
	return nil
}

func (h *Handler) deprovision(c *api.Call) error {
	id, err := instanceID(c)
	if err != nil {
		return err
	}
	req, q, err := removal(c)
	if err != nil {
		return err
	}
	req.InstanceID = id
	ctx, cancel := h.detached(c)
	defer cancel()
	r, err := h.Broker.Deprovision(ctx, caller(c, q.acceptsIncomplete), req)
	if err != nil {
		return err
	}
	h.answer(c, http.StatusOK, r, changed{})
	return nil
}

// removal reads what every DELETE must say. Whether the ids fit is the
// broker's to judge: something unknown is gone, whatever the ids are.
func removal(c *api.Call) (broker.RemoveRequest, query, error) {
	q, err := parseQuery(c)
	if err != nil {
		return broker.RemoveRequest{}, q, err
	}
	for _, p := range [...]struct{ name, value string }{{"service_id", q.offeringID}, {"plan_id", q.planID}} {
		if p.value == "" {
			return broker.RemoveRequest{}, q, bindery.Errorf(bindery.CodeInvalid, "the query parameter %s is missing", p.name)
		}
		if err := api.CheckText(p.name, p.value); err != nil {
			return broker.RemoveRequest{}, q, err
		}
	}
	return broker.RemoveRequest{OfferingID: q.offeringID, PlanID: q.planID}, q, nil
}

func (h *Handler) getInstance(c *api.Call) error {
	id, err := instanceID(c)
	if err != nil {
		return err
	}
	i, err := h.Broker.Instance(c.R.Context(), caller(c, false), id)
	if err != nil {
		return err
	}
	body := instanceBody{
		ServiceID: i.OfferingID, PlanID: i.PlanID, DashboardURL: i.DashboardURL,
		Parameters: object(json.RawMessage(i.Parameters.Reveal())),
	}
	if i.MaintenanceVersion != "" {
		body.MaintenanceInfo = &maintenanceBody{Version: i.MaintenanceVersion}
	}
	c.JSON(http.StatusOK, body)
	return nil
}

type lastOperation struct {
	State            bindery.OperationState `json:"state"`
	Description      string                 `json:"description,omitempty"`
	InstanceUsable   *bool                  `json:"instance_usable,omitempty"`
	UpdateRepeatable *bool                  `json:"update_repeatable,omitempty"`
}

// lastOperation serves both of them. The plan and service that platforms send
// along are not looked at: after a change of plan some send the old and some the new.
func (h *Handler) lastOperation(c *api.Call) error {
	id, err := instanceID(c)
	if err != nil {
		return err
	}
	binding := c.Param("binding")
	ofInstance := c.Route == instancePath+"/last_operation"
	if !ofInstance {
		if err := api.CheckText("binding_id", binding); err != nil {
			return err
		}
	}
	q, err := parseQuery(c)
	if err != nil {
		return err
	}
	s, err := h.Broker.LastOperation(c.R.Context(), caller(c, true), id, binding, q.operation)
	if err != nil {
		return err
	}
	if s.State == bindery.OpInProgress {
		h.retryAfter(c)
	}
	c.JSON(http.StatusOK, renderStatus(s, ofInstance))
	return nil
}

// renderStatus keeps the two flags for where they may be: an instance's failed
// update (both) or deprovision (the first).
func renderStatus(s broker.Status, ofInstance bool) lastOperation {
	body := lastOperation{State: s.State, Description: s.Description}
	if !ofInstance || s.State != bindery.OpFailed {
		return body
	}
	if s.Kind == bindery.OpUpdate || s.Kind == bindery.OpDeprovision {
		body.InstanceUsable = s.InstanceUsable
	}
	if s.Kind == bindery.OpUpdate {
		body.UpdateRepeatable = s.UpdateRepeatable
	}
	return body
}
