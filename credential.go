package bindery

import "encoding/json"

// A CredentialKey describes one key of a credential object.
type CredentialKey struct {
	Name, Doc string
	// Type is a JSON Schema type; empty: "string".
	Type     string
	Optional bool // it may be left out
}

// CredentialSchema is the JSON Schema (draft-04) of a credential object with
// these keys and no others.
func CredentialSchema(keys ...CredentialKey) json.RawMessage {
	properties, required := map[string]any{}, []string(nil)
	for _, k := range keys {
		if k.Type == "" {
			k.Type = "string"
		}
		properties[k.Name] = map[string]any{"type": k.Type, "description": k.Doc}
		if !k.Optional {
			required = append(required, k.Name)
		}
	}
	return ObjectSchema(properties, required...)
}
