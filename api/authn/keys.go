package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"bindery"
	"bindery/exchange"
)

// The roles of keys.
const (
	RoleAdmin    = "admin"
	RoleReadOnly = "read-only"
)

// A Key lets somebody administer the face.
type Key struct {
	Name   string
	Secret bindery.Secret
	Role   string // [RoleAdmin] or [RoleReadOnly]
	// Services are the names of the service types that it is limited to; nil: all.
	Services []string
}

// Keys knows the keys. The zero value knows none. It may be set while calls are
// checked: each check uses one whole set.
type Keys struct{ set atomic.Pointer[[]known] }

type known struct {
	sum    [sha256.Size]byte
	caller exchange.Caller
}

// Set replaces all keys. Nothing changes where it returns an error: a key
// without a name, a secret or a known role, one that is limited to nothing, or two that are the same.
func (k *Keys) Set(keys []Key) error {
	set := make([]known, 0, len(keys))
	var problems []error
	for _, key := range keys {
		sum := sha256.Sum256([]byte(key.Secret.Reveal()))
		switch {
		case key.Name == "":
			problems = append(problems, errors.New("a key without a name"))
		case key.Secret.Empty():
			problems = append(problems, fmt.Errorf("key %s is empty", key.Name))
		case key.Role != RoleAdmin && key.Role != RoleReadOnly:
			problems = append(problems, fmt.Errorf("key %s has no known role", key.Name))
		case key.Services != nil && len(key.Services) == 0:
			problems = append(problems, fmt.Errorf("key %s is limited to no service type at all", key.Name))
		case slices.ContainsFunc(set, func(o known) bool { return o.sum == sum }):
			problems = append(problems, fmt.Errorf("key %s is that of somebody else too", key.Name))
		}
		set = append(set, known{sum, exchange.Caller{
			Name: key.Name, ReadOnly: key.Role == RoleReadOnly, Services: slices.Clone(key.Services),
		}})
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	k.set.Store(&set)
	return nil
}

// Check says whose key the request carries, and whether it carries any. A
// client may send one in the header x-api-key, in the query parameter "key", which clients of
// old do and which ends in the logs of proxies, and as a bearer token; one
// that is right is enough.
func (k *Keys) Check(r *http.Request) (by exchange.Caller, sent, ok bool) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		bearer = ""
	}
	parameter := ""
	if r.URL.RawQuery != "" {
		parameter = r.URL.Query().Get("key")
	}
	for _, key := range [...]string{r.Header.Get("X-Api-Key"), parameter, strings.TrimLeft(bearer, " ")} {
		if key == "" {
			continue
		}
		sent = true
		if by, ok = k.find(key); ok {
			return by, true, true
		}
	}
	return exchange.Caller{}, sent, false
}

// find compares hashes, which have one length, with all of the set, so that the
// time it takes says nothing.
func (k *Keys) find(key string) (exchange.Caller, bool) {
	set := k.set.Load()
	if set == nil {
		return exchange.Caller{}, false
	}
	sum, found := sha256.Sum256([]byte(key)), -1
	for i := range *set {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], (*set)[i].sum[:]), i, found)
	}
	if found < 0 {
		return exchange.Caller{}, false
	}
	return (*set)[found].caller, true
}
