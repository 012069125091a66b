package store

import (
	"context"
	"database/sql"
	"slices"
	"sync"

	"bindery"
)

type stock struct{ *tx }

func (t *tx) Stock() bindery.Stock { return stock{t} }

const stockColumns = `id, server, name, state, account_row, since, seal_key, material`

var stockTable = sealedTable[bindery.StockItem]{
	column: stockMaterial,
	scan: func(rows *sql.Rows, i *bindery.StockItem, v *sealed) error {
		var since int64
		err := rows.Scan(&i.Row, &i.Server, &i.Name, (*string)(&i.State), &i.AccountRow, &since, &v.key, &v.value)
		i.Since = fromMicros(since)
		return err
	},
	secret: func(i *bindery.StockItem) (int64, *bindery.Secret) { return i.Row, &i.Material },
}

var (
	errNoItem     = notFound("item of the stock")
	errStockEmpty = bindery.Errorf(bindery.CodeQuota, "nothing is left in the stock")
)

func (t stock) one(ctx context.Context, text string, args ...any) (bindery.StockItem, error) {
	return stockTable.one(ctx, t.tx, errNoItem, text, args...)
}

// A front is how many items at the front of a server's stock were not free when
// somebody looked: whoever is next need not look at them again. It may be wrong (that
// transaction was undone, another process gave one back), so nothing relies on it but
// the order: a search that finds nothing behind it looks at all.
type front struct {
	sync.Mutex
	taken map[string]int // by server
}

func (f *front) of(server string) int {
	f.Lock()
	defer f.Unlock()
	return f.taken[server]
}

func (f *front) set(server string, n int) {
	f.Lock()
	defer f.Unlock()
	if f.taken == nil {
		f.taken = map[string]int{}
	}
	f.taken[server] = n
}

// Take looks the items up in their order. Where two transactions find the same one,
// both cannot stand: settled says why.
func (t stock) Take(ctx context.Context, server string, items []string, accountRow int64) (bindery.StockItem, error) {
	begin := min(t.store.front.of(server), len(items))
	name, row, err := t.free(ctx, server, items, begin)
	if err == errStockEmpty && begin > 0 { //nolint:errorlint // it is not wrapped
		name, row, err = t.free(ctx, server, items, 0)
	}
	if err != nil {
		return bindery.StockItem{}, err
	}
	var i bindery.StockItem
	if row == 0 {
		i, err = t.one(ctx, `INSERT INTO stock (server, name, state, account_row, since) VALUES (?, ?, 'taken', ?, ?) RETURNING `+stockColumns,
			server, name, accountRow, now())
	} else {
		i, err = t.one(ctx, `UPDATE stock SET state = 'taken', account_row = ?, since = ? WHERE id = ? RETURNING `+stockColumns,
			accountRow, now(), row)
	}
	return i, t.settled(err)
}

// free finds the first item from begin on that nobody has, and its row, 0 for one that
// nobody ever took. It asks for more and more items at a time.
func (t stock) free(ctx context.Context, server string, items []string, begin int) (name string, row int64, err error) {
	for n := 16; begin < len(items); n *= 4 {
		some := items[begin:min(begin+n, len(items))]
		found, err := t.get(ctx, `SELECT json_each.value, COALESCE(s.id, 0) FROM `+t.s.dialect().elements+`
			LEFT JOIN stock s ON s.server = ? AND s.name = json_each.value
			WHERE s.id IS NULL OR s.state = 'free' ORDER BY json_each.key LIMIT 1`, []any{list(some), server}, &name, &row)
		if err != nil {
			return name, row, err
		}
		if found {
			t.store.front.set(server, begin+slices.Index(some, name))
			return name, row, nil
		}
		begin += len(some)
	}
	return "", 0, errStockEmpty
}

func (t stock) OfAccount(ctx context.Context, accountRow int64) (bindery.StockItem, error) {
	return t.one(ctx, `SELECT `+stockColumns+` FROM stock WHERE account_row = ? ORDER BY id LIMIT 1`, accountRow)
}

func (t stock) ByName(ctx context.Context, server, name string) (bindery.StockItem, error) {
	return t.one(ctx, `SELECT `+stockColumns+` FROM stock WHERE server = ? AND name = ?`, server, name)
}

func (t stock) Save(ctx context.Context, i bindery.StockItem, from bindery.StockState) error {
	if i.State == bindery.StockFree {
		t.store.front.set(i.Server, 0)
	}
	key, sealed := t.store.vault.seal(stockMaterial, i.Row, i.Material)
	return t.change(ctx, `UPDATE stock SET state = ?, account_row = ?, since = ?, seal_key = ?, material = ? WHERE id = ? AND state = ?`,
		string(i.State), i.AccountRow, micros(i.Since), key, sealed, i.Row, string(from))
}

func (t stock) List(ctx context.Context, server string, p bindery.Page) ([]bindery.StockItem, error) {
	var w where
	w.and("server = ?", server)
	text, args := w.page(p)
	return stockTable.all(ctx, t.tx, `SELECT `+stockColumns+` FROM stock`+text, true, args...)
}
