package bindery

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// attributeTypes are the attribute types that have names, each with the name
// that is written first. What OpenSSL, Go, Globus and Windows print is here.
// An unknown name is an error rather than a guess: it may be a type elsewhere.
var attributeTypes = map[string][]string{
	"2.5.4.3":  {"CN", "commonName"},
	"2.5.4.4":  {"SN", "surname"},
	"2.5.4.5":  {"serialNumber"},
	"2.5.4.6":  {"C", "countryName"},
	"2.5.4.7":  {"L", "localityName"},
	"2.5.4.8":  {"ST", "stateOrProvinceName", "S", "SP"},
	"2.5.4.9":  {"STREET", "streetAddress"},
	"2.5.4.10": {"O", "organizationName"},
	"2.5.4.11": {"OU", "organizationalUnitName"},
	"2.5.4.12": {"title", "T"},
	"2.5.4.13": {"description"},
	"2.5.4.15": {"businessCategory"},
	"2.5.4.16": {"postalAddress"},
	"2.5.4.17": {"postalCode"},
	"2.5.4.18": {"postOfficeBox"},
	"2.5.4.19": {"physicalDeliveryOfficeName"},
	"2.5.4.20": {"telephoneNumber"},
	"2.5.4.41": {"name"},
	"2.5.4.42": {"givenName", "GN", "G"},
	"2.5.4.43": {"initials"},
	"2.5.4.44": {"generationQualifier"},
	"2.5.4.45": {"x500UniqueIdentifier"},
	"2.5.4.46": {"dnQualifier"},
	"2.5.4.51": {"houseIdentifier"},
	"2.5.4.65": {"pseudonym"},
	"2.5.4.72": {"role"},
	"2.5.4.97": {"organizationIdentifier"},

	"0.9.2342.19200300.100.1.1":  {"UID", "userId"},
	"0.9.2342.19200300.100.1.3":  {"mail", "rfc822Mailbox"},
	"0.9.2342.19200300.100.1.25": {"DC", "domainComponent"},
	"1.2.840.113549.1.9.1":       {"emailAddress", "E", "email"},
	"1.2.840.113549.1.9.2":       {"unstructuredName"},
	"1.2.840.113549.1.9.8":       {"unstructuredAddress"},

	"1.3.6.1.4.1.311.60.2.1.1": {"jurisdictionL", "jurisdictionLocalityName"},
	"1.3.6.1.4.1.311.60.2.1.2": {"jurisdictionST", "jurisdictionStateOrProvinceName"},
	"1.3.6.1.4.1.311.60.2.1.3": {"jurisdictionC", "jurisdictionCountryName"},
}

// attributeNames is the name that each type is written with, attributeOIDs the
// type of each name in upper case.
var attributeNames, attributeOIDs = func() (names, oids map[string]string) {
	names, oids = map[string]string{}, map[string]string{}
	for oid, all := range attributeTypes {
		names[oid] = all[0]
		for _, name := range all {
			oids[strings.ToUpper(name)] = oid
		}
	}
	return names, oids
}()

// ParseDN reads a distinguished name in one of two forms. A text that begins
// with a slash is the one-line form of OpenSSL and the grid, most general first;
// see parseOneLine. Any other is RFC 4514, most specific first, with what its
// predecessors allowed: quoted values, semicolons (RFC 2253, section 4), and
// "OID." before a number (RFC 1779).
// Errors: CodeInvalid.
func ParseDN(text string) (DN, error) {
	if len(text) > maxDNText {
		return DN{}, errDN("it is too long")
	}
	if !utf8.ValidString(text) {
		return DN{}, errDN("it is not UTF-8")
	}
	parse := parseRFC4514
	if strings.HasPrefix(strings.TrimLeft(text, " "), "/") {
		parse = parseOneLine
	}
	rdns, err := parse(text)
	if err != nil {
		return DN{}, err
	}
	return makeDN(rdns)
}

func parseRFC4514(text string) ([]rdn, error) { return parseCommas(text, false) }

// parseCommas reads the comma-separated form. With old, the separators within an
// e-mail address or a domain component count only where a type follows, because
// the old service wrote those two types without escapes.
func parseCommas(text string, old bool) ([]rdn, error) {
	p := commaParser{rest: text, old: old}
	p.skipSpaces()
	if p.rest == "" {
		return nil, nil // the empty name
	}
	rdns := []rdn{nil}
	for {
		a, err := p.attribute()
		if err != nil {
			return nil, err
		}
		last := &rdns[len(rdns)-1]
		*last = append(*last, a)
		if p.rest == "" {
			slices.Reverse(rdns)
			return rdns, nil
		}
		if p.rest[0] != '+' {
			rdns = append(rdns, nil)
		}
		p.rest = p.rest[1:]
	}
}

