package rabbitmq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	// MaxConnections bounds the connections that Bindery has to the management API.
	MaxConnections int
	// AMQPAddress is the host:port by which Bindery itself reaches AMQP, to prove
	// that a login is refused; empty: the public one.
	AMQPAddress string
	// ManagementURL is the management API's for applications, of plans that allow it.
	ManagementURL *url.URL
}

const (
	defaultConnections = 8
	mostConnections    = 1000
	mostLimit          = 1_000_000
)

func parseServerSettings(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{MaxConnections: defaultConnections}
	err := strict("server settings", raw, map[string]func(json.RawMessage) string{
		"max_connections": number(&s.MaxConnections, mostConnections),
		"amqp_address": func(v json.RawMessage) string {
			host, port, err := "", "", json.Unmarshal(v, &s.AMQPAddress)
			if err == nil {
				host, port, err = net.SplitHostPort(s.AMQPAddress)
			}
			if err != nil || host == "" || !isPort(port) {
				return "must be host:port"
			}
			return ""
		},
		"management_url": func(v json.RawMessage) string {
			var text string
			err := json.Unmarshal(v, &text)
			if err == nil {
				s.ManagementURL, err = url.Parse(text)
			}
			if u := s.ManagementURL; err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" ||
				u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				return "must be an http or https URL without user, query and fragment"
			}
			return ""
		},
	})
	return s, err
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// A plan is a plan's settings; a limit of 0 is none.
type plan struct {
	MaxConnections, MaxQueues                 int // of an instance
	BindingMaxConnections, BindingMaxChannels int // of a binding
	Management                                bool
}

func parsePlan(raw json.RawMessage) (plan, error) {
	var p plan
	err := strict("plan settings", raw, map[string]func(json.RawMessage) string{
		"max_connections":         number(&p.MaxConnections, mostLimit),
		"max_queues":              number(&p.MaxQueues, mostLimit),
		"binding_max_connections": number(&p.BindingMaxConnections, mostLimit),
		"binding_max_channels":    number(&p.BindingMaxChannels, mostLimit),
		"management": func(v json.RawMessage) string {
			if string(v) != "true" && string(v) != "false" {
				return "must be true or false"
			}
			p.Management = string(v) == "true"
			return ""
		},
	})
	return p, err
}

func (p plan) tags() string {
	if p.Management {
		return tagManagement
	}
	return tagNone
}

var noParameters = json.RawMessage(
	`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{},"additionalProperties":false}`)

func checkInstanceParameters(raw json.RawMessage) error {
	return strict("parameters", raw, nil)
}

const (
	accessReadWrite = "read-write"
	accessReadOnly  = "read-only"
)

var bindingParameters = json.RawMessage(`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object",` +
	`"properties":{"access":{"description":"What the credential may do. Read-only may take messages out of queues ` +
	`that are there.","type":"string","enum":["read-write","read-only"],"default":"read-write"}},"additionalProperties":false}`)

func parseBindingParameters(raw json.RawMessage) (access string, err error) {
	access = accessReadWrite
	err = strict("parameters", raw, map[string]func(json.RawMessage) string{
		"access": func(v json.RawMessage) string {
			if json.Unmarshal(v, &access) != nil || (access != accessReadWrite && access != accessReadOnly) {
				return "must be " + accessReadWrite + " or " + accessReadOnly
			}
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

// number reads a whole number from 1.
func number(target *int, most int) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		if json.Unmarshal(v, target) != nil || *target < 1 || *target > most {
			return fmt.Sprintf("must be a whole number from 1 to %d", most)
		}
		return ""
	}
}

// material is what an account's secret holds.
type material struct {
	Password bindery.Secret
	Access   string
}

// sealedMaterial is its JSON. Only the functions below see it.
type sealedMaterial struct {
	Password string `json:"password"`
	Access   string `json:"access"`
}

func newMaterial(access string) (bindery.Secret, error) {
	raw, err := json.Marshal(sealedMaterial{Password: newPassword().Reveal(), Access: access})
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("write material: %w", err)
	}
	return bindery.NewSecret(string(raw)), nil
}

// parseMaterial gives no cause: it would quote what it stumbled over.
func parseMaterial(s bindery.Secret) (material, error) {
	var m sealedMaterial
	if json.Unmarshal([]byte(s.Reveal()), &m) != nil || m.Password == "" ||
		(m.Access != accessReadWrite && m.Access != accessReadOnly) {
		return material{}, bindery.Errorf(bindery.CodeInternal, "the account's material is not of this kind")
	}
	return material{Password: bindery.NewSecret(m.Password), Access: m.Access}, nil
}

// The ports of AMQP 0-9-1 and of AMQP in TLS that are registered.
const (
	portAMQP  = 5672
	portAMQPS = 5671
)

// completePublic completes the address for applications from Bindery's own, which
// is the management API's: the host may be the same, the port is not. It returns
// Bindery's own host.
func completePublic(server *bindery.Server) (host string, err error) {
	host, port, err := net.SplitHostPort(server.Address)
	if err != nil || host == "" || !isPort(port) {
		return "", bindery.Errorf(bindery.CodeInvalid, "the address must be host:port").Because(err)
	}
	if server.Public.Host == "" {
		server.Public.Host = host
	}
	if server.Public.Port == 0 {
		server.Public.Port = portAMQP
		if server.Public.TLS {
			server.Public.Port = portAMQPS
		}
	}
	return host, nil
}
