package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// defaultPatience is how long a command waits where the plan does not say.
const defaultPatience = 15 * time.Minute

// A waiting says whether and how long a command waits for its operation.
type waiting struct {
	wait, noWait bool
	timeout      time.Duration
}

func (w *waiting) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&w.wait, "wait", true, "wait until the work is done")
	f.BoolVar(&w.noWait, "no-wait", false, "come back at once; follow it with bindery wait")
	f.DurationVar(&w.timeout, "timeout", 0, "wait this long (default the plan's limit, else 15m)")
}

func (w waiting) wanted() bool { return w.wait && !w.noWait }

// A thing is what an operation works on, as typed and as the broker knows it.
type thing struct {
	instance, binding       string // as typed; binding is empty for an instance
	instanceID, bindingID   string
	serviceID, planID, does string // does: "provisioning", "binding", …
	removing                bool
}

func (t thing) String() string {
	if t.binding == "" {
		return t.instance
	}
	return t.instance + "/" + t.binding
}

// follow is the command that shows how the operation goes on.
func (t thing) follow(operation string) string {
	words := []string{"bindery wait", t.instance}
	if t.binding != "" {
		words = append(words, t.binding)
	}
	if operation != "" {
		words = append(words, "--operation", quoteShell(client.Printable(operation)))
	}
	if t.removing {
		words = append(words, "--removal")
	}
	return strings.Join(words, " ")
}

// finish waits for an operation that a broker answered 202 for.
func (s *session) finish(ctx context.Context, w waiting, t thing, operation string) error {
	osb, err := s.osb()
	if err != nil {
		return err
	}
	limit := w.timeout
	if limit <= 0 {
		limit = s.patience(ctx, t)
	}
	bar := s.progress(t.does + " " + t.String())
	_, err = osb.Wait(ctx, client.Pending{
		InstanceID: t.instanceID, BindingID: t.bindingID,
		ServiceID: t.serviceID, PlanID: t.planID, Operation: operation, Removing: t.removing,
	}, client.Polling{Limit: limit, Progress: func(l client.LastOperation) { bar.say(l.Description) }})
	bar.stop()
	switch {
	case errors.Is(err, context.Canceled):
		return hintf(fmt.Errorf("stopped waiting for %s: %w", t, err), "The work goes on. Follow it with: %s", t.follow(operation))
	case bindery.CodeOf(err) == bindery.CodeTimeout:
		return hintf(fmt.Errorf("%s %s: %w", t.does, t, err), "The work goes on. Follow it with: %s", t.follow(operation))
	case err != nil:
		return fmt.Errorf("%s %s: %w", t.does, t, s.explain(err))
	}
	return nil
}

// patience is the plan's maximum_polling_duration where the catalog has it.
func (s *session) patience(ctx context.Context, t thing) time.Duration {
	if t.planID == "" {
		return defaultPatience
	}
	c, err := s.catalog(ctx)
	if err != nil {
		return defaultPatience
	}
	for _, service := range c.Services {
		for _, plan := range service.Plans {
			if plan.ID == t.planID && plan.PollingLimit() > 0 {
				return plan.PollingLimit()
			}
		}
	}
	return defaultPatience
}

// ask makes one call with a progress line, and explains its error.
func (s *session) ask(t thing, call func(*client.OSB) error) error {
	osb, err := s.osb()
	if err != nil {
		return err
	}
	bar := s.progress(t.does + " " + t.String())
	err = call(osb)
	bar.stop()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %s: %w", t.does, t, s.explain(err))
	e, ok := errors.AsType[*client.Error](err)
	if !ok || !e.Uncertain {
		return err
	}
	undo := "bindery deprovision " + t.instance
	if t.binding != "" {
		undo = "bindery unbind " + t.instance + " " + t.binding
	}
	return hintf(err, "It may have been made nevertheless. Run the same command again, or remove what there is with:\n  %s", undo)
}

// A progress is a line on a terminal that says what is going on and for how long.
type progress struct {
	s    *session
	what string
	mu   sync.Mutex
	note string
	end  chan struct{}
	done sync.WaitGroup
}

func (s *session) progress(what string) *progress {
	p := &progress{s: s, what: what, end: make(chan struct{})}
	if !s.Terminal || s.quiet {
		return p
	}
	p.done.Go(func() {
		start, tick := time.Now(), time.NewTicker(250*time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-p.end:
				_, _ = fmt.Fprint(s.Err, "\r\x1b[K")
				return
			case <-tick.C:
				p.draw(i, time.Since(start))
			}
		}
	})
	return p
}

func (p *progress) draw(i int, elapsed time.Duration) {
	p.mu.Lock()
	note := p.note
	p.mu.Unlock()
	line := fmt.Sprintf("%c %s %s", `|/-\`[i%4], p.what, elapsed.Truncate(time.Second))
	if note != "" {
		line += "  " + note
	}
	if r := []rune(line); len(r) > 78 {
		line = string(r[:77]) + "…"
	}
	_, _ = fmt.Fprintf(p.s.Err, "\r\x1b[K%s", line)
}

func (p *progress) say(note string) {
	p.mu.Lock()
	p.note = note
	p.mu.Unlock()
}

// stop takes the line away.
func (p *progress) stop() {
	close(p.end)
	p.done.Wait()
}

func waitCommand(st streams) *cobra.Command {
	var operation string
	var removal bool
	var w waiting
	c, s := command(st, &cobra.Command{
		Use:   "wait INSTANCE [BINDING]",
		Short: "Wait for an operation that runs",
		Long: `Wait asks the broker how an operation is doing, until it ends. Without
--operation it asks about the latest one. It changes nothing, and may be
stopped and started again.`,
		Example: "  bindery wait orders --operation op-2a\n  bindery wait orders --removal",
		Args:    exactly(1, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		t := thing{instance: args[0], does: "waiting for", removing: removal}
		var err error
		if t.instanceID, err = s.instanceID(args[0]); err != nil {
			return err
		}
		if len(args) == 2 {
			t.binding = args[1]
			if t.bindingID, err = s.bindingID(t.instanceID, args[1]); err != nil {
				return err
			}
		}
		if err := s.finish(ctx, w, t, operation); err != nil {
			return err
		}
		return s.printOutcome(outcome{thing: t, State: bindery.OpSucceeded, Operation: operation}, "done")
	})
	c.Flags().StringVar(&operation, "operation", "", "the operation that the broker named; default the latest")
	c.Flags().BoolVar(&removal, "removal", false, "it removes something: that it is gone means done")
	c.Flags().DurationVar(&w.timeout, "timeout", 0, "wait this long (default 15m)")
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}
