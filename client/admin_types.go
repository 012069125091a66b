package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"bindery"
)

// An AdminInstance is a service instance as operators see it. Row is Bindery's
// own key, Name what the backend knows it by.
type AdminInstance struct {
	Row                int64         `json:"row"`
	Platform           string        `json:"platform"`
	ID                 string        `json:"id"`
	Name               string        `json:"name"`
	ServiceID          string        `json:"service_id"`
	PlanID             string        `json:"plan_id"`
	Kind               string        `json:"kind"`
	Server             string        `json:"server"`
	Organization       string        `json:"organization_guid,omitempty"`
	Space              string        `json:"space_guid,omitempty"`
	MaintenanceVersion string        `json:"maintenance_version,omitempty"`
	State              bindery.State `json:"state"`
	Created            time.Time     `json:"created"`
	Updated            time.Time     `json:"updated"`
}

// An AdminBinding is a service binding as operators see it: without credentials.
type AdminBinding struct {
	Row         int64         `json:"row"`
	InstanceRow int64         `json:"instance_row"`
	Platform    string        `json:"platform"`
	InstanceID  string        `json:"instance_id"`
	ID          string        `json:"id"`
	ServiceID   string        `json:"service_id"`
	PlanID      string        `json:"plan_id"`
	AppGUID     string        `json:"app_guid,omitempty"`
	Predecessor string        `json:"predecessor_binding_id,omitempty"`
	Expires     time.Time     `json:"expires_at,omitzero"`
	RenewBefore time.Time     `json:"renew_before,omitzero"`
	State       bindery.State `json:"state"` // of one that is removed also "revoked", "unproven" or "stuck"
	Proof       string        `json:"proof,omitempty"`
	ProvenAt    time.Time     `json:"proven_at,omitzero"`
	Created     time.Time     `json:"created"`
	Updated     time.Time     `json:"updated"`
}

// An AdminAccount is what was made on a backend: its name and its fate.
type AdminAccount struct {
	Row         int64                `json:"row"`
	BindingRow  int64                `json:"binding_row"`
	InstanceRow int64                `json:"instance_row"`
	Kind        string               `json:"kind"`
	Server      string               `json:"server"`
	Name        string               `json:"name"`
	State       bindery.AccountState `json:"state"`
	Expires     time.Time            `json:"expires_at,omitzero"`
	Proof       string               `json:"proof,omitempty"`
	ProvenAt    time.Time            `json:"proven_at,omitzero"`
	Attempts    int                  `json:"attempts,omitempty"`
	Retry       time.Time            `json:"retry_at,omitzero"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
}

// An AdminOperation is an operation as operators see it. ID is what platforms poll with.
type AdminOperation struct {
	ID          string                 `json:"id"`
	Kind        bindery.OperationKind  `json:"kind"`
	State       bindery.OperationState `json:"state"`
	Platform    string                 `json:"platform"`
	InstanceRow int64                  `json:"instance_row"`
	BindingRow  int64                  `json:"binding_row,omitempty"`
	InstanceID  string                 `json:"instance_id,omitempty"`
	BindingID   string                 `json:"binding_id,omitempty"`
	Server      string                 `json:"server"`
	Internal    bool                   `json:"internal"`
	Undo        bool                   `json:"undo"`
	Actor       string                 `json:"actor,omitempty"`
	RequestID   string                 `json:"request_id,omitempty"`
	Attempts    int                    `json:"attempts"`
	Problem     string                 `json:"problem,omitempty"`
	Code        bindery.Code           `json:"code,omitempty"`
	Message     string                 `json:"message,omitempty"`
	Owner       int64                  `json:"owner,omitempty"`
	Due         time.Time              `json:"due,omitzero"`
	Deadline    time.Time              `json:"deadline,omitzero"`
	Created     time.Time              `json:"created"`
	Finished    time.Time              `json:"finished,omitzero"`
}

// An AdminEvent is one line of the audit.
type AdminEvent struct {
	Row        int64     `json:"row"`
	At         time.Time `json:"at"`
	Platform   string    `json:"platform,omitempty"`
	Actor      string    `json:"actor,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
	Action     string    `json:"action"`
	InstanceID string    `json:"instance_id,omitempty"`
	BindingID  string    `json:"binding_id,omitempty"`
	Account    string    `json:"account,omitempty"`
	Result     string    `json:"result"`
	Message    string    `json:"message,omitempty"`
}

