package nats

import (
	"crypto/rand"

	"github.com/nats-io/jwt/v2"

	"bindery"
)

// newClaims are an instance's, with nobody in it.
func newClaims(instance string) (*jwt.AccountClaims, error) {
	key, err := accountKey(instance)
	if err != nil {
		return nil, err
	}
	c := jwt.NewAccountClaims(key)
	c.Name = instance
	return c, nil
}

// setLimits gives an account a plan's limits, and reports whether that changes it.
func setLimits(c *jwt.AccountClaims, p plan) bool {
	limits := jwt.OperatorLimits{
		NatsLimits: jwt.NatsLimits{Subs: p.Subscriptions, Data: jwt.NoLimit, Payload: p.Payload},
		// Nothing goes from account to account, and nobody attaches a server of his own.
		AccountLimits: jwt.AccountLimits{Conn: p.Connections, DisallowBearer: true},
	}
	if j := p.JetStream; j != nil {
		limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: j.Memory, DiskStorage: j.Storage, Streams: j.Streams, Consumer: j.Consumers,
		}
	}
	before := c.Limits
	c.Limits = limits
	return before.NatsLimits != limits.NatsLimits || before.AccountLimits != limits.AccountLimits ||
		before.JetStreamLimits != limits.JetStreamLimits || len(before.JetStreamTieredLimits) > 0
}

// readOnlySubjects are what a read-only user may publish: requests that read what
// is stored and look at what there is. It may not make consumers: one can be told to
// deliver to any subject, and so would publish there.
var readOnlySubjects = jwt.StringList{
	"$JS.API.INFO",
	"$JS.API.STREAM.NAMES",
	"$JS.API.STREAM.LIST",
	"$JS.API.STREAM.INFO.*",
	"$JS.API.STREAM.MSG.GET.*",
	"$JS.API.DIRECT.GET.>",
	"$JS.API.CONSUMER.NAMES.*",
	"$JS.API.CONSUMER.LIST.*",
	"$JS.API.CONSUMER.INFO.*.*",
	"$JS.API.CONSUMER.MSG.NEXT.*.*",
	"$JS.ACK.>",
}

// allow gives a binding its key, in place of any that it had. The description is
// never the same: the server ends the sessions of users whose scope has changed.
func allow(c *jwt.AccountClaims, name string, m material) {
	forbid(c, name)
	scope := jwt.NewUserScope()
	scope.Key, scope.Role, scope.Description = m.signer(), name, rand.Text()
	if m.Access == bindery.ReadOnly {
		scope.Template.Pub.Allow = readOnlySubjects
	}
	c.SigningKeys.AddScopedSigner(scope)
}

// forbid takes a binding's key out, and reports whether it had one.
func forbid(c *jwt.AccountClaims, name string) bool {
	found := false
	for key, scope := range c.SigningKeys {
		if roleOf(scope) == name {
			c.SigningKeys.Remove(key)
			found = true
		}
	}
	return found
}

// roleOf is the name of the binding that a signing key belongs to.
func roleOf(s jwt.Scope) string {
	if u, ok := s.(*jwt.UserScope); ok {
		return u.Role
	}
	return ""
}

// bindings are the names that have keys.
func bindings(c *jwt.AccountClaims) []string {
	names := make([]string, 0, len(c.SigningKeys))
	for _, scope := range c.SigningKeys {
		names = append(names, roleOf(scope))
	}
	return names
}

// errFull says that an instance has all the bindings that it can have.
var errFull = bindery.Errorf(bindery.CodeQuota, "the instance has as many bindings as it can have")
