package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keptFor is how long a file outlives its last fetch.
const keptFor = 90 * 24 * time.Hour

// file is where the list of a source is kept. Its name follows from the source, so no index is needed; what
// is in it is checked as if it had just been fetched.
func (c *Certificates) file(a *authority, s *source) string {
	h := sha256.New()
	h.Write(a.id[:])
	h.Write([]byte(s.url))
	return filepath.Join(c.o.CacheDir, hex.EncodeToString(h.Sum(nil))+".crl")
}

func (c *Certificates) keep(a *authority, s *source, raw []byte) error {
	if c.o.CacheDir == "" {
		return nil
	}
	f, err := os.CreateTemp(c.o.CacheDir, "*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	// Half a list would only be refused, but a whole one is worth the wait.
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.file(a, s))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the next start tries again
	}
	return err
}

// touch says that a kept list is in use still.
func (c *Certificates) touch(a *authority, s *source) {
	if c.o.CacheDir != "" {
		now := time.Now()
		_ = os.Chtimes(c.file(a, s), now, now) // there may be none
	}
}

// restore takes in what an earlier process kept.
func (c *Certificates) restore(a *authority, s *source) (err error) {
	defer caught(&err)
	if c.o.CacheDir == "" {
		return nil
	}
	raw, err := readFile(c.file(a, s), c.o.MaxCRLBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := parseCRL(raw)
	if err != nil {
		return err
	}
	return a.accept(l, c.o.Now())
}

// tidy removes files that nobody fetched for long, and what a killed process left half written.
func (c *Certificates) tidy() error {
	if c.o.CacheDir == "" {
		return nil
	}
	if err := os.MkdirAll(c.o.CacheDir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.o.CacheDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		old := strings.HasSuffix(e.Name(), ".crl") && time.Since(info.ModTime()) > keptFor
		if old || strings.HasSuffix(e.Name(), ".tmp") {
			_ = os.Remove(filepath.Join(c.o.CacheDir, e.Name())) // the next start tries again
		}
	}
	return nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readBounded(f, limit)
}
