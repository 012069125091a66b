package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	Issuer *url.URL
	// IssuerText is Issuer as it was written: issuers are compared as texts.
	IssuerText string
	// MaxConnections bounds the connections that Bindery has to the server.
	MaxConnections int
}

const (
	defaultConnections = 8
	mostConnections    = 1000
	longestURL         = 1000
	longestToken       = 4096
)

func parseServerSettings(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{MaxConnections: defaultConnections}
	err := bindery.Settings{
		"issuer": func(v json.RawMessage) string {
			var problem string
			s.Issuer, problem = parseIssuer(text(v, &s.IssuerText))
			return problem
		},
		"max_connections": bindery.Number(&s.MaxConnections, 2, mostConnections),
	}.Read("server settings", raw)
	if err == nil && s.Issuer == nil {
		err = bindery.Errorf(bindery.CodeInvalid, `server settings: "issuer" is missing`)
	}
	return s, err
}

// parseIssuer reads an issuer identifier (RFC 8414, section 2): https, without
// query and fragment. Only this machine's own may do without TLS.
func parseIssuer(text string) (*url.URL, string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") || len(text) > longestURL:
		return nil, "must be a URL without user, query and fragment"
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, "must begin with https://, except on this machine itself"
	}
	return u, ""
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

const secretInitialToken = "initial_access_token"

// bearer is what RFC 6750 (section 2.1) lets stand after "Bearer".
var bearer = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func checkSecrets(password bindery.Secret, secrets map[string]bindery.Secret) error {
	if !password.Empty() {
		return errors.New("this kind has no password, only the secret " + secretInitialToken)
	}
	for name, value := range secrets {
		if name != secretInitialToken {
			return errors.New("this kind knows no secret but " + secretInitialToken)
		}
		if v := value.Reveal(); len(v) > longestToken || !bearer.MatchString(v) {
			return errors.New("the secret " + secretInitialToken + " is not what a header can carry")
		}
	}
	return nil
}

// A mode is what a binding gets.
type mode string

const (
	modeClient mode = "client" // a client of its own
	modeToken  mode = "token"  // an access token of a client that it does not get
)

// What clients can do. Grants that hand a user's password or a token to the
// browser (RFC 9700, sections 2.1.2 and 2.4) are not among it.
const (
	grantClientCredentials = "client_credentials"
	grantCode              = "authorization_code"
	grantRefresh           = "refresh_token"
	grantDevice            = "urn:ietf:params:oauth:grant-type:device_code"
	grantExchange          = "urn:ietf:params:oauth:grant-type:token-exchange"
)

