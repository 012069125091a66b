package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// A dialect is what differs between the databases in a statement's text.
type dialect struct {
	name  string // the folder of its migrations
	goose goose.Dialect
	// skipLocked ends a subquery that claims rows: replicas then pass over each
	// other's instead of waiting for them. One SQLite writer has no others.
	skipLocked string
	// elements makes rows (key, value) of a JSON list of texts, in order of key.
	elements string
	rebind   func(string) string
}

var (
	sqliteDialect = dialect{
		name: "sqlite", goose: goose.DialectSQLite3, elements: "json_each(?)", rebind: func(text string) string { return text },
	}
	postgresDialect = dialect{
		name: "postgres", goose: goose.DialectPostgres, skipLocked: " FOR UPDATE SKIP LOCKED",
		elements: "json_array_elements_text(CAST(? AS json)) WITH ORDINALITY AS json_each (value, key)", rebind: numbered,
	}
)

// rebound remembers what numbered made: the texts are few, and built from constants.
var rebound sync.Map

// numbered turns each ? into $1, $2, …. No statement of this package has a ?
// that is not a parameter.
func numbered(text string) string {
	if done, ok := rebound.Load(text); ok {
		return done.(string)
	}
	var out strings.Builder
	n := 0
	for _, c := range []byte(text) {
		if c != '?' {
			out.WriteByte(c)
			continue
		}
		n++
		out.WriteByte('$')
		out.WriteString(strconv.Itoa(n))
	}
	rebound.Store(text, out.String())
	return out.String()
}

// migrate brings the schema to this program's version. A newer one is refused:
// this program does not know what its rows mean.
func migrate(ctx context.Context, db *sql.DB, d dialect) error {
	folder, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if d.name == postgresDialect.name {
		// Replicas that start together migrate one after the other.
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(d.goose, db, folder, options...)
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have > want {
		return fmt.Errorf("the store's schema is version %d, newer than this program's %d: start a newer bindery", have, want)
	}
	if have == want {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the store: %w", err)
	}
	return nil
}
