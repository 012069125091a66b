package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bindery/devserver"
)

// bareNATS gives accounts signing keys, and takes them away: one signed update
// of the whole account each, as the server has no other way.
type bareNATS struct {
	server   *devserver.NATS
	operator nkeys.KeyPair
	conns    []*nats.Conn
	accounts sync.Map // of numbers to bareAccounts
	keys     sync.Map // of serials to signing keys
}

// A bareAccount is one that whoever holds the lock may update: there is no
// compare-and-swap.
type bareAccount struct {
	sync.Mutex
	claims *jwt.AccountClaims
}

// bareKeys is how many keys an account gets before another one is used: an update
// is as long as there are keys, and Bindery's instances have about so many here.
const bareKeys = 50

func (*bareNATS) name() string { return "an update of an account" }

func (n *bareNATS) connect(_ context.Context, clients int) (err error) {
	if n.operator, err = nkeys.FromSeed([]byte(n.server.OperatorSeed.Reveal())); err != nil {
		return err
	}
	for range clients {
		c, err := nats.Connect(n.server.Addr, nats.UserCredentialBytes([]byte(n.server.AdminCreds.Reveal())))
		if err != nil {
			return err
		}
		n.conns = append(n.conns, c)
	}
	return nil
}

func (n *bareNATS) disconnect() {
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

// account is where a key goes: as many accounts are in use at once as Bindery has instances.
func (n *bareNATS) account(serial int64) (*bareAccount, error) {
	number := serial/(instancesOfKind*bareKeys)*instancesOfKind + serial%instancesOfKind
	if a, ok := n.accounts.Load(number); ok {
		return a.(*bareAccount), nil
	}
	key, err := newAccountKey()
	if err != nil {
		return nil, err
	}
	a, _ := n.accounts.LoadOrStore(number, &bareAccount{claims: jwt.NewAccountClaims(key)})
	return a.(*bareAccount), nil
}

func newAccountKey() (string, error) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		return "", err
	}
	return pair.PublicKey()
}

func (n *bareNATS) create(ctx context.Context, client int, serial int64) error {
	key, err := newAccountKey()
	if err != nil {
		return err
	}
	n.keys.Store(serial, key)
	return n.update(ctx, client, serial, func(c *jwt.AccountClaims) {
		scope := jwt.NewUserScope()
		scope.Key, scope.Role = key, bareUser(serial)
		c.SigningKeys.AddScopedSigner(scope)
	})
}

func (n *bareNATS) remove(ctx context.Context, client int, serial int64) error {
	key, _ := n.keys.LoadAndDelete(serial)
	return n.update(ctx, client, serial, func(c *jwt.AccountClaims) { c.SigningKeys.Remove(key.(string)) })
}

func (n *bareNATS) update(ctx context.Context, client int, serial int64, change func(*jwt.AccountClaims)) error {
	a, err := n.account(serial)
	if err != nil {
		return err
	}
	a.Lock()
	defer a.Unlock()
	change(a.claims)
	token, err := a.claims.Encode(n.operator)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := n.conns[client].RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(token))
	if err != nil {
		return err
	}
	var said struct {
		Data struct{ Code int }
	}
	if err := json.Unmarshal(answer.Data, &said); err != nil || said.Data.Code != 200 {
		return fmt.Errorf("the server says %.200s", answer.Data)
	}
	return nil
}
