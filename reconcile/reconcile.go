// Package reconcile compares what servers really have with what the store says,
// and puts right what differs: accounts and instances that were removed and are
// back (a server restarted from an older save) are removed again, accounts that
// a server lost are restored. Names of this installation that the store never
// knew are reported, and removed only where an operator says so.
package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

const (
	// watchEvery is the pause between two looks whether a server was started again.
	watchEvery = time.Second
	// watchLimit bounds one such look.
	watchLimit = 10 * time.Second
	// retryAfter is the pause after a comparison that failed, while the server answers.
	retryAfter = 15 * time.Second
)

// A Reconciler compares servers with the store. Its fields are set before its first use.
type Reconciler struct {
	Store bindery.Store
	// Servers are those that are configured now, by name.
	Servers func() map[string]Server
	// Restore makes a lost account again; it does not wait for the end. CodeBusy:
	// something else is in progress there.
	Restore  func(ctx context.Context, bindingRow int64) error
	Interval time.Duration
	Now      func() time.Time
	Log      *slog.Logger
	// Compared is told of every comparison; may be nil.
	Compared func(Report, error)
}

// A Server is what is compared.
type Server struct {
	Kind   string
	Driver bindery.Driver
	// Incarnation says which run of the server answers: a server that was started
	// again is compared at once. Nil, or always the same: at intervals only.
	Incarnation func(context.Context) (string, error)
}

// A Wish says what a comparison may change.
type Wish struct {
	DryRun bool // nothing
	Apply  bool // also remove what the store never knew
}

// A Report says what a comparison of one server found and did. Names are the server's.
type Report struct {
	Server, Kind string
	Checked      int      // names that the server has
	Removed      []string // were removed before, or unknown with Apply
	Unknown      []string // the store never knew them
	Restored     []string // the server had lost them
	Failed       []string // tried; the next comparison tries again
}

