package store

import (
	"errors"
	"path/filepath"
	"strings"
)

// A location is where a store is: a path of an SQLite file, or a PostgreSQL URL.
type location struct{ path, dsn string }

// parseURL never repeats the URL in an error, for it may hold a password.
func parseURL(u string) (location, error) {
	scheme, rest, ok := strings.Cut(u, ":")
	if !ok {
		rest = u
	}
	switch {
	case u == "":
		return location{}, errors.New("the store's URL is missing")
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		return location{dsn: u}, nil
	case ok && scheme == "sqlite":
		// sqlite:///path is the same as sqlite:/path.
		if strings.HasPrefix(rest, "///") {
			rest = rest[2:]
		}
	case ok && strings.HasPrefix(rest, "//"):
		return location{}, errors.New("the store's URL is neither of sqlite nor of postgres")
	default:
		rest = u
	}
	if rest == "" || rest == ":memory:" || strings.HasPrefix(rest, "//") {
		return location{}, errors.New("the store's URL names no file")
	}
	path, err := filepath.Abs(rest)
	if err != nil {
		return location{}, err
	}
	return location{path: path}, nil
}
