package postgres

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
)

// TestVerifier checks the example of RFC 7677, section 3: with the stored key,
// the client's proof must give the client key, and the server key must give the
// server's signature.
func TestVerifier(t *testing.T) {
	t.Parallel()
	const salt64 = "W22ZaJ0SNY7soEsUEjb6gQ=="
	decode := func(s string) []byte {
		t.Helper()
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v, err := verifier("pencil", decode(salt64), 4096)
	if err != nil {
		t.Fatal(err)
	}
	keys, ok := strings.CutPrefix(v, "SCRAM-SHA-256$4096:"+salt64+"$")
	if !ok {
		t.Fatalf("got %s", v)
	}
	stored64, server64, _ := strings.Cut(keys, ":")
	stored, server := decode(stored64), decode(server64)
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=" + salt64 + ",i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	key := decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=") // the proof
	for i, b := range sign(stored, message) {
		key[i] ^= b
	}
	if sum := sha256.Sum256(key); !hmac.Equal(sum[:], stored) {
		t.Error("the stored key does not accept the client's proof")
	}
	if got, want := base64.StdEncoding.EncodeToString(sign(server, message)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; got != want {
		t.Errorf("server signature: got %s, want %s", got, want)
	}
}
