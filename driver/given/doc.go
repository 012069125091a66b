// Package given is the kinds whose credentials somebody else made and gave to
// Bindery: one set for every binding (static), or a stock out of which each
// binding takes one (pool).
//
// Nothing is made on a server and nothing is taken back there: a set lives on
// when its binding ends ([bindery.RevocationReleased]).
package given
