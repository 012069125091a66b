// Package mtls is a certificate authority whose bindings are client
// certificates (RFC 5280). It is its own server: authority and certificates are
// in Bindery's store, and what it says of them is public: its certificate, a
// revocation list, and OCSP (RFC 6960). docs/kinds/mtls.md says what
// applications and operators see of that.
//
// Three things shape the package:
//
// A serial number is committed before anything is signed with it: with the account, where
// the engine made that just now ([bindery.Recorder]). What is signed depends on nothing but
// the sealed material and the authority: the signatures are deterministic (RFC 6979). So
// whoever repeats a call gets the same certificate to the byte, and a serial number never
// has two. An account that is made again after its certificate was handed over gets a new
// serial number, and the old one is revoked in the same transaction.
//
// A revocation raises the number of the authority's revocation list in its own transaction.
// Whoever serves the list looks at that number first, so that any process's
// next answer includes any process's last revocation.
//
// A list, too, depends on nothing but what is in the store and on the window of time
// that it is signed for: two processes serve the same one under the same number (RFC 5280,
// section 5.2.3).
package mtls
