package authn

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"bindery"
	"bindery/api"
)

// failure is the envelope of every error.
type failure struct {
	Error struct {
		Message string `json:"message"`
		Code    int    `json:"code"`
		Status  string `json:"status"`
	} `json:"error"`
}

// fail renders an error in the envelope.
func fail(c *api.Call, err error) {
	if errors.Is(err, context.DeadlineExceeded) && bindery.CodeOf(err) == bindery.CodeInternal {
		err = bindery.Errorf(bindery.CodeTimeout, "The work did not end in time").Because(err)
	}
	c.Failed(err)
	code := statusOf(err)
	var f failure
	f.Error.Message, f.Error.Code, f.Error.Status = c.Describe(err), code, word(code)
	body, _ := json.MarshalIndent(f, "", " ") // two strings and a number encode without fail
	c.Raw(code, contentType, body)
}

// statusOf differs from package api's table in one row: what is malformed as
// JSON is a [poor] one here, and what is wrong in its meaning is a 422.
func statusOf(err error) int {
	if bindery.CodeOf(err) == bindery.CodeInvalid {
		return http.StatusUnprocessableEntity
	}
	return api.StatusOf(err)
}

// word is the name that the envelope gives a status code.
func word(code int) string {
	if code == http.StatusForbidden {
		return "ACCESS_FORBIDDEN"
	}
	return strings.ToUpper(http.StatusText(code))
}

// refuse is a 400.
func refuse(message string) error {
	return &api.Refusal{Status: http.StatusBadRequest, Message: message}
}

// poor is the error of a body that cannot be read.
func poor(reason string) error { return refuse("Poorly formatted JSON. " + reason) }
