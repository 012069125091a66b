package config

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaceAuthn is the identity face.
const FaceAuthn = "authn"

// Roles of an identity key.
const (
	RoleAdmin    = "admin"
	RoleReadOnly = "read-only"
)

// Identity is the identity face: who administers it, how callers are proven, and
// how services are called.
type Identity struct {
	Keys         []IdentityKey  `yaml:"keys" doc:"Who may administer it. Several are valid at once."`
	HideSecrets  bool           `yaml:"hide_secrets" doc:"Show access keys and headers to nobody: they read as \"***\", which an update takes as unchanged, unless it changes the host or the port. Read-only keys never see them."`
	AuthTypes    []string       `yaml:"auth_types" doc:"How a service type may let its users prove themselves. Default: x509, and oidc where there are issuers." enum:"x509,oidc"`
	Certificates Certificates   `yaml:"certificates" doc:"Proof by client certificate."`
	OIDC         OIDC           `yaml:"oidc" doc:"Proof by token."`
	Types        []UpstreamType `yaml:"types" doc:"How the services of each type are asked for a token. ams and web-api are known; an entry with their name changes them."`
	Upstream     Upstream       `yaml:"upstream" doc:"Bounds on calls of services."`
	FailedProofs FailedProofs   `yaml:"failed_proofs" doc:"How many failed proofs a client address may have before it is told to wait."`
}

// IdentityKey is one key of the identity face.
type IdentityKey struct {
	Name         string   `yaml:"name" doc:"Who has it; the audit says it."`
	Key          Ref      `yaml:"key" doc:"The key; at least 16 characters."`
	Role         string   `yaml:"role" doc:"admin, or read-only, which changes nothing and sees no secret." default:"admin" enum:"admin,read-only"`
	ServiceTypes []string `yaml:"service_types" doc:"The service types that it is limited to. Left out: all."`
}

// Certificates say which client certificates prove their owner.
type Certificates struct {
	TrustDir     string        `yaml:"trust_dir" doc:"A folder of CA files (*.pem, *.crt, hashed names *.0), revocation lists (*.r0) and *.signing_policy files; read again when it changes."`
	TrustFiles   []string      `yaml:"trust_files" doc:"Further CA files, PEM."`
	CacheDir     string        `yaml:"cache_dir" doc:"A folder where fetched revocation lists are kept over a restart. Left out: memory only."`
	TrustUnknown bool          `yaml:"trust_unknown" doc:"Believe certificates of any authority: anybody can then claim any name. Said aloud at every start."`
	Verify       *bool         `yaml:"verify" doc:"Check validity and revocation." default:"true"`
	RequireCRL   bool          `yaml:"require_crl" doc:"Refuse certificates that name no revocation list, where their authority has none in trust_dir either."`
	StaleCRL     string        `yaml:"stale_crl" doc:"What a revocation list past its time, or one that cannot be had, means: refuse, or warn, which lets the certificate in." default:"refuse" enum:"refuse,warn"`
	OCSP         bool          `yaml:"ocsp" doc:"Ask the responders that certificates name, too."`
	CheckHost    bool          `yaml:"check_host" doc:"The certificate must name the connecting host, found by reverse DNS."`
	MaxCRLBytes  int64         `yaml:"max_crl_bytes" doc:"The largest revocation list." default:"67108864"`
	FetchTimeout time.Duration `yaml:"fetch_timeout" doc:"Bounds one fetch." default:"10s"`
}

// OIDC says which tokens prove their owner.
type OIDC struct {
	Issuers []Issuer      `yaml:"issuers" doc:"OpenID providers."`
	Skew    time.Duration `yaml:"skew" doc:"How far clocks may differ." default:"30s"`
	Timeout time.Duration `yaml:"timeout" doc:"Bounds one request to an issuer." default:"10s"`
}

