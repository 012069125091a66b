package bindery

import (
	"strconv"
	"time"
)

// An OperationKind says what an operation does.
type OperationKind string

// The kinds of operation. A rotation is a bind with a predecessor.
const (
	OpProvision   OperationKind = "provision"
	OpUpdate      OperationKind = "update"
	OpDeprovision OperationKind = "deprovision"
	OpBind        OperationKind = "bind"
	OpUnbind      OperationKind = "unbind"
	// OpExpire is an unbind at the end of a binding's lifetime. It is always internal.
	OpExpire OperationKind = "expire"
	// OpRestore makes an account again that its backend lost. It is always internal.
	OpRestore OperationKind = "restore"
)

// Creates reports whether the kind makes something that an undo removes.
func (k OperationKind) Creates() bool { return k == OpProvision || k == OpBind }

// Removes reports whether the kind takes something away.
func (k OperationKind) Removes() bool { return k == OpDeprovision || k == OpUnbind || k == OpExpire }

// An OperationState is one of the three states that the specification knows.
type OperationState string

// The states of an operation, in the specification's spelling.
const (
	OpInProgress OperationState = "in progress"
	OpSucceeded  OperationState = "succeeded"
	OpFailed     OperationState = "failed"
)

// An Operation is work on one instance or one binding, recorded in the same
// transaction as the state that it changes, and carried on after any crash.
// At most one is in progress for an instance or binding.
type Operation struct {
	Row         int64
	Kind        OperationKind
	Platform    string
	InstanceRow int64
	BindingRow  int64  // 0: the operation is on the instance
	Server      string // whose work it is; lanes of the queue are per server
	State       OperationState
	// Internal marks the engine's own work (an undo). It is never reported to a platform.
	Internal bool
	// Undo says that an update is taken back: the instance is brought to what the store says.
	Undo bool
	// Request is what an update asks for, as JSON (it may hold parameters).
	Request Secret
	// Actor is the originating identity, for the audit event; RequestID the
	// platform's request identity, or Bindery's own.
	Actor, RequestID string

	// Attempts counts runs; Problem is the public message of the last one that failed.
	Attempts int
	Problem  string
	// Due is when it may run next; while a process owns it, that process decides.
	Due time.Time
	// Deadline is when a create or update that still has not succeeded is undone; zero: never.
	Deadline time.Time
	// Owner is the process that runs it, 0 for none; Fence grows with every
	// claim, and whoever writes with an older one is refused.
	Owner, Fence int64

	// Code and Message say why it failed; both may be shown to the caller.
	Code    Code
	Message string

	Created, Finished time.Time
}

// Token is the operation string that platforms send back: URL-safe, opaque to them.
func (o Operation) Token() string { return "op-" + strconv.FormatInt(o.Row, 36) }

// ParseToken reads what Token wrote; ok is false for anything else.
func ParseToken(s string) (row int64, ok bool) {
	if len(s) < 4 || s[:3] != "op-" {
		return 0, false
	}
	row, err := strconv.ParseInt(s[3:], 36, 64)
	if err != nil || row <= 0 || "op-"+strconv.FormatInt(row, 36) != s {
		return 0, false
	}
	return row, true
}
