package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"bindery"
)

// A Platform is a caller of the service broker face, with every pair of user
// name and password that proves it, so that one can be changed without an outage.
type Platform struct {
	Name        string
	Credentials []Credential
}

// A Credential is a user name and a password.
type Credential struct {
	Username string
	Password bindery.Secret
}

// Platforms knows whose credentials are whose. The zero value knows nobody. It
// may be set while calls are checked: each check uses one whole set.
type Platforms struct{ set atomic.Pointer[[]pair] }

type pair struct {
	username, password [sha256.Size]byte
	platform           string
}

// Set replaces all platforms. Nothing changes where it returns an error: a
// credential without a name or password, or one that two platforms share.
func (p *Platforms) Set(platforms []Platform) error {
	var pairs []pair
	var problems []error
	for _, pl := range platforms {
		if pl.Name == "" {
			problems = append(problems, errors.New("a platform without a name"))
		}
		for _, cr := range pl.Credentials {
			if cr.Username == "" || strings.Contains(cr.Username, ":") || cr.Password.Empty() {
				problems = append(problems,
					fmt.Errorf("platform %s: a credential needs a user name without a colon, and a password", pl.Name))
				continue
			}
			added := pair{sha256.Sum256([]byte(cr.Username)), sha256.Sum256([]byte(cr.Password.Reveal())), pl.Name}
			for _, other := range pairs {
				if other.username == added.username && other.password == added.password && other.platform != pl.Name {
					problems = append(problems,
						fmt.Errorf("platforms %s and %s share a credential", other.platform, pl.Name))
				}
			}
			pairs = append(pairs, added)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	p.set.Store(&pairs)
	return nil
}

// Check says which platform sent the request. It compares hashes, which have one
// length, with all of the set, so that the time it takes says nothing.
func (p *Platforms) Check(r *http.Request) (platform string, ok bool) {
	username, password, sent := r.BasicAuth()
	set := p.set.Load()
	if !sent || set == nil {
		return "", false
	}
	u, pw := sha256.Sum256([]byte(username)), sha256.Sum256([]byte(password))
	found := -1
	for i := range *set {
		e := &(*set)[i]
		same := subtle.ConstantTimeCompare(u[:], e.username[:]) & subtle.ConstantTimeCompare(pw[:], e.password[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return "", false
	}
	return (*set)[found].platform, true
}

// Tokens knows the bearer tokens of a face. The zero value knows none. It may
// be set while calls are checked.
type Tokens struct {
	set atomic.Pointer[[][sha256.Size]byte]
}

// Set replaces all tokens. Nothing changes where it returns an error: an empty one.
func (t *Tokens) Set(tokens []bindery.Secret) error {
	hashes := make([][sha256.Size]byte, len(tokens))
	for i, s := range tokens {
		if s.Empty() {
			return errors.New("an empty token")
		}
		hashes[i] = sha256.Sum256([]byte(s.Reveal()))
	}
	t.set.Store(&hashes)
	return nil
}

// Check says whether the request carries one of the tokens.
func (t *Tokens) Check(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	set := t.set.Load()
	if !strings.EqualFold(scheme, "Bearer") || set == nil {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	same := 0
	for i := range *set {
		same |= subtle.ConstantTimeCompare(sum[:], (*set)[i][:])
	}
	return same == 1
}

// Unauthorized is the error of a call whose credentials prove nobody, with the
// challenge, "Basic" or "Bearer", that goes with it.
func (c *Call) Unauthorized(scheme string) error {
	challenge := scheme + ` realm="bindery"`
	if scheme == "Basic" {
		challenge += `, charset="UTF-8"`
	}
	c.Header()["Www-Authenticate"] = []string{challenge}
	return errUnauthorized
}

var errUnauthorized = bindery.Errorf(bindery.CodeUnauthorized, "the credentials of this request are missing or wrong")
