package devserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// PostgresBinaries are the programs of one installed PostgreSQL.
type PostgresBinaries struct {
	Version int    // the major version, such as 15
	Full    string // such as 15.18
	BinDir  string // where postgres and initdb are
}

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.\w]*)`)

// FindPostgres finds every PostgreSQL on this machine, the oldest first: in
// Debian's place for several versions, beside the postgres in the PATH, in the
// directories that BINDERY_POSTGRES_BIN lists (separated like those in PATH), and
// in those given here. What does not run is left out.
func FindPostgres(binDirs ...string) []PostgresBinaries {
	candidates := append(binDirs, filepath.SplitList(os.Getenv("BINDERY_POSTGRES_BIN"))...)
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err == nil {
		candidates = append(candidates, debian...)
	}
	if program, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			candidates = append(candidates, filepath.Dir(real))
		}
	}
	var found []PostgresBinaries
	for _, dir := range candidates {
		b, err := inspectPostgres(dir)
		if err == nil && !slices.Contains(found, b) {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b PostgresBinaries) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), compareVersions(a.Full, b.Full))
	})
	return found
}

func inspectPostgres(binDir string) (PostgresBinaries, error) {
	if _, err := os.Stat(filepath.Join(binDir, "initdb")); err != nil {
		return PostgresBinaries{}, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	program := filepath.Join(binDir, "postgres")
	out, err := exec.Command(program, "--version").CombinedOutput() //nolint:gosec // the operator's own programs
	if errors.Is(err, os.ErrNotExist) {
		return PostgresBinaries{}, fmt.Errorf("%s: %w", program, ErrMissing)
	}
	if err != nil {
		return PostgresBinaries{}, fmt.Errorf("%s --version: %w\n%s", program, err, out)
	}
	m := postgresVersion.FindSubmatch(out)
	if m == nil {
		return PostgresBinaries{}, fmt.Errorf("%s --version: cannot read %q", program, out)
	}
	major, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return PostgresBinaries{}, err
	}
	return PostgresBinaries{Version: major, Full: string(m[1]), BinDir: binDir}, nil
}

// choosePostgres picks the programs: the given ones, else those that made the
// data directory, else the newest.
func choosePostgres(binDir, dataDir string) (PostgresBinaries, error) {
	made, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return PostgresBinaries{}, err
	}
	need := strings.TrimSpace(string(made))
	if binDir != "" {
		b, err := inspectPostgres(binDir)
		if err == nil && need != "" && need != strconv.Itoa(b.Version) {
			err = fmt.Errorf("%s was made by PostgreSQL %s and cannot be used by %s", dataDir, need, b.Full)
		}
		return b, err
	}
	found := FindPostgres()
	for _, b := range slices.Backward(found) {
		if need == "" || need == strconv.Itoa(b.Version) {
			return b, nil
		}
	}
	if need != "" {
		return PostgresBinaries{}, fmt.Errorf("%s was made by PostgreSQL %s: %w", dataDir, need, ErrMissing)
	}
	return PostgresBinaries{}, fmt.Errorf("postgres and initdb: %w", ErrMissing)
}

// place is where devserver keeps what cannot be in the caller's directory.
func place(kind string) (string, error) {
	var dir string
	if os.Geteuid() == 0 {
		dir = filepath.Join("/var", kind, "bindery-devserver")
	} else {
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = filepath.Join(os.TempDir(), fmt.Sprintf("cache-%d", os.Geteuid()))
		}
		dir = filepath.Join(cache, "bindery-devserver")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // as system directories are
		return "", err
	}
	if err := makeOpenDir(dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !private(info) {
		return "", fmt.Errorf("%s can be changed by others", dir)
	}
	return dir, nil
}

// makeOpenDir makes a directory that others may pass through and may not list.
func makeOpenDir(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil { //nolint:gosec // servers run as another user
		return err
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // whatever the umask is
}

// once makes a directory of the cache, or finds it made. What make leaves
// unfinished is made again.
func once(ctx context.Context, name string, make func(dir string) error) (string, error) {
	cache, err := place("cache")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	lock, err := waitLock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer func() { _ = unlock(lock) }() // nothing was written to it
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	building := dir + ".building"
	if err := os.RemoveAll(building); err != nil {
		return "", err
	}
	if err := makeOpenDir(building); err != nil {
		return "", err
	}
	if err := make(building); err != nil {
		return "", errors.Join(err, os.RemoveAll(building))
	}
	return dir, os.Rename(building, dir)
}

// cacheName names what was made from a program by an account. Where the program is
// does not matter, so that every copy of it shares what was made.
func cacheName(kind string, program string, a account) (string, error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(b, " %v", a))
	return fmt.Sprintf("%s-%x", kind, sum[:8]), nil
}

// reachableBinaries returns programs that the account can run: the given ones, or a copy.
func reachableBinaries(ctx context.Context, b PostgresBinaries, a account) (PostgresBinaries, error) {
	program := filepath.Join(b.BinDir, "postgres")
	ok, err := a.reaches(program)
	if ok || err != nil {
		return b, err
	}
	if filepath.Base(b.BinDir) != "bin" {
		return b, fmt.Errorf("the user that PostgreSQL runs as cannot reach %s", b.BinDir)
	}
	name, err := cacheName("postgres-"+b.Full+"-programs", program, a)
	if err != nil {
		return b, err
	}
	dir, err := once(ctx, name, func(dir string) error {
		for _, part := range []string{"bin", "lib", "share"} {
			if err := copyTree(filepath.Join(filepath.Dir(b.BinDir), part), filepath.Join(dir, part), account{}, 0o755); err != nil {
				return err
			}
		}
		return nil
	})
	b.BinDir = filepath.Join(dir, "bin")
	return b, err
}
