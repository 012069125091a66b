// Package nats makes accounts on a NATS server in operator mode with a full
// resolver. An instance is a NATS account, a binding is a user of it.
// docs/kinds/nats.md says what applications and operators see of that.
//
// Five things shape the package:
//
// The server keeps one JWT for each account, signed by the operator, and no users:
// whoever has a JWT signed by one of the account's signing keys is let in. So each
// binding has a signing key of its own, which signs its one user and is thrown away.
// The account's JWT lists the keys, each with the binding's name and what its
// user may do (a "scope"): that list is the inventory. A revocation takes the key
// out, and the server ends the sessions of users whose key is gone or whose scope is
// another than before (claims.go).
//
// An account has an identity key pair, too, which may sign users as well. Here the
// public key is a hash of the instance's name, and nobody has a private one (account.go).
//
// A new JWT replaces the old one whatever is in it: there is no compare-and-swap. In a
// process the changes of one instance stand in a line, and those that wait share
// one push (line.go). Among processes one at a time may write: it asks the others to
// let go, and where they do not answer it ends their connections (turn.go).
//
// A push whose sender gave up may wait in the server's socket buffer. What is sent
// over one connection happens in order, so a connection on which a call timed out is
// dropped, and whoever writes next first ends it on the server too (link.go). The server
// works off what it had already read of an ended connection; so there is a
// short pause after that (settle), before the accounts are read.
//
// The server writes JWTs to files without flushing them. After a power loss some may be old or
// missing; Ensure and reconcile put that right.
package nats
