// Package authn is the identity face, /v1: HTTP around package exchange. Its
// paths, objects, messages and status codes are those of an older service, whose
// clients must not notice the change; what is Bindery's own (tokens, pages, further ways
// to send the key, issuers) stands beside them and is in nobody's way.
package authn
