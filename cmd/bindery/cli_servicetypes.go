package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// nounCommand groups the commands on one sort of things.
func nounCommand(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(commands...)
	return c
}

func serviceTypeCommand(st streams) *cobra.Command {
	return nounCommand("service-type", "Administer the services that workloads get tokens of",
		serviceTypeCreateCommand(st), serviceTypeListCommand(st), serviceTypeShowCommand(st),
		serviceTypeUpdateCommand(st), serviceTypeDeleteCommand(st))
}

// serviceTypeFlags are those that a new one and a change have in common.
func serviceTypeFlags(c *cobra.Command, in *client.ServiceTypeInput) {
	listFlag(c, &in.Hosts, "host", "a host that it runs on")
	listFlag(c, &in.AuthTypes, "auth-type", "how its users may prove themselves, x509 or oidc")
	textFlag(c, &in.AuthMethod, "auth-method", "how Bindery proves itself to it, api-key or headers")
	fixed(c, "auth-type", "x509", "oidc")
	fixed(c, "auth-method", "api-key", "headers")
}

func serviceTypeCreateCommand(st streams) *cobra.Command {
	authTypes, method := []string{string(bindery.AuthX509)}, string(bindery.AuthMethodAPIKey)
	var in client.ServiceTypeInput
	c, s := command(st, &cobra.Command{
		Use:   "create NAME --type TYPE --host HOST",
		Short: "Make a service type",
		Long: "Create makes a service type: a service that gives out tokens, and the hosts that it\n" +
			"runs on. The type says how a token is asked for, and is one of the configuration's\n" +
			"(identity.types). Its users prove themselves by x509, and Bindery by api-key, unless\n" +
			"you say otherwise.\n\n" + identityHelp,
		Example: `  bindery service-type create ams-prod --type ams --host msg.example.org
  bindery service-type create portal --type web-api --host a.example.org --host b.example.org \
    --auth-method headers --auth-type x509 --auth-type oidc`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if in.Type == nil || in.Hosts == nil {
			return usagef("say of which type it is with --type, and where it runs with --host")
		}
		in.Name, in.AuthTypes, in.AuthMethod = &args[0], cmp.Or(in.AuthTypes, &authTypes), cmp.Or(in.AuthMethod, &method)
		face, err := s.face()
		if err != nil {
			return err
		}
		t, err := face.CreateServiceType(ctx, in)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(t, t.Name, "made")
	})
	textFlag(c, &in.Type, "type", "how its tokens are asked for, for example ams or web-api")
	serviceTypeFlags(c, &in)
	s.identityFlags(c, true)
	return c
}

func serviceTypeListCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "list",
		Short:   "List the service types",
		Long:    "List lists the service types that the key may see, oldest first.\n\n" + identityHelp,
		Example: "  bindery service-type list -o json",
		Args:    exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		return printPages(s, face.ServiceTypes(ctx),
			[]string{"NAME", "TYPE", "AUTH TYPES", "AUTH METHOD", "HOSTS", "CREATED"},
			func(t client.ServiceType) []string {
				return []string{t.Name, t.Type, joined(t.AuthTypes), t.AuthMethod, joined(t.Hosts), showTime(t.Created)}
			},
			func(t client.ServiceType) any { return t })
	})
	s.identityFlags(c, true)
	return c
}

func serviceTypeShowCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a service type",
		Long:    "Show shows a service type.\n\n" + identityHelp,
		Example: "  bindery service-type show ams-prod",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		t, err := face.ServiceType(ctx, args[0])
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printObject(t,
			[2]string{"name", t.Name}, [2]string{"uuid", t.UUID}, [2]string{"type", t.Type}, [2]string{"hosts", joined(t.Hosts)},
			[2]string{"auth types", joined(t.AuthTypes)}, [2]string{"auth method", t.AuthMethod},
			[2]string{"created", showTime(t.Created)}, [2]string{"updated", showTime(t.Updated)})
	})
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames)
	return c
}

func serviceTypeUpdateCommand(st streams) *cobra.Command {
	var in client.ServiceTypeInput
	c, s := command(st, &cobra.Command{
		Use:   "update NAME",
		Short: "Change a service type",
		Long: "Update changes what is named and leaves the rest. --host and --auth-type replace the\n" +
			"whole list. What stands on a host that is taken away stays, and works for nobody until\n" +
			"the host is back.\n\n" + identityHelp,
		Example: "  bindery service-type update portal --host a.example.org --host c.example.org",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if in == (client.ServiceTypeInput{}) {
			return usagef("say what to change, for example with --host")
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		t, err := face.UpdateServiceType(ctx, args[0], in)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(t, t.Name, "updated")
	})
	textFlag(c, &in.Name, "name", "its new name")
	serviceTypeFlags(c, &in)
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames)
	return c
}

func serviceTypeDeleteCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "delete NAME",
		Short:   "Remove a service type with its auth methods and all its bindings",
		Long:    "Delete removes a service type, its auth methods and all its bindings, at once.\n\n" + identityHelp,
		Example: "  bindery service-type delete portal",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		if err := face.DeleteServiceType(ctx, args[0]); err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(removed{Name: args[0], Deleted: true}, args[0], "gone")
	})
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames)
	return c
}
