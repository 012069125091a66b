package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// The exit codes that scripts may rely on; docs/cli.md lists them.
const (
	exitOK           = 0
	exitError        = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitConflict     = 4
	exitUnauthorized = 5
	exitInProgress   = 6
	exitUnavailable  = 7
	exitInterrupted  = 130
)

// A usageError is a mistake in what was typed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A hintError is an error and what to do about it, on a line of its own.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

func (e hintError) Error() string { return e.error.Error() + "\n" + e.hint }

func hintf(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// exitCodes has the codes of failures that a script may want to tell apart;
// every other is exitError.
var exitCodes = map[bindery.Code]int{
	bindery.CodeNotFound:     exitNotFound,
	bindery.CodeGone:         exitNotFound,
	bindery.CodeConflict:     exitConflict,
	bindery.CodeBusy:         exitConflict,
	bindery.CodeUnauthorized: exitUnauthorized,
	bindery.CodeForbidden:    exitUnauthorized,
	bindery.CodeTimeout:      exitInProgress,
	bindery.CodeUnavailable:  exitUnavailable,
}

// exitCode is the process's exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if _, ok := errors.AsType[*client.FailedError](err); ok {
		return exitError
	}
	if exit, ok := exitCodes[bindery.CodeOf(err)]; ok {
		return exit
	}
	// cobra's own complaints about what was typed have no type.
	if text := err.Error(); strings.HasPrefix(text, "unknown command ") || strings.HasPrefix(text, "required flag") {
		return exitUsage
	}
	return exitError
}

// exactly is cobra.RangeArgs with an error that shows how it is written.
func exactly(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s needs more arguments\nusage: %s", cmd.CommandPath(), cmd.UseLine())
		case len(args) > most:
			return usagef("%s does not know what to do with %q\nusage: %s", cmd.CommandPath(), args[most], cmd.UseLine())
		}
		return nil
	}
}
