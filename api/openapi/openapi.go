// Package openapi is the OpenAPI 3.0 description of what Bindery serves. It is
// written by hand, one file per face, strict enough that a test can hold every
// answer against it: bodies have no properties but those that are listed.
package openapi

import (
	"embed"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

//go:embed *.yaml
var files embed.FS

// names are the parts, the one with the title first.
var names = []string{"bindery.yaml", "osb.yaml", "authn.yaml", "admin.yaml", "pki.yaml"}

// Document returns the parts as one JSON document.
func Document() ([]byte, error) {
	whole := map[string]any{}
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var part struct {
			Shared any            `yaml:"x-shared"` // only for YAML's anchors
			Rest   map[string]any `yaml:",inline"`
		}
		if err := yaml.Unmarshal(raw, &part); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := merge(whole, part.Rest); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return json.Marshal(whole)
}

// merge adds what into does not have. Two parts may add to one object, and may
// not say the same thing twice.
func merge(into, from map[string]any) error {
	for k, v := range from {
		old, there := into[k]
		if !there {
			into[k] = v
			continue
		}
		a, ok := old.(map[string]any)
		b, ok2 := v.(map[string]any)
		if !ok || !ok2 {
			return fmt.Errorf("%s is there twice", k)
		}
		if err := merge(a, b); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}
