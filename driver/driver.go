// Package driver lists what Bindery can make accounts on.
package driver

import (
	"bindery"
	"bindery/driver/given"
	"bindery/driver/mtls"
	"bindery/driver/mysql"
	"bindery/driver/nats"
	"bindery/driver/oauth"
	"bindery/driver/postgres"
	"bindery/driver/rabbitmq"
	"bindery/driver/redis"
)

// Kinds are all kinds of backend, by the name that the configuration gives
// them. To add one, add a folder and a line.
var Kinds = map[string]bindery.Kind{
	"mysql":      mysql.Kind,
	"mtls":       mtls.Kind,
	"nats":       nats.Kind,
	"oauth":      oauth.Kind,
	"pool":       given.Pool,
	"postgresql": postgres.Kind,
	"rabbitmq":   rabbitmq.Kind,
	"redis":      redis.Kind,
	"static":     given.Static,
}
