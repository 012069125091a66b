package mysql

import (
	"encoding/json"
	"regexp"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	Connections int // that Bindery opens at the most
}

const (
	defaultConnections = 10
	mostConnections    = 100
)

func parseServer(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{Connections: defaultConnections}
	err := bindery.Settings{
		"max_connections": bindery.Number(&s.Connections, 1, mostConnections),
	}.Read("server settings", raw)
	return s, err
}

// planSettings are a plan's own settings.
type planSettings struct {
	// CharacterSet and Collation are what new databases begin with; without a
	// collation it is the server's for that set.
	CharacterSet, Collation string
	// MaxConnectionLimit is the most connections that a binding may have; 0 is no limit.
	MaxConnectionLimit int
}

const defaultCharacterSet = "utf8mb4"

// A collation may be empty.
var (
	characterSetName = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)
	collationName    = regexp.MustCompile(`^[a-z0-9_]{0,64}$`)
)

// mostLimit is more connections than a server can have.
const mostLimit = 100000

func parsePlan(raw json.RawMessage) (planSettings, error) {
	s := planSettings{CharacterSet: defaultCharacterSet}
	name := func(target *string, is *regexp.Regexp, problem string) func(json.RawMessage) string {
		return func(v json.RawMessage) string {
			if json.Unmarshal(v, target) != nil || !is.MatchString(*target) {
				return problem
			}
			return ""
		}
	}
	err := bindery.Settings{
		"character_set":        name(&s.CharacterSet, characterSetName, "must be the name of a character set"),
		"collation":            name(&s.Collation, collationName, "must be the name of a collation"),
		"max_connection_limit": bindery.Number(&s.MaxConnectionLimit, 0, mostLimit),
	}.Read("plan settings", raw)
	return s, err
}

// parseInstance returns the plan. Instances have no parameters.
func parseInstance(spec bindery.InstanceSpec) (planSettings, error) {
	s, err := parsePlan(spec.Settings)
	if err != nil {
		return s, err
	}
	return s, bindery.Settings(nil).Read("parameters", spec.Parameters)
}

// bindingParameters are what a platform asks for with a binding.
type bindingParameters struct {
	Access          bindery.Access
	ConnectionLimit int // 0: none was asked for
}

func parseBinding(raw json.RawMessage, s planSettings) (bindingParameters, error) {
	p := bindingParameters{Access: bindery.ReadWrite}
	err := bindery.Settings{
		"access":           bindery.AccessParameter(&p.Access),
		"connection_limit": bindery.Number(&p.ConnectionLimit, 1, s.mostConnections()),
	}.Read("parameters", raw)
	return p, err
}

// mostConnections is the most that a binding may ask for.
func (s planSettings) mostConnections() int {
	if s.MaxConnectionLimit > 0 {
		return s.MaxConnectionLimit
	}
	return mostLimit
}
