// Command bindery is the program: `bindery dev` for one machine, `bindery serve`
// for production, and commands that ask any Open Service Broker.
//
// Here everything is introduced to everything else: the configuration is read,
// the store and the drivers are opened, the broker gets both, the listeners get
// the broker.
package main

import (
	"context"
	"os"

	"bindery/devserver/natsd"
)

func main() {
	natsd.Main() // the NATS server of `bindery dev` is this program, too
	os.Exit(run(context.Background(), os.Args[1:], osStreams()))
}
