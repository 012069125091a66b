package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

func forgetInstanceCommand(st streams) *cobra.Command {
	var platform string
	c, s := forgetting(st, &cobra.Command{
		Use:   "forget INSTANCE --reason TEXT",
		Short: "Give up removing an instance whose server is gone",
		Long: "Forget ends an instance whose removal its server does not confirm, and what is left of its\n" +
			"bindings: its server is gone for good. Deprovision it first. INSTANCE is its name, or its row\n" +
			"in bindery instances --removed. The reason stays in the audit. What reappears on the server is\n" +
			"removed all the same. The same command again carries on one that was cut short.\n\n" + adminHelp,
		Example: `  bindery deprovision orders --no-wait
  bindery instances forget orders --reason "server was scrapped"`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, admin *client.Admin, typed, reason string) (any, string, error) {
		row, err := s.liveInstance(ctx, admin, platform, typed)
		if err != nil {
			return nil, "", err
		}
		i, err := admin.ForgetInstance(ctx, row, reason)
		return i, i.ID, s.explainAdmin(err)
	})
	c.Flags().StringVar(&platform, "platform", "", "whose it is, where several platforms have one of this name")
	s.completeNames(c)
	return c
}

// liveInstance is the row of the instance that was typed: of the one that has this
// name and is not removed, else a row.
func (s *session) liveInstance(ctx context.Context, admin *client.Admin, platform, typed string) (int64, error) {
	id, err := s.instanceID(typed)
	if err != nil {
		return 0, err
	}
	var rows []int64
	var platforms []string
	for i, err := range admin.Instances(ctx, client.InstanceFilter{Platform: platform}) {
		if err != nil {
			return 0, s.explainAdmin(err)
		}
		if i.ID == id {
			rows, platforms = append(rows, i.Row), append(platforms, client.Printable(i.Platform))
		}
	}
	switch len(rows) {
	case 0:
		if row, err := strconv.ParseInt(typed, 10, 64); err == nil {
			return row, nil
		}
		return 0, hintf(bindery.Errorf(bindery.CodeNotFound, "no instance is called %q", typed),
			"One that is removed, of which something is left, is named by its row: bindery instances --removed")
	case 1:
		return rows[0], nil
	}
	return 0, usagef("more than one instance is called %q; say whose with --platform: %s", typed, strings.Join(platforms, ", "))
}

func forgetCommand(st streams) *cobra.Command {
	c, _ := forgetting(st, &cobra.Command{
		Use:   "forget BINDING --reason TEXT",
		Short: "Stop trying to prove that a removed binding is dead",
		Long: "Forget ends what is left of a binding whose removal the server does not confirm, or whose\n" +
			"credential cannot be proven dead: its server is gone for good, or somebody looked. BINDING is\n" +
			"its row in bindery bindings --stuck, or its id where that is the only one. The reason stays\n" +
			"in the audit. An account that reappears on its server is removed all the same.\n\n" + adminHelp,
		Example: `  bindery bindings --stuck
  bindery bindings forget 4711 --reason "server was scrapped"`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, admin *client.Admin, typed, reason string) (any, string, error) {
		row, err := s.forgettable(ctx, admin, typed)
		if err != nil {
			return nil, "", err
		}
		b, err := admin.Forget(ctx, row, reason)
		return b, b.InstanceID + "/" + bindingName(b.InstanceID, b.ID), s.explainAdmin(err)
	})
	return c
}

// forgetting is a command that gives up what forget gives up, with a reason, and
// prints it or its name.
func forgetting(st streams, of *cobra.Command,
	forget func(_ context.Context, _ *session, _ *client.Admin, typed, reason string) (forgotten any, name string, err error),
) (*cobra.Command, *session) {
	var reason string
	c, s := command(st, of, func(ctx context.Context, s *session, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return usagef("say why with --reason: it is kept in the audit")
		}
		admin, err := s.admin()
		if err != nil {
			return err
		}
		forgotten, name, err := forget(ctx, s, admin, args[0], reason)
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printJSON(forgotten)
		}
		_, err = fmt.Fprintf(s.Out, "%s: forgotten\n", client.Printable(name))
		return err
	})
	c.Flags().StringVar(&reason, "reason", "", "why; it is kept in the audit")
	s.flags(c)
	s.adminFlags(c)
	return c, s
}

// forgettable is the row of the binding that was typed: a row, or the id or name
// of one that is stuck.
func (s *session) forgettable(ctx context.Context, admin *client.Admin, typed string) (int64, error) {
	if row, err := strconv.ParseInt(typed, 10, 64); err == nil {
		return row, nil
	}
	var rows []int64
	for b, err := range admin.Bindings(ctx, client.BindingFilter{Stuck: true}) {
		if err != nil {
			return 0, s.explainAdmin(err)
		}
		if b.ID == typed || bindingName(b.InstanceID, b.ID) == typed {
			rows = append(rows, b.Row)
		}
	}
	switch len(rows) {
	case 0:
		return 0, hintf(bindery.Errorf(bindery.CodeNotFound, "no stuck binding is called %q", typed),
			"One whose removal still goes on is named by its row: bindery bindings --removed")
	case 1:
		return rows[0], nil
	}
	return 0, usagef("more than one stuck binding is called %q; say which by its row: %v", typed, rows)
}
