package admin

import (
	"context"
	"net/http"
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
	// SealRotate seals everything that an older key seals with the current one.
	SealRotate(ctx context.Context) (SealStatus, error)
}

// SealStatus says how many records each key seals.
type SealStatus struct {
	Current string    `json:"current"` // the id of the key that seals from now on
	Keys    []SealKey `json:"keys"`
}

// A SealKey is one key, by its id.
type SealKey struct {
	ID        string `json:"id"`
	Records   int64  `json:"records"`
	Available bool   `json:"available"` // this process has the key
}

// Handler serves /admin/v1. A nil Reconciler or Sealer answers 404.
type Handler struct {
	Store      bindery.Store
	Operator   Operator
	Reconciler Reconciler
	Sealer     Sealer
	Tokens     *api.Tokens
	Now        func() time.Time
}

// patience is how long the calls that do much may take.
const patience = 15 * time.Minute

// Face makes /admin/v1.
func (h *Handler) Face() api.Face {
	router := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/instances", Serve: h.instances},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/bindings", Serve: h.bindings},
		api.Route{Method: http.MethodGet, Pattern: "/admin/v1/accounts", Serve: h.accounts},
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
	body, err := c.Object()
	if err != nil {
		return err
	}
	reason, err := body.Need("reason")
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
	c.Patience(h.Now().Add(patience + time.Minute))
	ctx, cancel := detached(c, patience)
	defer cancel()
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
	return answerSeal(c, s, err)
}

func (h *Handler) sealRotate(c *api.Call) error {
	if h.Sealer == nil {
		return errAbsent
	}
	c.Patience(h.Now().Add(patience + time.Minute))
	ctx, cancel := detached(c, patience)
	defer cancel()
	s, err := h.Sealer.SealRotate(ctx)
	return answerSeal(c, s, err)
}

func answerSeal(c *api.Call, s SealStatus, err error) error {
	if err != nil {
		return err
	}
	if s.Keys == nil {
		s.Keys = []SealKey{}
	}
	c.JSON(http.StatusOK, s)
	return nil
}
