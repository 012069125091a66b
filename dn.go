package bindery

import (
	"cmp"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

const (
	// maxDNText bounds the text of a distinguished name, what is read as well as
	// what [DN.String] writes, so that every DN's text can be read again.
	maxDNText = 8 << 10
	// maxAttributes bounds how many attribute values a distinguished name has.
	maxAttributes = 128
	// maxTypeName bounds an attribute type, by name or in dotted decimals.
	maxTypeName = 256
)

// A DN is a distinguished name by its meaning: a sequence of RDNs, the most
// general first as in a certificate, with attribute types by OID and values as
// decoded characters. Two of them are the same if and only if their [DN.Key] is.
// The zero DN is the empty name.
type DN struct {
	rdns []rdn
}

// An rdn is a set of attributes. Their order is kept for [DN.OldForm], and has
// no part in what is equal to what.
type rdn []attribute

// An attribute is one attribute type and value.
type attribute struct {
	oid  string // dotted decimal
	text string
	// der is the whole encoded value where it is of no known string type; text is then empty.
	der string
}

// DNFromDER reads a certificate's RawSubject or RawIssuer (RFC 5280, section 4.1.2.4).
// Errors: CodeInvalid.
func DNFromDER(raw []byte) (DN, error) {
	type attributeSET []struct { // encoding/asn1 knows a SET by the type's name
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var sequence []attributeSET
	if len(raw) > maxDNText {
		return DN{}, errDN("it is too long")
	}
	rest, err := asn1.Unmarshal(raw, &sequence)
	if err != nil {
		return DN{}, errDN("it is not DER").Because(err)
	}
	if len(rest) != 0 {
		return DN{}, errDN("something follows it")
	}
	rdns := make([]rdn, len(sequence))
	for i, set := range sequence {
		for _, a := range set {
			decoded, err := decodeValue(a.Value.FullBytes)
			if err != nil {
				return DN{}, err
			}
			if decoded.oid = a.Type.String(); len(decoded.oid) > maxTypeName {
				return DN{}, errDN("an attribute type is too long")
			}
			rdns[i] = append(rdns[i], decoded)
		}
	}
	return makeDN(rdns)
}

// makeDN checks the bounds that every DN keeps.
func makeDN(rdns []rdn) (DN, error) {
	count := 0
	for _, r := range rdns {
		if len(r) == 0 {
			return DN{}, errDN("one of its parts is empty")
		}
		count += len(r)
	}
	d := DN{rdns: rdns}
	if count > maxAttributes || len(d.String()) > maxDNText {
		return DN{}, errDN("it is too long")
	}
	return d, nil
}

func errDN(reason string) *Error {
	return Errorf(CodeInvalid, "not a distinguished name: %s", reason)
}

// Key is the DN's exact key: two DNs have the same one if and only if they are
// the same name. Values are compared code point by code point: no folding of
// case, no normalization, because certificates with different names may belong
// to different people.
func (d DN) Key() string {
	b := binary.AppendUvarint(nil, uint64(len(d.rdns)))
	for _, r := range d.rdns {
		set := make([]string, len(r))
		for i, a := range r {
			set[i] = string(a.encode(nil))
		}
		slices.Sort(set)
		b = binary.AppendUvarint(b, uint64(len(set)))
		for _, a := range set {
			b = append(b, a...)
		}
	}
	return hashKey("dn", b)
}

// encode appends an encoding that no other attribute has, and that is no prefix
// of another one's.
func (a attribute) encode(b []byte) []byte {
	b = appendText(b, a.oid)
	b = appendText(b, a.text)
	return appendText(b, a.der)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// hashKey makes a key of fixed length. The mark, which has no zero in it, keeps
// keys of different kinds apart.
func hashKey(mark string, b []byte) string {
	sum := sha256.Sum256(slices.Concat([]byte(mark), []byte{0}, b))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// String writes the DN as RFC 4514 says, most specific first. [ParseDN] reads
// the same DN from it.
func (d DN) String() string {
	var b strings.Builder
	for i, r := range slices.Backward(d.rdns) {
		if i < len(d.rdns)-1 {
			b.WriteByte(',')
		}
		for j, a := range r {
			if j > 0 {
				b.WriteByte('+')
			}
			a.write(&b)
		}
	}
	return b.String()
}

// write writes type and value. A type without a name has its value in hex, as
// RFC 4514, section 2.4, has it: who reads it may not know the value's syntax.
func (a attribute) write(b *strings.Builder) {
	name, named := attributeNames[a.oid]
	switch {
	case a.der != "":
		b.WriteString(cmp.Or(name, a.oid) + "=#" + hex.EncodeToString([]byte(a.der)))
	case !named:
		b.WriteString(a.oid + "=#" + hex.EncodeToString(encodeElement([]byte{asn1.TagUTF8String}, []byte(a.text))))
	default:
		b.WriteString(name + "=")
		writeEscaped(b, a.text)
	}
}

// writeEscaped writes a value with the escapes of RFC 4514, section 2.4, and
// control characters as hex pairs besides, so that they do no harm in a log.
func writeEscaped(b *strings.Builder, text string) {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		switch {
		case c < ' ' || c == 0x7f:
			b.WriteByte('\\')
			b.WriteByte(digits[c>>4])
			c = digits[c&0xf]
		case isSpecial(text, i):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
}

// isSpecial reports whether RFC 4514, section 2.4, has the value's byte at i escaped by a backslash.
func isSpecial(value string, i int) bool {
	switch c := value[i]; c {
	case ' ':
		return i == 0 || i == len(value)-1
	case '#':
		return i == 0
	default:
		return strings.IndexByte(`,+"\<>;`, c) >= 0
	}
}

// Keys are what a certificate with this name is looked up by. Old is empty where
// the old form would drop one of its values.
func (d DN) Keys() IdentityKeys {
	keys := IdentityKeys{Exact: d.Key()}
	if values, whole := d.oldValues(); whole && len(d.rdns) > 0 {
		keys.Old = values.key()
	}
	return keys
}

// IdentifierKeys are the keys of an identity that somebody typed.
//
// For x509 the text is a distinguished name as [ParseDN] reads it, and gets an
// old key as well where it can be read as the old form. Any other text is taken
// too, since existing clients have such identifiers; no certificate has its key.
// For oidc the text is issuer#value, compared byte by byte.
//
// Errors: CodeInvalid for an empty text or an unknown way of proof, CodeTooLarge.
func IdentifierKeys(auth AuthType, text string) (IdentityKeys, error) {
	if len(text) > maxDNText {
		return IdentityKeys{}, Errorf(CodeTooLarge, "auth_identifier is longer than %d bytes", maxDNText)
	}
	if strings.TrimSpace(text) == "" {
		return IdentityKeys{}, Errorf(CodeInvalid, "auth_identifier is empty")
	}
	switch auth {
	case AuthOIDC:
		return IdentityKeys{Exact: hashKey("oidc", []byte(text))}, nil
	case AuthX509:
		keys := IdentityKeys{Exact: hashKey("text", []byte(text))}
		if d, err := ParseDN(text); err == nil {
			keys.Exact = d.Key()
		}
		if values, ok := readOldForm(text); ok {
			keys.Old = values.key()
		}
		return keys, nil
	default:
		return IdentityKeys{}, Errorf(CodeInvalid, "unknown auth type")
	}
}
