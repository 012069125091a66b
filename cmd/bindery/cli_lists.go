package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

const adminHelp = "The Open Service Broker API has no lists: this asks Bindery's admin API, with the\n" +
	"token of BINDERY_ADMIN_TOKEN or --token-file, and does not work with other brokers."

// admin returns the client of the admin API.
func (s *session) admin() (*client.Admin, error) {
	where := s.adminURL
	if where == "" && s.readyFile == "" {
		where = s.Env("BINDERY_ADMIN_URL")
	}
	broker, ready, err := s.place()
	if where == "" {
		if err != nil {
			return nil, err
		}
		where = broker
	} else {
		ready = &readyFile{}
	}
	token := bindery.NewSecret(first(ready.Admin.Token, s.Env("BINDERY_ADMIN_TOKEN")))
	if s.tokenFile != "" {
		if token, err = s.secretFile(s.tokenFile); err != nil {
			return nil, err
		}
	}
	if token.Empty() {
		return nil, usagef("the admin API wants a token: set BINDERY_ADMIN_TOKEN, or use --token-file")
	}
	h, err := s.client(ready)
	if err != nil {
		return nil, err
	}
	s.warnClear(where)
	return &client.Admin{URL: where, Token: token, HTTP: h, PageSize: 1000}, nil
}

// explainAdmin adds what to do to the admin API's errors.
func (s *session) explainAdmin(err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Code() == bindery.CodeUnauthorized:
		return hintf(err, "The admin API does not take this token: see BINDERY_ADMIN_TOKEN and --token-file.")
	case e.Status == 404 && e.Key == "":
		return hintf(err, "This broker may not be Bindery, or serves its admin API elsewhere: see BINDERY_ADMIN_URL.")
	}
	return s.explain(err)
}

// printList prints a list as it arrives in JSON, or in one table. A limit of 0 is none.
func printList[T any](s *session, items iter.Seq2[T, error], limit int, heading []string, row func(T) []string) error {
	all := []T{}
	for item, err := range items {
		if err != nil {
			return s.explainAdmin(err)
		}
		all = append(all, item)
		// What is new is at the end.
		if limit > 0 && len(all) > 2*limit {
			all = append([]T{}, all[len(all)-limit:]...)
		}
	}
	if limit > 0 && len(all) > limit {
		all = all[len(all)-limit:]
	}
	if s.output == "json" {
		return s.printJSON(all)
	}
	var t table
	t.add(heading...)
	for _, item := range all {
		t.add(row(item)...)
	}
	return s.printTable(t)
}

// planNames turns ids of plans into "service plan" where the catalog has them.
func (s *session) planNames(ctx context.Context) func(serviceID, planID string) string {
	names := map[string]string{}
	// Without the broker's password the ids must do.
	quiet := *s
	quiet.quiet = true
	if osb, err := quiet.osb(); err == nil {
		if c, err := osb.Catalog(ctx); err == nil {
			for _, service := range c.Services {
				for _, plan := range service.Plans {
					names[plan.ID] = service.Name + " " + plan.Name
				}
			}
		}
	}
	return func(_, planID string) string { return first(names[planID], planID) }
}

func instancesCommand(st streams) *cobra.Command {
	var f client.InstanceFilter
	c, s := command(st, &cobra.Command{
		Use:     "instances",
		Short:   "List the service instances; forget one whose server is gone",
		Long:    "Instances lists the service instances of all platforms, oldest first.\n\n" + adminHelp,
		Example: "  bindery instances\n  bindery instances --platform cf --removed -o json",
		Args:    exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		plan := func(_, id string) string { return id }
		if s.output == "table" {
			plan = s.planNames(ctx)
		}
		heading := []string{"INSTANCE", "PLATFORM", "PLAN", "STATE", "SERVER", "CREATED"}
		if f.Removed {
			heading = append(heading, "ROW")
		}
		return printList(s, admin.Instances(ctx, f), 0, heading, func(i client.AdminInstance) []string {
			row := []string{i.ID, i.Platform, plan(i.ServiceID, i.PlanID), string(i.State), i.Server, showTime(i.Created)}
			if f.Removed {
				row = append(row, strconv.FormatInt(i.Row, 10))
			}
			return row
		})
	})
	c.Flags().StringVar(&f.Platform, "platform", "", "only this platform's")
	c.Flags().StringVar(&f.Server, "server", "", "only those on this server")
	c.Flags().BoolVar(&f.Removed, "removed", false, "removed ones too")
	s.flags(c)
	s.adminFlags(c)
	c.AddCommand(forgetInstanceCommand(st))
	return c
}

