package store

import (
	"context"
	"database/sql"
	"time"

	"bindery"
)

type events struct{ *tx }

const eventColumns = `id, at, platform, actor, request_id, action, instance_id, binding_id, account, result, message`

var addEvent = `INSERT INTO events (` + eventColumns + `) VALUES (` + marks(eventColumns) + `) ON CONFLICT DO NOTHING`

func (t events) Add(ctx context.Context, e bindery.Event) error {
	if e.Row == 0 {
		var err error
		if e.Row, err = t.store.NewID(ctx); err != nil {
			return err
		}
	}
	n, err := t.exec(ctx, addEvent, e.Row, micros(e.At), e.Platform, e.Actor, e.RequestID, e.Action, e.InstanceID, e.BindingID,
		e.Account, e.Result, e.Message)
	if err == nil && n == 0 {
		return errTaken
	}
	return err
}

func (t events) List(ctx context.Context, f bindery.EventFilter, p bindery.Page) ([]bindery.Event, error) {
	var w where
	if f.Platform != "" {
		w.and("platform = ?", f.Platform)
	}
	if f.InstanceID != "" {
		w.and("instance_id = ?", f.InstanceID)
	}
	if f.BindingID != "" {
		w.and("binding_id = ?", f.BindingID)
	}
	text, args := w.page(p)
	var out []bindery.Event
	err := t.each(ctx, `SELECT `+eventColumns+` FROM events`+text, args, true, func(rows *sql.Rows) error {
		var e bindery.Event
		var at int64
		if err := rows.Scan(&e.Row, &at, &e.Platform, &e.Actor, &e.RequestID, &e.Action, &e.InstanceID, &e.BindingID,
			&e.Account, &e.Result, &e.Message); err != nil {
			return err
		}
		e.At = fromMicros(at)
		out = append(out, e)
		return nil
	})
	return out, err
}

func (t events) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? ORDER BY at LIMIT ?)`, micros(before), limit)
	return int(n), err
}

type processes struct{ *tx }

func (t processes) Beat(ctx context.Context, process int64, until time.Time) error {
	_, err := t.exec(ctx, `INSERT INTO processes (id, expires) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET expires = excluded.expires`,
		process, micros(until))
	return err
}

func (t processes) Leave(ctx context.Context, process int64) error {
	_, err := t.exec(ctx, `DELETE FROM processes WHERE id = ?`, process)
	return err
}
