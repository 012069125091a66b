package storetest

import (
	"fmt"
	"time"

	"bindery"
)

var eventTests = map[string]func(world){
	"lists by filter, in order, a page at a time": func(w world) {
		var all, other []bindery.Event
		for n := range 7 {
			e := bindery.Event{
				Row: w.id(), At: start.Add(time.Duration(n) * time.Second), Platform: "platform", Actor: "actor", RequestID: "request",
				Action: "bind", InstanceID: "instance", BindingID: "binding", Account: "account", Result: "succeeded", Message: "message",
			}
			if n%2 == 0 {
				e.Platform, e.InstanceID, e.BindingID = "other", "other instance", "other binding"
				other = append(other, e)
			}
			all = append(all, e)
			w.update(func(tx bindery.Tx) error { return tx.Events().Add(w.ctx, e) })
		}
		tests := map[string]struct {
			filter bindery.EventFilter
			want   []bindery.Event
		}{
			"all":      {bindery.EventFilter{}, all},
			"platform": {bindery.EventFilter{Platform: "other"}, other},
			"instance": {bindery.EventFilter{InstanceID: "other instance"}, other},
			"binding":  {bindery.EventFilter{BindingID: "other binding"}, other},
			"none":     {bindery.EventFilter{Platform: "platform", BindingID: "other binding"}, nil},
		}
		for name, test := range tests {
			for _, limit := range []int{0, 3} {
				got := paged(w, limit, func(e bindery.Event) int64 { return e.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.Event, error) {
						return tx.Events().List(w.ctx, test.filter, p)
					})
				w.same(name, got, test.want)
			}
		}
	},
	"one without a row gets one": func(w world) {
		before := w.id()
		w.update(func(tx bindery.Tx) error { return tx.Events().Add(w.ctx, bindery.Event{At: start, Action: "forget"}) })
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Events().List(w.ctx, bindery.EventFilter{}, bindery.Page{})
			if err != nil || len(got) != 1 || got[0].Row <= before {
				return fmt.Errorf("got %v, %w", got, err)
			}
			return nil
		})
	},
	"prune removes those from before, up to a limit": func(w world) {
		for n := range 5 {
			at := start.Add(time.Duration(n) * time.Hour)
			e := bindery.Event{Row: w.id(), At: at}
			w.update(func(tx bindery.Tx) error { return tx.Events().Add(w.ctx, e) })
		}
		for _, step := range []struct {
			before      time.Duration
			limit, want int
		}{{0, 10, 0}, {3 * time.Hour, 2, 2}, {3 * time.Hour, 10, 1}, {1000 * time.Hour, 10, 2}} {
			w.update(func(tx bindery.Tx) error {
				got, err := tx.Events().Prune(w.ctx, start.Add(step.before), step.limit)
				if got != step.want {
					w.Errorf("pruned %d, want %d", got, step.want)
				}
				return err
			})
		}
	},
}
