// Package natsd is a NATS server as a child of the program that it is embedded
// in: there is no server to install, and it can still be paused and killed like
// any other. A program that starts one calls [Main] before anything else.
package natsd

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"

	"bindery/devserver"
)

// Main returns at once, unless this process was started by [devserver.StartNATS]:
// then it is the server, and Main ends the process with it.
func Main() {
	if len(os.Args) != 3 || os.Args[1] != devserver.NATSArgument {
		return
	}
	if err := run(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // it is the program here
	}
	os.Exit(0) //nolint:forbidigo // likewise
}

// run serves until the process is told to stop.
func run(file string) error {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	options.NoSigs = true
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGTERM, os.Interrupt)
	s.Start()
	go func() {
		<-quit
		s.Shutdown()
	}()
	s.WaitForShutdown()
	return nil
}
