package bindery

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"
)

const redacted = "[secret]"

// A Secret is a value that must not be shown: a password, a key, a token, a
// caller's parameters. It prints as "[secret]" in fmt, slog, JSON and every
// other encoding; [Secret.Reveal] is the only way out and is easy to search for.
//
// The value sits behind a pointer because fmt cannot call methods on the
// unexported fields of other structs and would print a plain string. Two equal
// secrets are therefore not ==; compare them with [Secret.Equal].
//
// The zero Secret is empty.
type Secret struct{ v *string }

// NewSecret wraps v.
func NewSecret(v string) Secret { return Secret{v: &v} }

// NewPassword makes a password out of 32 random bytes. Its characters ([A-Za-z0-9_-])
// are the same raw and percent-encoded, and SASLprep (RFC 4013) leaves them as they are.
func NewPassword() Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return NewSecret(base64.RawURLEncoding.EncodeToString(b[:]))
}

// Reveal returns the value in clear.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.v == nil || *s.v == "" }

// Equal compares two secrets in time that depends on their lengths only.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler; what it writes cannot be read back.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements [encoding.TextMarshaler].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
