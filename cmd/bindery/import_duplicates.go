package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	filterBits = 1 << 27 // 16 MiB; with a million records one key in some thousands is counted for nothing
	maxRepeats = 1 << 20
)

// repeats counts the keys that occur more than once, in two readings and in
// memory that does not grow with the keys that occur once: the first reading
// puts all of them into a Bloom filter and notes those that (probably) were in it, the
// second counts those exactly.
type repeats struct {
	filter []uint64
	counts map[repeatKey]int
}

type repeatKey [16]byte

func newRepeats() *repeats {
	return &repeats{filter: make([]uint64, filterBits/64), counts: map[repeatKey]int{}}
}

// keyOf is the key of a tuple; its first part says of what.
func keyOf(parts ...string) (k repeatKey) {
	h := sha256.New()
	for _, p := range parts {
		_ = binary.Write(h, binary.BigEndian, uint64(len(p)))
		_, _ = h.Write([]byte(p))
	}
	copy(k[:], h.Sum(nil))
	return k
}

// see is for the first reading.
func (r *repeats) see(k repeatKey) error {
	again := true
	for i := 0; i < len(k); i += 4 {
		bit := binary.BigEndian.Uint32(k[i:]) % filterBits
		again = again && r.filter[bit/64]&(1<<(bit%64)) != 0
		r.filter[bit/64] |= 1 << (bit % 64)
	}
	if !again {
		return nil
	}
	if r.counts[k] = 0; len(r.counts) > maxRepeats {
		return fmt.Errorf("more than %d records share what should be unique: is this an export?", maxRepeats)
	}
	return nil
}

// count is for the second reading.
func (r *repeats) count(k repeatKey) {
	if n, ok := r.counts[k]; ok {
		r.counts[k] = n + 1
	}
}

// of is how often a key occurs.
func (r *repeats) of(k repeatKey) int { return max(1, r.counts[k]) }
