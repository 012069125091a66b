package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// withIdentity is base with the identity face and this section.
func withIdentity(section string) string {
	return strings.Replace(base, "faces: [osb, admin]}", "faces: [osb, authn, admin]}", 1) + section
}

const identityKeys = `identity:
  keys: [{name: ops, key: {env: TOKEN}}]
`

func TestIdentityDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(t, withIdentity(identityKeys+`  types:
    - {name: ams, timeout: 3s}
    - {name: custom, path: "/t/{{identifier}}", field: token, cache_tokens: 1m}
`))
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	want := Identity{
		AuthTypes:    []string{"x509"},
		Keys:         []IdentityKey{{Name: "ops", Role: "admin", Key: Ref{Env: "TOKEN"}}},
		Certificates: Certificates{Verify: &yes, StaleCRL: "refuse", MaxCRLBytes: 64 << 20, FetchTimeout: 10 * time.Second},
		OIDC:         OIDC{Skew: 30 * time.Second, Timeout: 10 * time.Second},
		Types: []UpstreamType{
			{Name: "ams", Path: "/v1/users:byUUID/{{identifier}}?key={{access_key}}", Field: "token", Timeout: 3 * time.Second},
			{Name: "custom", Path: "/t/{{identifier}}", Field: "token", Timeout: 10 * time.Second, CacheTokens: time.Minute},
			{Name: "web-api", Path: "/api/v2/users:byID/{{identifier}}?export=flat", Field: "api_key", Timeout: 10 * time.Second},
		},
		Upstream:     Upstream{MaxResponseBytes: 1 << 20, PerHost: 64},
		FailedProofs: FailedProofs{PerMinute: 60, Burst: 30},
	}
	if diff := cmp.Diff(want, c.Identity, cmpopts.IgnoreUnexported(Ref{})); diff != "" {
		t.Error(diff)
	}
	if got := c.Warnings(); len(got) != 1 || !strings.Contains(got[0], "serves authn without TLS") {
		t.Errorf("warnings: %q", got)
	}
}

// What lets in somebody who should perhaps stay out is said at every start.
func TestIdentityWarnings(t *testing.T) {
	t.Parallel()
	c, err := load(t, withIdentity(identityKeys+`  certificates: {trust_unknown: true, verify: false, stale_crl: warn}
  types: [{name: ams, insecure_skip_verify: true}]
`))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings(), "\n")
	for _, part := range []string{"trust_unknown", "verify is off", "stale_crl is warn", "insecure_skip_verify"} {
		if !strings.Contains(all, part) {
			t.Errorf("no warning has %q: %s", part, all)
		}
	}
}

func TestIdentityProblems(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ section, want string }{
		"no keys":          {"identity: {}\n", "identity.keys: is missing: nobody could administer the face authn"},
		"short key":        {"identity: {keys: [{name: ops, key: {env: KEY}}]}\n", "identity.keys[0].key: is shorter than 16 characters"},
		"role":             {"identity: {keys: [{name: ops, key: {env: TOKEN}, role: root}]}\n", `identity.keys[0].role: "root" is none of admin, read-only`},
		"oidc, no issuers": {identityKeys + "  auth_types: [oidc]\n", "identity.oidc.issuers: is missing: no token could prove anybody"},
		"no audience":      {identityKeys + "  oidc: {issuers: [{url: https://a.example}]}\n", "identity.oidc.issuers[0].audiences: is missing: a token for somebody else would be believed"},
		"issuer in clear":  {identityKeys + "  oidc: {issuers: [{url: http://a.example, audiences: [b]}]}\n", "identity.oidc.issuers[0].url: must begin with https://"},
		"symmetric":        {identityKeys + "  oidc: {issuers: [{url: https://a.example, audiences: [b], algorithms: [HS256]}]}\n", `identity.oidc.issuers[0].algorithms[0]: "HS256" is none of RS256`},
		"placeholder":      {identityKeys + "  types: [{name: x, path: '/{{identifier}}/{{secret}}', field: f}]\n", `identity.types[0].path: "{{secret}}" is neither {{identifier}} nor {{access_key}}`},
		"same for all":     {identityKeys + "  types: [{name: x, path: /a, field: f}]\n", "identity.types[0].path: has no {{identifier}}"},
		"relative path":    {identityKeys + "  types: [{name: x, path: 'a/{{identifier}}', field: f}]\n", "identity.types[0].path: must begin with /"},
		"stale":            {identityKeys + "  certificates: {stale_crl: ignore}\n", `identity.certificates.stale_crl: "ignore" is none of refuse, warn`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, withIdentity(tt.section))
			inv, ok := errors.AsType[*Invalid](err)
			if !ok {
				t.Fatalf("got %v, want an error", err)
			}
			if len(inv.Problems) != 1 || !strings.Contains(inv.Error(), tt.want) {
				t.Errorf("got %v, want only %q", err, tt.want)
			}
		})
	}
}

func TestAuthnRefusesClientCAFile(t *testing.T) {
	t.Parallel()
	_, err := load(t, strings.Replace(withIdentity(identityKeys), "{address: 127.0.0.1:0, faces: [osb, authn, admin]}",
		"{address: 127.0.0.1:0, faces: [osb, authn, admin], tls: {cert_file: a, key_file: b, client_ca_file: c}}", 1))
	inv, ok := errors.AsType[*Invalid](err)
	if !ok || !strings.Contains(inv.Error(), "cannot stand beside the face authn") {
		t.Errorf("got %v", err)
	}
}

func TestIdentityFilesAreRelativeToTheConfiguration(t *testing.T) {
	t.Parallel()
	c, err := load(t, withIdentity(identityKeys+"  certificates: {trust_dir: trust, cache_dir: crls}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Identity.Certificates; got.TrustDir != filepath.Join(c.Dir(), "trust") || got.CacheDir != filepath.Join(c.Dir(), "crls") {
		t.Errorf("got %+v", got)
	}
}

// Who serves tokens only needs no platform and nothing to offer.
func TestIdentityAlone(t *testing.T) {
	t.Parallel()
	c, err := load(t, `store: {url: sqlite:data.db}
seal: {key: {env: KEY}}
listeners:
  - {address: 127.0.0.1:0, faces: [authn]}
`+identityKeys)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.BackendCatalog().Offerings) != 0 || !c.Serves(FaceAuthn) || c.Serves(FaceOSB) {
		t.Errorf("got %+v", c.Listeners)
	}
}
