package bindery

import "time"

// An Event is one line of the audit: who did what to which, when, with which
// result. It never holds a secret, a parameter or a backend's text.
type Event struct {
	Row        int64
	At         time.Time
	Platform   string
	Actor      string // the originating identity, "operator", or "bindery"
	RequestID  string
	Action     string // an [OperationKind], or "reconcile", "prove", "forget", "cancel", "release", "orphan", "seal rotate"
	InstanceID string
	BindingID  string
	Account    string // the account's name on its backend
	Result     string // "succeeded" or "failed"
	Message    string
}
