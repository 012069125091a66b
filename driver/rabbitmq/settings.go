package rabbitmq

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"

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
	err := bindery.Settings{
		"max_connections": bindery.Number(&s.MaxConnections, 1, mostConnections),
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
	}.Read("server settings", raw)
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
	err := bindery.Settings{
		"max_connections":         bindery.Number(&p.MaxConnections, 1, mostLimit),
		"max_queues":              bindery.Number(&p.MaxQueues, 1, mostLimit),
		"binding_max_connections": bindery.Number(&p.BindingMaxConnections, 1, mostLimit),
		"binding_max_channels":    bindery.Number(&p.BindingMaxChannels, 1, mostLimit),
		"management":              bindery.Flag(&p.Management),
	}.Read("plan settings", raw)
	return p, err
}

func (p plan) tags() string {
	if p.Management {
		return tagManagement
	}
	return tagNone
}

// material is what an account's secret holds.
type material struct {
	Password bindery.Secret
	Access   bindery.Access
}

// sealedMaterial is its JSON. Only the functions below see it.
type sealedMaterial struct {
	Password string         `json:"password"`
	Access   bindery.Access `json:"access"`
}

func newMaterial(access bindery.Access) (bindery.Secret, error) {
	raw, err := json.Marshal(sealedMaterial{Password: bindery.NewPassword().Reveal(), Access: access})
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("write material: %w", err)
	}
	return bindery.NewSecret(string(raw)), nil
}

// parseMaterial gives no cause: it would quote what it stumbled over.
func parseMaterial(s bindery.Secret) (material, error) {
	var m sealedMaterial
	if json.Unmarshal([]byte(s.Reveal()), &m) != nil || m.Password == "" || !m.Access.Valid() {
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
// is the management API's: the host may be the same, the port is not.
func completePublic(server *bindery.Server) error {
	if server.Public.Port == 0 {
		server.Public.Port = portAMQP
		if server.Public.TLS {
			server.Public.Port = portAMQPS
		}
	}
	return server.CompletePublic()
}
