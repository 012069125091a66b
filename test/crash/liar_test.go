package crash_test

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/jwt/v2"
	_ "modernc.org/sqlite"
)

// A manner is what a server does that is told to remove an account.
type manner string

const (
	honest   manner = "removes it"
	refusing manner = "says that it cannot" // and keeps it
	lying    manner = "says that it did"    // and keeps it
)

// liars is a world whose servers need not do what they are told.
type liars struct {
	*world
	nats natsMemory
}

// newLiars starts a world of all kinds whose revocation is proven, and Bindery. All are honest.
func newLiars(t *testing.T) *liars {
	t.Helper()
	l := &liars{world: newWorld(t, raced, func(s *settings) {
		s.Further, s.Proxied, s.SyncBudget = provable, true, "500ms"
	})}
	l.start()
	l.proxies["nats"].Alter(l.nats.altered(honest))
	return l
}

// behave sets how a service's server treats the removal of an account from now on.
// What stands between Bindery and the server knows as much of their protocol as that
// takes; logins are never touched.
func (l *liars) behave(ctx context.Context, service, account string, m manner) error {
	switch service {
	case "mtls":
		return l.behaveMTLS(ctx, m)
	case "nats":
		l.proxies[service].Alter(l.nats.altered(m))
	default:
		l.proxies[service].Alter(altered(service, account, m))
	}
	return nil
}

// altered is what makes requests to a server such that it does nothing: ones that it
// refuses, or ones about an account that nobody has, of which it truly says that it is not there.
func altered(service, account string, m manner) func([]byte) []byte {
	if m == honest {
		return nil
	}
	nobody := "bdz_" + account[len("bdz_"):] // as long: some protocols count
	var pairs []string
	about := func(before, after string) { pairs = append(pairs, before+account+after, before+nobody+after) }
	switch {
	case service == redisService && m == refusing:
		pairs = []string{"DELUSER", "DELUSEX"}
	case service == redisService:
		for _, command := range []string{"DELUSER", "GETUSER"} {
			about(fmt.Sprintf("%s\r\n$%d\r\n", command, len(account)), "\r\n")
		}
	case service == postgresService && m == refusing:
		pairs = []string{"DROP ROLE", "DROP ROLX"}
	case service == postgresService:
		about(`"`, `"`)
		about(`'`, `'`)
	case service == "mysql" && m == refusing:
		pairs = []string{"DROP USER", "DROP USEX"}
	case service == "mysql":
		about(`'`, `'`)
	case service == "rabbitmq" && m == refusing:
		pairs = []string{"DELETE /api/users/", "PATCH /api/users/"}
	case service == "rabbitmq":
		about("/users/", "")
		about("/username/", "")
	case service == "oauth" && m == refusing:
		pairs = []string{"DELETE /", "PATCH /"}
	case service == "oauth":
		pairs = []string{"DELETE /", "GET /"} // the answer to which is 200 as well
	default:
		panic("no such service: " + service)
	}
	replacer := strings.NewReplacer(pairs...)
	return func(piece []byte) []byte { return []byte(replacer.Replace(string(piece))) }
}

// A natsMemory is what stands before a NATS server: it knows which claims it was told
// of accounts with users, as a server has them that was restored from an older state.
type natsMemory struct {
	mu    sync.Mutex
	known map[string]string // JWTs by account
}

var natsUpdate = regexp.MustCompile(`PUB \$SYS\.REQ\.CLAIMS\.UPDATE (\S+) \d+\r\n(\S+)\r\n`)

func (n *natsMemory) altered(m manner) func([]byte) []byte {
	return func(piece []byte) []byte {
		return natsUpdate.ReplaceAllFunc(piece, func(update []byte) []byte {
			found := natsUpdate.FindSubmatch(update)
			inbox, token := string(found[1]), string(found[2])
			claims, err := jwt.DecodeAccountClaims(token)
			if err != nil {
				return update
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			old := n.known[claims.Subject]
			switch {
			case m == refusing:
				return []byte(strings.Replace(string(update), "CLAIMS.UPDATE", "CLAIMS.UNHEARD", 1))
			case m == lying && old != "":
				return fmt.Appendf(nil, "PUB $SYS.REQ.CLAIMS.UPDATE %s %d\r\n%s\r\n", inbox, len(old), old)
			case m == honest && len(claims.SigningKeys) > 0:
				if n.known == nil {
					n.known = map[string]string{}
				}
				n.known[claims.Subject] = token
			}
			return update
		})
	}
}

// behaveMTLS changes the table of certificates behind Bindery's back: there is no
// server beside it.
func (l *liars) behaveMTLS(ctx context.Context, m manner) error {
	db, err := sql.Open("sqlite", l.file(l.settings.Store)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	statements := "DROP TRIGGER IF EXISTS crash;"
	const revoked = "CREATE TRIGGER crash AFTER UPDATE OF revoked ON certificates WHEN NEW.revoked > 0 BEGIN "
	switch m {
	case refusing:
		statements += revoked + "SELECT RAISE(ABORT, 'crash'); END"
	case lying:
		statements += revoked + "UPDATE certificates SET revoked = 0 WHERE id = NEW.id; END"
	}
	_, err = db.ExecContext(ctx, statements)
	return err
}
