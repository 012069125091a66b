package redis

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	// MaxConnections bounds the connections that Bindery has to the server.
	MaxConnections int
}

const (
	defaultConnections = 8
	mostConnections    = 1000
)

func parseServerSettings(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{MaxConnections: defaultConnections}
	err := strict("server settings", raw, map[string]func(json.RawMessage) string{
		"max_connections": func(v json.RawMessage) string {
			if json.Unmarshal(v, &s.MaxConnections) != nil || s.MaxConnections < 2 || s.MaxConnections > mostConnections {
				return fmt.Sprintf("must be a whole number from 2 to %d", mostConnections)
			}
			return ""
		},
	})
	return s, err
}

// A plan is a plan's settings.
type plan struct {
	Topology string
	Scripts  bool
}

const (
	topologyShared = "shared"
	topologyWhole  = "whole-server"
)

func parsePlan(raw json.RawMessage) (plan, error) {
	p := plan{Topology: topologyShared, Scripts: true}
	err := strict("plan settings", raw, map[string]func(json.RawMessage) string{
		"topology": oneOf(&p.Topology, topologyShared, topologyWhole),
		"scripts": func(v json.RawMessage) string {
			if string(v) != "true" && string(v) != "false" {
				return "must be true or false"
			}
			p.Scripts = string(v) == "true"
			return ""
		},
	})
	return p, err
}

func (p plan) whole() bool { return p.Topology == topologyWhole }

// prefix is what the keys and channels of an instance begin with.
func (p plan) prefix(instance string) string {
	if p.whole() {
		return everything
	}
	return instance + ":"
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
	`"properties":{"access":{"description":"What the credential may do.","type":"string",` +
	`"enum":["read-write","read-only"],"default":"read-write"}},"additionalProperties":false}`)

func parseBindingParameters(raw json.RawMessage) (access string, err error) {
	access = accessReadWrite
	err = strict("parameters", raw, map[string]func(json.RawMessage) string{
		"access": oneOf(&access, accessReadWrite, accessReadOnly),
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

func oneOf(target *string, allowed ...string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var s string
		if json.Unmarshal(v, &s) != nil || !slices.Contains(allowed, s) {
			return "must be " + strings.Join(allowed, " or ")
		}
		*target = s
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
	var random [32]byte
	rand.Read(random[:])
	raw, err := json.Marshal(sealedMaterial{Password: base64.RawURLEncoding.EncodeToString(random[:]), Access: access})
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
