package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bindery"
)

// planned is the first plan of base, with more keys.
func planned(t *testing.T, more string) (*bindery.Plan, error) {
	t.Helper()
	c, err := load(t, strings.Replace(base, "name: small, description: Small, servers: [a]", "name: small, description: Small, servers: [a], "+more, 1))
	if err != nil {
		return nil, err
	}
	return c.BackendCatalog().Offerings[0].Plans[0], nil
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	p, err := planned(t, "binding_lifetime: {default: 1h, max: 24h, renew_before: 10m}")
	if err != nil {
		t.Fatal(err)
	}
	if want := (bindery.Lifetime{Default: time.Hour, Max: 24 * time.Hour, RenewBefore: 10 * time.Minute}); p.Lifetime != want {
		t.Errorf("got %+v, want %+v", p.Lifetime, want)
	}
	for parameters, good := range map[string]bool{
		`{}`: true, `{"lifetime":"90m"}`: true, `{"lifetime":"1h30m5s"}`: true,
		`{"lifetime":90}`: false, `{"lifetime":"h"}`: false, `{"lifetime":""}`: false, `{"lifetime":"-1h"}`: false,
	} {
		if err := p.Schemas.BindingCreate.Check([]byte(parameters)); (err == nil) != good {
			t.Errorf("%s: got %v", parameters, err)
		}
	}
	// What may not be asked for is not in the schema.
	if p, err = planned(t, "binding_lifetime: {default: 1h}"); err != nil || p.Schemas.BindingCreate != nil {
		t.Errorf("got %v (%v), want no schema", p.Schemas.BindingCreate, err)
	}
	for more, want := range map[string]string{
		"binding_lifetime: {}":                              "needs default, max, or both",
		"binding_lifetime: {renew_before: 1h}":              "needs default, max, or both",
		"binding_lifetime: {default: 2h, max: 1h}":          "default: is longer than max",
		"binding_lifetime: {default: 1h, renew_before: 1h}": "renew_before: is not shorter than default",
		"binding_lifetime: {default: 10ms}":                 "default: must be from 1s to",
		"binding_lifetime: {max: -5s}":                      "max: must be from 1s to",
		"binding_lifetime: {max: 1h}, schemas: {service_binding: {create: {parameters: {$schema: '" + draft4 + "', type: object, properties: {lifetime: {type: string}}}}}}": "has a property lifetime",
	} {
		if _, err := planned(t, more); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", more, err)
		}
	}
}

func TestATimeToRenewIsBeforeTheEnd(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	for _, tt := range []struct{ before, lifetime, want time.Duration }{
		{0, 3 * time.Hour, time.Hour},
		{10 * time.Minute, time.Hour, 10 * time.Minute},
		{time.Hour, 30 * time.Minute, 10 * time.Minute}, // longer than the lifetime
	} {
		expires, renew := bindery.Lifetime{RenewBefore: tt.before}.Times(now, tt.lifetime)
		if got := expires.Sub(renew); got != tt.want || !expires.After(now.Add(tt.lifetime-time.Second)) || expires.After(now.Add(tt.lifetime)) {
			t.Errorf("%v, %v: expires at %v, to be renewed %v before", tt.before, tt.lifetime, expires, got)
		}
	}
	if expires, renew := (bindery.Lifetime{}).Times(now, 0); !expires.IsZero() || !renew.IsZero() {
		t.Errorf("without a lifetime: %v, %v", expires, renew)
	}
}

func TestPlansDescribeTheirCredentials(t *testing.T) {
	t.Parallel()
	kind := bindery.Kind{
		CredentialSchema: func(_ json.RawMessage, aliases []string) json.RawMessage {
			return bindery.CredentialSchema(bindery.CredentialKey{Name: strings.Join(aliases, " ")})
		},
	}
	plan := &bindery.Plan{Revocation: bindery.RevocationExpires, CredentialAliases: []string{"old"}}
	for name, tt := range map[string]struct{ metadata, revocation, key string }{
		"by the kind":     {``, `"expires"`, "old"},
		"beside others":   {`{"displayName":"Small"}`, `"expires"`, "old"},
		"by the operator": {`{"credentials_schema":{"properties":{"own":{}}},"revocation":"by hand"}`, `"by hand"`, "own"},
	} {
		var metadata json.RawMessage
		if tt.metadata != "" {
			metadata = json.RawMessage(tt.metadata)
		}
		raw, err := described(metadata, kind, plan)
		var got struct {
			DisplayName string
			Revocation  json.RawMessage
			Schema      struct{ Properties map[string]any } `json:"credentials_schema"`
		}
		if err != nil || json.Unmarshal(raw, &got) != nil {
			t.Fatalf("%s: %s, %v", name, raw, err)
		}
		if _, ok := got.Schema.Properties[tt.key]; !ok || string(got.Revocation) != tt.revocation || strings.Contains(tt.metadata, "Small") != (got.DisplayName == "Small") {
			t.Errorf("%s: got %s", name, raw)
		}
	}
	long := json.RawMessage(`{"credentials_schema":{"title":"` + strings.Repeat("x", maxSchema) + `"}}`)
	if _, err := described(long, kind, plan); err == nil || !strings.Contains(err.Error(), "more than 64 kB") {
		t.Errorf("a long one: got %v", err)
	}
}
