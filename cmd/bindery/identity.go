package main

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"bindery"
	"bindery/api"
	"bindery/api/authn"
	"bindery/config"
	"bindery/exchange"
	"bindery/identity"
)

// An identityFace is everything behind /v1.
type identityFace struct {
	face    api.Face
	service *exchange.Service
	runs    map[string]func(context.Context) error
}

// newIdentity wires the provers and the exchange to the store. Authorities that
// cannot be read are an error; an issuer of tokens that is down is not.
func newIdentity(s *service) (*identityFace, error) {
	cfg := s.cfg.Identity
	certificates, err := identity.NewCertificates(certificateOptions(s, cfg.Certificates))
	if err != nil {
		return nil, err
	}
	tokens, err := identity.NewTokens(tokenOptions(s, cfg.OIDC))
	if err != nil {
		return nil, err
	}
	o := exchangeOptions(s, tokens)
	o.Observe = func(o exchange.Outcome) {
		s.metrics.Authentication(o.Type, string(o.AuthType), string(o.Code), o.Duration, o.Upstream, o.Coalesced, o.Cached)
	}
	service, err := exchange.New(s.metrics.Store(s.store), o)
	if err != nil {
		return nil, err
	}
	s.metrics.RevocationLists(func(yield func(issuer string, entries int, next time.Time)) {
		for _, l := range certificates.Stats().Lists {
			yield(l.Issuer, l.Entries, l.NextUpdate)
		}
	})
	h := &authn.Handler{
		Service: service, Certificates: certificates, Tokens: tokens, Keys: &s.keys, Now: time.Now,
		FailedProofs: authn.Limit(cfg.FailedProofs),
		Version: authn.Version{
			Go: runtime.Version(), Compiler: runtime.Compiler, OS: runtime.GOOS, Architecture: runtime.GOARCH,
			BuildTime: buildTime(), Release: buildVersion(), Distro: distribution(),
		},
	}
	return &identityFace{face: h.Face(), service: service, runs: map[string]func(context.Context) error{
		"certificates": certificates.Run, "tokens": tokens.Run, "exchange": service.Run,
	}}, nil
}

func exchangeOptions(s *service, tokens *identity.Tokens) exchange.Options {
	cfg := s.cfg.Identity
	return exchange.Options{
		Now: time.Now, Log: s.log,
		AuthTypes: authTypes(cfg.AuthTypes), OIDCIdentifier: tokens.Identifier,
		Reserved: s.isOffering, HideSecrets: cfg.HideSecrets,
		Types: upstreamTypes(cfg.Types), MaxResponse: cfg.Upstream.MaxResponseBytes, PerHost: cfg.Upstream.PerHost,
	}
}

// isOffering reserves the names of service offerings: a service type of such a
// name is to be that offering one day.
func (s *service) isOffering(name string) bool {
	return slices.ContainsFunc(s.catalog.Load().Offerings, func(o *bindery.Offering) bool { return o.Name == name })
}

func certificateOptions(s *service, c config.Certificates) identity.CertificateOptions {
	return identity.CertificateOptions{
		TrustDir: c.TrustDir, TrustFiles: c.TrustFiles, CacheDir: c.CacheDir,
		TrustUnknown: c.TrustUnknown, Verify: *c.Verify, RequireCRL: c.RequireCRL, StaleCRL: c.StaleCRL,
		OCSP: c.OCSP, CheckHost: c.CheckHost, MaxCRLBytes: c.MaxCRLBytes, FetchTimeout: c.FetchTimeout,
		Own: s.backends.authorities,
		Log: s.log, Now: time.Now,
	}
}

func tokenOptions(s *service, c config.OIDC) identity.TokenOptions {
	o := identity.TokenOptions{Skew: c.Skew, Timeout: c.Timeout, Log: s.log, Now: time.Now}
	for _, i := range c.Issuers {
		o.Issuers = append(o.Issuers, identity.Issuer(i))
	}
	return o
}

func authTypes(names []string) []bindery.AuthType {
	out := make([]bindery.AuthType, len(names))
	for i, n := range names {
		out[i] = bindery.AuthType(n)
	}
	return out
}

func upstreamTypes(types []config.UpstreamType) []exchange.Type {
	out := make([]exchange.Type, len(types))
	for i, t := range types {
		out[i] = exchange.Type(t)
	}
	return out
}

func keysOf(cfg *config.Config) []authn.Key {
	out := make([]authn.Key, 0, len(cfg.Identity.Keys))
	for _, k := range cfg.Identity.Keys {
		out = append(out, authn.Key{Name: k.Name, Secret: k.Key.Secret(), Role: k.Role, Services: k.ServiceTypes})
	}
	return out
}

// distribution is what the system calls itself (os-release(5)); "" where it does not say.
func distribution() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(name), `"'`)
		}
	}
	return ""
}
