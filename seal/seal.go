// Package seal keeps secrets at rest: values are sealed with data keys, and data
// keys are wrapped under a master key that the operator keeps elsewhere
// (envelope encryption), so that a new master key re-wraps a few data keys
// instead of every value.
//
// Everything is AES-256-GCM with a random 96-bit nonce and the place of the
// value (table, row, column) as associated data, so that a sealed value can
// neither be changed nor moved. Random nonces are sound for 2^32 values a key;
// "bindery seal rotate" makes a new data key long before that.
//
//	sealed value     1 | nonce (12) | ciphertext | tag (16)
//	wrapped data key 1 | id of the master key (8) | nonce (12) | ciphertext (32) | tag (16)
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// The first byte of what this package writes says how to read the rest.
const version = 1

const (
	nonceSize = 12
	tagSize   = 16
	// Overhead is how much longer a sealed value is than the value.
	Overhead = 1 + nonceSize + tagSize
)

// errRefused says no more than it must: whoever feeds changed values learns
// nothing from the way in which they fail.
var errRefused = errors.New("the sealed value was changed, moved, or sealed with another key")

// Sealer implements [bindery.Sealer] with one data key.
type Sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*Sealer, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: aead}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal implements [bindery.Sealer].
func (s *Sealer) Seal(dst, value, place []byte) []byte {
	if dst == nil {
		dst = make([]byte, 0, len(value)+Overhead)
	}
	return s.aead.Seal(append(dst, version), nil, value, place) //nolint:gosec // this AEAD makes its own nonces
}

// Open implements [bindery.Sealer].
func (s *Sealer) Open(dst, sealed, place []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, errRefused
	}
	value, err := s.aead.Open(dst, nil, sealed[1:], place)
	if err != nil {
		return nil, errRefused
	}
	return value, nil
}