func bindingsCommand(st streams) *cobra.Command {
	var f client.BindingFilter
	c, s := command(st, &cobra.Command{
		Use:     "bindings [INSTANCE]",
		Short:   "List the bindings, of one instance or of all; forget one that is stuck",
		Long:    "Bindings lists service bindings, oldest first, and never their credentials.\n\n" + adminHelp,
		Example: "  bindery bindings\n  bindery bindings orders --removed\n  bindery bindings --stuck",
		Args:    exactly(0, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			if f.InstanceID, err = s.instanceID(args[0]); err != nil {
				return err
			}
		}
		return s.printBindings(admin.Bindings(ctx, f), f)
	})
	c.Flags().StringVar(&f.Platform, "platform", "", "only this platform's")
	c.Flags().BoolVar(&f.Removed, "removed", false, "removed ones too, with how their end was proven")
	c.Flags().BoolVar(&f.Stuck, "stuck", false, "only removed ones whose credential may still work")
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	c.AddCommand(forgetCommand(st))
	return c
}

func (s *session) printBindings(all iter.Seq2[client.AdminBinding, error], f client.BindingFilter) error {
	heading := []string{"INSTANCE", "BINDING", "PLATFORM", "STATE", "PREDECESSOR", "CREATED", "EXPIRES"}
	if f.Removed || f.Stuck {
		heading = append(heading, "ROW", "PROVEN", "PROOF")
	}
	return printList(s, all, 0, heading, func(b client.AdminBinding) []string {
		row := []string{
			b.InstanceID, bindingName(b.InstanceID, b.ID), b.Platform, string(b.State),
			bindingName(b.InstanceID, b.Predecessor), showTime(b.Created), showTime(b.Expires),
		}
		if f.Removed || f.Stuck {
			row = append(row, strconv.FormatInt(b.Row, 10), showTime(b.ProvenAt), b.Proof)
		}
		return row
	})
}

func operationsCommand(st streams) *cobra.Command {
	var state, platform string
	var limit int
	c, s := command(st, &cobra.Command{
		Use:   "operations",
		Short: "List what Bindery does and did; retry or cancel it",
		Long:  "Operations lists operations, the newest last.\n\n" + adminHelp,
		Example: `  bindery operations --state in-progress
  bindery operations retry op-2a
  bindery operations cancel op-2a --reason "server was scrapped"`,
		Args: exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		f := client.OperationFilter{Platform: platform}
		if f.State, err = operationState(state); err != nil {
			return err
		}
		return printList(s, admin.Operations(ctx, f), limit,
			[]string{"OPERATION", "DOES", "INSTANCE", "BINDING", "STATE", "TRIES", "BEGUN", "PROBLEM"}, operationRow)
	})
	c.Flags().StringVar(&state, "state", "", "only those in-progress, succeeded or failed")
	c.Flags().StringVar(&platform, "platform", "", "only this platform's")
	c.Flags().IntVarP(&limit, "last", "n", 50, "only so many, the newest; 0 is all")
	fixed(c, "state", "in-progress", "succeeded", "failed")
	s.flags(c)
	s.adminFlags(c)
	c.AddCommand(retryCommand(st), cancelCommand(st))
	return c
}

