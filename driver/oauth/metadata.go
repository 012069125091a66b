package oauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bindery"
)

// metadata is what the server says of itself (RFC 8414, section 2).
type metadata struct {
	Issuer        string `json:"issuer"`
	Registration  string `json:"registration_endpoint"`
	Token         string `json:"token_endpoint"`
	Authorization string `json:"authorization_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

// metadataAge is how long metadata is used before it is asked for again.
const metadataAge = 10 * time.Minute

// discovery keeps the server's metadata.
type discovery struct {
	mu    sync.Mutex
	known metadata
	since time.Time
}

// discover returns the metadata, asked for lately.
func (d *driver) discover(ctx context.Context) (metadata, error) {
	d.discovery.mu.Lock()
	known, age := d.discovery.known, time.Since(d.discovery.since)
	d.discovery.mu.Unlock()
	if known.Issuer != "" && age < metadataAge {
		return known, nil
	}
	return d.discoverAnew(ctx)
}

// discoverAnew asks the server.
func (d *driver) discoverAnew(ctx context.Context) (metadata, error) {
	var m metadata
	for _, url := range metadataURLs(d.client.issuer) {
		a, err := d.client.send(ctx, getMetadata(url))
		if err != nil {
			return m, err
		}
		if a.status >= 400 && a.status < 500 {
			continue // it has its metadata at the other place
		}
		if !a.ok() {
			return m, a.failed("read the metadata")
		}
		err = a.decode(&m)
		if err == nil {
			err = d.check(m)
		}
		if err != nil {
			return metadata{}, bindery.Errorf(bindery.CodeUnavailable, "the authorization server cannot be used").
				Because(fmt.Errorf("read the metadata: %w", err))
		}
		d.discovery.mu.Lock()
		defer d.discovery.mu.Unlock()
		d.discovery.known, d.discovery.since = m, time.Now()
		return m, nil
	}
	return m, bindery.Errorf(bindery.CodeUnavailable, "the authorization server cannot be used").
		Because(errors.New("it has no metadata"))
}

func (d *driver) check(m metadata) error {
	if m.Issuer != d.settings.IssuerText { // RFC 8414, section 3.3
		return fmt.Errorf("it is the issuer %.200q", m.Issuer)
	}
	if m.Registration == "" || m.Token == "" {
		return errors.New("it does not say where to register clients and to get tokens")
	}
	err := errors.Join(d.client.own(m.Registration), d.client.own(m.Token))
	if m.Revocation != "" {
		err = errors.Join(err, d.client.own(m.Revocation))
	}
	return err
}
