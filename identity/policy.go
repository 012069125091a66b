package identity

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A policy says which names an authority may sign: the patterns of the *.signing_policy files of
// grid sites (the EACL format of the Globus toolkit). The zero policy allows none.
type policy struct{ patterns [][]glyph }

// A policyEntry is what one policy file says about one authority.
type policyEntry struct {
	authority []glyph // its name
	patterns  [][]glyph
}

// A glyph is a character of a name in one-line form, or something that no character is.
// Slashes that separate attributes are told apart from those within values: otherwise
// O="x/CN=y" would pass for O=x, CN=y.
type glyph rune

const (
	separator   glyph = -1 - iota // between attributes
	anySlash                      // in a pattern: separator or a slash within a value
	anySequence                   // in a pattern: *
	anyOne                        // in a pattern: ?
)

const (
	maxPolicySize     = 256 << 10
	maxPolicyPatterns = 10_000
)

// parsePolicy reads a signing policy file. An entry is
//
//	access_id_CA   X509    '/C=EX/O=Grid/CN=Authority'
//	pos_rights     globus  CA:sign
//	cond_subjects  globus  '"/C=EX/O=Grid/*" "/C=EX/O=Other/*"'
//
// What is not understood makes the whole file unreadable: half a policy might allow too much.
func parsePolicy(text []byte) ([]policyEntry, error) {
	if len(text) > maxPolicySize {
		return nil, errors.New("the policy is too large")
	}
	lines, err := policyLines(string(text))
	if err != nil {
		return nil, err
	}
	var entries []policyEntry
	var open, granted bool
	total := 0
	for _, line := range lines {
		if len(line) < 3 {
			return nil, fmt.Errorf("%.60q has no value", line[0])
		}
		keyword, kind, values := strings.ToLower(line[0]), strings.ToLower(line[1]), line[2:]
		switch {
		case keyword == "access_id_ca" && kind == "x509" && len(values) == 1:
			name, err := parsePattern(values[0], false)
			if err != nil {
				return nil, err
			}
			entries = append(entries, policyEntry{authority: name})
			open, granted = true, false
		case keyword == "pos_rights" && kind == "globus" && open:
			for _, v := range values {
				if !strings.EqualFold(v, "CA:sign") {
					return nil, fmt.Errorf("the right %.60q is not known", v)
				}
			}
			granted = true
		case keyword == "cond_subjects" && kind == "globus" && granted:
			e := &entries[len(entries)-1]
			for _, v := range values {
				patterns, err := parsePatterns(v)
				if err != nil {
					return nil, err
				}
				e.patterns = append(e.patterns, patterns...)
				if total += len(patterns); total > maxPolicyPatterns {
					return nil, errors.New("the policy has too many patterns")
				}
			}
		default:
			return nil, fmt.Errorf("%.60q, %.60q is not understood here", line[0], line[1])
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("the policy names no authority")
	}
	return entries, nil
}

// policyLines cuts a file into its lines' words. Quotes keep a word together; a # begins a comment
// where a word could begin.
func policyLines(text string) ([][]string, error) {
	var lines [][]string
	for n, line := range strings.Split(text, "\n") {
		var words []string
		for {
			line = strings.TrimLeft(line, " \t\r\v\f")
			if line == "" || line[0] == '#' {
				break
			}
			end := strings.IndexAny(line, " \t\r\v\f")
			if q := line[0]; q == '\'' || q == '"' {
				length := strings.IndexByte(line[1:], q)
				if length < 0 {
					return nil, fmt.Errorf("line %d: a quote is not closed", n+1)
				}
				words = append(words, line[1:1+length])
				line = line[length+2:]
				if line != "" && !strings.ContainsAny(line[:1], " \t\r\v\f") {
					return nil, fmt.Errorf("line %d: something stands right behind a quote", n+1)
				}
				continue
			}
			if end < 0 {
				end = len(line)
			}
			words = append(words, line[:end])
			line = line[end:]
		}
		if len(words) > 0 {
			lines = append(lines, words)
		}
	}
	return lines, nil
}

// parsePatterns reads a value of cond_subjects: one pattern, or several in double quotes.
func parsePatterns(value string) ([][]glyph, error) {
	var patterns [][]glyph
	texts := []string{value}
	if strings.Contains(value, `"`) {
		lines, err := policyLines(strings.ReplaceAll(value, "'", " "))
		if err != nil || len(lines) != 1 {
			return nil, errors.New("the quotes of a list of patterns are not in order")
		}
		texts = lines[0]
	}
	for _, text := range texts {
		p, err := parsePattern(text, true)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// parsePattern reads a name in one-line form, with * and ? where they are wild.
func parsePattern(text string, wild bool) ([]glyph, error) {
	plain, literal, err := unescape(text)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("a pattern is empty")
	}
	var out []glyph
	for i := 0; i < len(plain); {
		r, size := utf8.DecodeRuneInString(plain[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, errors.New("a pattern is not UTF-8")
		}
		switch {
		case literal[i]:
			out = append(out, glyph(r))
		case r == '/':
			rest := plain[i+1:]
			name, _, ok := strings.Cut(rest, "=")
			switch {
			case ok && isTypeName(name):
				out = append(out, separator)
				out = appendText(out, canonicalType(name)+"=")
				i += len(name) + 1
			case wild && (rest == "" || rest[0] == '*' || rest[0] == '?'):
				out = append(out, anySlash)
			default:
				out = append(out, '/')
			}
		case wild && r == '*':
			out = append(out, anySequence)
		case wild && r == '?':
			out = append(out, anyOne)
		default:
			out = append(out, glyph(r))
		}
		i += size
	}
	return out, nil
}

// unescape turns \xHH, as OpenSSL writes what is not ASCII, into bytes, and
// says which bytes of the result were escaped.
func unescape(text string) (plain string, literal []bool, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			literal = append(literal, false)
			continue
		}
		if i+3 >= len(text) || text[i+1] != 'x' {
			return "", nil, errors.New("an escape in a pattern is not \\xHH")
		}
		n, err := strconv.ParseUint(text[i+2:i+4], 16, 8)
		if err != nil {
			return "", nil, errors.New("an escape in a pattern is not \\xHH")
		}
		b.WriteByte(byte(n))
		literal = append(literal, true)
		i += 3
	}
	return b.String(), literal, nil
}

func isTypeName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// typeAliases are the names that policy files use for the types of attributes.
var typeAliases = map[string]string{
	"c": "2.5.4.6", "countryname": "2.5.4.6",
	"st": "2.5.4.8", "s": "2.5.4.8", "sp": "2.5.4.8", "stateorprovincename": "2.5.4.8",
	"l": "2.5.4.7", "localityname": "2.5.4.7",
	"o": "2.5.4.10", "organizationname": "2.5.4.10",
	"ou": "2.5.4.11", "organizationalunitname": "2.5.4.11",
	"cn": "2.5.4.3", "commonname": "2.5.4.3",
	"sn": "2.5.4.4", "surname": "2.5.4.4", "gn": "2.5.4.42", "givenname": "2.5.4.42",
	"title": "2.5.4.12", "serialnumber": "2.5.4.5", "street": "2.5.4.9", "streetaddress": "2.5.4.9",
	"postalcode": "2.5.4.17", "dnqualifier": "2.5.4.46", "pseudonym": "2.5.4.65", "initials": "2.5.4.43",
	"name": "2.5.4.41", "description": "2.5.4.13", "organizationidentifier": "2.5.4.97",
	"dc": "0.9.2342.19200300.100.1.25", "domaincomponent": "0.9.2342.19200300.100.1.25",
	"uid": "0.9.2342.19200300.100.1.1", "userid": "0.9.2342.19200300.100.1.1",
	"e": "1.2.840.113549.1.9.1", "email": "1.2.840.113549.1.9.1", "emailaddress": "1.2.840.113549.1.9.1",
	"unstructuredname": "1.2.840.113549.1.9.2",
}

func canonicalType(name string) string {
	name = strings.ToLower(name)
	if oid, ok := typeAliases[name]; ok {
		return oid
	}
	return strings.TrimPrefix(name, "oid.")
}

func appendText(out []glyph, s string) []glyph {
	for _, r := range s {
		out = append(out, glyph(r))
	}
	return out
}

// oneLine renders a DER-encoded name for comparison with patterns.
func oneLine(raw []byte) ([]glyph, error) {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return nil, errors.New("the name is malformed")
	}
	var out []glyph
	for _, rdn := range name {
		for _, a := range rdn {
			value, ok := a.Value.(string)
			if !ok {
				return nil, fmt.Errorf("the value of %s is not text", a.Type)
			}
			out = append(out, separator)
			out = appendText(out, a.Type.String()+"="+value)
		}
	}
	return out, nil
}

// allows reports whether an authority with this policy may sign the name.
func (p *policy) allows(name []glyph) bool {
	for _, pattern := range p.patterns {
		if matches(pattern, name) {
			return true
		}
	}
	return false
}

// matches goes back to the last * only: time is at most the product of the lengths.
func matches(pattern, name []glyph) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == anySequence:
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == name[n] || pattern[p] == anyOne && name[n] != separator ||
			pattern[p] == anySlash && (name[n] == separator || name[n] == '/')):
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anySequence {
		p++
	}
	return p == len(pattern)
}
