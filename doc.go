// Package bindery is the domain of Bindery, a binding service: the nouns of the
// trade (offerings, plans, instances, bindings, accounts, operations, audit
// events), the error that every layer shares, and the contracts that drivers
// and stores keep.
//
// It imports the standard library only. Technology lives in the folders below
// it, and everything is wired together in cmd/bindery. Bindery is a program:
// its Go API is not promised to anybody outside this module.
//
// The life of an instance or a binding:
//
//	creating ──▶ ready ◀──▶ updating (instances)
//	    │          │
//	    └────┬─────┘
//	         ▼
//	      removing ──▶ removed (a tombstone; the platform may use the id again)
//
// A create that fails for good goes to removing by itself: the engine undoes
// what it may have made. Every arrow is an [Operation], recorded in the same
// transaction as the state that it changes.
package bindery
