package client

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"bindery"
)

// A Catalog is what a broker offers.
type Catalog struct {
	Services []Service `json:"services"`
}

// A Service is a service offering.
type Service struct {
	ID                   string           `json:"id"`
	Name                 string           `json:"name"`
	Description          string           `json:"description"`
	Tags                 []string         `json:"tags,omitempty"`
	Requires             []string         `json:"requires,omitempty"`
	Bindable             bool             `json:"bindable"`
	InstancesRetrievable bool             `json:"instances_retrievable,omitempty"`
	BindingsRetrievable  bool             `json:"bindings_retrievable,omitempty"`
	AllowContextUpdates  bool             `json:"allow_context_updates,omitempty"`
	PlanUpdateable       bool             `json:"plan_updateable,omitempty"`
	Metadata             json.RawMessage  `json:"metadata,omitempty"`
	DashboardClient      *DashboardClient `json:"dashboard_client,omitempty"`
	Plans                []Plan           `json:"plans"`
}

// A DashboardClient is the OAuth client of the Cloud Foundry profile; its
// secret is left behind on purpose.
type DashboardClient struct {
	ID          string `json:"id"`
	RedirectURI string `json:"redirect_uri,omitempty"`
}

// A Plan is a variant of a service.
type Plan struct {
	ID                     string           `json:"id"`
	Name                   string           `json:"name"`
	Description            string           `json:"description"`
	Metadata               json.RawMessage  `json:"metadata,omitempty"`
	Free                   *bool            `json:"free,omitempty"`     // nil: true
	Bindable               *bool            `json:"bindable,omitempty"` // nil: the service's
	BindingRotatable       bool             `json:"binding_rotatable,omitempty"`
	PlanUpdateable         *bool            `json:"plan_updateable,omitempty"` // nil: the service's
	Schemas                json.RawMessage  `json:"schemas,omitempty"`
	MaximumPollingDuration int64            `json:"maximum_polling_duration,omitempty"` // seconds
	MaintenanceInfo        *MaintenanceInfo `json:"maintenance_info,omitempty"`
}

// IsFree reports whether the plan costs nothing, which is what it does when it does not say.
func (p Plan) IsFree() bool { return p.Free == nil || *p.Free }

// CanBind reports whether instances of p, a plan of s, can be bound.
func (p Plan) CanBind(s Service) bool {
	if p.Bindable != nil {
		return *p.Bindable
	}
	return s.Bindable
}

// PollingLimit is how long an operation may take; 0 where the plan does not say.
func (p Plan) PollingLimit() time.Duration {
	const most = 30 * 24 * time.Hour
	if p.MaximumPollingDuration > int64(most/time.Second) {
		return most
	}
	return max(0, time.Duration(p.MaximumPollingDuration)*time.Second)
}

