package oauth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"bindery"
)

func TestCheckServer(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`{"issuer":"https://as.example"}`:                             "",
		`{"issuer":"https://as.example/tenant/","max_connections":2}`: "",
		`{"issuer":"http://127.0.0.1:8080"}`:                          "",
		`{"issuer":"http://[::1]:8080"}`:                              "",
		`{"issuer":"http://localhost"}`:                               "",
		`{}`:                                                          "missing",
		``:                                                            "missing",
		`[]`:                                                          "JSON object",
		`{"issuer":1}`:                                                "must be a URL",
		`{"issuer":"as.example"}`:                                     "must be a URL",
		`{"issuer":"http://as.example"}`:                              "https://",
		`{"issuer":"http://localhost.example"}`:                       "https://",
		`{"issuer":"ftp://as.example"}`:                               "https://",
		`{"issuer":"https://u:s3cret@as.example"}`:                    "without user",
		`{"issuer":"https://as.example?q"}`:                           "without user",
		`{"issuer":"https://as.example?"}`:                            "without user",
		`{"issuer":"https://as.example#"}`:                            "without user",
		`{"issuer":"https://a","max_connections":1}`:                  "from 2",
		`{"issuer":"https://a","discovery":"s3cret"}`:                 `"discovery" is not known`,
	} {
		checkProblem(t, settings, Kind.CheckServer(json.RawMessage(settings)), want)
	}
}

// checkProblem checks that an error says what is wanted, and repeats no value.
func checkProblem(t *testing.T, of string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want %q", of, err, want)
	case err != nil && strings.Contains(err.Error(), "s3cret"):
		t.Errorf("%s: the error repeats a value: %v", of, err)
	}
}