// A commaParser reads what is left of a comma-separated name.
type commaParser struct {
	rest string
	old  bool
}

func (p *commaParser) skipSpaces() { p.rest = strings.TrimLeft(p.rest, " ") }

// attribute reads up to the next separator, or the end.
func (p *commaParser) attribute() (attribute, error) {
	p.skipSpaces()
	name, ok := cutType(p.rest)
	if !ok {
		return attribute{}, errDN("a type or its = is missing")
	}
	oid, ok := typeOID(strings.TrimRight(name, " "))
	if !ok {
		return attribute{}, errDN("an attribute type is unknown")
	}
	p.rest = p.rest[len(name)+1:]
	p.skipSpaces()
	var a attribute
	var err error
	switch {
	case strings.HasPrefix(p.rest, "#"):
		a, err = p.hexValue()
	case strings.HasPrefix(p.rest, `"`):
		a.text, err = p.quotedValue()
	default:
		a.text, err = p.plainValue(p.old && (oid == oidEmail || oid == oidDC))
	}
	if err != nil {
		return attribute{}, err
	}
	p.skipSpaces()
	if p.rest != "" && !isSeparator(p.rest[0]) {
		return attribute{}, errDN("something follows a value")
	}
	a.oid = oid
	if !utf8.ValidString(a.text) {
		return attribute{}, errDN("a value is not UTF-8")
	}
	return a, nil
}

func isSeparator(c byte) bool { return c == ',' || c == ';' || c == '+' }

func (p *commaParser) hexValue() (attribute, error) {
	end := strings.IndexAny(p.rest, " ,;+")
	if end < 0 {
		end = len(p.rest)
	}
	ber, err := hex.DecodeString(p.rest[1:end])
	if err != nil {
		return attribute{}, errDN("a value after # is not hex")
	}
	p.rest = p.rest[end:]
	return decodeValue(ber)
}

// quotedValue reads a value of RFC 2253, section 4, or RFC 1779.
func (p *commaParser) quotedValue() (string, error) {
	var value []byte
	for p.rest = p.rest[1:]; p.rest != ""; {
		switch c := p.rest[0]; c {
		case '"':
			p.rest = p.rest[1:]
			return string(value), nil
		case '\\':
			c, err := p.escape()
			if err != nil {
				return "", err
			}
			value = append(value, c)
		default:
			value = append(value, c)
			p.rest = p.rest[1:]
		}
	}
	return "", errDN("a quoted value does not end")
}

// plainValue reads a value up to the next separator and leaves out the spaces at
// its end, unless they are escaped. See parseCommas about loose.
func (p *commaParser) plainValue(loose bool) (string, error) {
	var value []byte
	end := 0 // of what is certainly part of the value
	for p.rest != "" {
		c := p.rest[0]
		switch {
		case isSeparator(c) && (!loose || typeFollows(p.rest[1:])):
			return string(value[:end]), nil
		case c == '"':
			return "", errDN("a quotation mark is not escaped")
		case c == '\\':
			c, err := p.escape()
			if err != nil {
				return "", err
			}
			value = append(value, c)
			end = len(value)
			continue
		}
		value = append(value, c)
		if c != ' ' {
			end = len(value)
		}
		p.rest = p.rest[1:]
	}
	return string(value[:end]), nil
}

// escape reads a backslash and what it stands for: one special character, or
// one byte of UTF-8 in hex (RFC 4514, section 3).
func (p *commaParser) escape() (byte, error) {
	s := p.rest[1:]
	if s != "" && strings.IndexByte(`\"+,;<>#= `, s[0]) >= 0 {
		p.rest = s[1:]
		return s[0], nil
	}
	if len(s) >= 2 {
		if b, err := hex.DecodeString(s[:2]); err == nil {
			p.rest = s[2:]
			return b[0], nil
		}
	}
	return 0, errDN("an escape is not one of RFC 4514")
}

// typeFollows reports whether a type and its = come next.
func typeFollows(s string) bool {
	name, ok := cutType(strings.TrimLeft(s, " "))
	return ok && looksLikeType(strings.TrimRight(name, " "))
}