// Issuer is one OpenID provider.
type Issuer struct {
	URL        string   `yaml:"url" doc:"Exactly as its tokens say it in iss."`
	Audiences  []string `yaml:"audiences" doc:"A token must be for one of these."`
	Claim      string   `yaml:"claim" doc:"The claim that names the user: sub, email (only where email_verified is true), preferred_username, voperson_id or another one." default:"sub"`
	CAFile     string   `yaml:"ca_file" doc:"PEM: the CAs to trust instead of the system's."`
	Algorithms []string `yaml:"algorithms" doc:"The signatures to accept. Default: every asymmetric one." enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
}

// UpstreamType is how one type of service gives out tokens.
type UpstreamType struct {
	Name               string        `yaml:"name" doc:"What a service type names as its type."`
	Path               string        `yaml:"path" doc:"A path with {{identifier}}, the binding's unique key, and, for api-key, {{access_key}}; each is escaped for where it stands."`
	Field              string        `yaml:"field" doc:"The field of the answer, a JSON object, that is the token."`
	CAFile             string        `yaml:"ca_file" doc:"PEM: the CAs to trust instead of the system's."`
	InsecureSkipVerify bool          `yaml:"insecure_skip_verify" doc:"Accept any certificate. Said aloud at every start."`
	Timeout            time.Duration `yaml:"timeout" doc:"Bounds one call." default:"10s"`
	CacheTokens        time.Duration `yaml:"cache_tokens" doc:"How long a token may be given again without a call. A changed or deleted binding or auth method is never served from it. Default: not at all."`
}

// Upstream bounds calls of services.
type Upstream struct {
	MaxResponseBytes int64 `yaml:"max_response_bytes" doc:"The largest answer." default:"1048576"`
	PerHost          int   `yaml:"per_host" doc:"Calls of one host at a time." default:"64"`
}

// FailedProofs bounds guessing.
type FailedProofs struct {
	PerMinute int  `yaml:"per_minute" doc:"Failed proofs that one client address may have in a minute, in the long run." default:"60"`
	Burst     int  `yaml:"burst" doc:"How many at once." default:"30"`
	Off       bool `yaml:"off" doc:"Do not count."`
}

// The types that every installation knows. custom has no path of its own.
var knownTypes = []UpstreamType{
	{Name: "ams", Path: "/v1/users:byUUID/{{identifier}}?key={{access_key}}", Field: "token"},
	{Name: "web-api", Path: "/api/v2/users:byID/{{identifier}}?export=flat", Field: "api_key"},
}

// identityDefaults completes the section as its doc tags say.
func (i *Identity) defaults() {
	for k := range i.Keys {
		i.Keys[k].Role = cmp.Or(i.Keys[k].Role, RoleAdmin)
	}
	if len(i.AuthTypes) == 0 {
		i.AuthTypes = []string{"x509"}
		if len(i.OIDC.Issuers) > 0 {
			i.AuthTypes = append(i.AuthTypes, "oidc")
		}
	}
	c := &i.Certificates
	if c.Verify == nil {
		yes := true
		c.Verify = &yes
	}
	c.StaleCRL = cmp.Or(c.StaleCRL, "refuse")
	c.MaxCRLBytes = cmp.Or(c.MaxCRLBytes, 64<<20)
	c.FetchTimeout = cmp.Or(c.FetchTimeout, 10*time.Second)
	i.OIDC.Skew = cmp.Or(i.OIDC.Skew, 30*time.Second)
	i.OIDC.Timeout = cmp.Or(i.OIDC.Timeout, 10*time.Second)
	for k := range i.OIDC.Issuers {
		i.OIDC.Issuers[k].Claim = cmp.Or(i.OIDC.Issuers[k].Claim, "sub")
	}
	for _, known := range knownTypes {
		n := slices.IndexFunc(i.Types, func(t UpstreamType) bool { return t.Name == known.Name })
		if n < 0 {
			i.Types = append(i.Types, known)
			continue
		}
		i.Types[n].Path = cmp.Or(i.Types[n].Path, known.Path)
		i.Types[n].Field = cmp.Or(i.Types[n].Field, known.Field)
	}
	for k := range i.Types {
		i.Types[k].Timeout = cmp.Or(i.Types[k].Timeout, 10*time.Second)
	}
	i.Upstream.MaxResponseBytes = cmp.Or(i.Upstream.MaxResponseBytes, 1<<20)
	i.Upstream.PerHost = cmp.Or(i.Upstream.PerHost, 64)
	i.FailedProofs.PerMinute = cmp.Or(i.FailedProofs.PerMinute, 60)
	i.FailedProofs.Burst = cmp.Or(i.FailedProofs.Burst, 30)
}

func (c *checker) identity(i *Identity) {
	names := map[string]bool{}
	for k, key := range i.Keys {
		p := at("identity.keys", k)
		c.own(p+".name", key.Name, names)
		c.token(p+".key", key.Key)
		c.oneOf(p+".role", key.Role, RoleAdmin, RoleReadOnly)
	}
	for k, a := range i.AuthTypes {
		c.oneOf(at("identity.auth_types", k), a, "x509", "oidc")
	}
	if slices.Contains(i.AuthTypes, "oidc") && len(i.OIDC.Issuers) == 0 {
		c.addf("identity.oidc.issuers", "is missing: no token could prove anybody")
	}
	c.certificates(&i.Certificates)
	c.oidc(&i.OIDC)
	c.upstreamTypes(i.Types)
	c.within("identity.upstream.max_response_bytes", i.Upstream.MaxResponseBytes, 1<<10, 64<<20)
	c.within("identity.upstream.per_host", int64(i.Upstream.PerHost), 1, 10_000)
	c.within("identity.failed_proofs.per_minute", int64(i.FailedProofs.PerMinute), 1, 1_000_000)
	c.within("identity.failed_proofs.burst", int64(i.FailedProofs.Burst), 1, 1_000_000)
}

func (c *checker) certificates(o *Certificates) {
	o.TrustDir, o.CacheDir = c.abs(o.TrustDir), c.abs(o.CacheDir)
	for k := range o.TrustFiles {
		o.TrustFiles[k] = c.abs(o.TrustFiles[k])
		c.caFile(at("identity.certificates.trust_files", k), o.TrustFiles[k])
	}
	c.oneOf("identity.certificates.stale_crl", o.StaleCRL, "refuse", "warn")
	c.within("identity.certificates.max_crl_bytes", o.MaxCRLBytes, 1<<10, 1<<30)
	c.between("identity.certificates.fetch_timeout", o.FetchTimeout, 100*time.Millisecond, 5*time.Minute)
	if o.TrustUnknown {
		c.warnf("identity.certificates.trust_unknown: certificates of any authority are believed, so that anybody can claim any name")
	}
	if !*o.Verify {
		c.warnf("identity.certificates.verify is off: expired and revoked certificates are believed")
	}
	if o.StaleCRL == "warn" {
		c.warnf("identity.certificates.stale_crl is warn: where a revocation list cannot be had, a revoked certificate gets in")
	}
}

func (c *checker) oidc(o *OIDC) {
	c.between("identity.oidc.skew", o.Skew, time.Second, 5*time.Minute)
	c.between("identity.oidc.timeout", o.Timeout, 100*time.Millisecond, 5*time.Minute)
	seen := map[string]bool{}
	for k := range o.Issuers {
		i, p := &o.Issuers[k], at("identity.oidc.issuers", k)
		u, err := url.Parse(i.URL)
		switch {
		case i.URL == "":
			c.addf(p+".url", "is missing")
		case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			c.addf(p+".url", "must be https://HOST, perhaps with a path, and nothing else")
		case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Host) && !loopback(u.Hostname()+":80")):
			c.addf(p+".url", "must begin with https://")
		case seen[i.URL]:
			c.addf(p+".url", "is given twice")
		}
		seen[i.URL] = true
		if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
			c.addf(p+".audiences", "is missing: a token for somebody else would be believed")
		}
		i.CAFile = c.abs(i.CAFile)
		c.caFile(p+".ca_file", i.CAFile)
		for n, a := range i.Algorithms {
			c.oneOf(at(p+".algorithms", n), a, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
		}
	}
}

// placeholder finds what looks like one.
var placeholder = regexp.MustCompile(`{{[^}]*}}`)

func (c *checker) upstreamTypes(types []UpstreamType) {
	names := map[string]bool{}
	for k := range types {
		t, p := &types[k], at("identity.types", k)
		c.own(p+".name", t.Name, names)
		for _, m := range placeholder.FindAllString(t.Path, -1) {
			if m != "{{identifier}}" && m != "{{access_key}}" {
				c.addf(p+".path", "%.63q is neither {{identifier}} nor {{access_key}}", m)
			}
		}
		switch {
		case t.Path == "":
			c.addf(p+".path", "is missing")
		case !strings.HasPrefix(t.Path, "/") || strings.ContainsAny(t.Path, "# ") || hasControl(t.Path):
			c.addf(p+".path", "must begin with / and have no fragment and no space")
		case !strings.Contains(t.Path, "{{identifier}}"):
			c.addf(p+".path", "has no {{identifier}}: everybody would get the same token")
		}
		if t.Field == "" {
			c.addf(p+".field", "is missing")
		}
		t.CAFile = c.abs(t.CAFile)
		c.caFile(p+".ca_file", t.CAFile)
		if t.InsecureSkipVerify {
			c.warnf("identity.types: the certificates of %s services are not verified (insecure_skip_verify)", t.Name)
		}
		c.between(p+".timeout", t.Timeout, 100*time.Millisecond, 5*time.Minute)
		if t.CacheTokens != 0 {
			c.between(p+".cache_tokens", t.CacheTokens, time.Second, 24*time.Hour)
		}
	}
}

// identityListener checks what a listener of the identity face needs.
func (c *checker) identityListener(p string, l Listener) {
	switch {
	case l.TLS == nil:
		c.warnf("listener %s serves authn without TLS: no client certificate can be presented there", l.Address)
	case l.TLS.ClientCAFile != "":
		c.addf(p+".tls.client_ca_file", "cannot stand beside the face authn, which asks for a certificate of any trusted authority: see %s", strconv.Quote("identity.certificates"))
	}
}
