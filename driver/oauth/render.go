package oauth

import (
	"slices"
	"strings"

	"bindery"
)

// The alias sets: what Spring Security's properties and Steeltoe's single sign-on read besides.
const (
	aliasSpring   = "spring"
	aliasSteeltoe = "steeltoe"
)

// Render implements [bindery.AccountDriver].
func (d *driver) Render(spec bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	if err := d.checkName(spec.Name); err != nil {
		return bindery.Credential{}, err
	}
	if err := d.checkName(account.Name); err != nil {
		return bindery.Credential{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	if m.Registration == nil || m.Request.Mode == modeToken && m.Token == nil {
		return bindery.Credential{}, errRender
	}
	object := map[string]any{"issuer-uri": d.settings.IssuerText}
	set := func(value string, keys ...string) {
		for _, k := range keys {
			if value != "" {
				object[k] = value
			}
		}
	}
	set(strings.Join(m.Request.Scopes, " "), "scope")
	set(m.Request.Resource, "resource")
	set(d.server.Public.CA, "ca.crt")
	if t := m.Token; t != nil {
		set(t.Access.Reveal(), "access_token")
		set(t.Type, "token_type")
		set(stamp(t.Expires), "expires_at")
	} else {
		r := m.Registration
		set(r.ClientID, "client-id", "client_id")
		set(r.ClientSecret.Reveal(), "client-secret", "client_secret")
		set(stamp(r.SecretExpires), "expires_at")
		set(m.TokenEndpoint, "token-uri", "token_endpoint")
		if m.Request.redirects() {
			set(m.AuthorizationEndpoint, "authorization-uri")
		}
		if slices.Contains(spec.Aliases, aliasSpring) {
			set(m.Request.GrantTypes[0], "authorization-grant-type")
			set(m.Request.AuthMethod, "client-authentication-method")
		}
	}
	if slices.Contains(spec.Aliases, aliasSteeltoe) {
		set(d.settings.IssuerText, "auth_domain")
	}
	return bindery.Credential{Object: object, Endpoints: []bindery.Endpoint{d.endpoint()}}, nil
}

// endpoint is where applications find the server.
func (d *driver) endpoint() bindery.Endpoint {
	u := d.settings.Issuer
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return bindery.Endpoint{Host: u.Hostname(), Ports: []string{port}, Protocol: "tcp"}
}
