package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"bindery"
)

// A statement is one request to the server. All that is sent is made here.
type statement struct {
	method, url string
	contentType string
	body        []byte
	authorize   func(http.Header)
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// Where metadata is (RFC 8414, section 3, and section 5 for the older place).
func metadataURLs(issuer *url.URL) []string {
	const oauth, openid = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	origin := issuer.Scheme + "://" + issuer.Host
	return []string{origin + oauth + path, origin + path + openid}
}

func getMetadata(url string) statement { return statement{method: http.MethodGet, url: url} }

// metadataOf is a client's metadata (RFC 7591, section 2). Its name is the
// account's, so that an operator finds one that Bindery lost.
func metadataOf(installation, name string, r request) map[string]any {
	m := map[string]any{
		"client_name": name, "software_id": "bindery-" + installation,
		"grant_types": r.GrantTypes, "token_endpoint_auth_method": r.AuthMethod,
		"redirect_uris": append([]string{}, r.RedirectURIs...), "response_types": []string{},
	}
	if r.redirects() {
		m["response_types"] = []string{"code"}
	}
	if len(r.Scopes) > 0 {
		m["scope"] = strings.Join(r.Scopes, " ")
	}
	return m
}

// registerClient is RFC 7591, section 3.1.
func registerClient(endpoint string, initial bindery.Secret, metadata map[string]any) (statement, error) {
	body, err := json.Marshal(metadata)
	if err != nil {
		return statement{}, fmt.Errorf("write a client's metadata: %w", err)
	}
	s := statement{method: http.MethodPost, url: endpoint, contentType: typeJSON, body: body}
	if !initial.Empty() {
		s.authorize = bearerToken(initial)
	}
	return s, nil
}

// readClient is RFC 7592, section 2.1.
func readClient(r registration) statement {
	return statement{method: http.MethodGet, url: r.URI, authorize: bearerToken(r.Token)}
}

// updateClient is RFC 7592, section 2.2: it replaces everything, so that what the
// server said before comes along, but for what must not be sent.
func updateClient(r registration, known map[string]any, metadata map[string]any) (statement, error) {
	all := map[string]any{}
	for k, v := range known {
		all[k] = v
	}
	for k, v := range metadata {
		all[k] = v
	}
	for _, k := range []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"} {
		delete(all, k)
	}
	all["client_id"], all["client_secret"] = r.ClientID, r.ClientSecret.Reveal()
	body, err := json.Marshal(all)
	if err != nil {
		return statement{}, fmt.Errorf("write a client's metadata: %w", err)
	}
	return statement{method: http.MethodPut, url: r.URI, contentType: typeJSON, body: body, authorize: bearerToken(r.Token)}, nil
}

// deleteClient is RFC 7592, section 2.3.
func deleteClient(r registration) statement {
	return statement{method: http.MethodDelete, url: r.URI, authorize: bearerToken(r.Token)}
}

// getToken is RFC 6749, section 4.4.2, with a resource as in RFC 8707.
func getToken(endpoint string, r registration, q request) statement {
	form := url.Values{"grant_type": {grantClientCredentials}}
	if len(q.Scopes) > 0 {
		form.Set("scope", strings.Join(q.Scopes, " "))
	}
	if q.Resource != "" {
		form.Set("resource", q.Resource)
	}
	return asClient(endpoint, r, q.AuthMethod, form)
}

// revokeToken is RFC 7009, section 2.1.
func revokeToken(endpoint string, r registration, q request, t token) statement {
	return asClient(endpoint, r, q.AuthMethod, url.Values{"token": {t.Access.Reveal()}, "token_type_hint": {"access_token"}})
}

// asClient authenticates as RFC 6749, section 2.3.1, has it.
func asClient(endpoint string, r registration, method string, form url.Values) statement {
	s := statement{method: http.MethodPost, url: endpoint, contentType: typeForm}
	if method == authPost {
		form.Set("client_id", r.ClientID)
		form.Set("client_secret", r.ClientSecret.Reveal())
	} else {
		s.authorize = func(h http.Header) {
			req := http.Request{Header: h}
			req.SetBasicAuth(url.QueryEscape(r.ClientID), url.QueryEscape(r.ClientSecret.Reveal()))
		}
	}
	s.body = []byte(form.Encode())
	return s
}

func bearerToken(t bindery.Secret) func(http.Header) {
	return func(h http.Header) { h.Set("Authorization", "Bearer "+t.Reveal()) }
}
