package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	keySize   = 32
	keyIDSize = 8
)

// A Key is a master key. Like a [bindery.Secret] it never prints. The zero Key
// is no key; it wraps nothing.
type Key struct{ v *[keySize]byte }

// NewKey makes a master key.
func NewKey() Key {
	var k [keySize]byte
	_, _ = rand.Read(k[:]) // never fails, says crypto/rand
	return Key{v: &k}
}

// ParseKey reads a master key as [Key.Reveal] writes it: 32 bytes in base64
// (standard or URL alphabet, padded or not) or hexadecimal. White space around
// it is ignored, as files end with a newline. The error never repeats the text.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Key{}, errors.New("the master key is empty")
	}
	raw, err := decodeKey(text)
	if err != nil || len(raw) != keySize {
		return Key{}, fmt.Errorf("the master key is not %d bytes in base64 or hexadecimal", keySize)
	}
	k := [keySize]byte(raw)
	if k == ([keySize]byte{}) {
		return Key{}, errors.New("the master key is all zeros")
	}
	return Key{v: &k}, nil
}

func decodeKey(text string) ([]byte, error) {
	if len(text) == hex.EncodedLen(keySize) {
		return hex.DecodeString(text)
	}
	text = strings.TrimRight(text, "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	// Strict, so that a key has few spellings and a typing error in its last
	// character is found.
	return base64.RawStdEncoding.Strict().DecodeString(text)
}

// Reveal returns the key in base64. It is the only way out.
func (k Key) Reveal() string {
	if k.v == nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.v[:])
}

// Zero reports whether k is no key.
func (k Key) Zero() bool { return k.v == nil }

// ID names the key without telling anything of it: the first bytes of an HMAC
// with the key, in hexadecimal.
func (k Key) ID() string {
	if k.v == nil {
		return ""
	}
	id := k.id()
	return hex.EncodeToString(id[:])
}

func (k Key) id() [keyIDSize]byte {
	mac := hmac.New(sha256.New, k.v[:])
	mac.Write([]byte("bindery master key id"))
	return [keyIDSize]byte(mac.Sum(nil)[:keyIDSize])
}

const redacted = "[secret]"

// Format implements [fmt.Formatter] for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler]; what it writes cannot be read back.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
