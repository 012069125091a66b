package given

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bindery"
)

// A set is what one binding gets, as the operator wrote it.
type set struct {
	Credentials     map[string]any    `json:"credentials,omitempty"`
	SyslogDrainURL  string            `json:"syslog_drain_url,omitempty"`
	RouteServiceURL string            `json:"route_service_url,omitempty"`
	VolumeMounts    []json.RawMessage `json:"volume_mounts,omitempty"`
}

// decode reads JSON strictly. Its error repeats nothing of what it read.
func decode(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	if d.Decode(into) != nil {
		return errShape
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) { // something follows
		return errShape
	}
	return nil
}

var errShape = errors.New("it is not JSON of the shape that docs/kinds shows")

// deliverable is what a key must be for platforms that write credentials into files.
var deliverable = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

func (s set) check() error {
	if s.Credentials == nil && s.SyslogDrainURL == "" && s.RouteServiceURL == "" && s.VolumeMounts == nil {
		return errors.New("it gives nothing")
	}
	for key := range s.Credentials {
		if !deliverable.MatchString(key) {
			return errors.New("a key of its credentials is no file name")
		}
	}
	if !isURL(s.SyslogDrainURL, "syslog", "syslog-tls", "https") {
		return errors.New("its syslog_drain_url must begin with syslog://, syslog-tls:// or https://")
	}
	if !isURL(s.RouteServiceURL, "https") { // OSB 2.17, "Route Services"
		return errors.New("its route_service_url must begin with https://")
	}
	for _, m := range s.VolumeMounts {
		if !bytes.HasPrefix(bytes.TrimSpace(m), []byte("{")) {
			return errors.New("its volume_mounts must be objects")
		}
	}
	return nil
}

func isURL(text string, schemes ...string) bool {
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme)
}

func (s set) render() bindery.Credential {
	object := make(map[string]any, len(s.Credentials))
	for k, v := range s.Credentials {
		object[k] = v
	}
	return bindery.Credential{
		Object: object, SyslogDrainURL: s.SyslogDrainURL, RouteServiceURL: s.RouteServiceURL, VolumeMounts: s.VolumeMounts,
	}
}

// Plan settings of both kinds.
type planSettings struct {
	// CredentialsSchema describes the sets, which only their giver knows.
	CredentialsSchema json.RawMessage `json:"credentials_schema"`
}

const draft4 = "http://json-schema.org/draft-04/schema#"

func checkPlan(raw json.RawMessage) error {
	return bindery.Settings{"credentials_schema": checkSchema}.Read("plan settings", raw)
}

func checkSchema(raw json.RawMessage) string {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if object, ok := doc.(map[string]any); err != nil || !ok || object["$schema"] != draft4 {
		return "must be an object with $schema: " + draft4
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource("bindery:///credentials.json", doc); err != nil {
		return "cannot be used"
	}
	if _, err := c.Compile("bindery:///credentials.json"); err != nil {
		return "cannot be used"
	}
	return ""
}

// noLoader refuses references to other documents.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("external $ref is not allowed") }

// credentialSchema is the operator's, else one that says as much as is known.
func credentialSchema(settings json.RawMessage, _ []string) json.RawMessage {
	var p planSettings
	if len(settings) > 0 && json.Unmarshal(settings, &p) == nil && p.CredentialsSchema != nil {
		return p.CredentialsSchema
	}
	return json.RawMessage(`{"$schema":"` + draft4 + `","type":"object","description":"As the operator gave it."}`)
}

// noParameters: what was given is given as it is.
func noParameters(raw json.RawMessage) error {
	var object map[string]json.RawMessage
	if len(raw) > 0 && (json.Unmarshal(raw, &object) != nil || len(object) > 0) {
		return bindery.Errorf(bindery.CodeInvalid, "this service takes no parameters")
	}
	return nil
}

func noSchemas(json.RawMessage) (create, update, bind json.RawMessage) {
	return bindery.NoParameters(), bindery.NoParameters(), bindery.NoParameters()
}

func released(json.RawMessage) bindery.Revocation { return bindery.RevocationReleased }
