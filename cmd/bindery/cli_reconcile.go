package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"bindery/client"
)

func reconcileCommand(st streams) *cobra.Command {
	var r client.ReconcileRequest
	c, s := command(st, &cobra.Command{
		Use:   "reconcile",
		Short: "Compare what the servers really have with what is recorded",
		Long: "Reconcile looks at the accounts that Bindery made on its servers. Accounts that should\n" +
			"be gone are removed, accounts that a server lost are restored, and accounts that were\n" +
			"never recorded are listed, and removed with --apply. Exit code 1 says that something is\n" +
			"left to do.\n\n" + adminHelp,
		Example: "  bindery reconcile --dry-run\n  bindery reconcile --service redis --apply",
		Args:    exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		if r.DryRun && r.Apply {
			return usagef("--dry-run and --apply exclude each other")
		}
		admin, err := s.admin()
		if err != nil {
			return err
		}
		bar := s.progress("reconciling")
		report, err := admin.Reconcile(ctx, r)
		bar.stop()
		if err != nil {
			return s.explainAdmin(err)
		}
		return s.printReconciled(report)
	})
	c.Flags().BoolVar(&r.DryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&r.Apply, "apply", false, "remove accounts that were never recorded, too")
	c.Flags().StringVar(&r.Service, "service", "", "only the servers of this service")
	s.completeService(c)
	s.flags(c)
	s.adminFlags(c)
	return c
}

// printReconciled prints a report, and is an error where something is left to do.
func (s *session) printReconciled(report client.ReconcileReport) error {
	var open, unknown int
	var t, names table
	t.add("SERVER", "KIND", "ACCOUNTS", "REMOVED", "RESTORED", "UNKNOWN", "FAILED", "PROBLEM")
	for _, server := range report.Servers {
		t.add(server.Server, server.Kind, strconv.Itoa(server.Checked), strconv.Itoa(len(server.Removed)),
			strconv.Itoa(len(server.Restored)), strconv.Itoa(len(server.Unknown)), strconv.Itoa(len(server.Failed)), server.Error)
		open += len(server.Failed)
		unknown += len(server.Unknown)
		if server.Error != "" {
			open++
		}
		would := ""
		if report.DryRun {
			would = "would be "
		}
		for _, l := range []struct {
			what  string
			names []string
		}{
			{would + "removed", server.Removed},
			{would + "restored", server.Restored},
			{"unknown", server.Unknown},
			{"failed", server.Failed},
		} {
			for _, name := range l.names {
				names.add(server.Server, name, l.what)
			}
		}
	}
	if s.output == "json" {
		if err := s.printJSON(report); err != nil {
			return err
		}
	} else {
		if err := s.printTable(t); err != nil {
			return err
		}
		if len(names.rows) > 0 {
			_, _ = fmt.Fprintln(s.Out)
			if err := s.printTable(names); err != nil {
				return err
			}
		}
	}
	switch {
	case open > 0:
		return errors.New("not everything could be compared and put right; the next reconcile tries again")
	case unknown > 0:
		return hintf(fmt.Errorf("%d accounts were never recorded", unknown),
			"They carry this installation's name. Remove them with: bindery reconcile --apply")
	}
	return nil
}
