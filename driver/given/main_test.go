package given_test

import (
	"testing"

	"bindery/devserver/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }
