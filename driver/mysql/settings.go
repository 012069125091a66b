package mysql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	Connections int `json:"max_connections"` // that Bindery opens at the most
}

const (
	defaultConnections = 10
	mostConnections    = 100
)

func parseServer(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{Connections: defaultConnections}
	if err := decode(raw, &s); err != nil {
		return s, err
	}
	return s, problems{
		{s.Connections < 1 || s.Connections > mostConnections, fmt.Sprintf("max_connections: must be from 1 to %d", mostConnections)},
	}.err()
}

// planSettings are a plan's own settings.
type planSettings struct {
	// CharacterSet and Collation are what new databases begin with; without a
	// collation it is the server's for that set.
	CharacterSet string `json:"character_set"`
	Collation    string `json:"collation"`
	// MaxConnectionLimit is the most connections that a binding may have; 0 is no limit.
	MaxConnectionLimit int `json:"max_connection_limit"`
}

const defaultCharacterSet = "utf8mb4"

var collationName = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// mostLimit is more connections than a server can have.
const mostLimit = 100000

func parsePlan(raw json.RawMessage) (planSettings, error) {
	s := planSettings{CharacterSet: defaultCharacterSet}
	if err := decode(raw, &s); err != nil {
		return s, err
	}
	return s, problems{
		{!collationName.MatchString(s.CharacterSet), "character_set: must be the name of a character set"},
		{s.Collation != "" && !collationName.MatchString(s.Collation), "collation: must be the name of a collation"},
		{
			s.MaxConnectionLimit < 0 || s.MaxConnectionLimit > mostLimit,
			fmt.Sprintf("max_connection_limit: must be from 0 (none) to %d", mostLimit),
		},
	}.err()
}

// parseInstance returns the plan. Instances have no parameters.
func parseInstance(spec bindery.InstanceSpec) (planSettings, error) {
	s, err := parsePlan(spec.Settings)
	if err != nil {
		return s, fmt.Errorf("plan settings: %w", err)
	}
	if err := decode(spec.Parameters, &struct{}{}); err != nil {
		return s, invalid(err)
	}
	return s, nil
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
