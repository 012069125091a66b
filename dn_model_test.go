package bindery_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The tests' own idea of a name, made and spelled without the code under test.
type (
	modelName      []modelRDN // most general first
	modelRDN       []modelAttribute
	modelAttribute struct{ oid, value string }
)

// A failer is a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

const (
	oidCN     = "2.5.4.3"
	oidSN     = "2.5.4.4"
	oidSerial = "2.5.4.5"
	oidC      = "2.5.4.6"
	oidL      = "2.5.4.7"
	oidST     = "2.5.4.8"
	oidStreet = "2.5.4.9"
	oidO      = "2.5.4.10"
	oidOU     = "2.5.4.11"
	oidPostal = "2.5.4.17"
	oidUID    = "0.9.2342.19200300.100.1.1"
	oidDC     = "0.9.2342.19200300.100.1.25"
	oidEmail  = "1.2.840.113549.1.9.1"
	oidOther  = "1.3.6.1.4.1.99999.1"
)

// modelNames are the names that people write for a type.
var modelNames = map[string][]string{
	oidCN: {"CN", "commonName"}, oidSN: {"SN", "surname"}, oidSerial: {"serialNumber"}, oidC: {"C", "countryName"},
	oidL: {"L", "localityName"}, oidST: {"ST", "S", "SP", "stateOrProvinceName"}, oidStreet: {"STREET", "streetAddress"},
	oidO: {"O", "organizationName"}, oidOU: {"OU", "organizationalUnitName"}, oidPostal: {"postalCode"},
	oidUID: {"UID", "userId"}, oidDC: {"DC", "domainComponent"}, oidEmail: {"E", "emailAddress", "EMAIL"}, oidOther: nil,
}

var modelOIDs = func() []string {
	var all []string
	for oid := range modelNames {
		all = append(all, oid)
	}
	slices.Sort(all)
	return all
}()

// String is canonical: two names are the same name where it is the same.
func (n modelName) String() string {
	var b strings.Builder
	for _, r := range n {
		var set []string
		for _, a := range r {
			set = append(set, fmt.Sprintf("%s=%q", a.oid, a.value))
		}
		slices.Sort(set)
		fmt.Fprintf(&b, "%q\n", set)
	}
	return b.String()
}

func (n modelName) clone() modelName {
	out := make(modelName, len(n))
	for i, r := range n {
		out[i] = slices.Clone(r)
	}
	return out
}

// der encodes the name; pick says which of the string types that can hold a value to take.
func (n modelName) der(t failer, pick func(n int) int) []byte {
	var seq pkix.RDNSequence
	for _, r := range n {
		var set pkix.RelativeDistinguishedNameSET
		for _, a := range r {
			types := stringTypes(a.value)
			set = append(set, pkix.AttributeTypeAndValue{Type: parseOID(t, a.oid), Value: types[pick(len(types))]})
		}
		seq = append(seq, set)
	}
	raw, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parseOID(t failer, dotted string) (oid asn1.ObjectIdentifier) {
	for _, arc := range strings.Split(dotted, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			t.Fatal(err)
		}
		oid = append(oid, n)
	}
	return oid
}

// stringTypes are all the encodings that a certificate may have of a value.
func stringTypes(value string) []asn1.RawValue {
	var latin, bmp, universal []byte
	inLatin, inBMP, ascii, printable, digits := true, true, true, true, true
	for _, r := range value {
		inLatin, inBMP, ascii = inLatin && r <= 0xff, inBMP && r <= 0xfffd && (r < 0xfdd0 || r > 0xfdef), ascii && r < 0x80
		printable = printable && r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r))
		digits = digits && (r >= '0' && r <= '9' || r == ' ')
		latin = append(latin, byte(r))
		bmp = append(bmp, byte(r>>8), byte(r))
		universal = append(universal, byte(r>>24), byte(r>>16), byte(r>>8), byte(r))
	}
	out := []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(value)}, {Tag: 28, Bytes: universal}}
	for _, more := range []struct {
		can   bool
		tag   int
		bytes []byte
	}{
		{inLatin, asn1.TagT61String, latin},
		{inBMP, asn1.TagBMPString, bmp},
		{ascii, asn1.TagIA5String, []byte(value)},
		{printable, asn1.TagPrintableString, []byte(value)},
		{digits, asn1.TagNumericString, []byte(value)},
	} {
		if more.can {
			out = append(out, asn1.RawValue{Tag: more.tag, Bytes: more.bytes})
		}
	}
	return out
}

// genValue draws values that are ordinary, and values that look like syntax.
func genValue() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"alice", "Alice", "bob", "robot", "gr", "argo", "", " ", "  a  ", "#0c0161", "a, b", "a+CN=b", "b/c", "b/CN=d", "/", "+",
			"caf\u00e9", "cafe\u0301", "\u03a9", "\u212b", "\U0001f600", "a=b", `"q"`, `\`, `\2C`, `\x2F`, `\xC3`, "a;b<c>", "a\x00", "\n", "a@x.org", "a+tag@x.org",
		}),
		rapid.StringOfN(rapid.SampledFrom([]rune(` ,+"\<>;=#/aAbx0C9é`)), 0, 8, -1),
		rapid.StringN(0, 12, -1),
	)
}

