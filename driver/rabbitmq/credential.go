package rabbitmq

import (
	"encoding/json"
	"slices"

	"bindery"
)

// credentialSchema describes what Render makes.
func credentialSchema(settings json.RawMessage, aliases []string) json.RawMessage {
	keys := []bindery.CredentialKey{
		{Name: "uri", Doc: "The address with everything in it: amqp://… or amqps://…"},
		{Name: "uris", Doc: "A list of that one.", Type: "array"},
		{Name: "addresses", Doc: "host:port"},
		{Name: "host", Doc: "The broker's host."},
		{Name: "hostname", Doc: "As host."},
		{Name: "port", Doc: "The broker's AMQP port.", Type: "integer"},
		{Name: "username", Doc: "The user."},
		{Name: "password", Doc: "Its password: at least 32 of A-Z a-z 0-9 _ -"},
		{Name: "vhost", Doc: "The virtual host, which is the instance."},
		{Name: "virtual-host", Doc: "As vhost."},
		{Name: "ssl", Doc: "Whether the port wants TLS.", Type: "boolean"},
		{Name: "protocols", Doc: "The same by protocol: amqp, or amqp+ssl with TLS.", Type: "object"},
		{Name: "ca.crt", Doc: "The CA of the broker's certificate, PEM.", Optional: true},
	}
	if plan, err := parsePlan(settings); err == nil && plan.Management {
		keys = append(keys, bindery.CredentialKey{
			Name: "http_api_uri", Doc: "The management API's address, with user and password.", Optional: true,
		})
	}
	if slices.Contains(aliases, aliasSpring) {
		keys = append(keys,
			bindery.CredentialKey{Name: "spring.rabbitmq.addresses", Doc: "As addresses."},
			bindery.CredentialKey{Name: "spring.rabbitmq.username", Doc: "As username."},
			bindery.CredentialKey{Name: "spring.rabbitmq.password", Doc: "As password."},
			bindery.CredentialKey{Name: "spring.rabbitmq.virtual-host", Doc: "As vhost."},
			bindery.CredentialKey{Name: "spring.rabbitmq.ssl.enabled", Doc: "As ssl.", Type: "boolean"})
	}
	return bindery.CredentialSchema(keys...)
}
