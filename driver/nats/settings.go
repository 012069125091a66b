package nats

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"bindery"
)

// secrets are a server's.
type secrets struct {
	Operator nkeys.KeyPair // or one of its signing keys
	System   []byte        // the credentials file of a user of the system account
}

const (
	secretOperator = "operator_seed"
	secretSystem   = "system_creds"
)

// parseSecrets gives no causes: they would quote what they stumbled over.
func parseSecrets(password bindery.Secret, given map[string]bindery.Secret) (secrets, error) {
	var s secrets
	var problems []string
	if !password.Empty() {
		problems = append(problems, `a password makes no sense: "`+secretSystem+`" is how Bindery logs in`)
	}
	for name := range given {
		if name != secretOperator && name != secretSystem {
			problems = append(problems, fmt.Sprintf("%q is not known", name))
		}
	}
	var err error
	s.Operator, err = nkeys.FromSeed([]byte(strings.TrimSpace(given[secretOperator].Reveal())))
	if err == nil {
		var key string
		if key, err = s.Operator.PublicKey(); err == nil && !nkeys.IsValidPublicOperatorKey(key) {
			err = nkeys.ErrInvalidSeed
		}
	}
	if err != nil {
		problems = append(problems, `"`+secretOperator+`" must be the seed of an operator or of its signing key (SO…)`)
	}
	s.System = []byte(given[secretSystem].Reveal())
	_, tokenErr := jwt.ParseDecoratedJWT(s.System)
	if _, err := jwt.ParseDecoratedUserNKey(s.System); err != nil || tokenErr != nil {
		problems = append(problems, `"`+secretSystem+`" must be the credentials file of a user of the system account`)
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return secrets{}, bindery.Errorf(bindery.CodeInvalid, "secrets: %s", strings.Join(problems, "; "))
	}
	return s, nil
}

// A plan is a plan's settings: the limits of an instance. -1: there is none.
type plan struct {
	Bindings                            int64
	Connections, Subscriptions, Payload int64
	JetStream                           *streams
}

// streams are the limits of what an instance may store.
type streams struct {
	Memory, Storage, Streams, Consumers int64
}

const (
	// defaultBindings keeps the account's JWT, which is sent and read as a whole
	// for every change, at a third of a megabyte.
	defaultBindings = 1000
	// mostBindings fit into the server's default max_payload of 1 MB.
	mostBindings = 2000
	mostLimit    = 1 << 53 // what JSON can say
)

func parsePlan(raw json.RawMessage) (plan, error) {
	p := plan{Bindings: defaultBindings, Connections: jwt.NoLimit, Subscriptions: jwt.NoLimit, Payload: jwt.NoLimit}
	err := bindery.Settings{
		"max_bindings":      bindery.Number(&p.Bindings, 1, mostBindings),
		"max_connections":   bindery.Number(&p.Connections, 1, mostLimit),
		"max_subscriptions": bindery.Number(&p.Subscriptions, 1, mostLimit),
		"max_payload":       bindery.Number(&p.Payload, 1, mostLimit),
		"jetstream": func(v json.RawMessage) string {
			j := streams{Streams: jwt.NoLimit, Consumers: jwt.NoLimit}
			err := bindery.Settings{
				"max_memory":    bindery.Number(&j.Memory, 0, mostLimit),
				"max_storage":   bindery.Number(&j.Storage, 0, mostLimit),
				"max_streams":   bindery.Number(&j.Streams, 1, mostLimit),
				"max_consumers": bindery.Number(&j.Consumers, 1, mostLimit),
			}.Read("settings", v)
			switch {
			case err != nil:
				return "must be an object of max_memory, max_storage, max_streams and max_consumers, which are whole numbers"
			case j.Memory == 0 && j.Storage == 0:
				return "needs max_memory or max_storage, in bytes"
			}
			p.JetStream = &j
			return ""
		},
	}.Read("plan settings", raw)
	return p, err
}
