package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bindery"
)

// longestLifetime is how long a binding with a lifetime may live.
const longestLifetime = 10 * 365 * 24 * time.Hour

// lifetime returns how long a plan's bindings live.
func (c *checker) lifetime(p string, in *BindingLifetime) bindery.Lifetime {
	if in == nil {
		return bindery.Lifetime{}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"default", in.Default}, {"max", in.Max}, {"renew_before", in.RenewBefore}} {
		if d.value != 0 {
			c.between(p+"."+d.key, d.value, time.Second, longestLifetime)
		}
	}
	switch {
	case in.Default == 0 && in.Max == 0:
		c.addf(p, "needs default, max, or both")
	case in.Max != 0 && in.Default > in.Max:
		c.addf(p+".default", "is longer than max")
	case in.Default != 0 && in.RenewBefore >= in.Default:
		c.addf(p+".renew_before", "is not shorter than default")
	}
	return bindery.Lifetime(*in)
}

// withLifetime adds the parameter that asks for a lifetime to a schema of
// parameters, which may be nil.
func withLifetime(schema json.RawMessage, most time.Duration) (json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if schema == nil {
		object["$schema"], object["type"] = json.RawMessage(`"`+draft4+`"`), json.RawMessage(`"object"`)
	} else if err := json.Unmarshal(schema, &object); err != nil {
		return nil, errors.New("the schema must be an object")
	}
	properties := map[string]json.RawMessage{}
	if own, ok := object["properties"]; ok {
		if err := json.Unmarshal(own, &properties); err != nil {
			return nil, errors.New("the schema's properties must be an object")
		}
	}
	if _, taken := properties[bindery.LifetimeParameter]; taken {
		return nil, fmt.Errorf("the schema has a property %s, which binding_lifetime.max adds", bindery.LifetimeParameter)
	}
	var err error
	properties[bindery.LifetimeParameter], err = json.Marshal(map[string]any{
		"description": fmt.Sprintf("How long the credential lives: a duration in hours, minutes and seconds, for example 90m; at most %s.", most),
		"type":        "string",
		"pattern":     `^([0-9]+h)?([0-9]+m)?([0-9]+s)?$`,
		"minLength":   2,
		"maxLength":   32,
	})
	if err != nil {
		return nil, err
	}
	if object["properties"], err = json.Marshal(properties); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

// The keys of a plan's metadata that say what its credentials are.
const (
	metadataSchema     = "credentials_schema"
	metadataRevocation = "revocation"
)

// described returns a plan's metadata with what its kind says of the plan's
// credentials, where the metadata does not say it.
func described(metadata json.RawMessage, kind bindery.Kind, plan *bindery.Plan) (json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if metadata != nil {
		if err := json.Unmarshal(metadata, &object); err != nil {
			return nil, errors.New("must be an object")
		}
	}
	if _, own := object[metadataSchema]; !own && kind.CredentialSchema != nil {
		if schema := kind.CredentialSchema(plan.Settings, plan.CredentialAliases); schema != nil {
			object[metadataSchema] = schema
		}
	}
	if n := len(object[metadataSchema]); n > maxSchema {
		return nil, fmt.Errorf("%s has %d bytes, more than 64 kB", metadataSchema, n)
	}
	if _, own := object[metadataRevocation]; !own {
		promise, err := json.Marshal(plan.Revocation)
		if err != nil {
			return nil, err
		}
		object[metadataRevocation] = promise
	}
	return json.Marshal(object)
}
