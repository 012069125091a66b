package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"bindery/config"
)

func configCommand(st streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check, begin or describe a configuration file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use:   "check FILE",
			Short: "Report every problem of a configuration file, as a start would",
			Long: "Report every problem of a configuration file, as a start would.\n\n" +
				"Everything that the file refers to is read, and nothing is changed. Whether plans that\n" +
				"have instances are still there is known to the store only: a start and a reload check that.",
			Args: exactly(1, 1),
			RunE: func(_ *cobra.Command, args []string) error {
				cfg, err := loadConfig(args[0])
				if err != nil {
					return err
				}
				for _, w := range cfg.Warnings() {
					_, _ = fmt.Fprintln(st.Err, "warning: "+w)
				}
				_, err = fmt.Fprintf(st.Out, "%s is fine\n", args[0])
				return err
			},
		},
		&cobra.Command{
			Use:   "new [FILE]",
			Short: "Write a commented example, to FILE or to standard output",
			Args:  exactly(0, 1),
			RunE: func(_ *cobra.Command, args []string) error {
				if len(args) == 0 {
					_, err := fmt.Fprint(st.Out, config.Example())
					return err
				}
				return writeNew(args[0], config.Example())
			},
		},
		&cobra.Command{
			Use:   "schema",
			Short: "Print the JSON Schema of the configuration file, for editors",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				b, err := config.Describe()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(st.Out, "%s\n", b)
				return err
			},
		},
	)
	return c
}

// writeNew writes a file that must not exist yet.
func writeNew(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
