package osb

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"bindery"
	"bindery/api"
)

// asyncBindSince and endpointsSince are the minor versions that brought
// asynchronous binds and endpoints; older platforms cannot read either.
const (
	asyncBindSince = 14
	endpointsSince = 15
)

// version returns the minor version that the platform speaks. Every 2.x is fine,
// also a newer one: minor versions only add.
func (h *Handler) version(c *api.Call) (minor int, err error) {
	sent := c.R.Header["X-Broker-Api-Version"]
	if len(sent) == 0 {
		return 0, &api.Refusal{
			Status:  cmp.Or(h.MissingVersion, http.StatusBadRequest),
			Message: "the header X-Broker-API-Version is missing; send 2.17",
		}
	}
	minor, ok := parseVersion(sent[0])
	if !ok {
		return 0, &api.Refusal{
			Status:  http.StatusPreconditionFailed,
			Message: "X-Broker-API-Version must be 2.0 or a later 2.x; send 2.17",
		}
	}
	return minor, nil
}

// parseVersion takes "2.x", digits only on both sides.
func parseVersion(s string) (minor int, ok bool) {
	major, rest, ok := strings.Cut(s, ".")
	if !ok || !digits(major) || !digits(rest) || strings.TrimLeft(major, "0") != "2" {
		return 0, false
	}
	minor, err := strconv.Atoi(rest)
	if err != nil { // more digits than fit: some version that will come one day
		return int(^uint(0) >> 1), true
	}
	return minor, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// maxIdentity bounds the header that is decoded; maxActor what is kept of it.
const (
	maxIdentity = 8 << 10
	maxActor    = 255
)

// actor is the originating identity as the audit knows it: the platform's name
// and the user's, "cloudfoundry:683ea748-…". It decides nothing, so what cannot be read
// counts as absent: a mangled header must not keep anybody from unbinding.
func actor(header http.Header) string {
	sent := header["X-Broker-Api-Originating-Identity"]
	if len(sent) == 0 || len(sent[0]) > maxIdentity {
		return ""
	}
	platform, encoded, ok := strings.Cut(strings.TrimSpace(sent[0]), " ")
	if !ok || platform == "" {
		return ""
	}
	value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(encoded), "="))
	if err != nil {
		return ""
	}
	var who struct {
		UserID   string `json:"user_id"`  // Cloud Foundry
		Username string `json:"username"` // Kubernetes
		UID      string `json:"uid"`
	}
	if json.Unmarshal(value, &who) != nil {
		return ""
	}
	user := cmp.Or(who.UserID, who.Username, who.UID)
	if user == "" {
		return ""
	}
	a := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return -1
		}
		return r
	}, platform+":"+user)
	for len(a) > maxActor {
		_, size := utf8.DecodeLastRuneInString(a)
		a = a[:len(a)-size]
	}
	return a
}

// query is what a DELETE and the calls that may be asynchronous say behind the
// question mark. Names that the specification does not know are ignored.
type query struct {
	offeringID, planID, operation string
	acceptsIncomplete             bool
}

// parseQuery reads it. Errors: CodeInvalid for one that cannot be decoded, for a
// name that is there twice with two values, and for an accepts_incomplete other than true and false.
func parseQuery(c *api.Call) (query, error) {
	if c.R.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return query{}, bindery.Errorf(bindery.CodeInvalid, "the query is malformed").Because(err)
	}
	for _, name := range [...]string{"service_id", "plan_id", "operation", "accepts_incomplete"} {
		for _, v := range values[name] {
			if v != values[name][0] {
				return query{}, bindery.Errorf(bindery.CodeInvalid, "%s is there twice", name)
			}
		}
	}
	q := query{offeringID: values.Get("service_id"), planID: values.Get("plan_id"), operation: values.Get("operation")}
	if sent := values["accepts_incomplete"]; len(sent) > 0 {
		if q.acceptsIncomplete = sent[0] == "true"; !q.acceptsIncomplete && sent[0] != "false" {
			return query{}, bindery.Errorf(bindery.CodeInvalid, "accepts_incomplete must be true or false")
		}
	}
	return q, nil
}
