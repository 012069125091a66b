package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

// staleAfter is how long a process seals with a data key before it looks for a
// newer one, which another replica may have made. Only PostgreSQL has others.
const staleAfter = 10 * time.Second

// A vault seals and opens the secret columns with the store's data keys.
type vault struct {
	keys         bindery.Keyring
	installation string
	mu           sync.Mutex // serializes changes of set
	set          atomic.Pointer[keySet]
}

// A keySet is what a process knows of the data keys; immutable.
type keySet struct {
	current int64
	sealers map[int64]bindery.Sealer
	read    time.Time
}

func newVault(keys bindery.Keyring) *vault {
	v := &vault{keys: keys}
	v.set.Store(&keySet{})
	return v
}

// place binds a wrapped data key to its store and its id.
func (v *vault) place(id int64) []byte {
	return []byte(v.installation + "/data_keys/" + strconv.FormatInt(id, 10))
}

// load unwraps all data keys, and makes the first one of a new store. A data key
// that cannot be unwrapped refuses the store: the master key is not the one, and
// what would be written now could not be read together with what is there.
func (v *vault) load(ctx context.Context, db *sql.DB, d dialect, installation string) error {
	v.installation = installation
	var any bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM data_keys)`).Scan(&any); err != nil {
		return err
	}
	if !any {
		wrapped, err := v.keys.Generate(v.place(1))
		if err != nil {
			return err
		}
		// A replica that starts at the same time may be first.
		_, err = db.ExecContext(ctx, d.rebind(`INSERT INTO data_keys (id, created, wrapped) VALUES (1, ?, ?) ON CONFLICT DO NOTHING`),
			now(), wrapped)
		if err != nil {
			return err
		}
	}
	return v.reload(ctx, db, true)
}

// reload reads the data keys again. At start-up every one must open. Later one
// that does not (a replica with a newer master key made it) is left alone: this
// process goes on with those that it has.
func (v *vault) reload(ctx context.Context, db *sql.DB, strict bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := db.QueryContext(ctx, `SELECT id, wrapped FROM data_keys ORDER BY id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err tells the same
	old := v.set.Load()
	next := &keySet{sealers: make(map[int64]bindery.Sealer), read: time.Now()}
	for rows.Next() {
		var id int64
		var wrapped []byte
		if err := rows.Scan(&id, &wrapped); err != nil {
			return err
		}
		s, known := old.sealers[id]
		if !known {
			s, err = v.keys.Unwrap(wrapped, v.place(id))
			if err != nil && !strict {
				continue
			}
			if err != nil {
				return fmt.Errorf("the sealing key is not this store's: data key %d: %w", id, err)
			}
		}
		next.sealers[id], next.current = s, id
	}
	if err := rows.Err(); err != nil {
		return err
	}
	v.set.Store(next)
	return nil
}

func (v *vault) stale() bool { return time.Since(v.set.Load().read) > staleAfter }

// add makes a data key known: the current one where it is the newest.
func (v *vault) add(id int64, s bindery.Sealer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := *v.set.Load()
	next.sealers = maps.Clone(next.sealers)
	next.sealers[id] = s
	next.current = max(next.current, id)
	v.set.Store(&next)
}

// forget drops a data key that seals nothing any more.
func (v *vault) forget(id int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := *v.set.Load()
	next.sealers = maps.Clone(next.sealers)
	delete(next.sealers, id)
	v.set.Store(&next)
}

// A column is where a secret is kept.
type column struct{ table, name string }

// The sealed columns; rotation visits them all.
var (
	instanceParameters = column{"instances", "parameters"}
	bindingParameters  = column{"bindings", "parameters"}
	accountMaterial    = column{"accounts", "material"}
	operationRequest   = column{"operations", "request"}
	authMethodMaterial = column{"auth_methods", "material"}
	stockMaterial      = column{"stock", "material"}
	authorityKey       = column{"authorities", "private_key"}
	sealedColumns      = []column{
		instanceParameters, bindingParameters, accountMaterial, operationRequest, authMethodMaterial, stockMaterial, authorityKey,
	}
)

// at appends the place of a value to buf.
func (c column) at(buf []byte, row int64) []byte {
	buf = append(append(buf, c.table...), '/')
	buf = append(strconv.AppendInt(buf, row, 10), '/')
	return append(buf, c.name...)
}

// seal returns what goes into seal_key and the column: both NULL for an empty secret.
func (v *vault) seal(c column, row int64, s bindery.Secret) (key, sealed any) {
	if s.Empty() {
		return nil, nil
	}
	var place [64]byte
	set := v.set.Load()
	return set.current, set.sealers[set.current].Seal(nil, []byte(s.Reveal()), c.at(place[:0], row))
}

// A sealed value as it is kept.
type sealed struct {
	key   sql.NullInt64
	value []byte
}

// A sealedTable says how the rows of a table become records with a secret.
type sealedTable[T any] struct {
	column column
	scan   func(*sql.Rows, *T, *sealed) error
	// secret is where the record keeps what is sealed, and its row.
	secret func(*T) (row int64, value *bindery.Secret)
}

// all reads rows. It opens what is sealed when it has them all: a data key may have
// to be read first, and a connection to PostgreSQL runs one query at a time.
func (s sealedTable[T]) all(ctx context.Context, t *tx, text string, long bool, args ...any) ([]T, error) {
	var out []T
	var values []sealed
	err := t.each(ctx, text, args, long, func(rows *sql.Rows) error {
		var none T
		out, values = append(out, none), append(values, sealed{})
		return s.scan(rows, &out[len(out)-1], &values[len(values)-1])
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		row, value := s.secret(&out[i])
		if *value, err = t.open(ctx, s.column, row, values[i].key, values[i].value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// one returns the first row, or the error.
func (s sealedTable[T]) one(ctx context.Context, t *tx, missing error, text string, args ...any) (T, error) {
	found, err := s.all(ctx, t, text, false, args...)
	if err == nil && len(found) == 0 {
		err = missing
	}
	if err != nil {
		var none T
		return none, err
	}
	return found[0], nil
}

// open is the other way. A data key that this process has not seen yet is read in
// the transaction that needs it.
func (t *tx) open(ctx context.Context, c column, row int64, key sql.NullInt64, sealed []byte) (bindery.Secret, error) {
	if !key.Valid {
		return bindery.Secret{}, nil
	}
	s, err := t.sealer(ctx, key.Int64)
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("open %s of row %d: %w", c.table, row, err)
	}
	var place [64]byte
	value, err := s.Open(nil, sealed, c.at(place[:0], row))
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("open %s of row %d: %w", c.table, row, err)
	}
	return bindery.NewSecret(string(value)), nil
}

func (t *tx) sealer(ctx context.Context, id int64) (bindery.Sealer, error) {
	v := t.store.vault
	if s, ok := v.set.Load().sealers[id]; ok {
		return s, nil
	}
	var wrapped []byte
	found, err := t.get(ctx, `SELECT wrapped FROM data_keys WHERE id = ?`, []any{id}, &wrapped)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("data key %d is missing", id)
	}
	s, err := v.keys.Unwrap(wrapped, v.place(id))
	if err != nil {
		return nil, err
	}
	v.add(id, s)
	return s, nil
}
