package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxName is what the strictest known platform takes for names and ids.
const maxName = 63

var (
	catalogName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
	catalogID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	ownName     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
)

// own checks a name that is kept in the store, and that it is the only one.
func (c *checker) own(p, name string, seen map[string]bool) {
	switch {
	case name == "":
		c.addf(p, "is missing")
	case len(name) > maxName || !ownName.MatchString(name):
		c.addf(p, "must be at most %d of a-z 0-9 . _ -, beginning with a letter or digit", maxName)
	case seen[name]:
		c.addf(p, "%q is given twice", name)
	}
	seen[name] = true
}

func (c *checker) oneOf(p, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		c.addf(p, "%.63q is none of %s", v, strings.Join(allowed, ", "))
	}
}

func (c *checker) within(p string, v, low, high int64) {
	if v < low || v > high {
		c.addf(p, "must be from %d to %d", low, high)
	}
}

func (c *checker) between(p string, v, low, high time.Duration) {
	if v < low || v > high {
		c.addf(p, "must be from %v to %v", low, high)
	}
}

// address checks host:port. zero allows port 0.
func (c *checker) address(p, a string, zero bool) bool {
	if a == "" {
		c.addf(p, "is missing")
		return false
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" && !zero || strings.ContainsAny(host, "/@ ") || hasControl(host) {
		c.addf(p, "must be host:port")
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !zero {
		c.addf(p, "has no port from 1 to 65535")
		return false
	}
	return true
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// loopback reports whether only this machine can reach the address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// token checks a secret that a caller sends in a header.
func (c *checker) token(p string, r Ref) {
	switch v := r.value.Reveal(); {
	case !r.Set():
		c.addf(p, "is missing")
	case v == "": // said already
	case len(v) < 16:
		c.addf(p, "is shorter than 16 characters")
	case strings.ContainsAny(v, " \t\r\n") || hasControl(v):
		c.addf(p, "has white space or a control character in it, which a header cannot carry")
	}
}

// keyPair checks that a certificate and its key can be read and belong together.
func (c *checker) keyPair(p, cert, key string, needed bool) {
	if cert == "" && key == "" && !needed {
		return
	}
	if cert == "" {
		c.addf(p+".cert_file", "is missing")
	}
	if key == "" {
		c.addf(p+".key_file", "is missing")
	}
	if cert == "" || key == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		c.addf(p, "file %s: %v", pe.Path, pe.Err)
		return
	}
	if err != nil {
		c.addf(p, "certificate %s and key %s: %v", cert, key, err)
		return
	}
	if now := time.Now(); pair.Leaf != nil && (now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore)) {
		c.warnf("%s: the certificate is valid from %s to %s, which is not now", cert,
			pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339))
	}
}

// caFile returns the contents of a file of certificates.
func (c *checker) caFile(p, name string) string {
	if name == "" {
		return ""
	}
	b, err := os.ReadFile(name)
	if err != nil {
		c.addf(p, "file %s: %v", name, reason(err))
		return ""
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		c.addf(p, "file %s: has no PEM certificate", name)
	}
	return string(b)
}

// InsideDir returns name as it is written in a configuration file in dir:
// relative where it is inside.
func InsideDir(dir, name string) string {
	if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return name
}