const (
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

// A plan is a plan's settings. It is copied into the material of each account, so
// that a change of it leaves alone what was made before.
type plan struct {
	Mode       mode     `json:"mode"`
	Scopes     []string `json:"scopes,omitempty"`
	GrantTypes []string `json:"grant_types"`
	AuthMethod string   `json:"token_endpoint_auth_method"`
	Resource   string   `json:"resource,omitempty"`
	// TokensOutlive says that access tokens live on when their client is gone.
	TokensOutlive bool `json:"-"`
}

const (
	mostScopes    = 50
	mostRedirects = 10
)

// scopeToken is RFC 6749's (section 3.3).
var scopeToken = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,100}$`)

func parsePlan(raw json.RawMessage) (plan, error) {
	p := plan{Mode: modeClient, GrantTypes: []string{grantClientCredentials}, AuthMethod: authBasic}
	err := bindery.Settings{
		"mode":   bindery.OneOf(&p.Mode, modeClient, modeToken),
		"scopes": listOf(&p.Scopes, mostScopes, "scopes as RFC 6749 has them", scopeToken.MatchString),
		"grant_types": listOf(&p.GrantTypes, 5, "of "+strings.Join(grants, ", "), func(g string) bool {
			return slices.Contains(grants, g)
		}),
		"token_endpoint_auth_method": bindery.OneOf(&p.AuthMethod, authBasic, authPost),
		"resource": func(v json.RawMessage) string { // RFC 8707, section 2
			u, err := url.Parse(text(v, &p.Resource))
			if err != nil || !u.IsAbs() || strings.Contains(p.Resource, "#") || len(p.Resource) > longestURL {
				return "must be an absolute URI without a fragment"
			}
			return ""
		},
		"tokens_outlive_client": bindery.Flag(&p.TokensOutlive),
	}.Read("plan settings", raw)
	if err == nil && p.Mode == modeToken && !slices.Equal(p.GrantTypes, []string{grantClientCredentials}) {
		err = bindery.Errorf(bindery.CodeInvalid, "plan settings: with mode token the only grant type is client_credentials")
	}
	return p, err
}

var grants = []string{grantClientCredentials, grantCode, grantRefresh, grantDevice, grantExchange}

// redirects reports whether clients have the user's browser sent back to them.
func (p plan) redirects() bool { return slices.Contains(p.GrantTypes, grantCode) }

// A request is what one binding asks for: the plan, and what its parameters make of it.
type request struct {
	plan
	RedirectURIs []string `json:"redirect_uris,omitempty"`
}

func (p plan) request(parameters json.RawMessage) (request, error) {
	r := request{plan: p}
	keys := bindery.Settings{}
	if len(p.Scopes) > 0 {
		keys["scopes"] = listOf(&r.Scopes, mostScopes, "scopes of the plan", func(s string) bool { return slices.Contains(p.Scopes, s) })
	}
	if p.redirects() {
		keys["redirect_uris"] = listOf(&r.RedirectURIs, mostRedirects, "https URLs without user and fragment", isRedirect)
	}
	err := keys.Read("parameters", parameters)
	if err == nil && p.redirects() && r.RedirectURIs == nil { // RFC 7591, section 2
		err = bindery.Errorf(bindery.CodeInvalid, `parameters: "redirect_uris" is missing`)
	}
	return r, err
}

// isRedirect reports whether a client may be sent back there (RFC 6749, section 3.1.2).
func isRedirect(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && !strings.ContainsAny(text, "#*\\ ") &&
		len(text) <= longestURL
}

// schemas returns the schemas of parameters.
func schemas(settings json.RawMessage) (create, update, bind json.RawMessage) {
	none := bindery.NoParameters()
	p, err := parsePlan(settings)
	if err != nil {
		return none, none, none
	}
	properties, required := map[string]any{}, []string(nil)
	if len(p.Scopes) > 0 {
		properties["scopes"] = map[string]any{
			"description": "Which of the plan's scopes the credential is for; all when it is left out.",
			"type":        "array", "items": map[string]any{"type": "string", "enum": p.Scopes},
			"minItems": 1, "maxItems": mostScopes, "uniqueItems": true,
		}
	}
	if p.redirects() {
		properties["redirect_uris"] = map[string]any{
			"description": "Where users may be sent back to.",
			"type":        "array", "items": map[string]any{"type": "string", "pattern": "^https://", "maxLength": longestURL},
			"minItems": 1, "maxItems": mostRedirects, "uniqueItems": true,
		}
		required = []string{"redirect_uris"}
	}
	return none, none, bindery.ObjectSchema(properties, required...)
}

func revocation(settings json.RawMessage) bindery.Revocation {
	if p, err := parsePlan(settings); err == nil && p.Mode == modeClient && !p.TokensOutlive {
		return bindery.RevocationProven
	}
	return bindery.RevocationExpires
}

// text reads a string; anything else is empty.
func text(v json.RawMessage, into *string) string {
	if json.Unmarshal(v, into) != nil {
		*into = ""
	}
	return *into
}

// listOf reads a list without repetitions, of one to most texts that are good.
func listOf(target *[]string, most int, what string, good func(string) bool) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var list []string
		err := json.Unmarshal(v, &list)
		sorted := slices.Sorted(slices.Values(list))
		if err != nil || len(list) == 0 || len(list) > most || len(slices.Compact(sorted)) < len(list) ||
			slices.ContainsFunc(list, func(s string) bool { return !good(s) }) {
			return fmt.Sprintf("must be a list of 1 to %d different %s", most, what)
		}
		*target = list
		return ""
	}
}
