package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"bindery"
	"bindery/store/storetest"
)

// A sealedRecord is two records of one table, each with a secret, and how they are read.
type sealedRecord struct {
	add func(ctx context.Context, tx bindery.Tx, row int64) error
	// secrets reads them, in order of row, in every way that ends with several rows or one.
	secrets []func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error)
}

// secretsOf picks the secrets of what was read.
func secretsOf[T any](found []T, err error, of func(T) bindery.Secret) ([]bindery.Secret, error) {
	var out []bindery.Secret
	for _, f := range found {
		out = append(out, of(f))
	}
	return out, err
}

// secret is what the record in a row keeps.
func secret(row int64) bindery.Secret { return bindery.NewSecret(fmt.Sprintf(`{"n":%d}`, row)) }

// sealedRecords is every table that seals something.
var sealedRecords = map[string]sealedRecord{
	"instances": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			return tx.Instances().Add(ctx, bindery.Instance{Row: row, ID: fmt.Sprint(row), Parameters: secret(row)})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Instances().List(ctx, bindery.InstanceFilter{}, bindery.Page{})
				return secretsOf(found, err, func(i bindery.Instance) bindery.Secret { return i.Parameters })
			},
		},
	},
	"bindings": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			return tx.Bindings().Add(ctx, bindery.Binding{
				Row: row, ID: fmt.Sprint(row), Parameters: secret(row), State: bindery.StateReady, Expires: when.Add(time.Duration(row-sealedRows[0]) * time.Second),
			})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Bindings().List(ctx, bindery.BindingFilter{}, bindery.Page{})
				return secretsOf(found, err, func(b bindery.Binding) bindery.Secret { return b.Parameters })
			},
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Bindings().Expiring(ctx, when.Add(1000*time.Hour), 10)
				return secretsOf(found, err, func(b bindery.Binding) bindery.Secret { return b.Parameters })
			},
		},
	},
	"accounts": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			return tx.Accounts().Add(ctx, bindery.Account{Row: row, BindingRow: 1, Name: fmt.Sprint(row), Material: secret(row)})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Accounts().OfBinding(ctx, 1)
				return secretsOf(found, err, func(a bindery.Account) bindery.Secret { return a.Material })
			},
		},
	},
	"operations": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			return tx.Operations().Add(ctx, bindery.Operation{Row: row, InstanceRow: row, State: bindery.OpInProgress, Due: when, Request: secret(row)})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Operations().List(ctx, bindery.OperationFilter{}, bindery.Page{})
				return secretsOf(found, err, func(o bindery.Operation) bindery.Secret { return o.Request })
			},
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Operations().Claim(ctx, 1, when.Add(time.Hour), 10)
				return secretsOf(found, err, func(o bindery.Operation) bindery.Secret { return o.Request })
			},
		},
	},
	"auth_methods": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			service := bindery.ServiceType{Row: row, UUID: fmt.Sprint(row), Name: fmt.Sprint(row), Revision: 1}
			if err := tx.ServiceTypes().Add(ctx, service); err != nil {
				return err
			}
			return tx.AuthMethods().Add(ctx, bindery.AuthMethod{Row: row, ServiceRow: row, Material: secret(row), Revision: 1})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.AuthMethods().List(ctx, nil, bindery.Page{})
				return secretsOf(found, err, func(m bindery.AuthMethod) bindery.Secret { return m.Material })
			},
		},
	},
	"stock": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			i, err := tx.Stock().Take(ctx, "server", []string{fmt.Sprint(row)}, row)
			if err != nil {
				return err
			}
			i.Material = secret(row)
			return tx.Stock().Save(ctx, i, bindery.StockTaken)
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) ([]bindery.Secret, error) {
				found, err := tx.Stock().List(ctx, "server", bindery.Page{})
				return secretsOf(found, err, func(i bindery.StockItem) bindery.Secret { return i.Material })
			},
		},
	},
	"authorities": {
		add: func(ctx context.Context, tx bindery.Tx, row int64) error {
			return tx.Authorities().Add(ctx, bindery.Authority{Row: row, Server: fmt.Sprint(row), Certificate: []byte{1}, Key: secret(row)})
		},
		secrets: []func(context.Context, bindery.Tx) ([]bindery.Secret, error){
			func(ctx context.Context, tx bindery.Tx) (out []bindery.Secret, err error) {
				for _, row := range sealedRows {
					a, err := tx.Authorities().Get(ctx, fmt.Sprint(row))
					if err != nil {
						return nil, err
					}
					out = append(out, a.Key)
				}
				return out, nil
			},
		},
	},
}

// sealedRows are the rows of what is added to each table.
var sealedRows = []int64{1 << 40, 1<<40 + 1}

// TestRotateEveryTable rotates the seal again and again while another replica reads
// what every table seals: each time it meets a data key that it has not seen.
func TestRotateEveryTable(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, keys := url(t), storetest.Keys(t)
			s := openFew(t, url, keys)
			other := s // SQLite has one process alone
			if name == "postgres" {
				other = openFew(t, url, keys)
			} else if got := sealedTables(t, url); !slices.Equal(got, sortedKeys(sealedRecords)) {
				t.Errorf("the schema seals in %v, this test looks at %v", got, sortedKeys(sealedRecords))
			}
			err := s.Update(t.Context(), func(tx bindery.Tx) error {
				for table, r := range sealedRecords {
					for _, row := range sealedRows {
						if err := r.add(t.Context(), tx, row); err != nil {
							return fmt.Errorf("%s: %w", table, err)
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			records := len(sealedRecords) * len(sealedRows)
			for table, r := range sealedRecords {
				for n, read := range r.secrets {
					if got, err := s.RotateSeal(t.Context(), nil); err != nil || got.Records != records || got.Dropped != 1 {
						t.Fatalf("rotate: got %+v, %v, want %d records", got, err, records)
					}
					var got []bindery.Secret
					err := other.Update(t.Context(), func(tx bindery.Tx) (err error) {
						got, err = read(t.Context(), tx)
						return err
					})
					if err != nil || len(got) != len(sealedRows) {
						t.Errorf("%s, way %d: got %d secrets, %v", table, n, len(got), err)
						continue
					}
					for i, row := range sealedRows {
						if !got[i].Equal(secret(row)) {
							t.Errorf("%s, way %d: the secret of row %d is another", table, n, row)
						}
					}
				}
			}
			if got := status(t, s).Keys; len(got) != 1 || got[0].Records != records {
				t.Errorf("status: got %+v, want %d records", got, records)
			}
		})
	}
}

func sortedKeys(m map[string]sealedRecord) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// sealedTables are the tables of an SQLite file that have the column of a data key.
func sealedTables(t *testing.T, file string) (out []string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // it only read
	rows, err := db.QueryContext(t.Context(), `SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.name = 'seal_key' ORDER BY m.name`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // Err tells the same
	for rows.Next() {
		out = append(out, "")
		if err := rows.Scan(&out[len(out)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