// InstanceFilter narrows a list of instances; zero fields do not.
type InstanceFilter struct {
	Platform, PlanID, Server string
	Removed                  bool // removed ones too
}

// Instances lists instances, oldest first. An error ends the list.
func (c *Admin) Instances(ctx context.Context, f InstanceFilter) iter.Seq2[AdminInstance, error] {
	return list[AdminInstance](ctx, c, "/instances", url.Values{
		"platform": {f.Platform}, "plan_id": {f.PlanID}, "server": {f.Server}, "removed": {flag(f.Removed)},
	})
}

// ForgetInstance ends an instance whose removal cannot be confirmed, and what is
// left of its bindings; the reason goes into the audit. It may take minutes, and
// be repeated. CodeConflict where nobody deprovisioned it, or nothing is left.
func (c *Admin) ForgetInstance(ctx context.Context, row int64, reason string) (AdminInstance, error) {
	var out AdminInstance
	err := c.call(ctx, request{
		method: http.MethodPost, path: "/instances/" + strconv.FormatInt(row, 10) + "/forget",
		body: map[string]string{"reason": reason}, long: true,
	}, &out)
	return out, err
}

// BindingFilter narrows a list of bindings; zero fields do not.
type BindingFilter struct {
	Platform    string
	InstanceID  string
	InstanceRow int64
	Removed     bool // removed ones too
	Stuck       bool // only those that have an account that was to be dead and may not be
}

// Bindings lists bindings, oldest first. An error ends the list.
func (c *Admin) Bindings(ctx context.Context, f BindingFilter) iter.Seq2[AdminBinding, error] {
	return list[AdminBinding](ctx, c, "/bindings", url.Values{
		"platform": {f.Platform}, "instance_id": {f.InstanceID}, "instance_row": {number(f.InstanceRow)},
		"removed": {flag(f.Removed)}, "stuck": {flag(f.Stuck)},
	})
}

// Forget ends what is left of a binding whose removal cannot be confirmed or
// proven; the reason goes into the audit. CodeConflict where nothing is left.
func (c *Admin) Forget(ctx context.Context, row int64, reason string) (AdminBinding, error) {
	var out AdminBinding
	err := c.call(ctx, request{
		method: http.MethodPost, path: "/bindings/" + strconv.FormatInt(row, 10) + "/forget", body: map[string]string{"reason": reason},
	}, &out)
	return out, err
}

// An AdminItem is one credential of a pool: who has it, never what it is.
type AdminItem struct {
	Server     string             `json:"server"`
	Name       string             `json:"name"`
	State      bindery.StockState `json:"state"`
	InstanceID string             `json:"instance_id,omitempty"`
	BindingID  string             `json:"binding_id,omitempty"`
	Since      time.Time          `json:"since,omitzero"`
}

// Pool lists the items of one server's pool, or of all, in the order in which they
// are given out; only those in one state, where it is not empty.
func (c *Admin) Pool(ctx context.Context, server string, state bindery.StockState) iter.Seq2[AdminItem, error] {
	return list[AdminItem](ctx, c, "/pool", url.Values{"server": {server}, "state": {string(state)}})
}

// Release gives an item that is in quarantine back to its pool. CodeConflict for any other.
func (c *Admin) Release(ctx context.Context, server, item string) (AdminItem, error) {
	var out AdminItem
	s, err := segment(server)
	if err != nil {
		return out, err
	}
	i, err := segment(item)
	if err != nil {
		return out, err
	}
	err = c.call(ctx, request{method: http.MethodPost, path: "/pool/" + s + "/" + i + "/release"}, &out)
	return out, err
}

// Accounts lists the accounts of a server that are in a state, oldest first.
func (c *Admin) Accounts(ctx context.Context, server string, state bindery.AccountState) iter.Seq2[AdminAccount, error] {
	return list[AdminAccount](ctx, c, "/accounts", url.Values{"server": {server}, "state": {string(state)}})
}

// OperationFilter narrows a list of operations; zero fields do not.
type OperationFilter struct {
	State       bindery.OperationState
	Platform    string
	InstanceRow int64
}

// Operations lists operations, oldest first. An error ends the list.
func (c *Admin) Operations(ctx context.Context, f OperationFilter) iter.Seq2[AdminOperation, error] {
	return list[AdminOperation](ctx, c, "/operations", url.Values{
		"state": {string(f.State)}, "platform": {f.Platform}, "instance_row": {number(f.InstanceRow)},
	})
}

