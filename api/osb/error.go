package osb

import (
	"errors"
	"net/http"

	"bindery"
	"bindery/api"
)

// An action is what a route does, as far as errors depend on it.
type action int

const (
	none action = iota // before a route was found
	catalog
	create // a PUT of an instance or a binding
	fetch
	poll
	instanceUpdate
	instanceRemove
	bindingRemove
)

// words are the error words that the specification reserves. All go with 422.
var words = map[bindery.Code]string{
	bindery.CodeBusy:                "ConcurrencyError",
	bindery.CodeAsyncRequired:       "AsyncRequired",
	bindery.CodeRequiresApp:         "RequiresApp",
	bindery.CodeMaintenanceConflict: "MaintenanceInfoConflict",
}

// status is the second table: where OSB differs from package api's, by action.
func status(a action, code bindery.Code) int {
	if _, reserved := words[code]; reserved {
		return http.StatusUnprocessableEntity
	}
	switch code { //nolint:exhaustive // the others are as in package api
	case bindery.CodeNotFound, bindery.CodeGone:
		switch a {
		case instanceRemove, bindingRemove:
			return http.StatusGone
		case poll:
			return api.Status(code)
		default: // 410 means "removed as you asked", and nobody asked
			return http.StatusNotFound
		}
	case bindery.CodeUnsupported, bindery.CodeQuota:
		if a == instanceUpdate {
			return http.StatusUnprocessableEntity
		}
		// Cloud Foundry takes a 422 without a reserved word for a create that may
		// have happened, and sends a DELETE after it.
		return http.StatusBadRequest
	}
	return api.Status(code)
}

type failure struct {
	Error            string `json:"error,omitempty"`
	Description      string `json:"description,omitempty"`
	InstanceUsable   *bool  `json:"instance_usable,omitempty"`
	UpdateRepeatable *bool  `json:"update_repeatable,omitempty"`
}

// fail renders an error as the specification's object. The two flags default to
// true and may appear for an update (both) and a deprovision (the first) only;
// one says something new only where a change can never be made.
func fail(c *api.Call, a action, err error) {
	c.Failed(err)
	if r, ok := errors.AsType[*api.Refusal](err); ok {
		c.JSON(r.Status, failure{Description: r.Message})
		return
	}
	code := bindery.CodeOf(err)
	s := status(a, code)
	if s == http.StatusGone {
		// The specification expects exactly this body, and its readers parse it.
		c.JSON(s, struct{}{})
		return
	}
	body := failure{Error: words[code], Description: c.Describe(err)}
	if a == instanceUpdate && code == bindery.CodeUnsupported {
		body.UpdateRepeatable = new(false)
	}
	c.JSON(s, body)
}
