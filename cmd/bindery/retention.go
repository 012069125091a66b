package main

import (
	"context"
	"log/slog"
	"time"

	"bindery"
	"bindery/config"
)

const (
	pruneEvery = time.Hour
	// longestList is longer than a revocation list can live.
	longestList = 62 * 24 * time.Hour
	// pruneBatch bounds one transaction: others wait for it.
	pruneBatch = 500
)

// A pruner removes finished operations, audit events and records of
// authentications that are older than their retention.
type pruner struct {
	store     bindery.Store
	retention config.Retention
	log       *slog.Logger
	now       func() time.Time
}

// Run prunes at once and then regularly, until ctx ends. A store that does not
// answer is tried again at the next time.
func (p *pruner) Run(ctx context.Context) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if err := p.prune(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("old records could not be removed", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *pruner) prune(ctx context.Context) error {
	now := p.now()
	for _, remove := range []func(bindery.Tx) (int, error){
		func(tx bindery.Tx) (int, error) {
			return tx.Operations().Prune(ctx, now.Add(-p.retention.Operations), pruneBatch)
		},
		func(tx bindery.Tx) (int, error) {
			return tx.Events().Prune(ctx, now.Add(-p.retention.Events), pruneBatch)
		},
		func(tx bindery.Tx) (int, error) { // what has expired is on no list any more
			return tx.Certificates().Prune(ctx, now.Add(-max(p.retention.Operations, longestList)), pruneBatch)
		},
		func(tx bindery.Tx) (int, error) {
			return tx.Authentications().Prune(ctx, now.Add(-p.retention.Authentications), pruneBatch)
		},
	} {
		for more := true; more; {
			err := p.store.Update(ctx, func(tx bindery.Tx) error {
				n, err := remove(tx)
				more = n == pruneBatch
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
