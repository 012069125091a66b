package identity

import (
	"crypto/x509"
	"fmt"
	"maps"
	"time"
)

// reload looks whether the trust directory changed, and reads what did. Where that
// fails, the last good set stays.
func (c *Certificates) reload() error {
	files, err := c.o.look()
	if err != nil {
		return c.broken(fmt.Errorf("read the trust directory: %w", err))
	}
	stamps := maps.Clone(files.stamps)
	for _, path := range files.lists {
		delete(stamps, path)
	}
	set := c.trust.Load()
	own := c.own.known.Load()
	if set == nil || c.trustBroken() || set.own != own || !maps.Equal(stamps, c.stamps) {
		next, err := loadTrust(files, own, c.o.Log)
		if err != nil {
			return c.broken(fmt.Errorf("read the trusted authorities: %w", err))
		}
		next.loaded = c.o.Now()
		if set != nil {
			next.generation = set.generation + 1
		}
		c.stamps = stamps
		// Nobody may see a new authority without the lists that came with it.
		for _, cert := range next.authorities {
			c.authority(cert)
		}
		c.reloadLists(files, next)
		c.trust.Store(next)
		c.setTrustProblem("")
		c.o.Log.Info("trusted authorities were read", "certificates", next.size, "policies", len(next.policies))
		if next.size == 0 && !c.o.TrustUnknown {
			c.o.Log.Warn("no authority is trusted: every certificate will be refused")
		}
		return nil
	}
	c.setTrustProblem("")
	c.reloadLists(files, set)
	return nil
}

// broken logs a problem once, and keeps looking.
func (c *Certificates) broken(err error) error {
	if c.setTrustProblem(err.Error()) {
		c.o.Log.Error("the trust directory cannot be read; what was trusted before still is", "error", err)
	}
	return err
}

func (c *Certificates) setTrustProblem(text string) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = c.trustProblem != text
	c.trustProblem = text
	return changed
}

func (c *Certificates) trustBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trustProblem != ""
}

// A listFile is what is known of an r0 file.
type listFile struct {
	stamp   stamp
	issuer  string // its name's key; empty: unreadable
	problem string
	again   time.Time // when one with a problem is looked at again: a list from the future gets its time
}

// reloadLists reads the *.r0 files that changed. One that is broken is left out: the list
// that was known before still revokes, until it is stale; where none was known, as after a
// restart, nobody knows whom it would revoke (see [authority.unread]).
func (c *Certificates) reloadLists(files trustFiles, set *trustSet) {
	c.registering.Lock()
	defer c.registering.Unlock()
	now := c.o.Now()
	next := make(map[string]listFile, len(files.lists))
	for _, path := range files.lists {
		was := c.listFiles[path]
		if was.stamp == files.stamps[path] && (was.problem == "" || now.Before(was.again)) {
			next[path] = was
			continue
		}
		file := listFile{stamp: files.stamps[path]}
		l, err := c.readListFile(path)
		if err == nil {
			file.issuer = nameKey(l.issuer)
			err = c.offer(l, file.issuer)
		}
		if err != nil {
			file.problem, file.again = err.Error(), now.Add(time.Minute)
			if was.problem != file.problem {
				c.o.Log.Warn("a revocation list is not used", "file", path, "error", err)
			}
		}
		next[path] = file
	}
	c.listFiles = next
	c.unread = make(map[authorityID]bool)
	for path, file := range next {
		if file.problem != "" {
			for _, id := range set.named[stem(path)] {
				c.unread[id] = true
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.authorities {
		a.unread.Store(c.unread[id])
	}
}

func (c *Certificates) readListFile(path string) (*signedCRL, error) {
	raw, err := readFile(path, c.o.MaxCRLBytes)
	if err != nil {
		return nil, err
	}
	return parseCRL(raw)
}

// offer gives a list to the authorities of its issuer's name: of two that share one, the one
// that signed it takes it. That none is known yet is no error.
func (c *Certificates) offer(l *signedCRL, issuer string) error {
	var first error
	for _, a := range c.named(issuer) {
		err := a.accept(l, c.o.Now())
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (c *Certificates) named(name string) []*authority {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*authority
	for _, a := range c.authorities {
		if a.name == name {
			found = append(found, a)
		}
	}
	return found
}

// authority returns what is kept for the name and key of cert. One that is new is given the *.r0
// files that are there already. It is nil where there are too many.
func (c *Certificates) authority(cert *x509.Certificate) *authority {
	id, now := idOf(cert), c.o.Now()
	find := func() (*authority, int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		a := c.authorities[id]
		if a != nil {
			a.used.Store(now.Unix())
		}
		return a, len(c.authorities)
	}
	if a, _ := find(); a != nil {
		return a
	}
	c.registering.Lock()
	defer c.registering.Unlock()
	known, count := find()
	if known != nil || count >= maxAuthorities {
		return known
	}
	a := newAuthority(cert)
	a.used.Store(now.Unix())
	a.unread.Store(c.unread[a.id])
	// The lists are in before anybody asks the authority.
	for path, file := range c.listFiles {
		if file.issuer != a.name {
			continue
		}
		l, err := c.readListFile(path)
		if err == nil {
			err = a.accept(l, now)
		}
		if err != nil {
			c.o.Log.Warn("a revocation list is not used for an authority", "file", path, "authority", issuerName(cert), "error", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authorities[id] = a
	return a
}
