package nats

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// All that is sent to the server's system account. Subjects are made of public keys
// and ids alone. What the subjects are is in setup.sh too.
const (
	updateSubject = "$SYS.REQ.CLAIMS.UPDATE"
	deleteSubject = "$SYS.REQ.CLAIMS.DELETE"
	packSubject   = "$SYS.REQ.CLAIMS.PACK"
)

func lookupSubject(account string) string { return "$SYS.REQ.ACCOUNT." + account + ".CLAIMS.LOOKUP" }
func connzSubject(account string) string  { return "$SYS.REQ.ACCOUNT." + account + ".CONNZ" }
func purgeSubject(account string) string  { return "$JS.API.ACCOUNT.PURGE." + account }
func kickSubject(server string) string    { return "$SYS.REQ.SERVER." + server + ".KICK" }
func statszSubject(server string) string  { return "$SYS.REQ.SERVER." + server + ".STATSZ" }

// A reply is the server's answer to most requests.
type reply struct {
	Data  json.RawMessage `json:"data"`
	Error *struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
}

// A refusal is a server's no.
type refusal struct{ what, why string }

func (r *refusal) Error() string { return r.what + ": the server says: " + r.why }

// ask sends a request, and reads the data of the reply into target, if that is not nil.
func (c *conn) ask(ctx context.Context, subject string, payload []byte, target any) error {
	raw, err := c.request(ctx, subject, payload)
	if err != nil {
		return err
	}
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		return unavailable(fmt.Errorf("%s: %w", subject, err))
	}
	if r.Error != nil {
		return unavailable(&refusal{subject, r.Error.Description})
	}
	if target == nil {
		return nil
	}
	if err := json.Unmarshal(r.Data, target); err != nil {
		return unavailable(fmt.Errorf("%s: %w", subject, err))
	}
	return nil
}

// lookup returns an account's claims; nil: there is none. A file that a crash left
// half written is none: the server lets nobody in by it.
func (c *conn) lookup(ctx context.Context, account string) (*jwt.AccountClaims, error) {
	raw, err := c.request(ctx, lookupSubject(account), nil)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.DecodeAccountClaims(string(raw))
	if err != nil || claims.Subject != account {
		return nil, nil //nolint:nilerr,nilnil // see above
	}
	return claims, nil
}

// errTooLarge: the claims do not fit into a message.
var errTooLarge = errors.New("the account's JWT is larger than the server's max_payload")

// push makes the claims the account's. When the server has answered, it has ended
// the sessions that they no longer allow.
func (c *conn) push(ctx context.Context, claims *jwt.AccountClaims, operator nkeys.KeyPair) error {
	token, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sign an account: %w", err)
	}
	if int64(len(token)) > c.nc.MaxPayload() {
		return errTooLarge
	}
	return c.ask(ctx, updateSubject, []byte(token), nil)
}

// remove deletes an account. A missing one is success.
func (c *conn) remove(ctx context.Context, account string, operator nkeys.KeyPair) error {
	key, err := operator.PublicKey()
	if err != nil {
		return err
	}
	claims := jwt.NewGenericClaims(key)
	claims.Data["accounts"] = []string{account}
	token, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sign a deletion: %w", err)
	}
	return c.ask(ctx, deleteSubject, []byte(token), nil)
}

// purge removes everything that an account has stored.
func (c *conn) purge(ctx context.Context, account string) error {
	raw, err := c.request(ctx, purgeSubject(account), nil)
	if errors.Is(err, natsgo.ErrNoResponders) {
		return nil // a server without JetStream
	}
	if err != nil {
		return err
	}
	var r struct {
		Initiated bool            `json:"initiated"`
		Error     json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &r); err != nil || !r.Initiated {
		return unavailable(&refusal{"purge", string(r.Error)})
	}
	return nil
}

// A client is a connection that the server has.
type client struct {
	ID     uint64 `json:"cid"`
	Name   string `json:"name"`       // which the client gives
	User   string `json:"name_tag"`   // which the user JWT gives
	Issuer string `json:"issuer_key"` // which signed that
}

// clientsPage is how many connections are asked for at once.
const clientsPage = 1000

// clients returns an account's connections.
func (c *conn) clients(ctx context.Context, account string) ([]client, error) {
	var all []client
	for {
		payload, err := json.Marshal(map[string]any{"auth": true, "limit": clientsPage, "offset": len(all), "sort": "cid"})
		if err != nil {
			return nil, err
		}
		var page struct {
			Connections []client `json:"connections"`
		}
		if err := c.ask(ctx, connzSubject(account), payload, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Connections...)
		if len(page.Connections) < clientsPage {
			return all, nil
		}
	}
}

// kick ends a connection. One that is no longer there is success.
func (c *conn) kick(ctx context.Context, id uint64) error {
	payload, err := json.Marshal(map[string]any{"cid": id})
	if err != nil {
		return err
	}
	err = c.ask(ctx, kickSubject(c.server), payload, nil)
	if r, ok := errors.AsType[*refusal](err); ok && strings.HasPrefix(r.why, "no such client") {
		return nil
	}
	return err
}

// walk calls visit for every account that the server has. The request is the one by
// which the servers of a cluster compare their accounts: whoever sends another hash than
// the server's own gets all of them, a message each, and an empty one at the end.
func (c *conn) walk(ctx context.Context, visit func(*jwt.AccountClaims)) error {
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return c.failed(ctx, "subscribe", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return c.failed(ctx, "subscribe", err)
	}
	hash := make([]byte, 32)
	rand.Read(hash)
	if err := c.nc.PublishRequest(packSubject, inbox, hash); err != nil {
		return c.failed(ctx, packSubject, err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return c.failed(ctx, packSubject, err)
		}
		if m.Header.Get("Status") == "503" {
			return unavailable(fmt.Errorf("%s: %w", packSubject, natsgo.ErrNoResponders))
		}
		if len(m.Data) == 0 {
			return nil
		}
		_, token, _ := bytes.Cut(m.Data, []byte("|"))
		if claims, err := jwt.DecodeAccountClaims(string(token)); err == nil {
			visit(claims)
		}
	}
}
