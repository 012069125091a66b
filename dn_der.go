package bindery

import (
	"encoding/asn1"
	"slices"
	"strings"
	"unicode/utf8"
)

// tagUniversalString is missing in encoding/asn1 (X.680, section 8.6).
const tagUniversalString = 28

// decodeValue reads one BER value. A string of a known type becomes its
// characters; anything else keeps its encoding, with the outer length in its
// shortest form. What could be spelled in several ways that are not told apart
// here (strings in pieces, indefinite lengths) is refused: DER has none of it.
func decodeValue(ber []byte) (attribute, error) {
	id, content, ok := splitElement(ber)
	if !ok {
		return attribute{}, errDN("a value is not DER")
	}
	const constructed = 0x20
	if isString(id[0]) {
		text, ok := decodeString(id[0], content)
		if !ok {
			return attribute{}, errDN("a value has characters that its type does not have")
		}
		return attribute{text: text}, nil
	}
	if id[0]&constructed != 0 && isString(id[0]&^constructed) {
		return attribute{}, errDN("a value is a string in pieces")
	}
	return attribute{der: string(encodeElement(id, content))}, nil
}

func isString(id byte) bool {
	switch id {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString,
		asn1.TagT61String, asn1.TagBMPString, tagUniversalString:
		return true
	}
	return false
}

func decodeString(id byte, content []byte) (text string, ok bool) {
	switch id {
	case asn1.TagUTF8String:
		return string(content), utf8.Valid(content)
	case asn1.TagT61String:
		// Read as Latin-1, as crypto/x509 and nearly everybody else do: that is what was written.
		return latin1(content), true
	case asn1.TagBMPString:
		return wideString(content, 2)
	case tagUniversalString:
		return wideString(content, 4)
	default:
		// What these types allow is less than ASCII, and authorities were never strict about it.
		text = string(content)
		return text, isASCII(text)
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func latin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// wideString reads characters of a fixed width, the most significant byte first.
func wideString(content []byte, width int) (text string, ok bool) {
	var s strings.Builder
	for char := range slices.Chunk(content, width) {
		var r uint32
		for _, c := range char {
			r = r<<8 | uint32(c)
		}
		if len(char) != width || r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		s.WriteRune(rune(r))
	}
	return s.String(), true
}

// splitElement takes one whole BER element apart (X.690, section 8.1): its
// identifier octets and its content, for lengths that are definite.
func splitElement(ber []byte) (id, content []byte, ok bool) {
	n := 1
	if len(ber) > 0 && ber[0]&0x1f == 0x1f { // a tag number in the octets that follow
		for n < len(ber) && ber[n]&0x80 != 0 {
			n++
		}
		n++
	}
	if n >= len(ber) {
		return nil, nil, false
	}
	id, rest := ber[:n], ber[n+1:]
	length := int(ber[n])
	if length == 0x80 {
		return nil, nil, false
	}
	if length > 0x80 {
		octets := length & 0x7f
		if octets > len(rest) {
			return nil, nil, false
		}
		length = 0
		for _, c := range rest[:octets] {
			if length = length<<8 | int(c); length > maxDNText {
				return nil, nil, false
			}
		}
		rest = rest[octets:]
	}
	return id, rest, length == len(rest)
}

// encodeElement is the inverse, with the shortest length. Content is at most maxDNText long.
func encodeElement(id, content []byte) []byte {
	n := len(content)
	var length []byte
	switch {
	case n < 0x80:
		length = []byte{byte(n)}
	case n <= 0xff:
		length = []byte{0x81, byte(n)}
	default:
		length = []byte{0x82, byte(n >> 8 & 0xff), byte(n & 0xff)}
	}
	return slices.Concat(id, length, content)
}
