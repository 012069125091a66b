package devserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// dataLink is the cluster in a server's directory, or a link to it.
const dataLink = "data"

func clusterExists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, dataLink, "PG_VERSION"))
	return err == nil
}

// makeCluster makes a database cluster in dir by copying the template. What an
// interrupted attempt left is removed.
func makeCluster(ctx context.Context, dir, template string, a account) error {
	if err := removeCluster(dir); err != nil {
		return err
	}
	reachable, err := a.reaches(dir)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, dataLink)
	if !reachable {
		if data, err = elsewhere(ctx, data); err != nil {
			return err
		}
	}
	// PG_VERSION, which says that the cluster is complete, comes last.
	const last = "PG_VERSION"
	if err := copyTree(filepath.Join(template, dataLink), data, a, 0o700, last); err != nil {
		return err
	}
	return copyTree(filepath.Join(template, dataLink, last), filepath.Join(data, last), a, 0o700)
}

// templateCluster returns a directory with an empty cluster, data, in it, and its
// superuser's password. There is one for each PostgreSQL and account.
func templateCluster(ctx context.Context, b PostgresBinaries, a account) (dir, superPassword string, err error) {
	initdb := filepath.Join(b.BinDir, "initdb")
	name, err := cacheName("postgres-"+b.Full, initdb, a)
	if err != nil {
		return "", "", err
	}
	dir, err = once(ctx, name, func(dir string) error {
		password := rand.Text()
		if err := writeFile(filepath.Join(dir, "password"), []byte(password)); err != nil {
			return err
		}
		// initdb reads the password as the server's user.
		work := filepath.Join(dir, "work")
		file := filepath.Join(work, "password")
		data := filepath.Join(dir, dataLink)
		for _, d := range []string{work, data} {
			if err := os.Mkdir(d, 0o700); err != nil {
				return err
			}
			if err := a.give(d); err != nil {
				return err
			}
		}
		if err := writeFile(file, []byte(password+"\n")); err != nil {
			return err
		}
		if err := a.give(file); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, initdb, "--pgdata="+data, "--username="+superuser, "--pwfile="+file, //nolint:gosec // the operator's own program
			"--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
		cmd.Dir = work
		cmd.Env = environment(work)
		cmd.SysProcAttr = a.attributes(os.Kill)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", initdb, err, strings.TrimSpace(out.String()))
		}
		return os.RemoveAll(work)
	})
	if err != nil {
		return "", "", err
	}
	content, err := os.ReadFile(filepath.Join(dir, "password"))
	return dir, string(content), err
}

// elsewhere makes a directory for a cluster that the server's user could not
// reach where the caller wants it, and the link to it. It removes those whose
// link is gone.
func elsewhere(ctx context.Context, link string) (string, error) {
	base, err := place("lib")
	if err != nil {
		return "", err
	}
	lock, err := waitLock(ctx, filepath.Join(base, "lock"))
	if err != nil {
		return "", err
	}
	defer func() { _ = unlock(lock) }() // nothing was written to it
	homes, err := filepath.Glob(filepath.Join(base, "cluster-*"))
	if err != nil {
		return "", err
	}
	for _, home := range homes {
		if err := removeHomeless(home); err != nil {
			return "", err
		}
	}
	home, err := os.MkdirTemp(base, "cluster-")
	if err != nil {
		return "", err
	}
	data := filepath.Join(home, dataLink)
	return data, errors.Join(
		os.Chmod(home, 0o711), //nolint:gosec // the server runs as another user
		writeFile(filepath.Join(home, "link"), []byte(link)),
		os.Symlink(data, link),
	)
}

// removeHomeless removes a cluster to which no link leads any more, unless a server runs there.
func removeHomeless(home string) error {
	link, err := os.ReadFile(filepath.Join(home, "link"))
	if err != nil {
		return os.RemoveAll(home) // an interrupted attempt
	}
	data := filepath.Join(home, dataLink)
	if to, err := os.Readlink(string(link)); err == nil && to == data {
		return nil
	}
	for _, name := range []string{"postgres", "mariadbd"} {
		if pids, err := processesIn(data, name); err != nil || len(pids) > 0 {
			return err
		}
	}
	return os.RemoveAll(home)
}

// removeCluster removes the cluster of a directory, wherever it is.
func removeCluster(dir string) error {
	link := filepath.Join(dir, dataLink)
	to, err := os.Readlink(link)
	if err != nil {
		return os.RemoveAll(link) // a directory, or nothing
	}
	base, err := place("lib")
	if err != nil {
		return err
	}
	home := filepath.Dir(to)
	if filepath.Dir(home) != base {
		return fmt.Errorf("%s does not lead to %s", link, base)
	}
	return errors.Join(os.RemoveAll(home), os.Remove(link))
}
