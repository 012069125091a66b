package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"bindery"
)

// A DataKey is one of the keys that seal records.
type DataKey struct {
	ID      int64
	Master  string // the id of the master key that wraps it
	Created time.Time
	Records int  // how many it seals
	Current bool // new records are sealed with it
}

// SealStatus is what seals the store.
type SealStatus struct {
	Master string // the id of the current master key
	Keys   []DataKey
}

// Rotated says what a rotation did.
type Rotated struct {
	Key     int64 // the data key that seals everything now
	Resumed bool  // an earlier rotation was carried on; it had made the key
	Records int   // sealed anew
	Wrapped int   // data keys wrapped anew, under the current master key
	Dropped int   // data keys that sealed nothing any more
}

const (
	// sealBatch bounds one transaction of a rotation: others wait for it.
	sealBatch = 100
	// sealPasses bounds how often a rotation looks again for records that a
	// replica sealed with an old key meanwhile.
	sealPasses = 20
)

// SealStatus counts what each data key seals. It reads every record.
func (s *Store) SealStatus(ctx context.Context) (SealStatus, error) {
	out := SealStatus{Master: s.vault.keys.Master()}
	err := s.engine.view(ctx, func(t *tx) error {
		var err error
		if out.Keys, err = t.dataKeys(ctx); err != nil {
			return err
		}
		for _, c := range sealedColumns {
			err := t.each(ctx, `SELECT seal_key, COUNT(*) FROM `+c.table+` WHERE seal_key IS NOT NULL GROUP BY seal_key`, nil, true,
				func(rows *sql.Rows) error {
					var key int64
					var n int
					if err := rows.Scan(&key, &n); err != nil {
						return err
					}
					if i := slices.IndexFunc(out.Keys, func(k DataKey) bool { return k.ID == key }); i >= 0 {
						out.Keys[i].Records += n
					}
					return nil
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// dataKeys returns the keys in order of age: the last one is the current one.
func (t *tx) dataKeys(ctx context.Context) ([]DataKey, error) {
	var out []DataKey
	err := t.each(ctx, `SELECT id, created, wrapped FROM data_keys ORDER BY id`, nil, false, func(rows *sql.Rows) error {
		var k DataKey
		var created int64
		var wrapped []byte
		if err := rows.Scan(&k.ID, &created, &wrapped); err != nil {
			return err
		}
		k.Created, k.Master = fromMicros(created), t.store.vault.keys.MasterOf(wrapped)
		out = append(out, k)
		return nil
	})
	if err == nil && len(out) == 0 {
		return nil, fmt.Errorf("the store has no data key")
	}
	if err == nil {
		out[len(out)-1].Current = true
	}
	return out, err
}

// RotateSeal makes a new data key, seals every record with it, and drops the
// data keys that seal nothing any more; and it wraps all that stay under the
// current master key, after which the previous ones can go. Service goes on
// meanwhile. A rotation that was cut short is carried on. Progress, if not nil,
// is told the records done so far.
func (s *Store) RotateSeal(ctx context.Context, progress func(records int)) (Rotated, error) {
	var out Rotated
	if err := s.rotationKey(ctx, &out); err != nil {
		return out, fmt.Errorf("make a data key: %w", err)
	}
	for pass := 0; ; pass++ {
		for _, c := range sealedColumns {
			if err := s.reseal(ctx, c, &out, progress); err != nil {
				return out, fmt.Errorf("seal %s anew: %w", c.table, err)
			}
		}
		err := s.dropKeys(ctx, &out)
		if err == nil {
			return out, nil
		}
		// Another replica goes on with an old key until it looks for a newer one.
		if bindery.CodeOf(err) != bindery.CodeBusy || pass == sealPasses {
			return out, fmt.Errorf("drop old data keys: %w", err)
		}
		if !pause(ctx, pass+10) {
			return out, ended(ctx)
		}
	}
}

// rotationKey makes the new data key, or finds the one of a rotation that was
// cut short: then there is more than one. It re-wraps on the way.
func (s *Store) rotationKey(ctx context.Context, out *Rotated) error {
	v := s.vault
	var sealer bindery.Sealer
	err := s.engine.update(ctx, func(t *tx) error {
		keys, err := t.dataKeys(ctx)
		if err != nil {
			return err
		}
		out.Wrapped = 0
		for _, k := range keys {
			if k.Master == v.keys.Master() {
				continue
			}
			var wrapped []byte
			if _, err := t.get(ctx, `SELECT wrapped FROM data_keys WHERE id = ?`, []any{k.ID}, &wrapped); err != nil {
				return err
			}
			if wrapped, err = v.keys.Rewrap(wrapped, v.place(k.ID)); err != nil {
				return err
			}
			if _, err := t.exec(ctx, `UPDATE data_keys SET wrapped = ? WHERE id = ?`, wrapped, k.ID); err != nil {
				return err
			}
			out.Wrapped++
		}
		out.Resumed = len(keys) > 1
		out.Key = keys[len(keys)-1].ID
		if out.Resumed {
			sealer, err = t.sealer(ctx, out.Key)
			return err
		}
		out.Key++
		wrapped, err := v.keys.Generate(v.place(out.Key))
		if err != nil {
			return err
		}
		if sealer, err = v.keys.Unwrap(wrapped, v.place(out.Key)); err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO data_keys (id, created, wrapped) VALUES (?, ?, ?)`, out.Key, now(), wrapped)
		return err
	})
	if err != nil {
		return err
	}
	v.add(out.Key, sealer)
	// Whatever sealed with an old key before this line was inside a transaction.
	// On SQLite an empty one that starts now ends after it.
	return s.engine.update(ctx, func(*tx) error { return nil })
}

// reseal seals the records of one table with the new key. It looks for them in
// views, beside the service, and changes few at a time.
func (s *Store) reseal(ctx context.Context, c column, out *Rotated, progress func(int)) error {
	after := int64(0)
	for {
		var rows []int64
		err := s.engine.view(ctx, func(t *tx) error {
			rows = rows[:0]
			return t.each(ctx, `SELECT id FROM `+c.table+` WHERE seal_key IS NOT NULL AND seal_key <> ? AND id > ? ORDER BY id LIMIT ?`,
				[]any{out.Key, after, sealBatch}, true, func(r *sql.Rows) error {
					rows = append(rows, 0)
					return r.Scan(&rows[len(rows)-1])
				})
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		n := 0
		err = s.engine.update(ctx, func(t *tx) error {
			n = 0
			for _, row := range rows {
				done, err := t.resealRow(ctx, c, row, out.Key)
				if err != nil {
					return err
				}
				n += done
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = rows[len(rows)-1]
		out.Records += n
		if progress != nil {
			progress(out.Records)
		}
	}
}

func (t *tx) resealRow(ctx context.Context, c column, row, to int64) (int, error) {
	var key sql.NullInt64
	var sealed []byte
	found, err := t.get(ctx, `SELECT seal_key, `+c.name+` FROM `+c.table+` WHERE id = ?`, []any{row}, &key, &sealed)
	if err != nil || !found || !key.Valid || key.Int64 == to {
		return 0, err // it changed meanwhile, and whoever changed it sealed it
	}
	secret, err := t.open(ctx, c, row, key, sealed)
	if err != nil {
		return 0, err
	}
	sealer, err := t.sealer(ctx, to)
	if err != nil {
		return 0, err
	}
	var place [64]byte
	again := sealer.Seal(nil, []byte(secret.Reveal()), c.at(place[:0], row))
	_, err = t.exec(ctx, `UPDATE `+c.table+` SET seal_key = ?, `+c.name+` = ? WHERE id = ?`, to, again, row)
	return 1, err
}

// dropKeys removes the data keys before the new one. CodeBusy where one of them
// seals something still.
//
// The search runs beside the service, and its answer cannot grow old: on SQLite
// every later transaction seals with the new key, and on PostgreSQL the foreign
// keys refuse to drop what a replica has used meanwhile.
func (s *Store) dropKeys(ctx context.Context, out *Rotated) error {
	var old []int64
	err := s.engine.view(ctx, func(t *tx) error {
		old = old[:0]
		keys, err := t.dataKeys(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.ID < out.Key {
				old = append(old, k.ID)
			}
		}
		for _, c := range sealedColumns {
			used := false
			err := t.each(ctx, `SELECT 1 FROM `+c.table+` WHERE seal_key < ? LIMIT 1`, []any{out.Key}, true, func(*sql.Rows) error {
				used = true
				return nil
			})
			if err != nil {
				return err
			}
			if used {
				return errKeyUsed
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.engine.update(ctx, func(t *tx) error {
		t.drops = true
		_, err := t.exec(ctx, `DELETE FROM data_keys WHERE id < ?`, out.Key)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range old {
		s.vault.forget(id)
	}
	out.Dropped = len(old)
	return nil
}
