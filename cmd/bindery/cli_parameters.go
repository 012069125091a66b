package main

import (
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"
)

// parameters are what -p and --parameters-file gave.
type parameters struct {
	pairs []string
	file  string
}

const parametersHelp = `Parameters. -p key=value takes a value that is JSON (5, true, ["a"], "5") as what
it says, and anything else as a string. --parameters-file takes a JSON object
from a file, or from standard input with -; -p goes over it. Arguments can be
seen by everybody on the machine: keep secrets in a file.`

func (p *parameters) flags(c *cobra.Command) {
	c.Flags().StringArrayVarP(&p.pairs, "parameter", "p", nil, "a parameter, `key=value`; may be repeated")
	c.Flags().StringVar(&p.file, "parameters-file", "", "file with a JSON object of parameters, - is standard input")
}

// read returns the parameters as a JSON object, or nil where there are none.
func (p *parameters) read(s *session) (json.RawMessage, error) {
	if p.file == "" && len(p.pairs) == 0 {
		return nil, nil
	}
	object := map[string]json.RawMessage{}
	if p.file != "" {
		raw, err := s.read(p.file)
		if err != nil {
			return nil, err
		}
		if json.Unmarshal(raw, &object) != nil || object == nil {
			return nil, usagef("%s is not one JSON object", p.file)
		}
	}
	for _, pair := range p.pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("-p takes key=value")
		}
		raw := json.RawMessage(value)
		if !json.Valid(raw) {
			quoted, err := json.Marshal(value)
			if err != nil {
				return nil, usageError{err}
			}
			raw = quoted
		}
		object[key] = raw
	}
	return json.Marshal(object)
}
