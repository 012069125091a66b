// Package client calls brokers: [OSB] speaks the Open Service Broker API 2.17
// to any broker, [Admin] speaks Bindery's own /admin/v1, [Authn] the identity
// face /v1. The command line, the tests and the benchmarks use it.
//
// A client follows no redirect (credentials would go along), reads no more than
// a bounded body, verifies TLS, and keeps enough idle connections for a crowd
// of concurrent callers. Every failure that a broker reports is an [*Error],
// and [bindery.CodeOf] gives its kind.
package client
