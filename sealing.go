package bindery

// A Sealer seals and opens values with one data key. It may be used by many
// goroutines at once.
type Sealer interface {
	// Seal appends value, sealed, to dst. The place says where the value is kept
	// (table, row, column): opened at any other place it is refused.
	Seal(dst, value, place []byte) []byte
	// Open appends what was sealed to dst. It fails where the sealed value was
	// changed, moved from its place, or sealed with another data key.
	Open(dst, sealed, place []byte) ([]byte, error)
}

// A Keyring holds the master key, which the operator keeps, and those that came
// before it. Master keys wrap data keys; data keys seal values. It may be used
// by many goroutines at once.
type Keyring interface {
	// Master is the id of the current master key. An id tells nothing of its key.
	Master() string
	// MasterOf is the id of the master key that wrapped the data key; empty for
	// what is not a wrapped data key.
	MasterOf(wrapped []byte) string
	// Generate makes a data key and returns it wrapped under the current master
	// key, bound to its place like a sealed value.
	Generate(place []byte) (wrapped []byte, err error)
	// Unwrap makes the sealer of a wrapped data key. It fails where the keyring
	// lacks the master key, and where the wrapped key was changed or moved.
	Unwrap(wrapped, place []byte) (Sealer, error)
	// Rewrap wraps a data key anew, under the current master key.
	Rewrap(wrapped, place []byte) ([]byte, error)
}
