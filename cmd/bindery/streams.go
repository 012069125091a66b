package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// streams is what a command touches of the process that it runs in, so that
// tests can run commands without one.
type streams struct {
	In       io.Reader
	Out, Err io.Writer
	Env      func(string) string
	// Terminal says that Err is one, so that progress may be drawn on it.
	Terminal bool
}

func osStreams() streams {
	return streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv,
		Terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
}
