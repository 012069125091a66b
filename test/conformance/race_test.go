//go:build race

package conformance

// The program is tested with the race detector where the tests are.
func init() { buildFlags = append(buildFlags, "-race") }