// Run compares every server now, at every interval, and soon after it was
// started again, until ctx ends. Each server is looked at on its own, so that one
// that hangs delays no other.
func (r *Reconciler) Run(ctx context.Context) error {
	tick := time.NewTicker(min(r.Interval, watchEvery))
	defer tick.Stop()
	watches := map[string]*watch{}
	var visits sync.WaitGroup
	defer visits.Wait()
	for {
		for name, s := range r.Servers() {
			w := watches[name]
			if w == nil {
				w = &watch{}
				watches[name] = w
			}
			if w.busy.CompareAndSwap(false, true) {
				visits.Go(func() {
					defer w.busy.Store(false)
					r.visit(ctx, name, s, w)
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A watch is what is known of a server between two visits, one at a time.
type watch struct {
	busy        atomic.Bool
	incarnation string
	compared    bool // whole, by the last comparison
	due         time.Time
	retry       time.Time // not before, after a comparison that failed
}

// visit compares a server where that is due: at the interval, after it was
// started again, and when it answers again after a comparison that failed.
func (r *Reconciler) visit(ctx context.Context, name string, s Server, w *watch) {
	incarnation, answers := "", false
	if s.Incarnation != nil {
		limited, cancel := context.WithTimeout(ctx, watchLimit)
		defer cancel()
		now, err := s.Incarnation(limited)
		incarnation, answers = now, err == nil && now != ""
	}
	now := r.Now()
	again := answers && (incarnation != w.incarnation || !w.compared && !now.Before(w.retry))
	if !again && now.Before(w.due) {
		return
	}
	_, err := r.Compare(ctx, name, s, Wish{}) // reported by Compare
	w.compared, w.incarnation = err == nil, incarnation
	w.due, w.retry = r.Now().Add(r.Interval), r.Now().Add(retryAfter)
}

// Compare compares one server. An error means that it could not be compared whole.
func (r *Reconciler) Compare(ctx context.Context, name string, s Server, w Wish) (Report, error) {
	report := Report{Server: name, Kind: s.Kind}
	if s.Driver == nil {
		return report, bindery.Errorf(bindery.CodeUnavailable, "server %s is not configured", name)
	}
	err := r.compare(ctx, s, w, &report)
	if ctx.Err() != nil {
		return report, err
	}
	if err != nil {
		r.Log.WarnContext(ctx, "server not compared", "server", name, "error", err.Error())
	} else if len(report.Removed)+len(report.Restored)+len(report.Unknown)+len(report.Failed) > 0 {
		r.Log.WarnContext(ctx, "server differed", "server", name, "dry_run", w.DryRun, "removed", report.Removed,
			"restored", report.Restored, "unknown", report.Unknown, "failed", report.Failed)
	}
	if r.Compared != nil && !w.DryRun {
		r.Compared(report, err)
	}
	return report, err
}

func (r *Reconciler) compare(ctx context.Context, s Server, w Wish, report *Report) error {
	start := r.Now()
	accounts, instances := map[string]bool{}, []string{}
	err := s.Driver.Inventory(ctx, func(f bindery.Found) error {
		if f.Instance {
			instances = append(instances, f.Name)
		} else {
			accounts[f.Name] = true
		}
		return nil
	})
	if errors.Is(err, bindery.ErrNoInventory) {
		return nil // there is nothing to compare with
	}
	if err != nil {
		return err
	}
	report.Checked = len(accounts) + len(instances)
	if err := r.lost(ctx, w, report, accounts, start); err != nil {
		return err
	}
	// What is left in accounts is not live.
	for name := range accounts {
		if err := r.stray(ctx, s.Driver, w, report, name, start); err != nil {
			return err
		}
	}
	for _, name := range instances {
		if err := r.strayInstance(ctx, s.Driver, w, report, name, start); err != nil {
			return err
		}
	}
	return nil
}

// lost restores the live accounts that the server does not have, and takes those
// that it has out of found.
func (r *Reconciler) lost(ctx context.Context, w Wish, report *Report, found map[string]bool, before time.Time) error {
	const most = 1000
	for after := int64(0); ; {
		var live []bindery.Account
		err := r.Store.View(ctx, func(tx bindery.Tx) (err error) {
			live, err = tx.Accounts().List(ctx, report.Server, bindery.AccountLive, bindery.Page{After: after, Limit: most})
			return err
		})
		if err != nil {
			return err
		}
		for _, a := range live {
			after = a.Row
			switch {
			case found[a.Name]:
				delete(found, a.Name)
				continue
			case !a.Updated.Before(before):
				continue
			}
			if !w.DryRun {
				err := r.Restore(ctx, a.BindingRow)
				if bindery.CodeOf(err) == bindery.CodeBusy {
					continue
				}
				if ctx.Err() != nil {
					return err
				}
				if err != nil {
					report.Failed = append(report.Failed, a.Name)
					continue
				}
			}
			report.Restored = append(report.Restored, a.Name)
		}
		if len(live) < most {
			return nil
		}
	}
}

// stray removes an account that was removed before the comparison began, or
// that nobody ever recorded.
func (r *Reconciler) stray(ctx context.Context, d bindery.Driver, w Wish, report *Report, name string, start time.Time) error {
	var a bindery.Account
	var i bindery.Instance
	err := r.Store.View(ctx, func(tx bindery.Tx) (err error) {
		if a, err = tx.Accounts().ByName(ctx, report.Server, name); err != nil {
			return err
		}
		i, err = tx.Instances().Get(ctx, a.InstanceRow)
		return err
	})
	switch {
	case bindery.CodeOf(err) == bindery.CodeNotFound:
		if !w.Apply {
			report.Unknown = append(report.Unknown, name)
			return nil
		}
		a = bindery.Account{Name: name, Server: report.Server, Kind: report.Kind}
	case err != nil:
		return err
	case a.State != bindery.AccountGone && !a.State.Pending():
		return nil // an operation is at work on it
	case !a.Updated.Before(start):
		return nil // it went while the server was asked what it has
	}
	why := "removed an account that had been removed before and was there again"
	if a.Row == 0 {
		why = "removed an account that the store never knew"
	}
	return r.remove(ctx, w, report, why, name, i, func() error {
		return d.Revoke(ctx, bindery.InstanceSpec{Name: i.Name}, a)
	})
}

// strayInstance is stray for an instance, whose row is in its name.
func (r *Reconciler) strayInstance(ctx context.Context, d bindery.Driver, w Wish, report *Report, name string, start time.Time) error {
	row, err := strconv.ParseInt(strings.TrimPrefix(name, bindery.NamePrefix(r.Store.Installation())), 36, 64)
	var i bindery.Instance
	if err == nil {
		err = r.Store.View(ctx, func(tx bindery.Tx) error {
			i, err = tx.Instances().Get(ctx, row)
			return err
		})
		if err != nil && bindery.CodeOf(err) != bindery.CodeNotFound {
			return err
		}
	}
	known := err == nil && i.Name == name && i.Server == report.Server
	switch {
	case known && (i.State != bindery.StateRemoved || !i.Updated.Before(start)):
		return nil // not removed, or removed while the server was asked what it has
	case !known:
		if !w.Apply {
			report.Unknown = append(report.Unknown, name)
			return nil
		}
		i = bindery.Instance{}
	}
	why := "removed an instance that had been removed before and was there again"
	if !known {
		why = "removed an instance that the store never knew"
	}
	return r.remove(ctx, w, report, why, name, i, func() error {
		return d.Deprovision(ctx, bindery.InstanceSpec{Name: name})
	})
}

// remove does what the wish allows, and puts it into the report and the audit.
func (r *Reconciler) remove(ctx context.Context, w Wish, report *Report, why, name string, i bindery.Instance, do func() error) error {
	if w.DryRun {
		report.Removed = append(report.Removed, name)
		return nil
	}
	if err := do(); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.Log.WarnContext(ctx, "stray not removed", "server", report.Server, "name", name, "error", err.Error())
		report.Failed = append(report.Failed, name)
		return nil
	}
	report.Removed = append(report.Removed, name)
	return r.Store.Update(ctx, func(tx bindery.Tx) error {
		return tx.Events().Add(ctx, bindery.Event{
			At: r.Now(), Platform: i.Platform, Actor: "bindery", Action: "reconcile", InstanceID: i.ID, Account: name,
			Result: string(bindery.OpSucceeded), Message: why,
		})
	})
}
