// Package redis makes accounts on a Redis or Valkey server, 6.2 or later. An
// instance is a key prefix (or a whole server), a binding is an ACL user.
// docs/kinds/redis.md says what applications and operators see of that.
//
// Three things on the server's side shape the package:
//
// A command whose caller gave up may wait in the server's socket buffer and run
// later. Every connection is therefore known by its id on the server, the ids of
// given-up connections are kept, and whatever is sent next kills those first
// (pool.go). Connections that an earlier process left are killed before the
// first call.
//
// Users live in memory until ACL SAVE: one that was deleted but not saved is
// back after a crash. A revocation waits for a save that began after it, and
// those that come together share one (save.go).
//
// Rights are a list of allowed commands: what a newer server adds is not
// allowed, and what an older one does not know is left out (rights.go).
package redis
