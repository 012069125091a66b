package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"bindery/devserver"
)

// chosenPostgres is where the PostgreSQL of the major version in
// BINDERY_TEST_POSTGRES is. Without one it is empty, which is the newest.
func chosenPostgres() (binDir string, err error) {
	version := os.Getenv("BINDERY_TEST_POSTGRES")
	if version == "" {
		return "", nil
	}
	found := devserver.FindPostgres()
	i := slices.IndexFunc(found, func(b devserver.PostgresBinaries) bool { return strconv.Itoa(b.Version) == version })
	if i < 0 {
		return "", fmt.Errorf("PostgreSQL %s: %w", version, devserver.ErrMissing)
	}
	return found[i].BinDir, nil
}

// preparePostgres makes the server that dev goes on with, where a version was
// chosen: before 13 only superusers can create the extensions that plans offer.
func preparePostgres(dir, binDir string) (err error) {
	if binDir == "" {
		return nil
	}
	ctx := context.Background()
	p, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: dir, BinDir: binDir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(ctx)) }()
	c, err := pgx.Connect(ctx, p.SuperURL("template1").Reveal())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if p.Version < 13 {
		_, err = c.Exec(ctx, "CREATE EXTENSION pg_trgm; CREATE EXTENSION citext")
	}
	return err
}
