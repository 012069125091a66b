package exchange_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/exchange"
)

// Fifty administrators give one identifier, spelled in different ways, a binding.
// The old service took them all, and answered 500 to the identity from then on.
func TestOneOfManyCreatesWins(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() bindery.Store) {
		worlds := []world{worldOn(t, open()), worldOn(t, open())}
		w, u := worlds[0], newUpstream(t, giveToken)
		s := w.service("ams1", u.host)
		w.method("ams1", u.host, u.port)
		spellings := []string{
			"CN=alice,OU=a,O=Example,C=GR", "/C=GR/O=Example/OU=a/CN=alice", "cn=alice, ou=a, o=Example, c=GR",
			`CN=\61lice,OU=a,O=Example,C=GR`, "2.5.4.3=alice,OU=a,O=Example,C=GR",
		}
		const many = 50
		var won, lost atomic.Int64
		var begin, end sync.WaitGroup
		begin.Add(1)
		for i := range many {
			end.Go(func() {
				text := spellings[i%len(spellings)]
				begin.Wait()
				_, err := worlds[i%2].CreateBinding(t.Context(), admin, fmt.Sprintf("b%d", i), bindingInput(s, u.host, text), nil)
				switch {
				case err == nil:
					won.Add(1)
				case bindery.MessageOf(err) == "binding object with auth_identifier: "+text+" already exists":
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		begin.Done()
		end.Wait()
		if won.Load() != 1 || lost.Load() != many-1 {
			t.Errorf("%d won and %d lost", won.Load(), lost.Load())
		}
		for _, w := range worlds {
			if got := must(w.Token(t.Context(), who(t, spellings[0]), "ams1", u.host))(t); string(got) != wantToken {
				t.Errorf("got %s", got)
			}
		}
	})
}

// From the moment that a change is acknowledged nobody authenticates on what was
// before, in any process, while others authenticate all the time.
func TestCoherence(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() bindery.Store) {
		cache := func(o *exchange.Options) { o.Types[0].CacheTokens = time.Hour }
		worlds := []world{worldOn(t, open(), cache), worldOn(t, open(), cache)}
		if worlds[0].store.Sole() {
			worlds = worlds[:1] // one process
		}
		w, u := worlds[0], newUpstream(t, giveToken)
		s := w.service("ams1", u.host)
		w.method("ams1", u.host, u.port)
		w.binding("b", s, u.host, "CN=alice")
		alice := who(t, "CN=alice")

		// Before each call the askers note how many changes were acknowledged. Those
		// turn the binding off and on: an odd number is off, and stays until the next begins.
		var begun, acknowledged atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		var succeeded, refusedAt atomic.Int64
		for n := range 2 {
			asking.Go(func() {
				w := worlds[n%len(worlds)]
				for ctx.Err() == nil {
					before := acknowledged.Load()
					_, err := w.Token(context.Background(), alice, "ams1", u.host)
					after := begun.Load()
					if err == nil {
						succeeded.Add(1)
					} else {
						refusedAt.Add(1)
					}
					switch {
					case before != after: // a change was under way
					case before%2 == 1 && err == nil:
						t.Errorf("after change %d somebody authenticated", before)
					case before%2 == 0 && err != nil:
						t.Errorf("after change %d: %v", before, err)
					}
				}
			})
		}
		toggles := []struct{ off, on func() error }{
			{func() error { return w.DeleteBinding(t.Context(), admin, "b") }, func() error {
				_, err := w.CreateBinding(t.Context(), admin, "b", bindingInput(s, u.host, "CN=alice"), nil)
				return err
			}},
			{func() error { return w.DeleteAuthMethod(t.Context(), admin, "ams1", u.host) }, func() error {
				_, err := w.CreateAuthMethod(t.Context(), admin, "ams1", exchange.AuthMethodInput{Host: &u.host, Port: &u.port, AccessKey: ptr(accessKey)})
				return err
			}},
			{func() error {
				_, err := w.UpdateServiceType(t.Context(), admin, "ams1", exchange.ServiceTypeInput{Hosts: &[]string{"elsewhere"}})
				return err
			}, func() error {
				_, err := w.UpdateServiceType(t.Context(), admin, "ams1", exchange.ServiceTypeInput{Hosts: &[]string{u.host}})
				return err
			}},
			{func() error {
				_, err := w.UpdateBinding(t.Context(), admin, "b", exchange.BindingInput{Identifier: ptr("CN=bob")})
				return err
			}, func() error {
				_, err := w.UpdateBinding(t.Context(), admin, "b", exchange.BindingInput{Identifier: ptr("/CN=alice")})
				return err
			}},
			{func() error {
				_, err := w.UpdateBinding(t.Context(), admin, "b", exchange.BindingInput{Issuer: ptr("CN=Another CA")})
				return err
			}, func() error {
				_, err := w.UpdateBinding(t.Context(), admin, "b", exchange.BindingInput{Issuer: ptr("")})
				return err
			}},
		}
		for round := range 15 {
			toggle := toggles[round%len(toggles)]
			for _, change := range []func() error{toggle.off, toggle.on} {
				begun.Add(1)
				if err := change(); err != nil {
					t.Fatal(err)
				}
				acknowledged.Add(1)
				// Some calls happen in this state.
				was := succeeded.Load() + refusedAt.Load()
				eventually(t, "calls happen", func() bool { return succeeded.Load()+refusedAt.Load() >= was+8 })
			}
		}
		stop()
		asking.Wait()
		if succeeded.Load() == 0 || refusedAt.Load() == 0 {
			t.Errorf("%d succeeded, %d were refused", succeeded.Load(), refusedAt.Load())
		}
	})
}

