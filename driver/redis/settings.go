package redis

import (
	"encoding/json"
	"fmt"

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
	err := bindery.Settings{
		"max_connections": bindery.Number(&s.MaxConnections, 2, mostConnections),
	}.Read("server settings", raw)
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
	err := bindery.Settings{
		"topology": bindery.OneOf(&p.Topology, topologyShared, topologyWhole),
		"scripts":  bindery.Flag(&p.Scripts),
	}.Read("plan settings", raw)
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
