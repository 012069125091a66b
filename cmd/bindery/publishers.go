package main

import (
	"context"
	"errors"
	"fmt"

	"bindery"
	"bindery/identity"
)

// publisher returns what publishes the certificates that a server revoked.
func (b *backends) publisher(server string) (bindery.Publisher, bool) {
	d, ok := b.Driver(server)
	if !ok {
		return nil, false
	}
	return bindery.Capability[bindery.Publisher](d)
}

// publishers are the names of the servers that publish.
func (b *backends) publishers() (names []string) {
	for _, o := range b.all() {
		if _, ok := b.publisher(o.server.Name); ok {
			names = append(names, o.server.Name)
		}
	}
	return names
}

// authorities are what Bindery's own authorities publish, for the identity face: it
// trusts their certificates as far as bindings are pinned to them.
func (b *backends) authorities(ctx context.Context) (out []identity.OwnAuthority, err error) {
	for _, name := range b.publishers() {
		p, ok := b.publisher(name)
		if !ok {
			continue // a reload has just removed it
		}
		chain, err1 := p.Chain(ctx)
		crl, _, err2 := p.CRL(ctx)
		if failed := errors.Join(err1, err2); failed != nil {
			err = errors.Join(err, fmt.Errorf("server %s: %w", name, failed))
			continue
		}
		out = append(out, identity.OwnAuthority{Chain: chain, CRL: crl})
	}
	return out, err
}
