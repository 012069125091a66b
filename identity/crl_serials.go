package identity

import (
	"bytes"
	"math/big"
	"slices"
	"sort"
)

// maxSerial is longer than any serial number in use; RFC 5280 (section 4.1.2.2) allows 20 bytes.
const maxSerial = 64

// serials is a set of serial numbers, as compact as an exact set is without effort: numbers
// of one length stand sorted behind each other, without pointers.
type serials struct {
	byLength map[int][]byte
	count    int
}

// serialBytes is how serial numbers are compared: big endian, without leading zeros.
func serialBytes(n *big.Int) []byte {
	if n == nil {
		return nil
	}
	return n.Bytes()
}

// add takes the content of a DER INTEGER.
func (s *serials) add(content []byte) bool {
	content = bytes.TrimLeft(content, "\x00")
	if len(content) > maxSerial {
		return false
	}
	if s.byLength == nil {
		s.byLength = make(map[int][]byte)
	}
	s.count++
	if len(content) == 0 {
		s.byLength[0] = []byte{} // the number 0
		return true
	}
	s.byLength[len(content)] = append(s.byLength[len(content)], content...)
	return true
}

// sort ends the building of the set.
func (s *serials) sort() {
	for n, all := range s.byLength {
		if n == 0 {
			continue
		}
		run := serialRun{all: all, n: n}
		if !sort.IsSorted(run) {
			sort.Sort(run)
		}
		s.byLength[n] = slices.Clip(slices.Clone(all)) // append left room
	}
}

func (s *serials) has(serial []byte) bool {
	all, ok := s.byLength[len(serial)]
	n := len(serial)
	if !ok || n == 0 {
		return ok
	}
	_, found := sort.Find(len(all)/n, func(i int) int { return bytes.Compare(serial, all[i*n:(i+1)*n]) })
	return found
}

type serialRun struct {
	all []byte
	n   int
}

func (r serialRun) at(i int) []byte    { return r.all[i*r.n : (i+1)*r.n] }
func (r serialRun) Len() int           { return len(r.all) / r.n }
func (r serialRun) Less(i, j int) bool { return bytes.Compare(r.at(i), r.at(j)) < 0 }
func (r serialRun) Swap(i, j int) {
	var hold [maxSerial]byte
	a, b := r.at(i), r.at(j)
	copy(hold[:], a)
	copy(a, b)
	copy(b, hold[:r.n])
}
