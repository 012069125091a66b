package drivertest

import (
	"testing"

	"bindery"
)

// Open opens a driver, and closes it when the test ends.
func Open(t testing.TB, kind bindery.Kind, s bindery.Server) bindery.Driver {
	t.Helper()
	d, err := kind.Open(s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}
