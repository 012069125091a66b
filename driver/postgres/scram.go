package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

const (
	// iterations is what PostgreSQL itself uses. Fewer would make binds faster,
	// and are refused by some clients.
	iterations = 4096
	saltBytes  = 16
)

// newVerifier returns what a server keeps in place of the password, with a fresh salt.
func newVerifier(password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	return verifier(password, salt, iterations)
}

// verifier derives a SCRAM-SHA-256 verifier (RFC 5802 section 3, RFC 7677) in
// the form that PostgreSQL stores. Given in CREATE ROLE in place of the
// password, it is all that a server's log can show.
func verifier(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive verifier: %w", err)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		iterations, b64(salt), b64(stored[:]), b64(sign(salted, "Server Key"))), nil
}

func sign(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}
