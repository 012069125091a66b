// Package api is what every HTTP face of Bindery shares: one call from its
// first header to its line in the log, routing, authentication, the decoding of
// bodies, the table that turns error codes into status codes, and health.
//
// A face (api/osb, api/admin) is a [Face]: a first path segment and two
// functions. A [Handler] serves a list of them on one listener. The order for
// every call is:
//
//	headers that every answer carries ─▶ face ─▶ authentication ─▶ route ─▶ body ─▶ work ─▶ one log line
//
// so that nothing, not even a 404, is answered to somebody unknown below a face
// that asks for credentials.
package api
