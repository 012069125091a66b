package admin

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"bindery"
	"bindery/api"
)

// An Operator does what people decide about operations; *broker.Broker is one.
// Errors: CodeNotFound; CodeConflict where the operation is in no state for it.
type Operator interface {
	// Retry makes the operation due now.
	Retry(ctx context.Context, row int64) error
	// Cancel ends the operation, with the reason in the audit.
	Cancel(ctx context.Context, row int64, reason string) error
	// Forget ends what is left of a binding whose removal cannot be confirmed or
	// proven, with the reason in the audit.
	Forget(ctx context.Context, bindingRow int64, reason string) error
	// ForgetInstance ends an instance whose removal cannot be confirmed, and what is
	// left of its bindings, with the reason in the audit.
	ForgetInstance(ctx context.Context, row int64, reason string) error
}

// Stocks are the pools of credentials that were given; *broker.Broker is one.
type Stocks interface {
	// Stocks returns the servers that have one.
	Stocks() []string
	// Stock returns a server's items, those that nobody ever took included. CodeNotFound.
	Stock(ctx context.Context, server string) ([]bindery.StockItem, error)
	// Release gives an item that is in quarantine back. CodeNotFound; CodeConflict.
	Release(ctx context.Context, server, item string) error
}

// A Reconciler compares what backends have with what is recorded. Errors:
// CodeNotFound for a service that is not configured.
type Reconciler interface {
	Reconcile(ctx context.Context, wish Reconcile) (Report, error)
}

// Reconcile says which backends to look at and what may be changed.
type Reconcile struct {
	Service string // the name of an offering; empty: all
	DryRun  bool   // change nothing
	Apply   bool   // remove also what the store never knew
	// RequestID is of the call, for the audit.
	RequestID string
}

// A Report is what a reconcile found and did. Names are those on the backend.
type Report struct {
	DryRun  bool           `json:"dry_run"`
	Servers []ServerReport `json:"servers"`
}

// A ServerReport is the part about one backend server.
type ServerReport struct {
	Server string `json:"server"`
	Kind   string `json:"kind"`
	// Error is set where the server could not be compared; it may be shown.
	Error    string   `json:"error,omitempty"`
	Checked  int      `json:"checked"`            // names that the backend has
	Removed  []string `json:"removed,omitempty"`  // tombstoned or, with apply, unknown: gone now
	Unknown  []string `json:"unknown,omitempty"`  // the store never knew them: left alone
	Restored []string `json:"restored,omitempty"` // the backend had lost them
	Failed   []string `json:"failed,omitempty"`   // tried, and to be tried again
}

// A Sealer knows which keys seal what is secret.
type Sealer interface {
	SealStatus(ctx context.Context) (SealStatus, error)
	// RotateSeal seals every record with a new data key, and wraps data keys under
	// the current master key. One that was cut short is carried on.
	RotateSeal(ctx context.Context) (Rotated, error)
}

// SealStatus says what seals the store. Ids tell nothing of their keys.
type SealStatus struct {
	Master string    `json:"master"` // the id of the current master key
	Keys   []SealKey `json:"keys"`
}

// A SealKey is one data key.
type SealKey struct {
	ID      int64     `json:"id"`
	Master  string    `json:"master"` // the id of the master key that wraps it
	Created time.Time `json:"created"`
	Records int       `json:"records"` // how many it seals
	Current bool      `json:"current"` // new records are sealed with it
}

// Rotated says what a rotation did.
type Rotated struct {
	Key     int64 `json:"key"`     // the data key that seals everything now
	Resumed bool  `json:"resumed"` // an earlier rotation was carried on
	Records int   `json:"records"` // sealed anew
	Wrapped int   `json:"wrapped"` // data keys wrapped anew
	Dropped int   `json:"dropped"` // data keys that sealed nothing any more
}

// Handler serves /admin/v1. A nil Stocks, Reconciler or Sealer answers 404.
type Handler struct {
	Store      bindery.Store
	Operator   Operator
	Stocks     Stocks
	Reconciler Reconciler
	Sealer     Sealer
	Tokens     *api.Tokens
	Now        func() time.Time

	reconciling, rotating sync.Mutex
}

// patience is how long the calls that do much may take.
const patience = 15 * time.Minute

// Face makes /admin/v1.
func (h *Handler) Face() api.Face {
	router := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/instances", Serve: h.instances},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/instances/{row}/forget", Serve: h.forgetInstance},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/bindings", Serve: h.bindings},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/bindings/{row}/forget", Serve: h.forget},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/accounts", Serve: h.accounts},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/pool", Serve: h.pool},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/pool/{server}/{item}/release", Serve: h.release},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/operations", Serve: h.operations},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/operations/{id}", Serve: h.operation},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/operations/{id}/retry", Serve: h.retry},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/operations/{id}/cancel", Serve: h.cancel},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/events", Serve: h.events},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/reconcile", Serve: h.reconcile},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/seal/status", Serve: h.sealStatus},
		api.Route{Method: http.MethodPost, Pattern: "/admin/v1/seal/rotate", Serve: h.sealRotate},
	)
	return api.Face{
		Name:    "admin",
		Segment: "admin",
		Serve: func(c *api.Call) error {
			if !h.Tokens.Check(c.R) {
				return c.Unauthorized("Bearer")
			}
			return router.Serve(c)
		},
	}
}

