package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	Database    string `json:"database"`        // that Bindery connects to
	Connections int    `json:"max_connections"` // that Bindery opens at the most
}

const (
	defaultDatabase    = "postgres"
	defaultConnections = 10
	mostConnections    = 100
)

func parseServer(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{Database: defaultDatabase, Connections: defaultConnections}
	if err := decode(raw, &s); err != nil {
		return s, err
	}
	return s, problems{
		{s.Database == "" || len(s.Database) > nameBytes, "database: must have 1 to 63 bytes"},
		{s.Connections < 1 || s.Connections > mostConnections, fmt.Sprintf("max_connections: must be from 1 to %d", mostConnections)},
	}.err()
}

// planSettings are a plan's own settings.
type planSettings struct {
	// Extensions may be asked for with an instance; DefaultExtensions every instance gets.
	Extensions        []string `json:"extensions"`
	DefaultExtensions []string `json:"default_extensions"`
	// ConnectionLimit is a database's, MaxConnectionLimit the most that a binding may have; 0 is no limit.
	ConnectionLimit    int `json:"connection_limit"`
	MaxConnectionLimit int `json:"max_connection_limit"`
	// Timeouts that sessions begin with, as in "30s"; a client can change them.
	StatementTimeout         duration `json:"statement_timeout"`
	LockTimeout              duration `json:"lock_timeout"`
	IdleInTransactionTimeout duration `json:"idle_in_transaction_session_timeout"`
}

type timeout struct {
	name  string
	value time.Duration
}

func (s planSettings) timeouts() []timeout {
	return []timeout{
		{"statement_timeout", time.Duration(s.StatementTimeout)},
		{"lock_timeout", time.Duration(s.LockTimeout)},
		{"idle_in_transaction_session_timeout", time.Duration(s.IdleInTransactionTimeout)},
	}
}

// A duration is written as Go writes it: "30s", "5m".
type duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New(`a duration must be a string like "30s"`)
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return errors.New(`a duration must be a string like "30s"`)
	}
	*d = duration(v)
	return nil
}

var extensionName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,62}$`)

// nameBytes is how long a name can be.
const nameBytes = 63

// mostLimit is more connections than a server can have.
const mostLimit = 262143

func parsePlan(raw json.RawMessage) (planSettings, error) {
	var s planSettings
	if err := decode(raw, &s); err != nil {
		return s, err
	}
	badLimit := func(n int) bool { return n < 0 || n > mostLimit }
	list := problems{
		{badLimit(s.ConnectionLimit), fmt.Sprintf("connection_limit: must be from 0 (none) to %d", mostLimit)},
		{badLimit(s.MaxConnectionLimit), fmt.Sprintf("max_connection_limit: must be from 0 (none) to %d", mostLimit)},
	}
	for _, t := range s.timeouts() {
		list = append(list, problem{
			t.value < 0 || t.value > 24*time.Hour || t.value%time.Millisecond != 0,
			t.name + ": must be whole milliseconds, from 0 (none) to 24h",
		})
	}
	for _, x := range append(slices.Clone(s.Extensions), s.DefaultExtensions...) {
		list = append(list, problem{!extensionName.MatchString(x), fmt.Sprintf("extensions: %q is no extension's name", x)})
	}
	return s, list.err()
}

// instanceParameters are what a platform asks for with an instance.
type instanceParameters struct {
	Extensions []string `json:"extensions"`
}

// parseInstance returns the plan and every extension that the instance has, in order.
func parseInstance(spec bindery.InstanceSpec) (planSettings, []string, error) {
	s, err := parsePlan(spec.Settings)
	if err != nil {
		return s, nil, fmt.Errorf("plan settings: %w", err)
	}
	var p instanceParameters
	if err := decode(spec.Parameters, &p); err != nil {
		return s, nil, invalid(err)
	}
	var list problems
	for _, x := range p.Extensions {
		list = append(list, problem{!slices.Contains(s.Extensions, x), "extensions: one of them is not offered by this plan"})
	}
	if err := list.err(); err != nil {
		return s, nil, invalid(err)
	}
	all := append(slices.Clone(s.DefaultExtensions), p.Extensions...)
	slices.Sort(all)
	return s, slices.Compact(all), nil
}

// bindingParameters are what a platform asks for with a binding.
type bindingParameters struct {
	Access          string `json:"access"`
	ConnectionLimit int    `json:"connection_limit"`
}

// What a binding may do.
const (
	readWrite = "read-write"
	readOnly  = "read-only"
)

func parseBinding(raw json.RawMessage, s planSettings) (bindingParameters, error) {
	p := bindingParameters{Access: readWrite}
	if err := decode(raw, &p); err != nil {
		return p, invalid(err)
	}
	most := mostLimit
	if s.MaxConnectionLimit > 0 {
		most = s.MaxConnectionLimit
	}
	err := problems{
		{p.Access != readWrite && p.Access != readOnly, "access: must be " + readWrite + " or " + readOnly},
		{p.ConnectionLimit < 0 || p.ConnectionLimit > most, fmt.Sprintf("connection_limit: must be from 1 to %d", most)},
	}.err()
	if err != nil {
		return p, invalid(err)
	}
	return p, nil
}

// A problem is a rule, and whether it is broken.
type problem struct {
	bad bool
	why string
}

type problems []problem

// err names every broken rule once, or is nil.
func (list problems) err() error {
	var why []string
	for _, p := range list {
		if p.bad && !slices.Contains(why, p.why) {
			why = append(why, p.why)
		}
	}
	if len(why) == 0 {
		return nil
	}
	return errors.New(strings.Join(why, "; "))
}

// decode reads one JSON object strictly; nothing, and null, are an empty one.
// Its errors never repeat a value, which may be a secret.
func decode(raw json.RawMessage, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			if wrong.Field == "" {
				return errors.New("must be a JSON object")
			}
			return fmt.Errorf("%s: must not be a %s", wrong.Field, strings.Fields(wrong.Value + " value")[0])
		}
		if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("not a JSON object")
		}
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// invalid makes an error for the caller out of one of this file's, which are fit to be read.
func invalid(err error) error {
	return bindery.Errorf(bindery.CodeInvalid, "parameters: %s", err.Error())
}