// MaintenanceInfo is the version of what is behind a plan or an instance.
type MaintenanceInfo struct {
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

// ProvisionRequest is the body of PUT /v2/service_instances/{id}.
type ProvisionRequest struct {
	ServiceID        string           `json:"service_id"`
	PlanID           string           `json:"plan_id"`
	OrganizationGUID string           `json:"organization_guid"`
	SpaceGUID        string           `json:"space_guid"`
	Context          json.RawMessage  `json:"context,omitempty"`
	Parameters       json.RawMessage  `json:"parameters,omitempty"`
	MaintenanceInfo  *MaintenanceInfo `json:"maintenance_info,omitempty"`
}

// UpdateRequest is the body of PATCH /v2/service_instances/{id}. What is empty
// is not to be changed.
type UpdateRequest struct {
	ServiceID       string           `json:"service_id"`
	PlanID          string           `json:"plan_id,omitempty"`
	Context         json.RawMessage  `json:"context,omitempty"`
	Parameters      json.RawMessage  `json:"parameters,omitempty"`
	PreviousValues  *PreviousValues  `json:"previous_values,omitempty"`
	MaintenanceInfo *MaintenanceInfo `json:"maintenance_info,omitempty"`
}

// PreviousValues is what the platform knows of the instance before an update.
type PreviousValues struct {
	ServiceID        string           `json:"service_id,omitempty"`
	PlanID           string           `json:"plan_id,omitempty"`
	OrganizationGUID string           `json:"organization_id,omitempty"`
	SpaceGUID        string           `json:"space_id,omitempty"`
	MaintenanceInfo  *MaintenanceInfo `json:"maintenance_info,omitempty"`
}

// BindRequest is the body of PUT .../service_bindings/{id}. A rotation names
// its predecessor and may leave everything else out.
type BindRequest struct {
	ServiceID            string          `json:"service_id,omitempty"`
	PlanID               string          `json:"plan_id,omitempty"`
	Context              json.RawMessage `json:"context,omitempty"`
	AppGUID              string          `json:"app_guid,omitempty"`
	BindResource         json.RawMessage `json:"bind_resource,omitempty"`
	Parameters           json.RawMessage `json:"parameters,omitempty"`
	PredecessorBindingID string          `json:"predecessor_binding_id,omitempty"`
}

// An Answer is what every call that changes something gets.
type Answer struct {
	// Status is 200 (it was so already, or is done), 201 (made) or 202 (in progress).
	Status int `json:"-"`
	// Operation is sent back when polling; it may be empty even with 202.
	Operation string `json:"operation,omitempty"`
}

// InProgress reports whether the work goes on: see [OSB.Wait].
func (a Answer) InProgress() bool { return a.Status == http.StatusAccepted }

// InstanceAnswer is the answer to a provision or an update.
type InstanceAnswer struct {
	Answer
	DashboardURL string            `json:"dashboard_url,omitempty"`
	Metadata     *InstanceMetadata `json:"metadata,omitempty"`
}

// InstanceMetadata is what a broker tells about an instance.
type InstanceMetadata struct {
	Labels     map[string]any `json:"labels,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// An Instance is what a broker that has instances_retrievable tells about one.
type Instance struct {
	ServiceID       string            `json:"service_id,omitempty"`
	PlanID          string            `json:"plan_id,omitempty"`
	DashboardURL    string            `json:"dashboard_url,omitempty"`
	Parameters      json.RawMessage   `json:"parameters,omitempty"`
	MaintenanceInfo *MaintenanceInfo  `json:"maintenance_info,omitempty"`
	Metadata        *InstanceMetadata `json:"metadata,omitempty"`
}

// A Binding is the answer to a bind that is done, and to the fetch of one.
type Binding struct {
	Answer
	Metadata        *BindingMetadata  `json:"metadata,omitempty"`
	Credentials     Credentials       `json:"credentials,omitzero"`
	SyslogDrainURL  string            `json:"syslog_drain_url,omitempty"`
	RouteServiceURL string            `json:"route_service_url,omitempty"`
	VolumeMounts    []json.RawMessage `json:"volume_mounts,omitempty"`
	Endpoints       []Endpoint        `json:"endpoints,omitempty"`
	Parameters      json.RawMessage   `json:"parameters,omitempty"`
}

// BindingMetadata says when a binding ends, in the broker's spelling of time.
type BindingMetadata struct {
	ExpiresAt   string `json:"expires_at,omitempty"`
	RenewBefore string `json:"renew_before,omitempty"`
}

// An Endpoint is a network address that the application needs to reach.
type Endpoint struct {
	Host     string `json:"host"`
	Ports    Ports  `json:"ports"`
	Protocol string `json:"protocol,omitempty"`
}

// Ports are ports and ranges ("443", "9000-9010"). Brokers that send numbers,
// against the specification, are understood.
type Ports []string

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Ports) UnmarshalJSON(raw []byte) error {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	*p = make(Ports, len(items))
	for i, item := range items {
		(*p)[i] = strings.Trim(string(item), `"`)
	}
	return nil
}

// Credentials is the free-form credentials object. It prints as "[secret]" in
// every encoding; [Credentials.Reveal] and [Credentials.Text] are the ways out.
type Credentials struct{ bindery.Secret }

// UnmarshalJSON implements [json.Unmarshaler] and takes an object only.
func (c *Credentials) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return err
	}
	c.Secret = bindery.NewSecret(string(raw))
	return nil
}

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c.Empty() }

// Keys returns the keys of the object in no order, each with its value in clear.
func (c Credentials) Keys() map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if !c.Empty() {
		_ = json.Unmarshal([]byte(c.Reveal()), &object) // it was one when it came in
	}
	return object
}

// Text returns the value of a key: strings as they are, everything else as JSON.
func (c Credentials) Text(key string) string { return Text(c.Keys()[key]) }

// Text returns a JSON string's value, and any other value as JSON.
func Text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// Pending names an operation to ask about. BindingID is empty for an
// instance's; everything but InstanceID may be.
type Pending struct {
	InstanceID, BindingID        string
	ServiceID, PlanID, Operation string
	// Removing says that the operation takes something away, so that 410 is its good end.
	Removing bool
}

// LastOperation is how an operation is doing.
type LastOperation struct {
	State            bindery.OperationState `json:"state"`
	Description      string                 `json:"description,omitempty"`
	InstanceUsable   *bool                  `json:"instance_usable,omitempty"`
	UpdateRepeatable *bool                  `json:"update_repeatable,omitempty"`
	// RetryAfter is when the broker wants to be asked again; 0: it does not say.
	RetryAfter time.Duration `json:"-"`
}
