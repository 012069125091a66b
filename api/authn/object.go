package authn

import (
	"encoding/json"
	"time"

	"bindery"
	"bindery/api"
)

// The objects, with their keys in the order in which clients of old see them.
type (
	serviceType struct {
		Name       string             `json:"name"`
		Hosts      []string           `json:"hosts"`
		AuthTypes  []bindery.AuthType `json:"auth_types"`
		AuthMethod string             `json:"auth_method"`
		UUID       string             `json:"uuid"`
		CreatedOn  string             `json:"created_on"`
		UpdatedOn  string             `json:"updated_on,omitempty"`
		Type       string             `json:"type"`
	}
	authMethod struct {
		ServiceUUID string             `json:"service_uuid"`
		Port        int                `json:"port"`
		Host        string             `json:"host"`
		Type        string             `json:"type"`
		UUID        string             `json:"uuid"`
		CreatedOn   string             `json:"created_on"`
		UpdatedOn   string             `json:"updated_on,omitempty"`
		AccessKey   *string            `json:"access_key,omitempty"`
		Headers     *map[string]string `json:"headers,omitempty"`
	}
	binding struct {
		Name        string `json:"name"`
		ServiceUUID string `json:"service_uuid"`
		Host        string `json:"host"`
		UUID        string `json:"uuid"`
		Identifier  string `json:"auth_identifier"`
		UniqueKey   string `json:"unique_key"`
		AuthType    string `json:"auth_type"`
		CreatedOn   string `json:"created_on"`
		UpdatedOn   string `json:"updated_on,omitempty"`
		LastAuth    string `json:"last_auth,omitempty"`
		Issuer      string `json:"issuer,omitempty"` // Bindery's own
	}
)

func showServiceType(s bindery.ServiceType) (serviceType, error) {
	return serviceType{
		Name: s.Name, Hosts: s.Hosts, AuthTypes: s.AuthTypes, AuthMethod: string(s.AuthMethod), UUID: s.UUID,
		CreatedOn: zulu(s.Created), UpdatedOn: zulu(s.Updated), Type: s.Type,
	}, nil
}

// showAuthMethod shows the secrets that the exchange has not hidden from this caller.
func showAuthMethod(m bindery.AuthMethod) (authMethod, error) {
	out := authMethod{
		ServiceUUID: m.ServiceUUID, Port: m.Port, Host: m.Host, Type: string(m.Kind), UUID: m.UUID,
		CreatedOn: zulu(m.Created), UpdatedOn: zulu(m.Updated),
	}
	var material struct {
		AccessKey string            `json:"access_key"`
		Headers   map[string]string `json:"headers"`
	}
	if json.Unmarshal([]byte(m.Material.Reveal()), &material) != nil { // whose error might quote it
		return out, bindery.Errorf(bindery.CodeInternal, "the material of auth method %s cannot be read", m.UUID)
	}
	if m.Kind == bindery.AuthMethodHeaders {
		out.Headers = &material.Headers
	} else {
		out.AccessKey = &material.AccessKey
	}
	return out, nil
}

func showBinding(b bindery.IdentityBinding) (binding, error) {
	return binding{
		Name: b.Name, ServiceUUID: b.ServiceUUID, Host: b.Host, UUID: b.UUID, Identifier: b.Identifier,
		UniqueKey: b.UniqueKey, AuthType: string(b.AuthType), CreatedOn: zulu(b.Created), UpdatedOn: zulu(b.Updated),
		LastAuth: zulu(b.LastAuth), Issuer: b.Issuer,
	}, nil
}

// zulu is how this face writes times; empty for never.
func zulu(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// answer sends v, or returns what kept it from being there.
func answer[T any](c *api.Call, status int, v T, err error) error {
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return bindery.Errorf(bindery.CodeInternal, "encode the answer").Because(err)
	}
	c.Raw(status, contentType, body)
	return nil
}

// done answers a deletion.
func done(c *api.Call, err error) error {
	if err == nil {
		c.Raw(204, "", nil)
	}
	return err
}
