package bindery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Settings are the keys that a JSON object of a kind's may have (a server's settings,
// a plan's, parameters), each with what reads its value: it keeps the value, or says
// what is wrong with it. [Number], [Flag], [OneOf] and [Duration] make such readers.
type Settings map[string]func(value json.RawMessage) (problem string)

// Read reads an object that has no other keys; nothing at all is an empty one. What
// names the object. Errors: CodeInvalid, with every problem and never with a value,
// which may be a secret.
func (s Settings) Read(what string, raw json.RawMessage) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return Errorf(CodeInvalid, "%s must be a JSON object", what)
	}
	var problems []string
	for key, value := range object {
		read, ok := s[key]
		if !ok {
			problems = append(problems, fmt.Sprintf("%.63q is not known", key))
		} else if problem := read(value); problem != "" {
			problems = append(problems, fmt.Sprintf("%q %s", key, problem))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return Errorf(CodeInvalid, "%s: %s", what, strings.Join(problems, "; "))
}

// Number reads a whole number.
func Number[T int | int64](target *T, least, most T) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var n *T
		if json.Unmarshal(v, &n) != nil || n == nil || *n < least || *n > most {
			return fmt.Sprintf("must be a whole number from %d to %d", least, most)
		}
		*target = *n
		return ""
	}
}

// Flag reads true or false.
func Flag(target *bool) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var b *bool
		if json.Unmarshal(v, &b) != nil || b == nil {
			return "must be true or false"
		}
		*target = *b
		return ""
	}
}

// OneOf reads one of a few texts.
func OneOf[T ~string](target *T, allowed ...T) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var s *T
		if json.Unmarshal(v, &s) != nil || s == nil || !slices.Contains(allowed, *s) {
			texts := make([]string, len(allowed))
			for i, a := range allowed {
				texts[i] = string(a)
			}
			return "must be " + strings.Join(texts, " or ")
		}
		*target = *s
		return ""
	}
}

// Duration reads a text like "720h" or "1m30s".
func Duration(target *time.Duration, least, most time.Duration) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var s string
		var d time.Duration
		err := json.Unmarshal(v, &s)
		if err == nil {
			d, err = time.ParseDuration(s)
		}
		if err != nil || d < least || d > most {
			return fmt.Sprintf(`must be a duration such as "720h", from %v to %v`, least, most)
		}
		*target = d
		return ""
	}
}

// Access is what a binding may do, of kinds that know no more than these two.
type Access string

// What a binding may do.
const (
	ReadWrite Access = "read-write"
	ReadOnly  Access = "read-only"
)

// Valid reports whether it is one of the two.
func (a Access) Valid() bool { return a == ReadWrite || a == ReadOnly }

// AccessParameter reads the parameter "access" of a binding.
func AccessParameter(target *Access) func(json.RawMessage) string {
	return OneOf(target, ReadWrite, ReadOnly)
}

// ReadAccess reads a binding's parameters, of a kind that has no other.
func ReadAccess(parameters json.RawMessage) (Access, error) {
	access := ReadWrite
	err := Settings{"access": AccessParameter(&access)}.Read("parameters", parameters)
	return access, err
}

// AccessProperty is the schema of the parameter.
func AccessProperty(doc string) map[string]any {
	return map[string]any{"description": doc, "type": "string", "enum": []Access{ReadWrite, ReadOnly}, "default": ReadWrite}
}

// ObjectSchema is the JSON Schema (draft-04) of an object with these properties and no others.
func ObjectSchema(properties map[string]any, required ...string) json.RawMessage {
	schema := map[string]any{
		"$schema": "http://json-schema.org/draft-04/schema#", "type": "object",
		"properties": properties, "additionalProperties": false,
	}
	if len(required) > 0 { // draft-04 has no empty list here
		schema["required"] = required
	}
	raw, err := json.Marshal(schema)
	if err != nil {
		return nil // cannot happen: texts, numbers, lists and maps of them
	}
	return raw
}

// NoParameters is the schema of parameters that must not be there.
func NoParameters() json.RawMessage { return ObjectSchema(map[string]any{}) }
