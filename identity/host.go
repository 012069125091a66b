package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"bindery"
)

const (
	hostNamesFor   = 5 * time.Minute
	noHostNamesFor = 30 * time.Second
	hostTimeout    = 5 * time.Second
	maxHostNames   = 8 // of one address
)

// hosts finds the names of addresses. An address is looked up once for some minutes, however
// many connections come from it.
type hosts struct {
	resolver *net.Resolver
	now      func() time.Time
	known    *recent[netip.Addr, hostNames]
	flight   singleflight.Group
}

type hostNames struct {
	names []string
	err   error
	until time.Time
}

func newHosts(o CertificateOptions) *hosts {
	return &hosts{resolver: o.Resolver, now: o.Now, known: newRecent[netip.Addr, hostNames](8 << 10)}
}

// check refuses a certificate that names neither the address nor one of its names.
func (h *hosts) check(ctx context.Context, leaf *x509.Certificate, remote netip.Addr) error {
	remote = remote.Unmap().WithZone("")
	if !remote.IsValid() {
		return bindery.Errorf(bindery.CodeForbidden, "Your certificate could not be compared with the connecting host")
	}
	if leaf.VerifyHostname(remote.String()) == nil {
		return nil
	}
	found := h.names(ctx, remote)
	if len(found.names) == 0 {
		return bindery.Errorf(bindery.CodeForbidden,
			"Your certificate could not be compared with the connecting host. The address %s has no name that leads back to it", remote).Because(found.err)
	}
	for _, name := range found.names {
		if leaf.VerifyHostname(name) == nil {
			return nil
		}
	}
	return bindery.Errorf(bindery.CodeForbidden, "Your certificate is not valid for the connecting host %s. It is valid for: %s",
		strings.Join(found.names, ", "), certificateHosts(leaf))
}

func certificateHosts(leaf *x509.Certificate) string {
	all := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	const shown = 10
	switch {
	case len(all) == 0:
		return "no host"
	case len(all) > shown:
		return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
	}
	return strings.Join(all, ", ")
}

func (h *hosts) names(ctx context.Context, addr netip.Addr) hostNames {
	if found, ok := h.known.get(addr); ok && h.now().Before(found.until) {
		return found
	}
	// The look-up goes on for the others where this caller gives up.
	result := h.flight.DoChan(addr.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostTimeout)
		defer cancel()
		found := hostNames{until: h.now().Add(hostNamesFor)}
		found.names, found.err = h.lookUp(ctx, addr)
		if len(found.names) == 0 {
			found.until = h.now().Add(noHostNamesFor)
		}
		h.known.put(addr, found)
		return found, nil
	})
	select {
	case r := <-result:
		return r.Val.(hostNames)
	case <-ctx.Done():
		return hostNames{err: ctx.Err()}
	}
}

// lookUp returns the names of an address that lead back to it. Whoever holds an address writes its reverse
// zone, and may write any name there; the way back is another's to write.
func (h *hosts) lookUp(ctx context.Context, addr netip.Addr) ([]string, error) {
	claimed, err := h.resolver.LookupAddr(ctx, addr.String())
	var names []string
	for _, name := range claimed[:min(len(claimed), maxHostNames)] {
		addrs, bad := h.resolver.LookupNetIP(ctx, "ip", name)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap().WithZone("") == addr }) {
			names = append(names, strings.TrimSuffix(name, "."))
		}
	}
	return names, err
}
