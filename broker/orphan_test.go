package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/oauth"
)

// Unwrap is for [bindery.Capability].
func (f faulty) Unwrap() bindery.Driver { return f.Driver }

// TestPossibleOrphansAreReported: where the server names accounts, the audit says
// what a lost answer may have left, and nothing when no answer was lost.
func TestPossibleOrphansAreReported(t *testing.T) {
	t.Parallel()
	p := servertest.OIDC(t)
	proxy := servertest.Proxy(t, p.Addr)
	w := newWorld(t)
	redis := w.driver
	w.driver = openOAuth(w, p, proxy)
	t.Cleanup(func() { w.driver = redis }) // that one is swept
	w.provision("i", "small")
	orphans := func(binding string) (names []string) {
		w.Helper()
		w.view(func(tx bindery.Tx) error {
			events, err := tx.Events().List(w.Context(), bindery.EventFilter{BindingID: binding}, bindery.Page{})
			for _, e := range events {
				if e.Action == "orphan" {
					names = append(names, e.Account)
					if !strings.Contains(e.Message, e.Account) {
						w.Errorf("the event does not say what to look for: %s", e.Message)
					}
				}
			}
			return err
		})
		return names
	}

	w.bind(bindRequest("i", "good"))
	w.unbind("i", "good")
	if got := orphans("good"); len(got) > 0 {
		t.Errorf("no answer was lost, and possible orphans are %q", got)
	}

	// The driver hears nothing of the first run: it might have been another process's.
	var asked atomic.Int64
	w.failDriver(func(method string, _ bindery.InstanceSpec) error {
		if method == "Ensure" && asked.Add(1) == 1 {
			return errors.New("the network is down")
		}
		return nil
	})
	w.bind(bindRequest("i", "unsure"))
	_, accounts := w.binding("i", "unsure")
	if got := orphans("unsure"); len(got) != 1 || got[0] != accounts[0].Name {
		t.Errorf("a run before this one may have made a client: possible orphans are %q, want %s", got, accounts[0].Name)
	}
	w.unbind("i", "unsure")
	if got := orphans("unsure"); len(got) != 1 {
		t.Errorf("it was reported %d times", len(got))
	}

	// An answer that comes late is not lost.
	proxy.HoldReplies()
	time.AfterFunc(3*oauthTimeout/2, proxy.Release)
	w.bind(bindRequest("i", "late"))
	if got := orphans("late"); len(got) > 0 {
		t.Errorf("no answer was lost, and possible orphans are %q", got)
	}
	w.unbind("i", "late")
}

const oauthTimeout = time.Second

func openOAuth(w *world, p *devserver.OIDC, proxy *devserver.Proxy) bindery.Driver {
	w.Helper()
	d, err := oauth.Kind.Open(bindery.Server{
		Name: "r", Kind: "oauth", Installation: w.store.Installation(), Address: proxy.Addr(), Timeout: oauthTimeout,
		TLS: &bindery.ServerTLS{CAFile: p.CAFile}, Settings: json.RawMessage(fmt.Sprintf(`{"issuer":%q}`, p.Issuer)),
		Secrets: map[string]bindery.Secret{"initial_access_token": p.InitialToken},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = d.Close() })
	return d
}
