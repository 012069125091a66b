package client

import (
	"encoding/json"
	"time"

	"bindery"
)

// A ServiceType is a service that runs on some hosts and gives out tokens.
type ServiceType struct {
	Name       string             `json:"name"`
	Hosts      []string           `json:"hosts"`
	AuthTypes  []bindery.AuthType `json:"auth_types"`
	AuthMethod string             `json:"auth_method"`
	UUID       string             `json:"uuid"`
	Created    time.Time          `json:"created_on"`
	Updated    time.Time          `json:"updated_on,omitzero"`
	Type       string             `json:"type"`
}

// A ServiceTypeInput is a service type to be, or the changes of one: what is nil
// stays. Type cannot be changed.
type ServiceTypeInput struct {
	Name       *string   `json:"name,omitempty"`
	Hosts      *[]string `json:"hosts,omitempty"`
	AuthTypes  *[]string `json:"auth_types,omitempty"`
	AuthMethod *string   `json:"auth_method,omitempty"`
	Type       *string   `json:"type,omitempty"`
}

// An AuthMethod is how Bindery calls a service type on one of its hosts. Its
// secrets are "***" where the face hides them.
type AuthMethod struct {
	ServiceUUID string                `json:"service_uuid"`
	Port        int                   `json:"port"`
	Host        string                `json:"host"`
	Type        string                `json:"type"`
	UUID        string                `json:"uuid"`
	Created     time.Time             `json:"created_on"`
	Updated     time.Time             `json:"updated_on,omitzero"`
	AccessKey   SecretText            `json:"access_key,omitzero"`
	Headers     map[string]SecretText `json:"headers,omitempty"`
}

// An AuthMethodInput is an auth method to be, or the changes of one: what is nil
// stays, and so does a secret that is "***". Exactly one of AccessKey and Headers
// is of the kind that the service type has.
type AuthMethodInput struct {
	ServiceUUID *string // not at creation
	Host        *string
	Port        *int
	AccessKey   *bindery.Secret
	Headers     map[string]bindery.Secret
}

// authMethodBody is what goes over: the secrets in clear.
type authMethodBody struct {
	ServiceUUID *string           `json:"service_uuid,omitempty"`
	Host        *string           `json:"host,omitempty"`
	Port        *int              `json:"port,omitempty"`
	AccessKey   *string           `json:"access_key,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

func (in AuthMethodInput) body() authMethodBody {
	out := authMethodBody{ServiceUUID: in.ServiceUUID, Host: in.Host, Port: in.Port}
	if in.AccessKey != nil {
		key := in.AccessKey.Reveal()
		out.AccessKey = &key
	}
	if in.Headers != nil {
		out.Headers = make(map[string]string, len(in.Headers))
		for name, value := range in.Headers {
			out.Headers[name] = value.Reveal()
		}
	}
	return out
}

// An IdentityBinding says which user of a service type on a host somebody is.
type IdentityBinding struct {
	Name        string           `json:"name"`
	ServiceUUID string           `json:"service_uuid"`
	Host        string           `json:"host"`
	UUID        string           `json:"uuid"`
	Identifier  string           `json:"auth_identifier"`
	UniqueKey   string           `json:"unique_key"`
	AuthType    bindery.AuthType `json:"auth_type"`
	Created     time.Time        `json:"created_on"`
	Updated     time.Time        `json:"updated_on,omitzero"`
	LastAuth    time.Time        `json:"last_auth,omitzero"`
	Issuer      string           `json:"issuer,omitempty"`
}

// An IdentityBindingInput is an identity binding to be, or the changes of one:
// what is nil stays. Without an identifier, a new one takes the name of the
// certificate that the client presents.
type IdentityBindingInput struct {
	Name        *string `json:"name,omitempty"` // not at creation
	ServiceUUID *string `json:"service_uuid,omitempty"`
	Host        *string `json:"host,omitempty"`
	AuthType    *string `json:"auth_type,omitempty"`
	Identifier  *string `json:"auth_identifier,omitempty"`
	UniqueKey   *string `json:"unique_key,omitempty"`
	Issuer      *string `json:"issuer,omitempty"` // a DN that pins the authority; "": any
}

// A SecretText is a text that must not be shown, from an answer. It prints as "[secret]".
type SecretText struct{ bindery.Secret }

// UnmarshalJSON implements [json.Unmarshaler] and takes a string only.
func (t *SecretText) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	t.Secret = bindery.NewSecret(s)
	return nil
}

// IsZero reports whether there is none.
func (t SecretText) IsZero() bool { return t.Empty() }

// A Token is what a service gave, whatever JSON it is. It prints as "[secret]";
// [Token.Text] and [Token.JSON] are the ways out.
type Token struct{ bindery.Secret }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Token) UnmarshalJSON(raw []byte) error {
	t.Secret = bindery.NewSecret(string(raw))
	return nil
}

// JSON returns the token as it came.
func (t Token) JSON() json.RawMessage { return json.RawMessage(t.Reveal()) }

// Text returns a string's value, and any other value as JSON.
func (t Token) Text() string { return Text(t.JSON()) }

// AuthnVersion is what runs there.
type AuthnVersion struct {
	BuildTime    string `json:"build_time"`
	Go           string `json:"golang"`
	Compiler     string `json:"compiler"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Release      string `json:"release"`
	Distro       string `json:"distro"`
}
