package nats

import (
	"encoding/json"
	"slices"

	"bindery"
)

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:        open,
	CheckServer: func(settings json.RawMessage) error { return strict("server settings", settings, nil) },
	CheckPlan:   func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	CheckSecrets: func(password bindery.Secret, secrets map[string]bindery.Secret) error {
		_, err := parseSecrets(password, secrets)
		return err
	},
	Schemas: func(json.RawMessage) (create, update, bind json.RawMessage) {
		return slices.Clone(noParameters), slices.Clone(noParameters), slices.Clone(bindingParameters)
	},
	CredentialSchema: credentialSchema,
	Tags:             []string{"nats", "messaging", "jetstream"},
}
