package main

import (
	"context"
	"log/slog"
	"time"
)

// restartPause is how long a server that stopped by itself stays down, so that
// one that cannot start does not keep the machine busy.
const restartPause = time.Second

// supervise starts servers again that stopped by themselves, until ctx ends.
func supervise(ctx context.Context, log *slog.Logger, all []devBackend) error {
	g := newGroup()
	for _, b := range all {
		if b.process == nil {
			continue
		}
		g.run(ctx, b.Name, func(ctx context.Context) error {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-b.process.Exited():
					log.Error("a server has stopped by itself and is started again", "server", b.Name)
					if err := b.process.Start(ctx); err != nil && ctx.Err() == nil {
						log.Error("start a server", "server", b.Name, "error", err.Error())
					}
					select {
					case <-ctx.Done():
					case <-time.After(restartPause):
					}
				}
			}
			return nil
		})
	}
	g.running.Wait()
	return g.failure()
}
