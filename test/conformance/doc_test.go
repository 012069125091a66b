// Package conformance holds Bindery against the Open Service Broker API 2.17,
// from outside: it starts the program, talks plain HTTP to it, and logs in with
// what it is given. Each test is named after the section of the specification's
// requirements that it holds: routes, headers, errors, catalog, sync and async,
// last_operation, instances, concurrency, bindings, orphan mitigation. Each runs
// for each service, and each answer is held against the OpenAPI document.
package conformance