var errAbsent = bindery.Errorf(bindery.CodeNotFound, "this is not configured here")

// detached is the context of a call that changes something: it ends with its
// work or its bound, not with the connection.
func detached(c *api.Call, bound time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.R.Context()), bound)
}

func (h *Handler) retry(c *api.Call) error {
	row, err := operationRow(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c, time.Minute)
	defer cancel()
	if err := h.Operator.Retry(ctx, row); err != nil {
		return err
	}
	return h.showOperation(c, row)
}

func (h *Handler) cancel(c *api.Call) error {
	row, err := operationRow(c)
	if err != nil {
		return err
	}
	reason, err := reasonOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c, time.Minute)
	defer cancel()
	if err := h.Operator.Cancel(ctx, row, reason); err != nil {
		return err
	}
	return h.showOperation(c, row)
}

// reasonOf reads the body of what needs a reason.
func reasonOf(c *api.Call) (string, error) {
	body, err := c.Object()
	if err != nil {
		return "", err
	}
	return body.Need("reason")
}

// rowOf is the row in a path; what names none is not found, under this name.
func rowOf(c *api.Call, what string) (int64, error) {
	row, err := strconv.ParseInt(c.Param("row"), 10, 64)
	if err != nil || row <= 0 {
		return 0, bindery.Errorf(bindery.CodeNotFound, "there is no such %s", what)
	}
	return row, nil
}

func (h *Handler) forgetInstance(c *api.Call) error {
	row, err := rowOf(c, "service instance")
	if err != nil {
		return err
	}
	reason, err := reasonOf(c)
	if err != nil {
		return err
	}
	// It may have any number of bindings.
	c.Patience(h.Now().Add(patience + time.Minute))
	ctx, cancel := detached(c, patience)
	defer cancel()
	if err := h.Operator.ForgetInstance(ctx, row, reason); err != nil {
		return err
	}
	var i bindery.Instance
	if err := h.Store.View(ctx, func(tx bindery.Tx) (err error) {
		i, err = tx.Instances().Get(ctx, row)
		return err
	}); err != nil {
		return err
	}
	c.JSON(http.StatusOK, showInstance(i))
	return nil
}

func (h *Handler) forget(c *api.Call) error {
	row, err := rowOf(c, "service binding")
	if err != nil {
		return err
	}
	reason, err := reasonOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c, time.Minute)
	defer cancel()
	if err := h.Operator.Forget(ctx, row, reason); err != nil {
		return err
	}
	var out Binding
	err = h.Store.View(ctx, func(tx bindery.Tx) error {
		b, err := tx.Bindings().Get(ctx, row)
		if err == nil {
			out, err = showBinding(ctx, tx, b)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, out)
	return nil
}

func operationRow(c *api.Call) (int64, error) {
	row, ok := bindery.ParseToken(c.Param("id"))
	if !ok {
		return 0, bindery.Errorf(bindery.CodeNotFound, "there is no such operation")
	}
	return row, nil
}

func (h *Handler) reconcile(c *api.Call) error {
	if h.Reconciler == nil {
		return errAbsent
	}
	wish := Reconcile{RequestID: c.RequestID}
	if c.R.ContentLength != 0 {
		body, err := c.Object()
		if err != nil {
			return err
		}
		if wish.Service, err = body.Text("service"); err != nil {
			return err
		}
		if wish.DryRun, err = body.Bool("dry_run"); err != nil {
			return err
		}
		if wish.Apply, err = body.Bool("apply"); err != nil {
			return err
		}
	}
	if wish.DryRun && wish.Apply {
		return bindery.Errorf(bindery.CodeInvalid, "dry_run and apply exclude each other")
	}
	ctx, end, err := h.alone(c, &h.reconciling)
	if err != nil {
		return err
	}
	defer end()
	report, err := h.Reconciler.Reconcile(ctx, wish)
	if err != nil {
		return err
	}
	if report.Servers == nil {
		report.Servers = []ServerReport{}
	}
	c.JSON(http.StatusOK, report)
	return nil
}

func (h *Handler) sealStatus(c *api.Call) error {
	if h.Sealer == nil {
		return errAbsent
	}
	s, err := h.Sealer.SealStatus(c.R.Context())
	if err != nil {
		return err
	}
	if s.Keys == nil {
		s.Keys = []SealKey{}
	}
	for i := range s.Keys {
		s.Keys[i].Created = utc(s.Keys[i].Created)
	}
	c.JSON(http.StatusOK, s)
	return nil
}

func (h *Handler) sealRotate(c *api.Call) error {
	if h.Sealer == nil {
		return errAbsent
	}
	ctx, end, err := h.alone(c, &h.rotating)
	if err != nil {
		return err
	}
	defer end()
	r, err := h.Sealer.RotateSeal(ctx)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, r)
	return nil
}

// alone begins work that takes minutes and is done once at a time: a caller that
// stopped waiting and asks again must not start a second one.
func (h *Handler) alone(c *api.Call, lock *sync.Mutex) (ctx context.Context, end func(), err error) {
	if !lock.TryLock() {
		return nil, nil, bindery.Errorf(bindery.CodeBusy, "this is under way already")
	}
	c.Patience(h.Now().Add(patience + time.Minute))
	ctx, cancel := detached(c, patience)
	return ctx, func() { cancel(); lock.Unlock() }, nil
}
