package config

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

//go:embed example.yaml
var example string

// Example is a commented configuration file with every section. It is valid
// once the files that it refers to exist.
func Example() string { return example }

// Describe returns a JSON Schema (draft-07, which editors read) of the
// configuration file. It shows shapes, not everything that Load checks.
func Describe() ([]byte, error) {
	s := describe(reflect.TypeFor[Config]())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Bindery configuration"
	return json.MarshalIndent(s, "", "  ")
}

// describe makes the schema of a type from its yaml, doc, default and enum tags.
func describe(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[Object]():
		return map[string]any{"type": "object"}
	case t == reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": describe(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Struct:
	default:
		return map[string]any{"type": "string"}
	}
	properties := map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		p := describe(f.Type)
		p["description"] = f.Tag.Get("doc")
		typed := p
		if items, ok := p["items"].(map[string]any); ok {
			typed = items
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			var values []any
			for _, v := range strings.Split(enum, ",") {
				values = append(values, literal(typed["type"], v))
			}
			typed["enum"] = values
		}
		if d := f.Tag.Get("default"); d != "" {
			p["default"] = literal(p["type"], d)
		}
		properties[name] = p
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if t == reflect.TypeFor[Ref]() {
		s["minProperties"], s["maxProperties"] = 1, 1
	}
	return s
}

func literal(kind any, text string) any {
	switch kind {
	case "integer":
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	case "boolean":
		return text == "true"
	}
	return text
}
