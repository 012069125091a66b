// Package storetest is the promise that every store keeps, as a test suite. What
// no test here demands is not promised.
package storetest

import (
	"testing"

	"bindery"
	"bindery/seal"
)

// Keys makes a keyring with a fresh master key.
func Keys(tb testing.TB) bindery.Keyring {
	tb.Helper()
	k, err := seal.NewKeyring(seal.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
