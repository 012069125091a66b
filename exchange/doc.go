// Package exchange turns a proven identity into the credential that is bound to
// it: service types, the auth methods by which Bindery calls them, the bindings
// of identities, and the calls themselves.
package exchange