// Operation returns one operation. CodeNotFound.
func (c *Admin) Operation(ctx context.Context, id string) (AdminOperation, error) {
	return c.operation(ctx, http.MethodGet, id, "", nil)
}

// Retry makes an operation due now. CodeConflict where it has ended.
func (c *Admin) Retry(ctx context.Context, id string) (AdminOperation, error) {
	return c.operation(ctx, http.MethodPost, id, "/retry", nil)
}

// Cancel ends an operation; the reason goes into the audit. CodeConflict where it has ended.
func (c *Admin) Cancel(ctx context.Context, id, reason string) (AdminOperation, error) {
	return c.operation(ctx, http.MethodPost, id, "/cancel", map[string]string{"reason": reason})
}

func (c *Admin) operation(ctx context.Context, method, id, verb string, body any) (AdminOperation, error) {
	var out AdminOperation
	s, err := segment(id)
	if err != nil {
		return out, err
	}
	err = c.call(ctx, request{method: method, path: "/operations/" + s + verb, body: body}, &out)
	return out, err
}

// EventFilter narrows a list of audit events; zero fields do not.
type EventFilter struct{ Platform, InstanceID, BindingID string }

// Events lists the audit, oldest first. An error ends the list.
func (c *Admin) Events(ctx context.Context, f EventFilter) iter.Seq2[AdminEvent, error] {
	return list[AdminEvent](ctx, c, "/events", url.Values{
		"platform": {f.Platform}, "instance_id": {f.InstanceID}, "binding_id": {f.BindingID},
	})
}

// ReconcileRequest says what to compare and what may be changed.
type ReconcileRequest struct {
	Service string `json:"service,omitempty"` // name of an offering; empty: all
	DryRun  bool   `json:"dry_run,omitempty"` // change nothing
	Apply   bool   `json:"apply,omitempty"`   // remove also what was never known
}

// ReconcileReport is what a reconcile found and did.
type ReconcileReport struct {
	DryRun  bool           `json:"dry_run"`
	Servers []ServerReport `json:"servers"`
}

// A ServerReport is the part about one backend server. Names are the backend's.
type ServerReport struct {
	Server   string   `json:"server"`
	Kind     string   `json:"kind"`
	Error    string   `json:"error,omitempty"` // why it could not be compared
	Checked  int      `json:"checked"`
	Removed  []string `json:"removed,omitempty"`
	Unknown  []string `json:"unknown,omitempty"`
	Restored []string `json:"restored,omitempty"`
	Failed   []string `json:"failed,omitempty"`
}

// Reconcile compares the backends with the store. It may take minutes; one runs
// at a time (CodeConflict).
func (c *Admin) Reconcile(ctx context.Context, r ReconcileRequest) (ReconcileReport, error) {
	var out ReconcileReport
	err := c.call(ctx, request{method: http.MethodPost, path: "/reconcile", body: r, long: true}, &out)
	return out, err
}

// SealStatus says which keys seal how many records.
type SealStatus struct {
	Master string    `json:"master"`
	Keys   []SealKey `json:"keys"`
}

// A SealKey is one data key. Ids tell nothing of the keys.
type SealKey struct {
	ID      int64     `json:"id"`
	Master  string    `json:"master"`
	Created time.Time `json:"created"`
	Records int       `json:"records"`
	Current bool      `json:"current"`
}

// SealRotation is what a rotation of the sealing key did.
type SealRotation struct {
	Key     int64 `json:"key"`
	Resumed bool  `json:"resumed"`
	Records int   `json:"records"`
	Wrapped int   `json:"wrapped"`
	Dropped int   `json:"dropped"`
}

// SealStatus says which keys seal the store.
func (c *Admin) SealStatus(ctx context.Context) (SealStatus, error) {
	var out SealStatus
	err := c.call(ctx, request{method: http.MethodGet, path: "/seal/status"}, &out)
	return out, err
}

// RotateSeal seals every record with a new key. It may take minutes; one runs at
// a time (CodeConflict).
func (c *Admin) RotateSeal(ctx context.Context) (SealRotation, error) {
	var out SealRotation
	err := c.call(ctx, request{method: http.MethodPost, path: "/seal/rotate", long: true}, &out)
	return out, err
}

func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
