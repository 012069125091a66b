package drivertest

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bindery"
)

// described: whoever gets a credential object can know what it looks like.
func described(f *fixture) {
	spec := f.instance()
	for _, aliases := range [][]string{nil, f.Aliases} {
		spec.Aliases = aliases
		schema := f.schema(f.Kind.CredentialSchema(spec.Settings, aliases))
		for _, parameters := range []json.RawMessage{nil, f.BindingParameters} {
			c := f.render(spec, f.account(spec, parameters))
			raw, err := json.Marshal(c.Object)
			f.must("encode", err)
			object := f.validate(schema, raw)
			// A schema that allows everything describes nothing.
			object.(map[string]any)["no-such-key"] = "x"
			if schema.Validate(object) == nil {
				f.Error("the schema allows keys that it does not name")
			}
			for key := range c.Object {
				left := map[string]any{}
				for k, v := range object.(map[string]any) {
					if k != key && k != "no-such-key" {
						left[k] = v
					}
				}
				if parameters == nil && schema.Validate(left) == nil {
					f.Errorf("the schema does not need the key %q, which is always there", key)
				}
			}
		}
	}
}

// validate returns what it read.
func (f *fixture) validate(s *jsonschema.Schema, raw []byte) any {
	f.Helper()
	object, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	f.must("decode", err)
	if bad, ok := errors.AsType[*jsonschema.ValidationError](s.Validate(object)); ok {
		for _, c := range bad.Causes { // whose texts would repeat values
			f.Errorf("the credential object does not fit its schema: %q %T", c.InstanceLocation, c.ErrorKind)
		}
		f.Error("the credential object does not fit its schema")
	}
	return object
}

func (f *fixture) schema(raw json.RawMessage) *jsonschema.Schema {
	f.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	f.must("read the schema", err)
	if doc.(map[string]any)["$schema"] != "http://json-schema.org/draft-04/schema#" {
		f.Fatal("the schema does not say that it is draft-04")
	}
	c := jsonschema.NewCompiler()
	f.must("add the schema", c.AddResource("bindery:///credential.json", doc))
	s, err := c.Compile("bindery:///credential.json")
	f.must("compile the schema", err)
	return s
}

// prover returns the driver's, which every kind has that promises proof.
func (f *fixture) prover() bindery.Prover {
	f.Helper()
	p, ok := bindery.Capability[bindery.Prover](f.driver)
	if !ok {
		f.Fatal("this kind promises proof and proves nothing")
	}
	return p
}

func proven(f *fixture) {
	spec := f.instance()
	account, other := f.account(spec, nil), f.account(spec, nil)
	s := f.login(spec, other)
	if _, err := f.prover().Prove(f.ctx, spec, account); !errors.Is(err, bindery.ErrAlive) {
		f.Fatalf("a live account: got %v, want %v", err, bindery.ErrAlive)
	}
	f.revoke(spec, account)
	proof, err := f.prover().Prove(f.ctx, spec, account)
	f.must("prove", err)
	if proof == "" {
		f.Error("the proof says nothing")
	}
	f.must("another account", s.Alive(f.ctx))

	// A backend that lets the account in again is found out.
	f.ensure(spec, &account)
	if _, err := f.prover().Prove(f.ctx, spec, account); !errors.Is(err, bindery.ErrAlive) {
		f.Fatalf("an account that was made again: got %v, want %v", err, bindery.ErrAlive)
	}
	f.revoke(spec, account)
	_, err = f.prover().Prove(f.ctx, spec, account)
	f.must("prove again", err)
}

func provesNothing(f *fixture) {
	spec := f.instance()
	account := f.account(spec, nil)
	f.revoke(spec, account)
	f.must("kill", f.Kill())
	proof, err := f.prover().Prove(f.ctx, spec, account)
	if err == nil || errors.Is(err, bindery.ErrAlive) || proof != "" {
		f.Fatalf("a server that is down: got proof %q, %v", proof, err)
	}
	f.must("restart", f.Restart(f.ctx))
	f.eventually("prove", func() error {
		_, err := f.prover().Prove(f.ctx, spec, account)
		return err
	})
}
