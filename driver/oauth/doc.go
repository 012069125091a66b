// Package oauth makes clients at an authorization server: dynamic client
// registration (RFC 7591) and its management (RFC 7592). An instance is nothing
// on the server, a binding is a client of its own or, by plan, an access token
// that such a client was given. docs/kinds/oauth.md says what applications and
// operators see of that.
//
// One thing shapes the package: the server names what it makes. A registration
// whose answer is lost leaves a client that nobody can name (its secret is lost
// with the answer too, so it lets nobody in). Therefore:
//
// A registration goes on when its caller gives up, for a while, and whoever asks
// for the same account next gets that answer, or removes what it made
// (registrations.go). Nothing is registered anew before the answer before it came
// or cannot come any more.
//
// What remains (a crash between the answer and the commit, a connection that
// broke) is said by Orphan, and the name of the account stands in the client's
// record, as client_name, for an operator to look for.
package oauth