// parseOneLine reads what X509_NAME_oneline of OpenSSL prints, most general
// first: /DC=gr/O=a/CN=b. Values may contain slashes and plus signs, which
// OpenSSL escapes from 3.0 on and did not before; so one that is not escaped
// begins an attribute only where a type and = follow. Bytes outside of printable
// ASCII are \xHH; printable ones never are, and such a sequence is then the value's own.
// Bytes that are not UTF-8 are Latin-1: they come from a T61String. (A BMPString
// is printed in a way that says something else; it has to be typed.)
func parseOneLine(text string) ([]rdn, error) {
	rest := strings.TrimLeft(text, " ")
	if !typeFollowsAt(rest[1:]) {
		return nil, errDN("no type follows its first slash")
	}
	var rdns []rdn
	for rest != "" {
		if rest[0] == '/' {
			rdns = append(rdns, nil)
		}
		name, value, _ := strings.Cut(rest[1:], "=")
		oid, ok := typeOID(name)
		if !ok {
			return nil, errDN("an attribute type is unknown")
		}
		end := oneLineEnd(value)
		decoded, err := oneLineValue(value[:end])
		if err != nil {
			return nil, err
		}
		last := &rdns[len(rdns)-1]
		*last = append(*last, attribute{oid: oid, text: decoded})
		rest = value[end:]
	}
	return rdns, nil
}

// typeFollowsAt is typeFollows without spaces: the one-line form adds none.
func typeFollowsAt(s string) bool {
	name, ok := cutType(s)
	return ok && looksLikeType(name)
}

// cutType is what stands before the next =. It looks no further than a type can
// be long, so that a text of nothing but separators is read in linear time.
func cutType(s string) (name string, ok bool) {
	name, _, ok = strings.Cut(s[:min(len(s), maxTypeName+1)], "=")
	return name, ok
}

// oneLineEnd is where a value ends.
func oneLineEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i+1 < len(s) && (s[i+1] == '/' || s[i+1] == '+') {
				i++
			}
		case '/', '+':
			if typeFollowsAt(s[i+1:]) {
				return i
			}
		}
	}
	return len(s)
}

// oneLineValue decodes a value.
func oneLineValue(s string) (string, error) {
	whole := s
	value := make([]byte, 0, len(s))
	for s != "" {
		if len(s) >= 2 && s[0] == '\\' && (s[1] == '/' || s[1] == '+') {
			value, s = append(value, s[1]), s[2:]
			continue
		}
		if len(s) >= 4 && strings.HasPrefix(s, `\x`) {
			if b, err := hex.DecodeString(s[2:4]); err == nil && (b[0] < ' ' || b[0] > '~') {
				value, s = append(value, b[0]), s[4:]
				continue
			}
		}
		value, s = append(value, s[0]), s[1:]
	}
	switch {
	case utf8.Valid(value):
		return string(value), nil
	case !isASCII(whole): // it has characters besides, so these bytes were none
		return "", errDN("a value is not UTF-8")
	default:
		return latin1(value), nil
	}
}

// looksLikeType reports whether name has the shape of an attribute type (RFC
// 4512, section 1.4): a descriptor, or a number with dots.
func looksLikeType(name string) bool {
	if _, ok := numericOID(name); ok {
		return true
	}
	for i := range len(name) {
		c := name[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || name[i] != '-' && (name[i] < '0' || name[i] > '9')) {
			return false
		}
	}
	return name != ""
}

// typeOID is the type that a name or a number stands for.
func typeOID(name string) (oid string, ok bool) {
	if oid, ok := numericOID(name); ok {
		return oid, true
	}
	oid, ok = attributeOIDs[strings.ToUpper(name)]
	return oid, ok
}

// numericOID reads dotted decimals, with "OID." before them or not. Its bounds
// are those of encoding/asn1: no certificate that Go reads has a type beyond them.
func numericOID(name string) (oid string, ok bool) {
	const prefix = "OID."
	if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
		name = name[len(prefix):]
	}
	arcs := strings.Split(name, ".")
	for i, arc := range arcs {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc || // no sign, no zeros before it
			i == 0 && n > 2 || i == 1 && arcs[0] != "2" && n > 39 {
			return "", false
		}
	}
	return name, len(arcs) > 1 && len(name) <= maxTypeName
}
