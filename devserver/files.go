package devserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// makeDir makes a directory for a server's files and returns its name without
// symbolic links, which is how the kernel knows it.
func makeDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("a server needs a directory for its files")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// writeFile replaces a file at once, readable to its owner only.
func writeFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp") // made with 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

const stateFile = "state.json"

// loadState reads what an earlier start in the directory wrote down, if any.
func loadState(dir string, state any) error {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, state); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return nil
}

func saveState(dir string, state any) error {
	b, err := json.MarshalIndent(state, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), append(b, '\n'))
}

// startOnPort starts the server on the wanted port; where none is wanted, on the
// earlier one, or else on a free one, and on another one should somebody
// be quicker to take it.
func (p *Process) startOnPort(ctx context.Context, wanted, earlier int, prepare func(port int) error) error {
	const tries = 5
	for try := 1; ; try++ {
		port := wanted
		if port == 0 && try == 1 && earlier != 0 && becomesFree(ctx, earlier) {
			port = earlier
		}
		if port == 0 {
			var err error
			if port, err = freePort(); err != nil {
				return err
			}
		}
		if err := prepare(port); err != nil {
			return err
		}
		err := p.Start(ctx)
		if err == nil {
			return nil
		}
		out := p.Output()
		taken := strings.Contains(out, "ddress already in use") || strings.Contains(out, "eaddrinuse")
		if wanted != 0 || try == tries || !taken {
			return err
		}
		returnPort(port)
	}
}

// waitLock returns a locked file once no other process has it.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		lock, err := tryLock(path)
		if lock != nil || err != nil {
			return lock, err
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("%s is locked: %w", path, err)
		}
	}
}

// copyTree copies a file, or a directory and what is in it except for some
// entries, and gives it to the account. Nobody gets a right that mode lacks.
func copyTree(from, to string, a account, mode fs.FileMode, except ...string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains(except, rel) {
			return nil
		}
		target := filepath.Join(to, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if err = os.Mkdir(target, 0o700); err == nil {
				err = os.Chmod(target, mode)
			}
		case d.Type() == fs.ModeSymlink:
			var link string
			if link, err = os.Readlink(path); err == nil {
				err = os.Symlink(link, target) //nolint:gosec // nobody else can write to either tree
			}
		case d.Type().IsRegular():
			err = copyFile(path, target, (info.Mode().Perm()|0o444)&mode)
		}
		if err != nil {
			return err
		}
		return a.give(target)
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}
