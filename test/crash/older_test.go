package crash_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A server that restarts from an older save has accounts that were removed, and
// lacks ones that were made. One reconcile later it has not.
func TestOlderBackend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, raced, func(s *settings) { s.Interval = "1s" })
	w.start()
	saves := map[string]struct{ save, restore func(context.Context) error }{
		redisService:    {w.saveRedis, w.restoreRedis},
		postgresService: {w.savePostgres, w.restorePostgres},
	}
	for _, service := range services {
		t.Run(service, func(t *testing.T) {
			ctx := t.Context()
			i := "older-" + service
			w.provision(service, i)
			stays, goes := w.bind(service, i, i+"-stays"), w.bind(service, i, i+"-goes")
			if err := saves[service].save(ctx); err != nil {
				t.Fatal(err)
			}
			w.unbind(service, i, i+"-goes")
			w.mustRefuse(service, goes)
			// Else the prover would be the one that finds it back.
			if err := eventually(ctx, time.Minute, func(ctx context.Context) error { return w.proven(ctx, service) }); err != nil {
				t.Fatal(err)
			}
			comes := w.bind(service, i, i+"-comes")
			if err := saves[service].restore(ctx); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			runs := func(ctx context.Context) (float64, error) {
				return w.metric(ctx, "bindery_reconcile_runs_total", `server="`+service+`"`, `outcome="ok"`)
			}
			before, err := runs(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := login(ctx, service, goes); err == nil {
				t.Log("the removed account was back")
			} else if !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			// The one under way may have looked before; the next has not.
			err = eventually(ctx, time.Minute, func(ctx context.Context) error {
				now, err := runs(ctx)
				if err == nil && now < before+2 {
					err = fmt.Errorf("%v reconciles since the restart", now-before)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v until two reconciles were done", time.Since(began).Round(time.Millisecond))
			w.mustRefuse(service, goes)
			w.mustLogin(service, stays)
			// What was made a moment ago is not taken for lost until it is some seconds old.
			err = eventually(ctx, time.Minute, func(ctx context.Context) error { return login(ctx, service, comes) })
			if err != nil {
				t.Errorf("an account that the server lost is not restored: %v", err)
			}
			t.Logf("%v until the lost account was restored", time.Since(began).Round(time.Millisecond))
		})
	}
	w.settled(settleLimit)
	w.unremarkable()
	for _, finding := range []string{"removed", "restored"} {
		n, err := w.metric(t.Context(), "bindery_reconcile_findings_total", `finding="`+finding+`"`)
		if err != nil || n < 2 {
			t.Errorf("%v findings %q are counted: %v", n, finding, err)
		}
	}
}

func (w *world) saveRedis(ctx context.Context) error {
	if _, err := w.redisDo(ctx, "ACL", "SAVE"); err != nil {
		return err
	}
	return copyFile(filepath.Join(w.redis.Dir(), "users.acl"), w.file("users.acl"))
}

func (w *world) restoreRedis(ctx context.Context) error {
	if err := w.redis.Kill(); err != nil {
		return err
	}
	if err := copyFile(w.file("users.acl"), filepath.Join(w.redis.Dir(), "users.acl")); err != nil {
		return err
	}
	return w.redis.Start(ctx)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// savePostgres copies the whole cluster of a stopped server.
func (w *world) savePostgres(ctx context.Context) error {
	data, err := filepath.EvalSymlinks(filepath.Join(w.postgres.Dir(), "data"))
	if err != nil {
		return err
	}
	if err := w.postgres.Stop(ctx); err != nil {
		return err
	}
	return errors.Join(copyTree(ctx, data, w.file("cluster")), w.postgres.Start(ctx))
}

func (w *world) restorePostgres(ctx context.Context) error {
	data, err := filepath.EvalSymlinks(filepath.Join(w.postgres.Dir(), "data"))
	if err != nil {
		return err
	}
	if err := w.postgres.Kill(); err != nil {
		return err
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(data, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(copyTree(ctx, w.file("cluster"), data), w.postgres.Start(ctx))
}

// copyTree copies what is in a directory into another, owners included.
func copyTree(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the cluster: %w\n%s", err, out)
	}
	return nil
}
