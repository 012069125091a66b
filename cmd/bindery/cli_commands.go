package main

import "github.com/spf13/cobra"

// clientCommands ask a broker: the first ones any Open Service Broker, the
// lists Bindery's admin API, the last ones its identity face.
func clientCommands(st streams) []*cobra.Command {
	return []*cobra.Command{
		catalogCommand(st),
		describeCommand(st),
		provisionCommand(st),
		updateCommand(st),
		deprovisionCommand(st),
		bindCommand(st),
		credentialsCommand(st),
		rotateCommand(st),
		unbindCommand(st),
		waitCommand(st),
		instancesCommand(st),
		bindingsCommand(st),
		poolCommand(st),
		operationsCommand(st),
		eventsCommand(st),
		reconcileCommand(st),
		serviceTypeCommand(st),
		authMethodCommand(st),
		identityBindingCommand(st),
		tokenCommand(st),
		importCommand(st),
	}
}
