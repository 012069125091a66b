// Package crash holds no code but tests: the whole program, as a process of its
// own between real servers, killed, starved and lied to while clients use it.
//
// The short versions run in `make test`. With BINDERY_SOAK=1, as in `make soak`,
// there are more kills, more clients' calls and more rows, and bounds on time and
// memory are strict.
package crash
