package broker

import (
	"encoding/json"

	"bindery"
)

// A Caller is who asks, and how long it can wait.
type Caller struct {
	Platform  string // proven by its credential
	Actor     string // the originating identity, for the audit; may be empty
	RequestID string
	// CanPoll says that the caller takes 202 and an operation for an answer:
	// accepts_incomplete=true and, for a bind, version 2.14 or later. Without it
	// the call ends only when the work does.
	CanPoll bool
}

// An Outcome says how a call on an instance or binding ended, without an error.
type Outcome int

// The outcomes, with the status that OSB gives them.
const (
	Done     Outcome = iota // made or applied now: 201 for a PUT, 200 otherwise
	Same                    // it was so already: 200
	Accepted                // in progress: 202, with an operation
)

// A ProvisionRequest is the body of PUT /v2/service_instances/{id}.
type ProvisionRequest struct {
	InstanceID          string
	OfferingID, PlanID  string
	Organization, Space string
	Context, Parameters json.RawMessage // nil when absent
	MaintenanceVersion  *string         // nil when absent
}

// An UpdateRequest is the body of PATCH /v2/service_instances/{id}.
type UpdateRequest struct {
	InstanceID string
	OfferingID string
	// PlanID empty and Parameters, Context, MaintenanceVersion nil: not to be changed.
	PlanID              string
	Parameters, Context json.RawMessage
	MaintenanceVersion  *string
}

// A BindRequest is the body of PUT .../service_bindings/{id}.
type BindRequest struct {
	InstanceID, BindingID string
	// OfferingID and PlanID may be empty when Predecessor is not: they, the
	// parameters and the bind resource are inherited then.
	OfferingID, PlanID string
	AppGUID            string          // from bind_resource, else the deprecated field
	BindResource       json.RawMessage // nil when absent
	Context            json.RawMessage
	Parameters         json.RawMessage
	Predecessor        string // predecessor_binding_id
}

// A RemoveRequest is the query of a DELETE. BindingID is empty for an instance.
type RemoveRequest struct {
	InstanceID, BindingID string
	OfferingID, PlanID    string
}

// A Result is the answer to a call that changes something. Operation is set
// where Outcome is Accepted. Instance is set by calls on instances, Binding and
// Credential by a bind that is Done or Same.
type Result struct {
	Outcome    Outcome
	Operation  string
	Instance   bindery.Instance
	Binding    bindery.Binding
	Credential bindery.Credential
}

// A Status is the answer to last_operation.
type Status struct {
	State       bindery.OperationState
	Description string // of a failure or of progress; may be shown
	Kind        bindery.OperationKind
	// InstanceUsable and UpdateRepeatable are set for a failed update, and the
	// first for a failed deprovision, of an instance only (OSB 2.16).
	InstanceUsable, UpdateRepeatable *bool
}