func genName() *rapid.Generator[modelName] {
	return rapid.Custom(func(t *rapid.T) modelName {
		attribute := rapid.Custom(func(t *rapid.T) modelAttribute {
			return modelAttribute{rapid.SampledFrom(modelOIDs).Draw(t, "type"), genValue().Draw(t, "value")}
		})
		one := rapid.SliceOfN(attribute, 1, 1)
		many := rapid.SliceOfN(attribute, 2, 3)
		var n modelName
		for _, r := range rapid.SliceOfN(rapid.OneOf(one, one, one, many), 1, 6).Draw(t, "name") {
			n = append(n, r)
		}
		return n
	})
}

// A speller writes a name in one of its many spellings.
type speller struct {
	*rand.Rand
}

func newSpeller(t *rapid.T) speller {
	return speller{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "spelling"), 0))}
}

func (s speller) spaces() string { return strings.Repeat(" ", s.IntN(3)) }

func (s speller) typeName(oid string) string {
	names := modelNames[oid]
	switch i := s.IntN(len(names) + 2); {
	case i == len(names):
		return oid
	case i > len(names):
		return []string{"OID.", "oid."}[s.IntN(2)] + oid
	default:
		name := []byte(names[i])
		for i := range name {
			if s.IntN(3) == 0 {
				name[i] ^= 0x20
			}
		}
		return string(name)
	}
}

// commas is a spelling of RFC 4514 or of what came before it.
func (s speller) commas(n modelName) string {
	var b strings.Builder
	for i, r := range slices.Backward(n) {
		if i < len(n)-1 {
			b.WriteString(s.spaces() + []string{",", ",", ";"}[s.IntN(3)])
		}
		for j, at := range s.Perm(len(r)) {
			if j > 0 {
				b.WriteString(s.spaces() + "+")
			}
			b.WriteString(s.spaces() + s.typeName(r[at].oid) + s.spaces() + "=" + s.spaces() + s.value(r[at].value))
		}
	}
	return b.String() + s.spaces()
}

func (s speller) value(v string) string {
	switch s.IntN(4) {
	case 0:
		return s.hexValue(v)
	case 1:
		return s.quoted(v)
	default:
		return s.escaped(v)
	}
}

// hexValue is BER in hex, of any type that can hold the value, the length in more octets than needed at times.
func (s speller) hexValue(v string) string {
	types := stringTypes(v)
	a := types[s.IntN(len(types))]
	ber := []byte{byte(a.Tag), 0x82, byte(len(a.Bytes) >> 8), byte(len(a.Bytes))}
	if s.IntN(2) == 0 && len(a.Bytes) < 0x80 {
		ber = []byte{byte(a.Tag), byte(len(a.Bytes))}
	}
	text := hex.EncodeToString(append(ber, a.Bytes...))
	if s.IntN(2) == 0 {
		text = strings.ToUpper(text)
	}
	return "#" + text
}

// hexPairs is a character in hex.
func (s speller) hexPairs(r rune) string {
	var b strings.Builder
	for _, c := range []byte(string(r)) {
		fmt.Fprintf(&b, []string{`\%02x`, `\%02X`}[s.IntN(2)], c)
	}
	return b.String()
}

func (s speller) quoted(v string) string {
	var b strings.Builder
	for _, c := range v {
		switch {
		case s.IntN(8) == 0:
			b.WriteString(s.hexPairs(c))
		case c == '"' || c == '\\' || s.IntN(3) == 0 && strings.ContainsRune(",+<>;#= ", c):
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(c)
		}
	}
	return `"` + b.String() + `"`
}

func (s speller) escaped(v string) string {
	var b strings.Builder
	for i, c := range v {
		must := strings.ContainsRune(`,+"\;`, c) || c == '#' && i == 0 || c == ' ' && strings.Trim(v[:i], " ") == "" || c == ' ' && strings.Trim(v[i:], " ") == ""
		switch may := strings.ContainsRune(`<>#= `, c); {
		case s.IntN(8) == 0:
			b.WriteString(s.hexPairs(c))
		case must || may && s.IntN(2) == 0:
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// oneLine is the form with slashes. It cannot say everything: a backslash has no
// escape in it.
func (s speller) oneLine(n modelName) (text string, ok bool) {
	var b strings.Builder
	for _, r := range n {
		for j, at := range s.Perm(len(r)) {
			b.WriteString([]string{"/", "+"}[min(j, 1)] + s.typeName(r[at].oid) + "=")
			v := r[at].value
			if strings.Contains(v, `\`) {
				return "", false
			}
			plain := s.IntN(2) == 0 && !strings.Contains(v, "=") // then no type can follow a slash
			for _, r := range v {
				switch {
				case (r == '/' || r == '+') && !plain:
					b.WriteString(`\` + string(r))
				case r < ' ' || r == 0x7f || r >= utf8.RuneSelf && s.IntN(2) == 0:
					for _, c := range []byte(string(r)) {
						fmt.Fprintf(&b, `\x%02X`, c)
					}
				default:
					b.WriteRune(r)
				}
			}
		}
	}
	return b.String(), true
}
