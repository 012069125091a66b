package authn

import (
	"net/http"
	"strings"
	"testing"

	"bindery"
	"bindery/api"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                         "the body is empty",
		" \n\t":                    "the body is empty",
		`null`:                     "the body must be an object",
		` null `:                   "the body must be an object",
		`[{}]`:                     "the body must be an object",
		`"x"`:                      "the body must be an object",
		`true`:                     "the body must be an object",
		`{}{}`:                     "the body is not valid JSON, as seen at byte 3",
		`{} x`:                     "the body is not valid JSON, as seen at byte 4",
		`{"a":1,}`:                 "the body is not valid JSON, as seen at byte 8",
		`{"a":SECRET}`:             "the body is not valid JSON, as seen at byte 6",
		"{\"a\":\"\xff\"}":         "the body is not UTF-8",
		`{"host":["SECRET"]}`:      "host must be a string, and is an array",
		`{"host":{}}`:              "host must be a string, and is an object",
		`{"HOST":true}`:            "host must be a string, and is a bool",
		`{"port":1.5}`:             "port must be a whole number, and is another number",
		`{"port":1e99}`:            "port must be a whole number, and is another number",
		`{"port":"SECRET"}`:        "port must be a whole number, and is a string",
		`{"headers":[]}`:           "headers must be an object of strings, and is an array",
		`{"headers":{"SECRET":1}}`: "headers must be a string, and is a number",
		`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`: "the body is not valid JSON",
	} {
		_, err := parse[authMethodBody]([]byte(body))
		if err == nil || !strings.HasPrefix(err.Error(), "Poorly formatted JSON. "+want) || api.StatusOf(err) != http.StatusBadRequest {
			t.Errorf("%.40s: got %v, want %s", body, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.40s is quoted: %v", body, err)
		}
	}
	in, err := parse[serviceTypeBody]([]byte(` {"Name":"a","NAME":"b","x":{"name":"c"},"hosts":["h",null],"auth_types":null,"type":""} `))
	if err != nil || *in.Name != "b" || len(*in.Hosts) != 2 || in.AuthTypes != nil || in.AuthMethod != nil || *in.Type != "" {
		t.Errorf("got %+v, %v", in, err)
	}
}

func TestEveryCodeIsTranslated(t *testing.T) {
	t.Parallel()
	for _, code := range bindery.Codes {
		got, want := statusOf(bindery.Errorf(code, "x")), api.Status(code)
		if code == bindery.CodeInvalid {
			want = 422
		}
		if got != want || word(got) == "" {
			t.Errorf("%s is %d %s", code, got, word(got))
		}
	}
}
