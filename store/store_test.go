package store_test

import (
	"path/filepath"
	"testing"

	"bindery"
	"bindery/store/storetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) bindery.Store {
		return open(t, "sqlite:"+filepath.Join(t.TempDir(), "bindery.db"))
	})
}
