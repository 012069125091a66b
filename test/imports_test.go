// Package test holds whole-system tests, and this one, of the source tree itself.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the import path of the domain, which knows nobody.
const root = "bindery"

// allowed says what each folder may import of this project; "" is the root,
// "*" everything. Arrows point at the root, siblings do not know each other, cmd
// introduces them. A new folder adds its row here, so that whoever reviews it is
// asked whether the arrow is right.
var allowed = map[string][]string{
	"":          {}, // and of other modules nothing either
	"broker":    {""},
	"exchange":  {""},
	"identity":  {""},
	"queue":     {""},
	"reconcile": {""},
	"proof":     {""},
	"store":     {""},
	"seal":      {""},
	"config":    {""},
	"telemetry": {""},
	"devserver": {""},
	"client":    {""},

	"driver":          {"*"}, // the list of kinds
	"driver/given":    {""},
	"driver/mtls":     {""},
	"driver/mysql":    {""},
	"driver/nats":     {""},
	"driver/oauth":    {""},
	"driver/postgres": {""},
	"driver/rabbitmq": {""},
	"driver/redis":    {""},

	"api":         {""},
	"api/openapi": {},
	"api/osb":     {"", "api", "broker"},
	"api/authn":   {"", "api", "exchange", "identity"},
	"api/admin":   {"", "api"},
	"api/pki":     {"", "api"},

	"cmd/bindery": {"*"},
	"bench":       {"*"},

	// Helpers of tests.
	"api/openapi/openapitest": {"api/openapi"},
	"broker/brokertest":       {"", "broker", "queue", "store", "store/storetest"},
	"devserver/natsd":         {"devserver"},
	"devserver/servertest":    {"devserver"},
	"driver/drivertest":       {"", "devserver/servertest"},
	"store/storetest":         {"", "seal"},
	"test/poll":               {},

	// Whole-system tests look from outside; what they share is among them.
	"test":             {},
	"test/authn":       {""},
	"test/conformance": {"api/openapi/openapitest", "devserver"},
	"test/crash":       {"client", "driver", "store"},
}

// helpers are what any test may import besides its own package, the root, and
// what its folder may import.
var helpers = []string{
	"api/openapi/openapitest", "devserver", "devserver/natsd", "devserver/servertest", "driver/drivertest",
	"store/storetest", "seal", "test/poll",
}

// moreForTests are tests that need a part's real neighbour: there are no mocks
// of our own interfaces.
var moreForTests = map[string][]string{
	"api/admin":   {"store", "broker", "broker/brokertest", "driver/given"},
	"api/authn":   {"store"},
	"api/pki":     {"driver/mtls", "store"},
	"exchange":    {"store"},
	"broker":      {"broker/brokertest", "driver/given", "driver/mtls", "driver/oauth", "driver/redis"},
	"queue":       {"store"},
	"driver/mtls": {"api", "api/pki", "store"},
	"proof":       {"broker/brokertest", "broker", "driver/redis"},
	"reconcile":   {"broker/brokertest", "broker", "driver/redis", "driver/postgres"},
	"client":      {"api", "api/osb", "api/admin"},
}

// onlyHelpers may be imported by tests, by each other, and by programs that start servers.
var onlyHelpers = []string{
	"api/openapi/openapitest", "broker/brokertest", "devserver/servertest", "driver/drivertest", "store/storetest", "test/poll",
}

func TestImports(t *testing.T) {
	t.Parallel()
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	// The files are read here, not by `go list`: go test caches results, and does
	// not see what a child process reads.
	err = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path != top && skipped(path) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		seen++
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		checkFile(t, path, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Errorf("%d files were found: this test looks at the wrong place", seen)
	}
}

// skipped are the folders that go ignores too, and modules of their own.
func skipped(dir string) bool {
	base := filepath.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func checkFile(t *testing.T, path, rel string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	folder := filepath.ToSlash(filepath.Dir(rel))
	if folder == "." {
		folder = ""
	}
	may, ok := allowed[folder]
	if !ok {
		t.Errorf("%s: the folder is not in the map of %s", rel, "test/imports_test.go")
		return
	}
	test := strings.HasSuffix(rel, "_test.go")
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			continue
		}
		inner, ours := ourOwn(name)
		switch {
		case !ours && folder == "" && !test && strings.Contains(name, "."):
			t.Errorf("%s imports %s: the domain imports the standard library only", rel, name)
		case !ours, slices.Contains(may, inner), slices.Contains(may, "*"):
		case test && (inner == "" || inner == folder || slices.Contains(helpers, inner) || slices.Contains(moreForTests[folder], inner)):
		default:
			t.Errorf("%s imports %s, and may import %q", rel, name, may)
		}
		if ours && !test && slices.Contains(onlyHelpers, inner) && !slices.Contains(onlyHelpers, folder) && folder != "bench" {
			t.Errorf("%s imports %s, which is for tests", rel, name)
		}
	}
}

// ourOwn cuts the module's name off an import path.
func ourOwn(name string) (inner string, ours bool) {
	if name == root {
		return "", true
	}
	return strings.CutPrefix(name, root+"/")
}
