package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bindery"
)

// An Error is an answer that is not the wanted one, or the lack of any (Status
// 0). [bindery.CodeOf] tells its kind and errors.Is finds a context's error.
type Error struct {
	Method, Path string
	// Status is the HTTP status, Key the "error" field of the body (a reserved
	// word such as ConcurrencyError, or the broker's own), Description the text
	// for people: the broker's, or this client's where the broker sent none.
	Status           int
	Key, Description string
	// InstanceUsable and UpdateRepeatable are as sent; nil when absent.
	InstanceUsable, UpdateRepeatable *bool
	// RequestID is the request identity that the broker echoed.
	RequestID  string
	RetryAfter time.Duration
	// Malformed: the status was fine and the body was not.
	Malformed bool
	// Uncertain: what the call was to make may exist. Platforms send a DELETE
	// then (orphan mitigation), and so should the caller.
	Uncertain bool

	timedOut bool
	cause    error
}

// Error says what was asked, what was answered, and why.
func (e *Error) Error() string {
	var b strings.Builder
	key := e.Key
	if own[key] && e.Description != "" {
		key = "" // the description says it better
	}
	switch {
	case e.Status == 0:
		b.WriteString(e.Description)
		if e.cause != nil {
			fmt.Fprintf(&b, ": %v", e.cause)
		}
		return b.String()
	case key != "" && e.Description != "":
		fmt.Fprintf(&b, "%s: %s", key, e.Description)
	case key != "" || e.Description != "":
		b.WriteString(key + e.Description)
	default:
		b.WriteString(strings.ToLower(http.StatusText(e.Status)))
	}
	fmt.Fprintf(&b, " (%s %s answered %d", e.Method, e.Path, e.Status)
	if e.RequestID != "" && !strings.Contains(e.Description, e.RequestID) {
		fmt.Fprintf(&b, ", request %s", Printable(e.RequestID))
	}
	b.WriteString(")")
	return b.String()
}

// Unwrap returns the domain's error of the same kind, and what kept the answer away.
func (e *Error) Unwrap() []error {
	errs := []error{bindery.Errorf(e.Code(), "%s", e.Description)}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// reserved are the words that the specification sets aside, all with status 422.
var reserved = map[string]bindery.Code{
	"AsyncRequired":           bindery.CodeAsyncRequired,
	"ConcurrencyError":        bindery.CodeBusy,
	"RequiresApp":             bindery.CodeRequiresApp,
	"MaintenanceInfoConflict": bindery.CodeMaintenanceConflict,
}

// own are the words that Bindery's admin API says what kind of failure it is by.
var own = func() map[string]bool {
	words := map[string]bool{}
	for _, code := range bindery.Codes {
		words[string(code)] = true
	}
	return words
}()

// codes turns a status into the kind that it most likely stands for.
var codes = map[int]bindery.Code{
	http.StatusBadRequest:            bindery.CodeInvalid,
	http.StatusUnauthorized:          bindery.CodeUnauthorized,
	http.StatusForbidden:             bindery.CodeForbidden,
	http.StatusNotFound:              bindery.CodeNotFound,
	http.StatusRequestTimeout:        bindery.CodeTimeout,
	http.StatusConflict:              bindery.CodeConflict,
	http.StatusGone:                  bindery.CodeGone,
	http.StatusPreconditionFailed:    bindery.CodeInvalid,
	http.StatusRequestEntityTooLarge: bindery.CodeTooLarge,
	http.StatusUnprocessableEntity:   bindery.CodeUnsupported,
	http.StatusTooManyRequests:       bindery.CodeUnavailable,
	http.StatusBadGateway:            bindery.CodeUnavailable,
	http.StatusServiceUnavailable:    bindery.CodeUnavailable,
	http.StatusGatewayTimeout:        bindery.CodeTimeout,
}

// Code is the kind of the error in the domain's terms.
func (e *Error) Code() bindery.Code {
	switch {
	case e.Status == 0 && (e.timedOut || errors.Is(e.cause, context.DeadlineExceeded)):
		return bindery.CodeTimeout
	case e.Status == 0:
		return bindery.CodeUnavailable
	case e.Malformed:
		return bindery.CodeInternal
	}
	if code, ok := reserved[e.Key]; ok {
		return code
	}
	if own[e.Key] && e.Status >= 400 {
		return bindery.Code(e.Key)
	}
	if code, ok := codes[e.Status]; ok {
		return code
	}
	if e.Status >= 300 && e.Status < 500 {
		return bindery.CodeInvalid
	}
	return bindery.CodeInternal
}

// passing reports whether the same question may be answered a moment later.
func (e *Error) passing() bool {
	switch e.Status {
	case 0:
		return !errors.Is(e.cause, context.Canceled) && !errors.Is(e.cause, context.DeadlineExceeded)
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	}
	return e.Status >= 500
}

// A FailedError is an operation that the broker reports as failed.
type FailedError struct {
	Pending Pending
	Last    LastOperation
}

// Error is the broker's description of what failed.
func (e *FailedError) Error() string {
	if e.Last.Description == "" {
		return "the operation failed, and the broker does not say why"
	}
	return "the operation failed: " + e.Last.Description
}
