package bindery

import (
	"regexp"
	"testing"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	good := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 1000 {
		p := NewPassword().Reveal()
		if !good.MatchString(p) || seen[p] {
			t.Fatal("a password is malformed, or not new")
		}
		seen[p] = true
	}
}
