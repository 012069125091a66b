package nats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
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
	err := strict("plan settings", raw, map[string]func(json.RawMessage) string{
		"max_bindings":      number(&p.Bindings, 1, mostBindings),
		"max_connections":   number(&p.Connections, 1, mostLimit),
		"max_subscriptions": number(&p.Subscriptions, 1, mostLimit),
		"max_payload":       number(&p.Payload, 1, mostLimit),
		"jetstream": func(v json.RawMessage) string {
			j := streams{Streams: jwt.NoLimit, Consumers: jwt.NoLimit}
			err := strict("settings", v, map[string]func(json.RawMessage) string{
				"max_memory":    number(&j.Memory, 0, mostLimit),
				"max_storage":   number(&j.Storage, 0, mostLimit),
				"max_streams":   number(&j.Streams, 1, mostLimit),
				"max_consumers": number(&j.Consumers, 1, mostLimit),
			})
			switch {
			case err != nil:
				return "must be an object of max_memory, max_storage, max_streams and max_consumers, which are whole numbers"
			case j.Memory == 0 && j.Storage == 0:
				return "needs max_memory or max_storage, in bytes"
			}
			p.JetStream = &j
			return ""
		},
	})
	return p, err
}

func number(target *int64, least, most int64) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var n int64
		if json.Unmarshal(v, &n) != nil || string(v) == "null" || n < least || n > most {
			return fmt.Sprintf("must be a whole number from %d to %d", least, most)
		}
		*target = n
		return ""
	}
}

var noParameters = json.RawMessage(
	`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{},"additionalProperties":false}`)

const (
	accessReadWrite = "read-write"
	accessReadOnly  = "read-only"
)

var bindingParameters = json.RawMessage(`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object",` +
	`"properties":{"access":{"description":"What the credential may do.","type":"string",` +
	`"enum":["read-write","read-only"],"default":"read-write"}},"additionalProperties":false}`)

func parseBindingParameters(raw json.RawMessage) (access string, err error) {
	access = accessReadWrite
	err = strict("parameters", raw, map[string]func(json.RawMessage) string{
		"access": func(v json.RawMessage) string {
			var s string
			if json.Unmarshal(v, &s) != nil || s != accessReadWrite && s != accessReadOnly {
				return "must be read-write or read-only"
			}
			access = s
			return ""
		},
	})
	return access, err
}

// strict reads an object whose keys are all known, and names every problem. It
// never repeats a value, which may be a secret.
func strict(what string, raw json.RawMessage, keys map[string]func(json.RawMessage) string) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return bindery.Errorf(bindery.CodeInvalid, "%s must be a JSON object", what)
	}
	var problems []string
	for key, value := range object {
		read, ok := keys[key]
		if !ok {
			problems = append(problems, fmt.Sprintf("%q is not known", key))
		} else if problem := read(value); problem != "" {
			problems = append(problems, fmt.Sprintf("%q %s", key, problem))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return bindery.Errorf(bindery.CodeInvalid, "%s: %s", what, strings.Join(problems, "; "))
}

// publicAddress completes the address for applications from Bindery's own.
func publicAddress(server bindery.Server) (bindery.PublicAddress, error) {
	host, port, err := net.SplitHostPort(server.Address)
	if err != nil {
		return bindery.PublicAddress{}, bindery.Errorf(bindery.CodeInvalid, "the address must be host:port").Because(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return bindery.PublicAddress{}, bindery.Errorf(bindery.CodeInvalid, "the address must be host:port")
	}
	public := server.Public
	if public.Host == "" {
		public.Host = host
	}
	if public.Port == 0 {
		public.Port = int(n)
	}
	return public, nil
}
