package store

import (
	"context"
	"errors"
)

func openPostgres(ctx context.Context, dsn string, o Options, s *Store) (engine, error) {
	return nil, errors.New("not yet")
}
