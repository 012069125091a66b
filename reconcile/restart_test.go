package reconcile_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bindery"
	"bindery/broker/brokertest"
	"bindery/devserver/servertest"
	"bindery/reconcile"
)

// A server that was killed the moment after a bind may have forgotten it. The
// credential, which somebody holds, works again soon, and not an interval later.
func TestAServerThatWasStartedAgainIsComparedSoon(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	w := redisWorld(t, r)
	w.provision("i")
	restarter, ok := w.driver.(bindery.Restarter)
	if !ok {
		t.Fatal("the driver cannot tell runs of its server apart")
	}
	w.reconciler.Now = time.Now
	w.reconciler.Servers = func() map[string]reconcile.Server {
		s := w.server()
		s.Incarnation = restarter.Incarnation
		return map[string]reconcile.Server{"s": s}
	}
	reports := make(chan reconcile.Report, 64)
	w.reconciler.Compared = func(report reconcile.Report, err error) {
		if err == nil {
			reports <- report
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.reconciler.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	wait := func() reconcile.Report {
		select {
		case report := <-reports:
			return report
		case <-time.After(brokertest.Patience):
			t.Fatal("nothing was compared")
			return reconcile.Report{}
		}
	}
	wait() // at the start

	a, credential := w.bind("i", "fresh")
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	// As if it had died before its users were saved.
	save, err := os.ReadFile(filepath.Join(r.Dir(), "users.acl"))
	if err != nil {
		t.Fatal(err)
	}
	var kept [][]byte
	for _, line := range bytes.SplitAfter(save, []byte("\n")) {
		if !bytes.Contains(line, []byte(a.Name)) {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(filepath.Join(r.Dir(), "users.acl"), slices.Concat(kept...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wait().Restored; !slices.Equal(got, []string{a.Name}) {
		t.Fatalf("restored %v, want %s", got, a.Name)
	}
	w.settle()
	if err := w.login(credential); err != nil {
		t.Error(err)
	}
}
