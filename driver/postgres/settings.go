package postgres

import (
	"encoding/json"
	"regexp"
	"slices"
	"time"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	Database    string // that Bindery connects to
	Connections int    // that Bindery opens at the most
}

const (
	defaultDatabase    = "postgres"
	defaultConnections = 10
	mostConnections    = 100
)

func parseServer(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{Database: defaultDatabase, Connections: defaultConnections}
	err := bindery.Settings{
		"database": func(v json.RawMessage) string {
			if json.Unmarshal(v, &s.Database) != nil || s.Database == "" || len(s.Database) > nameBytes {
				return "must have 1 to 63 bytes"
			}
			return ""
		},
		"max_connections": bindery.Number(&s.Connections, 1, mostConnections),
	}.Read("server settings", raw)
	return s, err
}

// planSettings are a plan's own settings.
type planSettings struct {
	// Extensions may be asked for with an instance; DefaultExtensions every instance gets.
	Extensions, DefaultExtensions []string
	// ConnectionLimit is a database's, MaxConnectionLimit the most that a binding may have; 0 is no limit.
	ConnectionLimit, MaxConnectionLimit int
	// Timeouts that sessions begin with; a client can change them. 0 is none.
	StatementTimeout, LockTimeout, IdleInTransactionTimeout time.Duration
}

type timeout struct {
	name  string
	value time.Duration
}

func (s planSettings) timeouts() []timeout {
	return []timeout{
		{"statement_timeout", s.StatementTimeout},
		{"lock_timeout", s.LockTimeout},
		{"idle_in_transaction_session_timeout", s.IdleInTransactionTimeout},
	}
}

var extensionName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,62}$`)

// nameBytes is how long a name can be.
const nameBytes = 63

// mostLimit is more connections than a server can have.
const mostLimit = 262143

func parsePlan(raw json.RawMessage) (planSettings, error) {
	var s planSettings
	err := bindery.Settings{
		"extensions":                          extensions(&s.Extensions, "names of extensions", extensionName.MatchString),
		"default_extensions":                  extensions(&s.DefaultExtensions, "names of extensions", extensionName.MatchString),
		"connection_limit":                    bindery.Number(&s.ConnectionLimit, 0, mostLimit),
		"max_connection_limit":                bindery.Number(&s.MaxConnectionLimit, 0, mostLimit),
		"statement_timeout":                   wholeMilliseconds(&s.StatementTimeout),
		"lock_timeout":                        wholeMilliseconds(&s.LockTimeout),
		"idle_in_transaction_session_timeout": wholeMilliseconds(&s.IdleInTransactionTimeout),
	}.Read("plan settings", raw)
	return s, err
}

func extensions(target *[]string, what string, good func(string) bool) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var list []string
		if json.Unmarshal(v, &list) != nil || slices.ContainsFunc(list, func(x string) bool { return !good(x) }) {
			return "must be a list of " + what
		}
		*target = list
		return ""
	}
}

// wholeMilliseconds reads a timeout, which the server counts in them.
func wholeMilliseconds(target *time.Duration) func(json.RawMessage) string {
	read := bindery.Duration(target, 0, 24*time.Hour)
	return func(v json.RawMessage) string {
		problem := read(v)
		if problem == "" && *target%time.Millisecond != 0 {
			return "must be whole milliseconds"
		}
		return problem
	}
}

// parseInstance returns the plan and every extension that the instance has, in order.
func parseInstance(spec bindery.InstanceSpec) (planSettings, []string, error) {
	s, err := parsePlan(spec.Settings)
	if err != nil {
		return s, nil, err
	}
	var asked []string
	err = bindery.Settings{
		"extensions": extensions(&asked, "extensions that this plan offers", func(x string) bool { return slices.Contains(s.Extensions, x) }),
	}.Read("parameters", spec.Parameters)
	if err != nil {
		return s, nil, err
	}
	all := append(slices.Clone(s.DefaultExtensions), asked...)
	slices.Sort(all)
	return s, slices.Compact(all), nil
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
