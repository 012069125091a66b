package nats

import (
	"encoding/json"

	"bindery"
)

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:        open,
	CheckServer: func(settings json.RawMessage) error { return bindery.Settings(nil).Read("server settings", settings) },
	CheckPlan:   func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	CheckSecrets: func(password bindery.Secret, secrets map[string]bindery.Secret) error {
		_, err := parseSecrets(password, secrets)
		return err
	},
	Schemas: func(json.RawMessage) (create, update, bind json.RawMessage) {
		return bindery.NoParameters(), bindery.NoParameters(),
			bindery.ObjectSchema(map[string]any{"access": bindery.AccessProperty("What the credential may do.")})
	},
	CredentialSchema: credentialSchema,
	Tags:             []string{"nats", "messaging", "jetstream"},
}
