package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

func poolCommand(st streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "pool",
		Short: "See who has which credential of a pool; give one back",
		Long: "A pool is a stock of credentials that were given to Bindery: each binding takes one. What an\n" +
			"unbind leaves is in quarantine, until a rotation hook or an operator gives it back.\n\n" + adminHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(poolListCommand(st), poolReleaseCommand(st))
	return c
}

func poolListCommand(st streams) *cobra.Command {
	var state string
	c, s := command(st, &cobra.Command{
		Use:     "list [SERVER]",
		Short:   "List the items of one server's pool, or of all",
		Long:    "List shows every item of a pool and who has it, and never what it is.\n\n" + adminHelp,
		Example: "  bindery pool list\n  bindery pool list licences --state quarantine",
		Args:    exactly(0, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		server := ""
		if len(args) == 1 {
			server = args[0]
		}
		return printList(s, admin.Pool(ctx, server, bindery.StockState(state)), 0,
			[]string{"SERVER", "ITEM", "STATE", "SINCE", "INSTANCE", "BINDING"},
			func(i client.AdminItem) []string {
				return []string{i.Server, i.Name, string(i.State), showTime(i.Since), i.InstanceID, bindingName(i.InstanceID, i.BindingID)}
			})
	})
	c.Flags().StringVar(&state, "state", "", "only those free, taken, in quarantine, or returning")
	fixed(c, "state", string(bindery.StockFree), string(bindery.StockTaken), string(bindery.StockQuarantine), string(bindery.StockReturning))
	s.flags(c)
	s.adminFlags(c)
	return c
}

func poolReleaseCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:   "release SERVER ITEM...",
		Short: "Give items that are in quarantine back to their pool",
		Long: "Release lets items be given out again. Who had them may still know them: change their\n" +
			"passwords first, and the file that Bindery has them from.\n\n" + adminHelp,
		Example: "  bindery pool release licences key-17",
		Args:    exactly(2, 1000),
	}, func(ctx context.Context, s *session, args []string) error {
		admin, err := s.admin()
		if err != nil {
			return err
		}
		released := []client.AdminItem{}
		for _, name := range args[1:] {
			item, err := admin.Release(ctx, args[0], name)
			if err != nil {
				return s.explainAdmin(fmt.Errorf("release %s: %w", name, err))
			}
			released = append(released, item)
			if s.output != "json" {
				if _, err := fmt.Fprintf(s.Out, "%s: released\n", client.Printable(name)); err != nil {
					return err
				}
			}
		}
		if s.output == "json" {
			return s.printJSON(released)
		}
		return nil
	})
	s.flags(c)
	s.adminFlags(c)
	return c
}