func operationRow(o client.AdminOperation) []string {
	does := string(o.Kind)
	if o.Undo || o.Internal {
		does += " (undo)"
	}
	problem := o.Message
	if o.State == bindery.OpInProgress {
		problem = o.Problem
	}
	return []string{
		o.ID, does, o.InstanceID, bindingName(o.InstanceID, o.BindingID), string(o.State),
		strconv.Itoa(o.Attempts), showTime(o.Created), problem,
	}
}

func operationState(s string) (bindery.OperationState, error) {
	switch state := bindery.OperationState(strings.ReplaceAll(s, "-", " ")); state {
	case "", bindery.OpInProgress, bindery.OpSucceeded, bindery.OpFailed:
		return state, nil
	}
	return "", usagef("--state takes in-progress, succeeded or failed, not %q", s)
}

func retryCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "retry OPERATION",
		Short:   "Try an operation that waits again now",
		Long:    "Retry makes an operation that waits for its next attempt due now.\n\n" + adminHelp,
		Example: "  bindery operations retry op-2a",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		return s.decide(args[0], "tried now", func(a *client.Admin) (client.AdminOperation, error) { return a.Retry(ctx, args[0]) })
	})
	s.flags(c)
	s.adminFlags(c)
	s.completeOperations(c)
	return c
}

func cancelCommand(st streams) *cobra.Command {
	var reason string
	c, s := command(st, &cobra.Command{
		Use:   "cancel OPERATION --reason TEXT",
		Short: "Give an operation up",
		Long: "Cancel gives an operation up: what creates or updates is undone, and a removal stays\n" +
			"unfinished until it is asked for again. The reason stays in the audit.\n\n" + adminHelp,
		Example: `  bindery operations cancel op-2a --reason "server was scrapped"`,
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return usagef("say why with --reason: it is kept in the audit")
		}
		return s.decide(args[0], "cancelled", func(a *client.Admin) (client.AdminOperation, error) { return a.Cancel(ctx, args[0], reason) })
	})
	c.Flags().StringVar(&reason, "reason", "", "why; it is kept in the audit")
	s.flags(c)
	s.adminFlags(c)
	s.completeOperations(c)
	return c
}

// decide is the part that retry and cancel share.
func (s *session) decide(id, became string, call func(*client.Admin) (client.AdminOperation, error)) error {
	admin, err := s.admin()
	if err != nil {
		return err
	}
	o, err := call(admin)
	if err != nil {
		return s.explainAdmin(err)
	}
	if s.output == "json" {
		return s.printJSON(o)
	}
	_, err = fmt.Fprintf(s.Out, "%s: %s\n", client.Printable(id), became)
	return err
}

func eventsCommand(st streams) *cobra.Command {
	var platform string
	var limit int
	c, s := command(st, &cobra.Command{
		Use:     "events [INSTANCE [BINDING]]",
		Short:   "Show the audit: who did what, when, with which result",
		Long:    "Events shows the audit, the newest last.\n\n" + adminHelp,
		Example: "  bindery events\n  bindery events orders web",
		Args:    exactly(0, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		f := client.EventFilter{Platform: platform}
		if len(args) > 0 {
			if f.InstanceID, err = s.instanceID(args[0]); err != nil {
				return err
			}
		}
		if len(args) > 1 {
			if f.BindingID, err = s.bindingID(f.InstanceID, args[1]); err != nil {
				return err
			}
		}
		return printList(s, admin.Events(ctx, f), limit,
			[]string{"AT", "PLATFORM", "WHO", "DID", "INSTANCE", "BINDING", "RESULT", "MESSAGE"},
			func(e client.AdminEvent) []string {
				return []string{
					showTime(e.At), e.Platform, e.Actor, e.Action, e.InstanceID,
					bindingName(e.InstanceID, e.BindingID), e.Result, e.Message,
				}
			})
	})
	c.Flags().StringVar(&platform, "platform", "", "only this platform's")
	c.Flags().IntVarP(&limit, "last", "n", 50, "only so many, the newest; 0 is all")
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}
