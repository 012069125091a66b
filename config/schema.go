package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"bindery"
)

const (
	draft4    = "http://json-schema.org/draft-04/schema#"
	maxSchema = 64_000 // the specification's 64 kB
	// maxFaults bounds what a caller is told of parameters that do not fit.
	maxFaults = 10
	// maxKey bounds how much of a caller's key is repeated.
	maxKey = 64
	// schemaURL is the base of references inside a schema. It is never loaded.
	schemaURL = "bindery:///schema.json"
)

// noLoader refuses every reference to another document.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("external $ref is not allowed") }

// compileSchema makes a schema of parameters out of its JSON.
func compileSchema(raw json.RawMessage) (*bindery.Schema, error) {
	if len(raw) > maxSchema {
		return nil, fmt.Errorf("the schema has %d bytes, more than 64 kB", len(raw))
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, errors.New("the schema is not JSON")
	}
	object, ok := doc.(map[string]any)
	switch {
	case !ok:
		return nil, errors.New("the schema must be an object")
	case object["$schema"] != draft4:
		return nil, errors.New("the schema must have $schema: " + draft4)
	case object["type"] != "object":
		return nil, errors.New("the schema must have type: object at its top")
	case object["id"] != nil:
		return nil, errors.New("the schema must not have an id, which would change what its references mean")
	case external(doc):
		return nil, errors.New("external $ref is not allowed")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %s", oneLine(err))
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %s", oneLine(err))
	}
	return &bindery.Schema{Raw: raw, Check: func(parameters json.RawMessage) error {
		return check(compiled, parameters)
	}}, nil
}

// external finds references that leave the document.
func external(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && !strings.HasPrefix(ref, "#") {
			return true
		}
		for _, e := range v {
			if external(e) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, external)
	}
	return false
}

func oneLine(err error) string {
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), schemaURL, ""), "\n", " ")
}

// check says how parameters do not fit, without repeating any value of them.
// Parameters that were left out are checked as an empty object.
func check(s *jsonschema.Schema, parameters json.RawMessage) error {
	if len(bytes.TrimSpace(parameters)) == 0 {
		parameters = json.RawMessage("{}")
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(parameters))
	if err != nil {
		return bindery.Errorf(bindery.CodeInvalid, "parameters: not JSON")
	}
	err = s.Validate(v)
	if err == nil {
		return nil
	}
	bad, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return bindery.Errorf(bindery.CodeInvalid, "parameters: do not fit the schema")
	}
	faults := leaves(bad, nil)
	slices.Sort(faults)
	faults = slices.Compact(faults)
	if len(faults) > maxFaults {
		faults = append(faults[:maxFaults], "and more")
	}
	return bindery.Errorf(bindery.CodeInvalid, "%s", strings.Join(faults, "; "))
}

func leaves(e *jsonschema.ValidationError, out []string) []string {
	if len(e.Causes) == 0 {
		return append(out, where(e.InstanceLocation)+fault(e.ErrorKind))
	}
	for _, c := range e.Causes {
		if len(out) <= maxFaults {
			out = leaves(c, out)
		}
	}
	return out
}

func where(location []string) string {
	p := "parameters"
	for _, l := range location {
		p += "." + key(l)
	}
	return p + ": "
}

func key(s string) string {
	if len(s) > maxKey {
		s = s[:maxKey] + "…"
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s), "?")
}

func keys(list []string) string {
	out := make([]string, 0, len(list))
	for i, k := range list {
		if i == maxFaults {
			out = append(out, "…")
			break
		}
		out = append(out, key(k))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// fault says what a value is not. It uses the schema's side of the comparison only.
func fault(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Required:
		return "needs " + keys(k.Missing)
	case *kind.AdditionalProperties:
		return "takes no " + keys(k.Properties)
	case *kind.Enum:
		if b, err := json.Marshal(k.Want); err == nil && len(b) < 500 {
			return "must be one of " + strings.Trim(string(b), "[]")
		}
		return "must be one of the values in the schema"
	case *kind.Const:
		return "must be the value in the schema"
	case *kind.Pattern:
		return "does not match the pattern " + k.Want
	case *kind.Format:
		return "is not a " + k.Want
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %d keys", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %d keys", k.Want)
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "must be greater than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "must be less than " + k.Want.RatString()
	case *kind.MultipleOf:
		return "must be a multiple of " + k.Want.RatString()
	case *kind.UniqueItems:
		return "must not have the same item twice"
	case *kind.Dependency:
		return "needs " + keys(k.Missing) + " beside " + key(k.Prop)
	case *kind.FalseSchema, *kind.Not:
		return "is not allowed"
	default:
		return "does not fit the schema"
	}
}
