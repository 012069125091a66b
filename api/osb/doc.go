// Package osb is the Open Service Broker API 2.17, /v2: it checks a platform's
// requests, calls the broker, and writes answers that every platform can read.
//
// It knows HTTP and JSON and nothing else. The order of checks is
//
//	401 ─▶ version (400, 412) ─▶ route (404, 405) ─▶ id, query, body, required fields (400, 413) ─▶ broker
//
// and whatever depends on what is recorded (repeats, conflicts, the catalog,
// quotas) is the broker's. A call that changes something goes on when the
// platform hangs up: it will ask again, and must find what was recorded.
package osb
