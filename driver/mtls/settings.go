package mtls

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bindery"
)

// serverSettings are a server's own settings.
type serverSettings struct {
	// PublicURL is where the face pki answers to everybody; without a slash at its end.
	PublicURL string
	// CommonName, Organization, Algorithm and Validity are of a root that is made here.
	CommonName, Organization string
	Algorithm                string
	Validity                 time.Duration
	// CRLLifetime is from a revocation list's thisUpdate to its nextUpdate.
	CRLLifetime time.Duration
}

const (
	day            = 24 * time.Hour
	mostName       = 64 // RFC 5280, appendix A.1: ub-common-name, ub-organization-name
	mostURL        = 1000
	mostValidity   = 50 * 366 * day
	mostCRLLife    = 31 * day
	leastCRLLife   = 10 * time.Minute
	leastLifetime  = time.Second
	mostPlanValues = 100
)

func parseServerSettings(raw json.RawMessage) (serverSettings, error) {
	s := serverSettings{Algorithm: algorithmP256, Validity: 10 * 365 * day, CRLLifetime: day}
	err := bindery.Settings{
		"public_url":    publicURL(&s.PublicURL),
		"common_name":   text(&s.CommonName),
		"organization":  text(&s.Organization),
		"key_algorithm": bindery.OneOf(&s.Algorithm, authorityAlgorithms()...),
		"validity":      bindery.Duration(&s.Validity, day, mostValidity),
		"crl_lifetime":  bindery.Duration(&s.CRLLifetime, leastCRLLife, mostCRLLife),
	}.Read("server settings", raw)
	if err == nil && s.PublicURL == "" {
		err = bindery.Errorf(bindery.CodeInvalid, `server settings: "public_url" is missing: the http:// URL by which everybody reaches the face pki`)
	}
	return s, err
}

// publicURL: a list behind TLS would need a list to be fetched (RFC 5280, section 8).
func publicURL(target *string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var s string
		const problem = "must be an http:// URL with nothing behind its path: what is fetched from it is signed, and needs no TLS"
		if json.Unmarshal(v, &s) != nil {
			return problem
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			u.ForceQuery || len(s) > mostURL || !ascii(s) {
			return problem
		}
		*target = strings.TrimRight(s, "/")
		return ""
	}
}

// A plan is a plan's settings.
type plan struct {
	// Default is the life of a certificate whose binding has no end; Most bounds any.
	Default, Most time.Duration
	Algorithm     string
	Organization  string
	Unit          string
	Server        bool // certificates are for servers too
	// What subject alternative names a binding may ask for; empty: none of the sort.
	DNSSuffixes []string
	URIPrefixes []string
	Addresses   []netip.Prefix
	MailDomains []string
}

func parsePlan(raw json.RawMessage) (plan, error) {
	p := plan{Default: 30 * day, Most: 90 * day, Algorithm: algorithmP256}
	err := bindery.Settings{
		"default_lifetime":    bindery.Duration(&p.Default, leastLifetime, mostValidity),
		"max_lifetime":        bindery.Duration(&p.Most, leastLifetime, mostValidity),
		"key_algorithm":       bindery.OneOf(&p.Algorithm, algorithms()...),
		"organization":        text(&p.Organization),
		"organizational_unit": text(&p.Unit),
		"key_usage": func(v json.RawMessage) string {
			var usages []string
			if json.Unmarshal(v, &usages) != nil || !slices.Contains(usages, "client") || len(usages) > 2 ||
				len(usages) == 2 && !slices.Contains(usages, "server") {
				return `must be ["client"] or ["client", "server"]`
			}
			p.Server = len(usages) == 2
			return ""
		},
		"dns_suffixes": list(func(s string) string {
			if !isHost(s) {
				return "has something that is no DNS name, without a dot at its ends, in lower case"
			}
			p.DNSSuffixes = append(p.DNSSuffixes, s)
			return ""
		}),
		"uri_prefixes": list(func(s string) string {
			u, err := url.Parse(s)
			// The whole authority, so that "https://a.example" does not allow "https://a.example.org".
			if err != nil || u.Scheme == "" || u.Host == "" || u.Path == "" || u.User != nil || len(s) > mostURL || !ascii(s) ||
				u.RawQuery != "" || u.Fragment != "" || !strings.HasSuffix(s, "/") {
				return "has something that is no URI with a scheme, a host and a path that ends in a slash"
			}
			p.URIPrefixes = append(p.URIPrefixes, s)
			return ""
		}),
		"ip_ranges": list(func(s string) string {
			prefix, err := netip.ParsePrefix(s)
			if err != nil || prefix.Masked() != prefix {
				return "has something that is no range such as 10.0.0.0/8"
			}
			p.Addresses = append(p.Addresses, prefix)
			return ""
		}),
		"email_domains": list(func(s string) string {
			if !isHost(s) {
				return "has something that is no DNS name in lower case"
			}
			p.MailDomains = append(p.MailDomains, s)
			return ""
		}),
	}.Read("plan settings", raw)
	if err == nil && p.Default > p.Most {
		err = bindery.Errorf(bindery.CodeInvalid, `plan settings: "default_lifetime" is longer than "max_lifetime"`)
	}
	return p, err
}

const (
	mostCSR   = 16 << 10
	mostNames = 20
)

// bindingSchema has the parameters that the plan allows.
func bindingSchema(settings json.RawMessage) json.RawMessage {
	p, err := parsePlan(settings)
	if err != nil {
		return bindery.NoParameters()
	}
	properties := map[string]any{"csr": map[string]any{
		"type": "string", "maxLength": mostCSR,
		"description": "A certificate signing request (PEM). Its key is certified, and nothing else of it is used; the credential has no private key then.",
	}}
	for _, n := range []struct {
		key, doc string
		allowed  bool
	}{
		{"dns_names", "DNS names for the certificate.", len(p.DNSSuffixes) > 0},
		{"uris", "URIs for the certificate, such as a SPIFFE id.", len(p.URIPrefixes) > 0},
		{"ip_addresses", "IP addresses for the certificate.", len(p.Addresses) > 0},
		{"emails", "E-mail addresses for the certificate.", len(p.MailDomains) > 0},
	} {
		if n.allowed {
			properties[n.key] = map[string]any{
				"type": "array", "maxItems": mostNames, "uniqueItems": true, "description": n.doc,
				"items": map[string]any{"type": "string", "minLength": 1, "maxLength": mostURL},
			}
		}
	}
	return bindery.ObjectSchema(properties)
}

// text reads a part of a distinguished name.
func text(target *string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var s string
		control := func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }
		if json.Unmarshal(v, &s) != nil || strings.TrimSpace(s) != s || s == "" || len(s) > mostName || strings.ContainsFunc(s, control) {
			return fmt.Sprintf("must be a text of 1 to %d bytes, without control characters and without blanks at its ends", mostName)
		}
		*target = s
		return ""
	}
}

// list reads texts, each with add, which says what is wrong with one.
func list(add func(string) string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var values []string
		if json.Unmarshal(v, &values) != nil || len(values) > mostPlanValues {
			return fmt.Sprintf("must be a list of at most %d texts", mostPlanValues)
		}
		for _, s := range values {
			if problem := add(s); problem != "" {
				return problem
			}
		}
		return ""
	}
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isHost reports whether s is a host name of letters, digits and hyphens in lower case (RFC 1123, section 2.1).
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
