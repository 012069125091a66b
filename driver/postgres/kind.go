package postgres

import (
	"encoding/json"

	"bindery"
)

// Kind is PostgreSQL, 12 and later.
var Kind = bindery.Kind{
	Open: open,
	CheckServer: func(raw json.RawMessage) error {
		_, err := parseServer(raw)
		return err
	},
	CheckPlan: func(raw json.RawMessage) error {
		_, err := parsePlan(raw)
		return err
	},
	Exclusive: func(json.RawMessage) bool { return false },
	Schemas:   schemas,

	CredentialSchema: credentialSchema,

	Aliases: []string{aliasJDBC, aliasMinibroker, aliasSpring, aliasSteeltoe},
	Tags:    []string{"postgresql", "postgres", "relational"},
}

// schemas returns the schemas of a plan's parameters. Settings that parsePlan
// refuses have none.
func schemas(raw json.RawMessage) (instanceCreate, instanceUpdate, bindingCreate json.RawMessage) {
	s, err := parsePlan(raw)
	if err != nil {
		return nil, nil, nil
	}
	instance := map[string]any{}
	if len(s.Extensions) > 0 {
		instance["extensions"] = map[string]any{
			"description": "PostgreSQL extensions to create. They can be added later, and not be taken away.",
			"type":        "array",
			"uniqueItems": true,
			"items":       map[string]any{"type": "string", "enum": s.Extensions},
		}
	}
	binding := map[string]any{
		"access": bindery.AccessProperty("What the binding may do with the database."),
		"connection_limit": map[string]any{
			"description": "How many connections the binding may have open at once.",
			"type":        "integer",
			"minimum":     1,
			"maximum":     s.mostConnections(),
		},
	}
	return bindery.ObjectSchema(instance), bindery.ObjectSchema(instance), bindery.ObjectSchema(binding)
}
