package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"bindery"
	"bindery/client"
)

const campaignHelp = `With --all every binding of a service gets a successor, and with --unbind-old the
old ones are removed after that, once all have successors; both work until then.
Nothing is kept on this machine. Left alone are a binding that has a successor, one
that was made after --before (default: when the command started) and, without
--before, one whose predecessor is still there. So a second run goes on where the
first one stopped; one that is to remove the old ones wants the --before that the
first one printed. Bindings with GUIDs for names belong to a platform, which would
not know their successors: they are left alone, too. --all asks Bindery's admin API.`

// campaignWidth is how many bindings are worked on at a time.
const campaignWidth = 8

// A campaign rotates all bindings of a service.
type campaign struct {
	all, unbindOld   bool
	rate             float64
	before, platform string
}

func (a *campaign) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&a.all, "all", false, "rotate all bindings of --service, and of --plan where that is given")
	f.Float64Var(&a.rate, "rate", 5, "with --all: begin at most so many a second")
	f.BoolVar(&a.unbindOld, "unbind-old", false, "with --all: remove the old ones, once all have successors")
	f.StringVar(&a.before, "before", "", "with --all: only bindings made before this time (RFC 3339)")
	f.StringVar(&a.platform, "platform", "", "with --all: whose bindings; needed where several platforms have some")
}

// A turn is a binding and what comes after it.
type turn struct {
	Instance  string `json:"instance_id"`
	Binding   string `json:"binding_id"`
	Successor string `json:"successor_id,omitempty"`
	Problem   string `json:"problem,omitempty"`
	service   string
	plan      string
}

// campaigned is the summary.
type campaigned struct {
	Before  time.Time `json:"before"`
	Rotated []turn    `json:"rotated"`
	Failed  []turn    `json:"failed"`
	Unbound int       `json:"unbound"`
	// Left alone: they have a successor already, or are one, or are new, or a platform's.
	Skipped int `json:"skipped"`
}

func (a *campaign) run(ctx context.Context, s *session, what target, w waiting) error {
	before := time.Now()
	if a.before != "" {
		var err error
		if before, err = time.Parse(time.RFC3339, a.before); err != nil {
			return usagef("--before takes a time such as %s, not %q", time.Now().UTC().Format(time.RFC3339), a.before)
		}
	}
	if what.service == "" {
		return usagef("say whose bindings with --service")
	}
	if a.rate <= 0 {
		return usagef("--rate takes a number of bindings a second, not %v", a.rate)
	}
	out := campaigned{Before: before.UTC(), Rotated: []turn{}, Failed: []turn{}}
	live, err := a.live(ctx, s, what)
	if err != nil {
		return err
	}
	turns, skipped := a.plan(live, before)
	out.Skipped = skipped
	s.note("%d bindings to rotate, %d left alone", len(turns), skipped)
	out.Rotated, out.Failed = a.each(ctx, s, "rotating", turns, func(ctx context.Context, osb *client.OSB, t turn) error {
		b, err := osb.Bind(ctx, t.Instance, t.Successor, client.BindRequest{ServiceID: t.service, PlanID: t.plan, PredecessorBindingID: t.Binding})
		if err == nil && b.InProgress() {
			err = await(ctx, osb, w, client.Pending{InstanceID: t.Instance, BindingID: t.Successor, ServiceID: t.service, PlanID: t.plan, Operation: b.Operation})
		}
		return err
	})
	if a.unbindOld && len(out.Failed) == 0 && ctx.Err() == nil {
		if live, err = a.live(ctx, s, what); err != nil {
			return err
		}
		var removed []turn
		removed, out.Failed = a.each(ctx, s, "removing", replaced(live, before), func(ctx context.Context, osb *client.OSB, t turn) error {
			answer, err := osb.Unbind(ctx, t.Instance, t.Binding, t.service, t.plan)
			if err == nil && answer.InProgress() {
				err = await(ctx, osb, w, client.Pending{InstanceID: t.Instance, BindingID: t.Binding, ServiceID: t.service, PlanID: t.plan, Operation: answer.Operation, Removing: true})
			}
			if bindery.CodeOf(err) == bindery.CodeGone {
				return nil
			}
			return err
		})
		out.Unbound = len(removed)
	}
	if err := s.printCampaign(out); err != nil {
		return err
	}
	again := a.again(what, before)
	switch {
	case ctx.Err() != nil:
		return hintf(fmt.Errorf("stopped: %w", ctx.Err()), "Go on with: %s", again)
	case len(out.Failed) > 0:
		return hintf(fmt.Errorf("%d bindings failed", len(out.Failed)), "Go on with: %s", again)
	case !a.unbindOld && len(out.Rotated) > 0:
		s.note("the old ones still work; when nobody uses them any more: %s --unbind-old", again)
	}
	return nil
}

// again is the command that goes on with the campaign.
func (a *campaign) again(what target, before time.Time) string {
	words := []string{"bindery rotate --all --service", quoteShell(what.service)}
	for _, f := range [][2]string{{"--plan", what.plan}, {"--platform", a.platform}} {
		if f[1] != "" {
			words = append(words, f[0], quoteShell(f[1]))
		}
	}
	if a.unbindOld {
		words = append(words, "--unbind-old")
	}
	return strings.Join(append(words, "--rate", strconv.FormatFloat(a.rate, 'g', -1, 64), "--before", before.UTC().Format(time.RFC3339Nano)), " ")
}

