package mysql

import (
	"encoding/json"

	"bindery"
)

// Kind is MariaDB, 10.5.2 and later, and MySQL, 8.0.20 and later.
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

	Aliases: []string{aliasJDBC, aliasMinibroker, aliasSteeltoe},
	Tags:    []string{"mysql", "mariadb", "relational"},
}

// schemas returns the schemas of a plan's parameters. Settings that parsePlan
// refuses have none.
func schemas(raw json.RawMessage) (instanceCreate, instanceUpdate, bindingCreate json.RawMessage) {
	s, err := parsePlan(raw)
	if err != nil {
		return nil, nil, nil
	}
	return bindery.NoParameters(), bindery.NoParameters(), bindery.ObjectSchema(map[string]any{
		"access": bindery.AccessProperty("What the binding may do with the database."),
		"connection_limit": map[string]any{
			"description": "How many connections the binding may have open at once.",
			"type":        "integer",
			"minimum":     1,
			"maximum":     s.mostConnections(),
		},
	})
}
