package bindery

import (
	"errors"
	"fmt"
)

// A Code says what kind of failure an [Error] is. The HTTP faces turn codes
// into status codes with one table each.
type Code string

// The codes, each with what the caller may conclude from it.
const (
	// CodeInvalid: the request is malformed or asks for what cannot be. Nothing changed.
	CodeInvalid Code = "invalid"
	// CodeUnauthorized: who asks is not proven.
	CodeUnauthorized Code = "unauthorized"
	// CodeForbidden: who asks is known, and may not.
	CodeForbidden Code = "forbidden"
	// CodeNotFound: there is no such thing, and never was.
	CodeNotFound Code = "not_found"
	// CodeGone: there was such a thing, and it was removed.
	CodeGone Code = "gone"
	// CodeConflict: the name is taken by something else.
	CodeConflict Code = "conflict"
	// CodeBusy: another operation on the same thing is in progress (OSB: ConcurrencyError).
	CodeBusy Code = "busy"
	// CodeAsyncRequired: the work takes longer than one request and the caller did not allow that.
	CodeAsyncRequired Code = "async_required"
	// CodeRequiresApp: the offering binds to applications only, and none was named.
	CodeRequiresApp Code = "requires_app"
	// CodeMaintenanceConflict: the maintenance_info version is not the plan's.
	CodeMaintenanceConflict Code = "maintenance_conflict"
	// CodeUnsupported: a well-formed change that this plan or instance does not allow.
	CodeUnsupported Code = "unsupported"
	// CodeQuota: a limit set by the operator is reached. Nothing changed.
	CodeQuota Code = "quota"
	// CodeTooLarge: a body or a value is over its limit.
	CodeTooLarge Code = "too_large"
	// CodeUnavailable: a backend or the store does not answer; the same call may succeed later.
	CodeUnavailable Code = "unavailable"
	// CodeUpstream: a service that was asked on the caller's behalf refused, or did not answer well.
	CodeUpstream Code = "upstream"
	// CodeTimeout: the work did not end in the time that the caller can wait.
	CodeTimeout Code = "timeout"
	// CodeInternal: everything else. The caller learns nothing more than that.
	CodeInternal Code = "internal"
)

// Codes lists every code, for tests that a table is complete.
var Codes = []Code{
	CodeInvalid, CodeUnauthorized, CodeForbidden, CodeNotFound, CodeGone, CodeConflict, CodeBusy,
	CodeAsyncRequired, CodeRequiresApp, CodeMaintenanceConflict, CodeUnsupported, CodeQuota,
	CodeTooLarge, CodeUnavailable, CodeUpstream, CodeTimeout, CodeInternal,
}

// An Error has two audiences. Code and Message are for the caller and never
// carry a cause from inside (SQL, addresses, other tenants' ids); Cause is for
// the operator's log.
type Error struct {
	Code    Code
	Message string
	Cause   error
}

// Errorf makes an error for the caller. The message must be fit for any
// caller's eyes: do not format an error into it, use [Error.Because].
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns a copy of e with the cause that only the operator sees.
func (e *Error) Because(cause error) *Error {
	return &Error{Code: e.Code, Message: e.Message, Cause: cause}
}

// Error is the operator's text: message and cause.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first [Error] in err's chain: CodeInternal for
// any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// MessageOf returns the text that a caller may see: the first [Error]'s
// message, and "internal error" for any other error.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != CodeInternal {
		return e.Message
	}
	return "internal error"
}
