package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"bindery"
)

var _ bindery.Keyring = (*Keyring)(nil)

// A Keyring implements [bindery.Keyring]: the current master key, and previous
// ones that only open.
type Keyring struct {
	current master
	all     map[[keyIDSize]byte]cipher.AEAD
}

type master struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// NewKeyring makes a keyring. Previous keys are needed as long as data keys are
// wrapped under them; a rotation ends that.
func NewKeyring(current Key, previous ...Key) (*Keyring, error) {
	r := &Keyring{all: make(map[[keyIDSize]byte]cipher.AEAD)}
	for i, k := range append([]Key{current}, previous...) {
		if k.Zero() {
			return nil, errors.New("a master key is missing")
		}
		aead, err := newAEAD(k.v[:])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			r.current = master{id: k.id(), aead: aead}
		}
		r.all[k.id()] = aead
	}
	return r, nil
}

// Master implements [bindery.Keyring].
func (r *Keyring) Master() string { return hex.EncodeToString(r.current.id[:]) }

const wrappedSize = 1 + keyIDSize + nonceSize + keySize + tagSize

// MasterOf implements [bindery.Keyring].
func (*Keyring) MasterOf(wrapped []byte) string {
	if len(wrapped) != wrappedSize || wrapped[0] != version {
		return ""
	}
	return hex.EncodeToString(wrapped[1 : 1+keyIDSize])
}

// Generate implements [bindery.Keyring].
func (r *Keyring) Generate(place []byte) ([]byte, error) {
	var key [keySize]byte
	_, _ = rand.Read(key[:]) // never fails, says crypto/rand
	defer clear(key[:])
	return r.wrap(key[:], place), nil
}

func (r *Keyring) wrap(key, place []byte) []byte {
	out := append(make([]byte, 0, wrappedSize), version)
	out = append(out, r.current.id[:]...)
	return r.current.aead.Seal(out, nil, key, keyPlace(place)) //nolint:gosec // this AEAD makes its own nonces
}

// Unwrap implements [bindery.Keyring].
func (r *Keyring) Unwrap(wrapped, place []byte) (bindery.Sealer, error) {
	key, err := r.unwrap(wrapped, place)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newSealer(key)
}

// Rewrap implements [bindery.Keyring].
func (r *Keyring) Rewrap(wrapped, place []byte) ([]byte, error) {
	key, err := r.unwrap(wrapped, place)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return r.wrap(key, place), nil
}

func (r *Keyring) unwrap(wrapped, place []byte) ([]byte, error) {
	if r.MasterOf(wrapped) == "" {
		return nil, errors.New("not a wrapped data key")
	}
	aead, ok := r.all[[keyIDSize]byte(wrapped[1:])]
	if !ok {
		return nil, fmt.Errorf("the data key is wrapped under master key %s, which is not given (the current one is %s)",
			r.MasterOf(wrapped), r.Master())
	}
	key, err := aead.Open(nil, nil, wrapped[1+keyIDSize:], keyPlace(place))
	if err != nil {
		return nil, errRefused
	}
	return key, nil
}

// keyPlace keeps wrapped keys and sealed values apart, whatever places the caller makes up.
func keyPlace(place []byte) []byte { return append([]byte("data key "), place...) }
