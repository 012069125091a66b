package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bindery"
)

func unfit(cause error) error {
	return bindery.Errorf(bindery.CodeUnavailable, "the NATS server cannot be administered").Because(cause)
}

// try finds out whether the server lets Bindery do everything. It is told to do
// things to an account that there is not.
func (c *conn) try(ctx context.Context, operator nkeys.KeyPair) error {
	var stats struct {
		Routes   []any `json:"routes"`
		Gateways []any `json:"gateways"`
	}
	// Data is not where it is in other replies.
	raw, err := c.request(ctx, statszSubject(c.server), nil)
	if err != nil {
		return err
	}
	if err := decodeStats(raw, &stats); err != nil {
		return unfit(err)
	}
	if len(stats.Routes)+len(stats.Gateways) > 0 {
		return unfit(errors.New("it is part of a cluster, and only standalone servers are supported"))
	}
	if _, err := c.lookup(ctx, c.link.nobody); err != nil {
		return err
	}
	// Refused by every resolver that takes updates: there may be no export.
	claims := jwt.NewAccountClaims(c.link.nobody)
	claims.Limits.Exports = 0
	claims.Exports = jwt.Exports{{Name: "x", Subject: "x", Type: jwt.Stream}}
	err = c.push(ctx, claims, operator)
	if r, ok := errors.AsType[*refusal](err); !ok || !strings.Contains(r.why, "exports") {
		return unfit(fmt.Errorf("a full resolver is needed: %w", err))
	}
	if err := c.mayWrite(ctx); err != nil {
		return err
	}
	if _, err := c.clients(ctx, c.link.system); err != nil {
		return err
	}
	if err := c.kick(ctx, 1<<62); err != nil {
		return err
	}
	// A name that the server refuses before it does anything.
	_, err = c.request(ctx, purgeSubject("a/b"), nil)
	if err != nil && !errors.Is(err, natsgo.ErrNoResponders) {
		return err
	}
	// Without a reply to send to, the server lists nothing; but says if it may not be asked.
	if err := c.nc.Publish(packSubject, nil); err != nil {
		return c.failed(ctx, packSubject, err)
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return c.failed(ctx, packSubject, err)
	}
	if err := c.nc.LastError(); err != nil {
		return c.failed(ctx, packSubject, err)
	}
	return nil
}

// mayWrite finds out whether the server trusts the operator's seed. A resolver keeps whatever
// account it is told, by whomever that is signed, and then lets nobody in; but it
// lets only its operator delete.
func (c *conn) mayWrite(ctx context.Context) error {
	err := c.remove(ctx, c.link.nobody, c.link.secrets.Operator)
	if _, ok := errors.AsType[*refusal](err); ok {
		return unfit(fmt.Errorf("deletion must be allowed, and the operator's seed be the right one: %w", err))
	}
	return err
}

// decodeStats reads a server's STATSZ.
func decodeStats(raw []byte, stats any) error {
	var r struct {
		Statsz json.RawMessage `json:"statsz"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	if len(r.Statsz) == 0 {
		r.Statsz = r.Data
	}
	return json.Unmarshal(r.Statsz, stats)
}
