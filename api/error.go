package api

import (
	"errors"
	"net/http"

	"bindery"
)

// status turns the domain's codes into HTTP. A face that must differ (OSB wants
// 422 for a busy instance) has a second table and asks this one for the rest.
var status = map[bindery.Code]int{
	bindery.CodeInvalid:             http.StatusBadRequest,
	bindery.CodeUnauthorized:        http.StatusUnauthorized,
	bindery.CodeForbidden:           http.StatusForbidden,
	bindery.CodeNotFound:            http.StatusNotFound,
	bindery.CodeGone:                http.StatusGone,
	bindery.CodeConflict:            http.StatusConflict,
	bindery.CodeBusy:                http.StatusConflict,
	bindery.CodeAsyncRequired:       http.StatusUnprocessableEntity,
	bindery.CodeRequiresApp:         http.StatusUnprocessableEntity,
	bindery.CodeMaintenanceConflict: http.StatusUnprocessableEntity,
	bindery.CodeUnsupported:         http.StatusUnprocessableEntity,
	bindery.CodeQuota:               http.StatusForbidden,
	bindery.CodeTooLarge:            http.StatusRequestEntityTooLarge,
	bindery.CodeUnavailable:         http.StatusServiceUnavailable,
	bindery.CodeTimeout:             http.StatusGatewayTimeout,
	bindery.CodeUpstream:            http.StatusBadGateway,
	bindery.CodeInternal:            http.StatusInternalServerError,
}

// Status is the status code of an error code: 500 for one that is in no table.
func Status(code bindery.Code) int {
	if s, ok := status[code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// A Refusal is an answer that HTTP has a status for and the domain has no code
// for, such as 405 and 412. Its message may be shown.
type Refusal struct {
	Status  int
	Message string
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// StatusOf is the status code of an error: a Refusal's own, else its code's.
func StatusOf(err error) int {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Status
	}
	return Status(bindery.CodeOf(err))
}

// Describe is the text of an error for the caller. An internal one says nothing
// but the request's id, by which the operator finds the cause in the log.
func (c *Call) Describe(err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Message
	}
	if bindery.CodeOf(err) == bindery.CodeInternal {
		return "internal error, request " + c.RequestID
	}
	return bindery.MessageOf(err)
}

// Word is the error word of an error in the plain envelope: its code, or the
// name of a refusal's status.
func Word(err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		switch r.Status {
		case http.StatusMethodNotAllowed:
			return "method_not_allowed"
		case http.StatusPreconditionFailed:
			return "precondition_failed"
		}
		return "refused"
	}
	return string(bindery.CodeOf(err))
}

type envelope struct {
	Error       string `json:"error"`
	Description string `json:"description"`
}

// Fail answers with the plain envelope, {"error": code, "description": text}.
// It is what faces without an envelope of their own use.
func Fail(c *Call, err error) {
	c.Failed(err)
	c.JSON(StatusOf(err), envelope{Error: Word(err), Description: c.Describe(err)})
}
