package mysql

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what mysql_native_password is made of
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	// saltChars is the length that caching_sha2_password wants. rand.Text is
	// [A-Z2-7], so that no byte of a salt is the $ that ends it.
	saltChars = 20
	shaRounds = 5000
)

func newSalt() string { return rand.Text()[:saltChars] }

// nativeHash is what MariaDB keeps of a password for mysql_native_password. The
// hash goes to the server, so that no log of it has a password. SHA-1 twice is
// enough for 256 bits of chance, and no more than that.
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // see the import
	twice := sha1.Sum(once[:])         //nolint:gosec // likewise
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// sha2Hash is what MySQL keeps of a password for caching_sha2_password:
// $A$005$, the salt, and SHA-256 crypt with 5000 rounds.
func sha2Hash(password, salt string) string {
	return fmt.Sprintf("$A$%03d$%s%s", shaRounds/1000, salt, shaCrypt(password, salt, shaRounds))
}

// shaCrypt is SHA-256 crypt (Drepper, "Unix crypt using SHA-256 and SHA-512",
// steps 1 to 22), with a salt of any length.
func shaCrypt(password, salt string, rounds int) string {
	p := []byte(password)
	sum := func(parts ...[]byte) []byte {
		h := sha256.New()
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	// stretch repeats a digest to a length.
	stretch := func(digest []byte, n int) []byte {
		return []byte(strings.Repeat(string(digest), n/len(digest)+1)[:n])
	}
	b := sum(p, []byte(salt), p)
	first := append(append([]byte(password), salt...), stretch(b, len(p))...)
	for n := len(p); n > 0; n >>= 1 {
		if n&1 == 1 {
			first = append(first, b...)
		} else {
			first = append(first, p...)
		}
	}
	a := sum(first)
	ps := stretch(sum([]byte(strings.Repeat(password, len(p)))), len(p))
	ss := stretch(sum([]byte(strings.Repeat(salt, 16+int(a[0])))), len(salt))
	for i := range rounds {
		x, y := a, ps
		if i&1 == 1 {
			x, y = ps, a
		}
		parts := [][]byte{x}
		if i%3 != 0 {
			parts = append(parts, ss)
		}
		if i%7 != 0 {
			parts = append(parts, ps)
		}
		a = sum(append(parts, y)...)
	}
	return crypt64(a)
}

// crypt64 encodes a digest in crypt's own order and alphabet.
func crypt64(d []byte) string {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out strings.Builder
	put := func(v uint32, n int) {
		for range n {
			out.WriteByte(alphabet[v&63])
			v >>= 6
		}
	}
	i, j, k := 0, 10, 20
	for range 10 {
		put(uint32(d[i])<<16|uint32(d[j])<<8|uint32(d[k]), 4)
		i, j, k = k+1, i+1, j+1
	}
	put(uint32(d[31])<<8|uint32(d[30]), 3)
	return out.String()
}
