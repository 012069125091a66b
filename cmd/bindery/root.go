package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the build; see the Makefile.
var version = ""

// run runs one command line and returns the process's exit code.
func run(ctx context.Context, args []string, st streams) int {
	root := newRoot(st)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		_, _ = fmt.Fprintln(st.Err, "bindery: "+err.Error())
	}
	return exitCode(err)
}

// newRoot makes the command with every command below it.
func newRoot(st streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "bindery",
		Short:         "Makes, keeps, rotates and removes the credentials that let applications into servers",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(st.In)
	root.SetOut(st.Out)
	root.SetErr(st.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w (see %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(serverCommands(st)...)
	root.AddCommand(clientCommands(st)...)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		switch { // cobra's own, which take any word for a wish for help
		case !c.Runnable():
			c.Args, c.RunE = cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case c.Name() == "help":
			c.Args = isCommand
		}
	}
	return root
}

// isCommand refuses words that name no command, as that command would be refused.
func isCommand(cmd *cobra.Command, words []string) error {
	found, left, err := cmd.Root().Find(words)
	if err != nil {
		return err
	}
	return cobra.NoArgs(found, left)
}

// serverCommands run Bindery or work on its files.
func serverCommands(st streams) []*cobra.Command {
	return []*cobra.Command{
		devCommand(st),
		serveCommand(st),
		configCommand(st),
		sealCommand(st),
		versionCommand(st),
	}
}

func versionCommand(st streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(st.Out, "bindery "+buildVersion())
			return err
		},
	}
}

// buildVersion is the version that the build was given, else the commit that Go
// noted, else "devel".
func buildVersion() string {
	if version != "" {
		return version
	}
	if commit := buildSetting("vcs.revision"); len(commit) >= 12 {
		return "devel-" + commit[:12]
	}
	return "devel"
}

// buildTime is the time of the commit that Go noted, "" where it noted none.
func buildTime() string { return buildSetting("vcs.time") }

// buildSetting is what Go noted of the build under this key.
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// fileFlag is the -c of the commands that read a configuration.
func fileFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "the configuration file")
	_ = c.MarkFlagRequired("config")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
}