func TestCheckPlan(t *testing.T) {
	t.Parallel()
	many := make([]string, mostScopes+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"s%d"`, i)
	}
	for settings, want := range map[string]string{
		``:                                  "",
		`{}`:                                "",
		`{"mode":"token","scopes":["a:b"]}`: "",
		`{"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"client_secret_post"}`: "",
		`{"resource":"urn:api","tokens_outlive_client":true}`:                                                      "",
		`{"mode":"user"}`:                                       `"mode" must be client or token`,
		`{"scopes":[]}`:                                         `"scopes" must be a list`,
		`{"scopes":["a","a"]}`:                                  "different",
		`{"scopes":["a b"]}`:                                    "RFC 6749",
		`{"scopes":["\""]}`:                                     "RFC 6749",
		`{"scopes":[` + strings.Join(many, ",") + `]}`:          "1 to 50",
		`{"grant_types":["password"]}`:                          "client_credentials",
		`{"grant_types":["implicit"]}`:                          "client_credentials",
		`{"mode":"token","grant_types":["authorization_code"]}`: "with mode token",
		`{"token_endpoint_auth_method":"none"}`:                 "client_secret_basic or",
		`{"resource":"api"}`:                                    "absolute URI",
		`{"resource":"https://api#f"}`:                          "absolute URI",
		`{"tokens_outlive_client":1}`:                           "true or false",
		`{"mode":"x","no-such":"s3cret"}`:                       `"mode" must be client or token; "no-such" is not known`,
	} {
		checkProblem(t, settings, Kind.CheckPlan(json.RawMessage(settings)), want)
	}
}

func TestCheckSecrets(t *testing.T) {
	t.Parallel()
	s := bindery.NewSecret
	for name, tt := range map[string]struct {
		password bindery.Secret
		secrets  map[string]bindery.Secret
		want     string
	}{
		"nothing: anybody may register": {},
		"a token":                       {secrets: map[string]bindery.Secret{"initial_access_token": s("abc.def-_~+/==")}},
		"a password":                    {password: s("p"), want: "no password"},
		"another one":                   {secrets: map[string]bindery.Secret{"key": s("p")}, want: "no secret but"},
		"a line break":                  {secrets: map[string]bindery.Secret{"initial_access_token": s("a\r\nb")}, want: "header"},
		"nothing in it":                 {secrets: map[string]bindery.Secret{"initial_access_token": s("")}, want: "header"},
		"too long":                      {secrets: map[string]bindery.Secret{"initial_access_token": s(strings.Repeat("a", 5000))}, want: "header"},
	} {
		err := Kind.CheckSecrets(tt.password, tt.secrets)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	const code = `{"grant_types":["authorization_code"],"scopes":["a","b"]}`
	for _, tt := range []struct{ settings, parameters, want string }{
		{`{}`, ``, ""},
		{`{}`, `{"scopes":["a"]}`, "not known"},
		{`{}`, `{"redirect_uris":["https://a"]}`, "not known"},
		{`{"scopes":["a","b"]}`, `{"scopes":["b"]}`, ""},
		{`{"scopes":["a","b"]}`, `{"scopes":["s3cret"]}`, "of the plan"},
		{`{"scopes":["a","b"]}`, `{"scopes":[]}`, "of the plan"},
		{code, `{}`, `"redirect_uris" is missing`},
		{code, `{"redirect_uris":["https://a/cb","https://b"]}`, ""},
		{code, `{"redirect_uris":["http://a/s3cret"]}`, "https URLs"},
		{code, `{"redirect_uris":["https://u@a"]}`, "https URLs"},
		{code, `{"redirect_uris":["https://a#f"]}`, "https URLs"},
		{code, `{"redirect_uris":["https://*.a"]}`, "https URLs"},
		{code, `{"redirect_uris":["https:///a"]}`, "https URLs"},
		{code, `{"redirect_uris":["https://a","https://a"]}`, "different"},
		{code, `{"redirect_uris":"https://a"}`, "list"},
	} {
		p, err := parsePlan(json.RawMessage(tt.settings))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.request(json.RawMessage(tt.parameters))
		checkProblem(t, tt.settings+" "+tt.parameters, err, tt.want)
	}
}

func TestRevocationPromise(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]bindery.Revocation{
		``:                               bindery.RevocationProven,
		`{"mode":"client"}`:              bindery.RevocationProven,
		`{"tokens_outlive_client":true}`: bindery.RevocationExpires,
		`{"mode":"token"}`:               bindery.RevocationExpires,
	} {
		if got := Kind.Revocation(json.RawMessage(settings)); got != want {
			t.Errorf("%s: got %s, want %s", settings, got, want)
		}
	}
}

func TestMetadataURLs(t *testing.T) {
	t.Parallel()
	for issuer, want := range map[string][2]string{
		"https://as.example": {
			"https://as.example/.well-known/oauth-authorization-server", "https://as.example/.well-known/openid-configuration",
		},
		"https://as.example/a/b/": { // RFC 8414, section 3.1: after the host; OpenID Connect Discovery 1.0, section 4: after the path
			"https://as.example/.well-known/oauth-authorization-server/a/b", "https://as.example/a/b/.well-known/openid-configuration",
		},
	} {
		u, problem := parseIssuer(issuer)
		if problem != "" {
			t.Fatal(problem)
		}
		if got := metadataURLs(u); [2]string(got) != want {
			t.Errorf("%s: got %q", issuer, got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := bindery.Server{Installation: "abc123", Address: "127.0.0.1:1", Settings: json.RawMessage(`{"issuer":"http://localhost"}`)}
	if d, err := open(good); err != nil {
		t.Error(err)
	} else if err := d.Close(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*bindery.Server){
		"no issuer":                  func(s *bindery.Server) { s.Settings = nil },
		"a password":                 func(s *bindery.Server) { s.Password = bindery.NewSecret("p") },
		"an installation that is no": func(s *bindery.Server) { s.Installation = "*" },
		"TLS where there is none":    func(s *bindery.Server) { s.TLS = &bindery.ServerTLS{} },
	} {
		s := good
		change(&s)
		if _, err := open(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
