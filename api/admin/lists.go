package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"bindery"
	"bindery/api"
)

// A page of a list. Next is absent at the end.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Instance is a service instance as operators see it.
type Instance struct {
	Row                int64     `json:"row"`
	Platform           string    `json:"platform"`
	ID                 string    `json:"id"`
	Name               string    `json:"name"` // on the backend
	ServiceID          string    `json:"service_id"`
	PlanID             string    `json:"plan_id"`
	Kind               string    `json:"kind"`
	Server             string    `json:"server"`
	Organization       string    `json:"organization_guid,omitempty"`
	Space              string    `json:"space_guid,omitempty"`
	MaintenanceVersion string    `json:"maintenance_version,omitempty"`
	State              string    `json:"state"`
	Created            time.Time `json:"created"`
	Updated            time.Time `json:"updated"`
}

// Binding is a service binding as operators see it: without its credentials.
type Binding struct {
	Row         int64     `json:"row"`
	InstanceRow int64     `json:"instance_row"`
	Platform    string    `json:"platform"`
	InstanceID  string    `json:"instance_id"`
	ID          string    `json:"id"`
	ServiceID   string    `json:"service_id"`
	PlanID      string    `json:"plan_id"`
	AppGUID     string    `json:"app_guid,omitempty"`
	Predecessor string    `json:"predecessor_binding_id,omitempty"`
	Expires     time.Time `json:"expires_at,omitzero"`
	RenewBefore time.Time `json:"renew_before,omitzero"`
	// State of one that is removed: "revoked" where its accounts were proven dead,
	// "unproven" where they are yet to be, "stuck" where they may not be, else "removed".
	State string `json:"state"`
	// Proof says how the end of its account was confirmed, ProvenAt when it was shown
	// that the credential is refused.
	Proof    string    `json:"proof,omitempty"`
	ProvenAt time.Time `json:"proven_at,omitzero"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// Account is what was made on a backend: its name and its fate, never its material.
type Account struct {
	Row         int64     `json:"row"`
	BindingRow  int64     `json:"binding_row"`
	InstanceRow int64     `json:"instance_row"`
	Kind        string    `json:"kind"`
	Server      string    `json:"server"`
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Expires     time.Time `json:"expires_at,omitzero"`
	Proof       string    `json:"proof,omitempty"`
	ProvenAt    time.Time `json:"proven_at,omitzero"`
	Attempts    int       `json:"attempts,omitempty"` // to prove that it is dead
	Retry       time.Time `json:"retry_at,omitzero"`  // the next of them
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
}

// Operation is an operation as operators see it. ID is what platforms poll with.
type Operation struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	State       string    `json:"state"`
	Platform    string    `json:"platform"`
	InstanceRow int64     `json:"instance_row"`
	BindingRow  int64     `json:"binding_row,omitempty"`
	InstanceID  string    `json:"instance_id,omitempty"`
	BindingID   string    `json:"binding_id,omitempty"`
	Server      string    `json:"server"`
	Internal    bool      `json:"internal"`
	Undo        bool      `json:"undo"`
	Actor       string    `json:"actor,omitempty"`
	RequestID   string    `json:"request_id,omitempty"`
	Attempts    int       `json:"attempts"`
	Problem     string    `json:"problem,omitempty"` // of the last attempt
	Code        string    `json:"code,omitempty"`    // of the failure
	Message     string    `json:"message,omitempty"`
	Owner       int64     `json:"owner,omitempty"` // the process that runs it
	Due         time.Time `json:"due,omitzero"`
	Deadline    time.Time `json:"deadline,omitzero"`
	Created     time.Time `json:"created"`
	Finished    time.Time `json:"finished,omitzero"`
}

// Event is one line of the audit.
type Event struct {
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

// asked is a list's query, taken apart; the first problem is kept.
type asked struct {
	values url.Values
	page   bindery.Page
	err    error
}

func ask(c *api.Call) *asked {
	values, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return &asked{err: bindery.Errorf(bindery.CodeInvalid, "the query is malformed").Because(err)}
	}
	a := &asked{values: values}
	a.page.After = a.number("after")
	a.page.Limit = defaultLimit
	if limit := a.number("limit"); limit > maxLimit || values.Get("limit") != "" && limit < 1 {
		a.keep(bindery.Errorf(bindery.CodeInvalid, "limit must be 1 to %d", maxLimit))
	} else if limit > 0 {
		a.page.Limit = int(limit)
	}
	return a
}

func (a *asked) keep(err error) {
	if a.err == nil {
		a.err = err
	}
}

// text returns a parameter; empty where it is absent or empty.
func (a *asked) text(name string) string {
	s := a.values.Get(name)
	if s != "" {
		a.keep(api.CheckText(name, s))
	}
	return s
}

func (a *asked) number(name string) int64 {
	s := a.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		a.keep(bindery.Errorf(bindery.CodeInvalid, "%s must be a number", name))
		return 0
	}
	return n
}

func (a *asked) flag(name string) bool {
	switch a.text(name) {
	case "", "false":
		return false
	case "true":
		return true
	}
	a.keep(bindery.Errorf(bindery.CodeInvalid, "%s must be true or false", name))
	return false
}

// oneOf returns a parameter that must be absent or one of these.
func oneOf[T ~string](a *asked, name string, known ...T) T {
	s := T(a.text(name))
	for _, k := range known {
		if s == k {
			return s
		}
	}
	if s != "" {
		a.keep(bindery.Errorf(bindery.CodeInvalid, "%s has an unknown value", name))
	}
	return ""
}

// list answers with a page of what read returns. read may run more than once.
func list[R, T any](
	h *Handler, c *api.Call, a *asked,
	read func(context.Context, bindery.Tx) ([]R, error), key func(R) int64, show func(context.Context, bindery.Tx, R) (T, error),
) error {
	if a.err != nil {
		return a.err
	}
	ctx := c.R.Context()
	var out page[T]
	err := h.Store.View(ctx, func(tx bindery.Tx) error {
		rows, err := read(ctx, tx)
		if err != nil {
			return err
		}
		out = page[T]{Items: make([]T, 0, len(rows))}
		for _, r := range rows {
			item, err := show(ctx, tx, r)
			if err != nil {
				return err
			}
			out.Items = append(out.Items, item)
		}
		if len(rows) >= a.page.Limit {
			out.Next = strconv.FormatInt(key(rows[len(rows)-1]), 10)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, out)
	return nil
}

func (h *Handler) instances(c *api.Call) error {
	a := ask(c)
	f := bindery.InstanceFilter{
		Platform: a.text("platform"), PlanID: a.text("plan_id"), Server: a.text("server"), Removed: a.flag("removed"),
	}
	return list(h, c, a,
		func(ctx context.Context, tx bindery.Tx) ([]bindery.Instance, error) {
			return tx.Instances().List(ctx, f, a.page)
		},
		func(i bindery.Instance) int64 { return i.Row },
		func(_ context.Context, _ bindery.Tx, i bindery.Instance) (Instance, error) {
			return showInstance(i), nil
		})
}

func showInstance(i bindery.Instance) Instance {
	return Instance{
		Row: i.Row, Platform: i.Platform, ID: i.ID, Name: i.Name, ServiceID: i.OfferingID, PlanID: i.PlanID,
		Kind: i.Kind, Server: i.Server, Organization: i.Organization, Space: i.Space,
		MaintenanceVersion: i.MaintenanceVersion, State: string(i.State), Created: utc(i.Created), Updated: utc(i.Updated),
	}
}

func (h *Handler) bindings(c *api.Call) error {
	a := ask(c)
	f := bindery.BindingFilter{
		Platform: a.text("platform"), InstanceID: a.text("instance_id"), InstanceRow: a.number("instance_row"),
		Removed: a.flag("removed"), Stuck: a.flag("stuck"),
	}
	f.Removed = f.Removed || f.Stuck // none other is
	return list(h, c, a,
		func(ctx context.Context, tx bindery.Tx) ([]bindery.Binding, error) {
			return tx.Bindings().List(ctx, f, a.page)
		},
		func(b bindery.Binding) int64 { return b.Row }, showBinding)
}

// The states of a removed binding, by what is known of its accounts.
const (
	stateRevoked  = "revoked"
	stateUnproven = "unproven"
	stateStuck    = "stuck"
)

// showBinding adds to one that was removed what became of its account.
func showBinding(ctx context.Context, tx bindery.Tx, b bindery.Binding) (Binding, error) {
	out := Binding{
		Row: b.Row, InstanceRow: b.InstanceRow, Platform: b.Platform, InstanceID: b.InstanceID, ID: b.ID,
		ServiceID: b.OfferingID, PlanID: b.PlanID, AppGUID: b.AppGUID, Predecessor: b.Predecessor,
		Expires: utc(b.Expires), RenewBefore: utc(b.RenewBefore), State: string(b.State),
		Created: utc(b.Created), Updated: utc(b.Updated),
	}
	if b.State != bindery.StateRemoved {
		return out, nil
	}
	accounts, err := tx.Accounts().OfBinding(ctx, b.Row)
	for _, a := range accounts {
		switch {
		case a.State == bindery.AccountStuck:
			out.State = stateStuck
		case a.State == bindery.AccountUnproven && out.State != stateStuck:
			out.State = stateUnproven
		case !a.Proven.IsZero() && out.State == string(bindery.StateRemoved):
			out.State = stateRevoked
		}
		out.Proof, out.ProvenAt = a.Proof, utc(a.Proven)
	}
	return out, err
}

func (h *Handler) accounts(c *api.Call) error {
	a := ask(c)
	server := a.text("server")
	if server == "" {
		a.keep(bindery.Errorf(bindery.CodeInvalid, "server is missing"))
	}
	state := oneOf(a, "state", bindery.AccountWanted, bindery.AccountLive, bindery.AccountRemoving,
		bindery.AccountUnproven, bindery.AccountStuck, bindery.AccountGone)
	if state == "" {
		a.keep(bindery.Errorf(bindery.CodeInvalid, "state is missing"))
	}
	return list(h, c, a,
		func(ctx context.Context, tx bindery.Tx) ([]bindery.Account, error) {
			return tx.Accounts().List(ctx, server, state, a.page)
		},
		func(x bindery.Account) int64 { return x.Row },
		func(_ context.Context, _ bindery.Tx, x bindery.Account) (Account, error) {
			return Account{
				Row: x.Row, BindingRow: x.BindingRow, InstanceRow: x.InstanceRow, Kind: x.Kind, Server: x.Server,
				Name: x.Name, State: string(x.State), Expires: utc(x.Expires), Proof: x.Proof, ProvenAt: utc(x.Proven),
				Attempts: x.Attempts, Retry: utc(x.Retry), Created: utc(x.Created), Updated: utc(x.Updated),
			}, nil
		})
}

func (h *Handler) operations(c *api.Call) error {
	a := ask(c)
	f := bindery.OperationFilter{
		State:    oneOf(a, "state", bindery.OpInProgress, bindery.OpSucceeded, bindery.OpFailed),
		Platform: a.text("platform"), InstanceRow: a.number("instance_row"),
	}
	return list(h, c, a,
		func(ctx context.Context, tx bindery.Tx) ([]bindery.Operation, error) {
			return tx.Operations().List(ctx, f, a.page)
		},
		func(o bindery.Operation) int64 { return o.Row }, showOperation)
}

func (h *Handler) operation(c *api.Call) error {
	row, err := operationRow(c)
	if err != nil {
		return err
	}
	return h.showOperation(c, row)
}

func (h *Handler) showOperation(c *api.Call, row int64) error {
	ctx := c.R.Context()
	var out Operation
	err := h.Store.View(ctx, func(tx bindery.Tx) error {
		o, err := tx.Operations().Get(ctx, row)
		if bindery.CodeOf(err) == bindery.CodeNotFound {
			return bindery.Errorf(bindery.CodeNotFound, "there is no such operation").Because(err)
		}
		if err != nil {
			return err
		}
		out, err = showOperation(ctx, tx, o)
		return err
	})
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, out)
	return nil
}

// showOperation adds the platform's ids, by which people know what it is about.
func showOperation(ctx context.Context, tx bindery.Tx, o bindery.Operation) (Operation, error) {
	out := Operation{
		ID: o.Token(), Kind: string(o.Kind), State: string(o.State), Platform: o.Platform,
		InstanceRow: o.InstanceRow, BindingRow: o.BindingRow, Server: o.Server, Internal: o.Internal, Undo: o.Undo,
		Actor: o.Actor, RequestID: o.RequestID, Attempts: o.Attempts, Problem: o.Problem,
		Code: string(o.Code), Message: o.Message, Owner: o.Owner,
		Due: utc(o.Due), Deadline: utc(o.Deadline), Created: utc(o.Created), Finished: utc(o.Finished),
	}
	i, err := tx.Instances().Get(ctx, o.InstanceRow)
	if err != nil && bindery.CodeOf(err) != bindery.CodeNotFound {
		return out, err
	}
	out.InstanceID = i.ID
	if o.BindingRow == 0 {
		return out, nil
	}
	b, err := tx.Bindings().Get(ctx, o.BindingRow)
	if err != nil && bindery.CodeOf(err) != bindery.CodeNotFound {
		return out, err
	}
	out.BindingID = b.ID
	return out, nil
}

func (h *Handler) events(c *api.Call) error {
	a := ask(c)
	f := bindery.EventFilter{
		Platform: a.text("platform"), InstanceID: a.text("instance_id"), BindingID: a.text("binding_id"),
	}
	return list(h, c, a,
		func(ctx context.Context, tx bindery.Tx) ([]bindery.Event, error) {
			return tx.Events().List(ctx, f, a.page)
		},
		func(e bindery.Event) int64 { return e.Row },
		func(_ context.Context, _ bindery.Tx, e bindery.Event) (Event, error) {
			return Event{
				Row: e.Row, At: utc(e.At), Platform: e.Platform, Actor: e.Actor, RequestID: e.RequestID, Action: e.Action,
				InstanceID: e.InstanceID, BindingID: e.BindingID, Account: e.Account, Result: e.Result, Message: e.Message,
			}, nil
		})
}

// utc keeps zero times zero, so that they are left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
