package admin

import (
	"context"
	"net/http"
	"time"

	"bindery"
	"bindery/api"
)

// An Item is one credential of a pool: its name and who has it, never what it is.
type Item struct {
	Server string `json:"server"`
	Name   string `json:"name"`
	State  string `json:"state"`
	// The binding that has it, or had it last.
	InstanceID string    `json:"instance_id,omitempty"`
	BindingID  string    `json:"binding_id,omitempty"`
	Since      time.Time `json:"since,omitzero"` // in this state
}

func (h *Handler) pool(c *api.Call) error {
	if h.Stocks == nil {
		return errAbsent
	}
	a := ask(c)
	server := a.text("server")
	state := oneOf(a, "state", bindery.StockFree, bindery.StockTaken, bindery.StockQuarantine, bindery.StockReturning)
	if a.err != nil {
		return a.err
	}
	servers := []string{server}
	if server == "" {
		servers = h.Stocks.Stocks()
	}
	ctx := c.R.Context()
	out := page[Item]{Items: []Item{}}
	for _, name := range servers {
		items, err := h.Stocks.Stock(ctx, name)
		if err != nil {
			return err
		}
		var shown []Item
		err = h.Store.View(ctx, func(tx bindery.Tx) error {
			shown = nil
			for _, i := range items {
				if state != "" && i.State != state {
					continue
				}
				one, err := showItem(ctx, tx, i)
				if err != nil {
					return err
				}
				shown = append(shown, one)
			}
			return nil
		})
		if err != nil {
			return err
		}
		out.Items = append(out.Items, shown...)
	}
	c.JSON(http.StatusOK, out)
	return nil
}

// showItem adds who has an item. What is free is nobody's.
func showItem(ctx context.Context, tx bindery.Tx, i bindery.StockItem) (Item, error) {
	out := Item{Server: i.Server, Name: i.Name, State: string(i.State), Since: utc(i.Since)}
	if i.State == bindery.StockFree {
		return out, nil
	}
	a, err := tx.Accounts().Get(ctx, i.AccountRow)
	if err != nil {
		return out, err
	}
	b, err := tx.Bindings().Get(ctx, a.BindingRow)
	out.InstanceID, out.BindingID = b.InstanceID, b.ID
	return out, err
}

func (h *Handler) release(c *api.Call) error {
	if h.Stocks == nil {
		return errAbsent
	}
	server, name := c.Param("server"), c.Param("item")
	if err := api.CheckText("server", server); err != nil {
		return err
	}
	if err := api.CheckText("item", name); err != nil {
		return err
	}
	ctx, cancel := detached(c, time.Minute)
	defer cancel()
	if err := h.Stocks.Release(ctx, server, name); err != nil {
		return err
	}
	c.JSON(http.StatusOK, Item{Server: server, Name: name, State: string(bindery.StockFree)})
	return nil
}
