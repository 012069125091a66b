package exchange_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/store/storetest"
)

// recorded are the counts of a binding, by outcome.
func (w world) recorded(row int64) map[bindery.AuthOutcome]int {
	w.Helper()
	got := map[bindery.AuthOutcome]int{}
	err := w.store.View(w.Context(), func(tx bindery.Tx) error {
		all, err := tx.Authentications().List(w.Context(), row, bindery.Page{Limit: 1000})
		clear(got)
		for _, a := range all {
			if a.BindingRow == row {
				got[a.Outcome] += a.Count
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return got
}

func TestAuthenticationsAreRecorded(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	began := time.Now().Truncate(time.Second)
	w, u, alice := bound(t, func(w http.ResponseWriter, r *http.Request) {
		if ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		giveToken(w, r)
	})
	w.run()
	b := must(w.Binding(t.Context(), admin, "ams1-alice"))(t)
	if !b.LastAuth.IsZero() {
		t.Errorf("last_auth is %v before the first", b.LastAuth)
	}
	for range 5 {
		must(w.Token(t.Context(), alice, "ams1", u.host))(t)
	}
	ill.Store(true)
	for range 3 {
		_, err := w.Token(t.Context(), alice, "ams1", u.host)
		refused(t, err, bindery.CodeUpstream, "The service refused the request")
	}
	for range 2 {
		_, err := w.Token(t.Context(), who(t, "CN=nobody"), "ams1", u.host)
		refused(t, err, bindery.CodeNotFound, "Binding was not found")
	}
	eventually(t, "all are recorded", func() bool {
		got := w.recorded(b.Row)
		return got[bindery.AuthSucceeded] == 5 && got[bindery.AuthUpstream] == 3
	})
	eventually(t, "last_auth", func() bool {
		b = must(w.Binding(t.Context(), admin, "ams1-alice"))(t)
		return !b.LastAuth.Before(began) && !b.LastAuth.After(time.Now())
	})
	if b.Revision != 1 {
		t.Errorf("an authentication changed the binding: %+v", b)
	}
}

// What happened in the last second is written when the service ends.
func TestRecordsAreFlushedAtTheEnd(t *testing.T) {
	t.Parallel()
	w, u, alice := bound(t, giveToken)
	stop := w.run()
	for range 7 {
		must(w.Token(t.Context(), alice, "ams1", u.host))(t)
	}
	stop()
	b := must(w.Binding(t.Context(), admin, "ams1-alice"))(t)
	if got := w.recorded(b.Row); got[bindery.AuthSucceeded] != 7 || b.LastAuth.IsZero() {
		t.Errorf("recorded %v, last_auth %v", got, b.LastAuth)
	}
}

// A store that does not answer costs no authentication, and loses no count.
func TestRecordsWaitForTheStore(t *testing.T) {
	t.Parallel()
	real := openStore(t, sqliteFile(t), storetest.Keys(t))
	var down atomic.Bool
	var failures atomic.Int64
	w := worldOn(t, storetest.Faulty(real, func(table, method string) error {
		if down.Load() && method == "Record" {
			failures.Add(1)
			return errors.New("the disk is full")
		}
		return nil
	}))
	u := newUpstream(t, giveToken)
	alice := w.bind("ams1", u, "alice")
	down.Store(true)
	stop := w.run()
	for range 4 {
		must(w.Token(t.Context(), alice, "ams1", u.host))(t)
	}
	eventually(t, "writing fails", func() bool { return failures.Load() > 0 })
	down.Store(false)
	b := must(w.Binding(t.Context(), admin, "ams1-alice"))(t)
	eventually(t, "written at last", func() bool { return w.recorded(b.Row)[bindery.AuthSucceeded] == 4 })
	stop()
	if !strings.Contains(w.log.String(), "authentications wait to be recorded") {
		t.Errorf("the log does not say it: %s", w.log)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const bound, more = 1 << 16, 100
	now := time.Now()
	for n := range bound + more { // and nobody writes
		w.Record(int64(n)+1, now)
	}
	stop := w.run()
	stop()
	if want := fmt.Sprintf("count=%d", more); !strings.Contains(w.log.String(), want) {
		t.Errorf("the log does not say %q: %s", want, w.log)
	}
}

// Deleted service types are removed in the background, also those that an
// earlier process left.
func TestRemainsArePurged(t *testing.T) {
	t.Parallel()
	real := openStore(t, sqliteFile(t), storetest.Keys(t))
	var purged atomic.Int64
	s := storetest.Faulty(real, func(_, method string) error {
		if method == "Purge" {
			purged.Add(1)
		}
		return nil
	})
	w := worldOn(t, s)
	left := w.service("left", "h1")
	for n := range 3 {
		w.binding(fmt.Sprint("b", n), left, "h1", fmt.Sprintf("CN=%d", n))
	}
	if err := w.DeleteServiceType(t.Context(), admin, "left"); err != nil {
		t.Fatal(err)
	}
	remains := func() (n int) {
		err := real.Update(t.Context(), func(tx bindery.Tx) (err error) {
			if n, err = tx.ServiceTypes().Purge(t.Context(), 1000); err == nil {
				err = errUndo
			}
			return err
		})
		if !errors.Is(err, errUndo) {
			t.Fatal(err)
		}
		return n
	}
	if remains() == 0 {
		t.Fatal("nothing is left to purge")
	}
	w.run()
	eventually(t, "the remains are purged", func() bool { return remains() == 0 })
	eventually(t, "it looked once more", func() bool { return purged.Load() >= 2 })
	w.service("next", "h1")
	if err := w.DeleteServiceType(t.Context(), admin, "next"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a delete wakes it", func() bool { return remains() == 0 })
}

var errUndo = errors.New("undo")