// live lists the bindings of the service, all of one platform.
func (a *campaign) live(ctx context.Context, s *session, what target) ([]client.AdminBinding, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	service, err := pick("service", "--service", what.service, c.Services, func(x client.Service) (string, string) { return x.Name, x.ID })
	if err != nil {
		return nil, err
	}
	planID := ""
	if what.plan != "" {
		plan, err := pick("plan of "+service.Name, "--plan", what.plan, service.Plans, func(x client.Plan) (string, string) { return x.Name, x.ID })
		if err != nil {
			return nil, err
		}
		planID = plan.ID
	}
	admin, err := s.admin()
	if err != nil {
		return nil, err
	}
	var out []client.AdminBinding
	for b, err := range admin.Bindings(ctx, client.BindingFilter{Platform: a.platform}) {
		if err != nil {
			return nil, s.explainAdmin(err)
		}
		if b.ServiceID != service.ID || planID != "" && b.PlanID != planID {
			continue
		}
		if len(out) > 0 && b.Platform != out[0].Platform {
			return nil, usagef("several platforms have bindings of %s: say whose with --platform, and be that one (SB_BROKER_USERNAME)", service.Name)
		}
		out = append(out, b)
	}
	return out, nil
}

// plan says which bindings are rotated, under which names, and how many are not.
func (a *campaign) plan(live []client.AdminBinding, before time.Time) (turns []turn, skipped int) {
	taken, succeeded := map[string]bool{}, map[[2]string]bool{}
	for _, b := range live {
		taken[b.ID] = true
		if b.Predecessor != "" {
			succeeded[[2]string{b.InstanceID, b.Predecessor}] = true
		}
	}
	for _, b := range live {
		if b.State != bindery.StateReady || !b.Created.Before(before) || succeeded[[2]string{b.InstanceID, b.ID}] ||
			a.before == "" && b.Predecessor != "" && taken[b.Predecessor] || guid.MatchString(b.ID) {
			skipped++
			continue
		}
		next := successor(b.ID)
		for taken[next] {
			next = successor(next)
		}
		taken[next] = true
		turns = append(turns, turn{Instance: b.InstanceID, Binding: b.ID, Successor: next, service: b.ServiceID, plan: b.PlanID})
	}
	return turns, skipped
}

// replaced are the bindings that got a successor since then, one that is ready.
// Whoever uses what was rotated earlier may not have moved on.
func replaced(live []client.AdminBinding, before time.Time) (old []turn) {
	next := map[[2]string]string{}
	for _, b := range live {
		if b.Predecessor != "" && b.State == bindery.StateReady && !b.Created.Before(before) {
			next[[2]string{b.InstanceID, b.Predecessor}] = b.ID
		}
	}
	for _, b := range live {
		if id := next[[2]string{b.InstanceID, b.ID}]; id != "" {
			old = append(old, turn{Instance: b.InstanceID, Binding: b.ID, Successor: id, service: b.ServiceID, plan: b.PlanID})
		}
	}
	return old
}

// each does something with many bindings, at the campaign's rate.
func (a *campaign) each(ctx context.Context, s *session, what string, turns []turn, do func(context.Context, *client.OSB, turn) error) (good, bad []turn) {
	good, bad = []turn{}, []turn{}
	osb, err := s.osb()
	if err != nil {
		for _, t := range turns {
			t.Problem = err.Error()
			bad = append(bad, t)
		}
		return good, bad
	}
	bar := s.progress(what)
	defer bar.stop()
	pace := rate.NewLimiter(rate.Limit(a.rate), 1)
	var mu sync.Mutex
	var done atomic.Int64
	var g errgroup.Group
	g.SetLimit(campaignWidth)
	for _, t := range turns {
		if pace.Wait(ctx) != nil {
			break
		}
		g.Go(func() error {
			err := do(ctx, osb, t)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				good = append(good, t)
			} else if ctx.Err() == nil {
				t.Problem = client.Printable(s.explain(err).Error())
				bad = append(bad, t)
			}
			n := int(done.Add(1))
			bar.say(fmt.Sprintf("[%-20s] %d of %d, %d failed", strings.Repeat("#", 20*n/len(turns)), n, len(turns), len(bad)))
			return nil
		})
	}
	_ = g.Wait()
	return good, bad
}

// await polls an operation to its end.
func await(ctx context.Context, osb *client.OSB, w waiting, p client.Pending) error {
	limit := w.timeout
	if limit <= 0 {
		limit = defaultPatience
	}
	_, err := osb.Wait(ctx, p, client.Polling{Limit: limit})
	return err
}

func (s *session) printCampaign(out campaigned) error {
	if s.output == "json" {
		return s.printJSON(out)
	}
	var t table
	t.add("INSTANCE", "BINDING", "SUCCESSOR", "PROBLEM")
	for _, list := range [][]turn{out.Rotated, out.Failed} {
		for _, x := range list {
			t.add(x.Instance, bindingName(x.Instance, x.Binding), bindingName(x.Instance, x.Successor), x.Problem)
		}
	}
	if len(t.rows) > 1 {
		if err := s.printTable(t); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.Out, "%d rotated, %d failed, %d left alone, %d old ones removed\n", len(out.Rotated), len(out.Failed), out.Skipped, out.Unbound)
	return err
}