// A change of who gets what is seen by the next call: the token is that of the
// new unique key, though calls for the old one are under way and cached.
func TestChangedKeysAreUsed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() bindery.Store) {
		w, u := worldOn(t, open(), func(o *exchange.Options) { o.Types[0].CacheTokens = time.Hour }), newUpstream(t, giveToken)
		alice := w.bind("ams1", u, "alice")
		ctx, stop := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				for ctx.Err() == nil {
					if _, err := w.Token(context.Background(), alice, "ams1", u.host); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for n := range 15 {
			key := fmt.Sprintf("uid-%d", n)
			must(w.UpdateBinding(t.Context(), admin, "ams1-alice", exchange.BindingInput{UniqueKey: &key}))(t)
			if got := must(w.Token(t.Context(), alice, "ams1", u.host))(t); string(got) != `"token-of-`+key+`"` {
				t.Errorf("got %s after the change to %s", got, key)
			}
		}
		stop()
		asking.Wait()
	})
}

// Lookups that lead nowhere are not kept, and those that are have a bound.
func TestLookupsAreBounded(t *testing.T) {
	t.Parallel()
	w, u := newWorld(t, func(o *exchange.Options) { o.CachedLookups = 10 }), newUpstream(t, giveToken)
	w.bind("ams1", u, "alice")
	s := must(w.ServiceType(t.Context(), admin, "ams1"))(t)
	for n := range 30 {
		_, err := w.Token(t.Context(), who(t, fmt.Sprintf("CN=nobody %d", n)), "ams1", u.host)
		refused(t, err, bindery.CodeNotFound, "Binding was not found")
	}
	if n := w.Entries(); n != 0 {
		t.Errorf("%d lookups are kept that lead nowhere", n)
	}
	for n := range 30 {
		dn := fmt.Sprintf("CN=user %d", n)
		w.binding(dn, s, u.host, dn)
		must(w.Token(t.Context(), who(t, dn), "ams1", u.host))(t)
	}
	if n := w.Entries(); n == 0 || n > 10 {
		t.Errorf("%d lookups are kept, want at most 10", n)
	}
}

// A change that is acknowledged while the service takes its time holds for those
// who wait, too: one of this process always, one of another process where the
// service took long.
func TestChangesOvertakeCalls(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() bindery.Store) {
		var c clock
		c.at.Store(time.Now().UnixNano())
		begun, goOn := make(chan struct{}), make(chan struct{})
		w, u := worldOn(t, open(), func(o *exchange.Options) { o.Now, o.Types[0].Timeout = c.now, patience }),
			newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-goOn
				giveToken(w, r)
			})
		alice := w.bind("ams1", u, "alice")
		type answer struct {
			token string
			err   error
		}
		answers := make(chan answer)
		ask := func() {
			got, err := w.Token(context.Background(), alice, "ams1", u.host)
			answers <- answer{string(got), err}
		}
		tests := []struct {
			by   world
			took time.Duration
		}{{w, 0}}
		if !w.store.Sole() {
			tests = append(tests, struct {
				by   world
				took time.Duration
			}{worldOn(t, open()), time.Second})
		}
		for n, tt := range tests {
			key := fmt.Sprintf("uid-of-%d", n)
			go ask()
			<-begun
			must(tt.by.UpdateBinding(t.Context(), admin, "ams1-alice", exchange.BindingInput{UniqueKey: &key}))(t)
			c.at.Add(int64(tt.took))
			goOn <- struct{}{}
			select { // it is asked again, for the new key
			case <-begun:
			case a := <-answers:
				t.Fatalf("got %s, %v, which the change overtook", a.token, a.err)
			}
			goOn <- struct{}{}
			if a := <-answers; a.err != nil || a.token != `"token-of-`+key+`"` {
				t.Errorf("got %s, %v", a.token, a.err)
			}
			s := must(w.ServiceType(t.Context(), admin, "ams1"))(t)
			go ask()
			<-begun
			if err := tt.by.DeleteBinding(t.Context(), admin, "ams1-alice"); err != nil {
				t.Fatal(err)
			}
			c.at.Add(int64(tt.took))
			goOn <- struct{}{}
			refused(t, (<-answers).err, bindery.CodeNotFound, "Binding was not found")
			w.binding("ams1-alice", s, u.host, alice.Name)
		}
	})
}
