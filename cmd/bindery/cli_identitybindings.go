package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

const identifierHelp = `Identifiers. A certificate's is its distinguished name, in any spelling: as RFC
4514 writes it (CN=robot,O=x,C=GR, most specific first) or on one line
(/C=GR/O=x/CN=robot, most general first). --certificate FILE takes that of a
certificate. A token's is ISSUER#VALUE.`

func identityBindingCommand(st streams) *cobra.Command {
	return nounCommand("identity-binding", "Administer which identity is which user of those services",
		identityBindingCreateCommand(st), identityBindingListCommand(st), identityBindingShowCommand(st),
		identityBindingUpdateCommand(st), identityBindingDeleteCommand(st))
}

// A bindingInput is what the flags of a new binding or a change of one gave.
type bindingInput struct {
	client.IdentityBindingInput
	service, certificate string
}

func (in *bindingInput) flags(c *cobra.Command, s *session) {
	serviceFlag(c, s, &in.service, "the service type")
	textFlag(c, &in.Host, "host", "the host, one of the service type's")
	textFlag(c, &in.Identifier, "identifier", "who it is: a distinguished name, or ISSUER#VALUE")
	c.Flags().StringVar(&in.certificate, "certificate", "", "file with a certificate whose name is the identifier")
	textFlag(c, &in.AuthType, "auth-type", "how they prove it, x509 or oidc")
	textFlag(c, &in.UniqueKey, "unique-key", "the user's key at the service")
	textFlag(c, &in.Issuer, "issuer", "name of the only authority whose certificates count; empty for any")
	fixed(c, "auth-type", string(bindery.AuthX509), string(bindery.AuthOIDC))
}

// read turns a certificate into its name.
func (in *bindingInput) read() error {
	if in.certificate == "" {
		return nil
	}
	if in.Identifier != nil {
		return usagef("--identifier and --certificate exclude each other")
	}
	dn, err := subjectOf(in.certificate)
	if err != nil {
		return usageError{fmt.Errorf("the certificate %s: %w", in.certificate, err)}
	}
	in.Identifier = &dn
	return nil
}

func identityBindingCreateCommand(st streams) *cobra.Command {
	var in bindingInput
	x509 := string(bindery.AuthX509)
	c, s := command(st, &cobra.Command{
		Use:   "create NAME --service S --host H --identifier DN --unique-key KEY",
		Short: "Make an identity binding",
		Long: "Create says which user of a service somebody is. They prove themselves by x509 unless\n" +
			"you say otherwise.\n\n" + identifierHelp + "\n\n" + identityHelp,
		Example: `  bindery identity-binding create robot --service ams-prod --host msg.example.org \
    --identifier "CN=robot,O=Example,C=GR" --unique-key 4e2d5f
  bindery identity-binding create web --service portal --host a.example.org \
    --certificate web.pem --unique-key web`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if err := in.read(); err != nil {
			return err
		}
		if in.service == "" || in.Host == nil || in.Identifier == nil || in.UniqueKey == nil {
			return usagef("say of which service with --service and --host, who with --identifier or --certificate,\n" +
				"and as whom with --unique-key")
		}
		if in.AuthType == nil {
			in.AuthType = &x509
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		if in.ServiceUUID, err = serviceUUID(ctx, face, in.service); err != nil {
			return s.explainIdentity(err)
		}
		b, err := face.CreateBinding(ctx, args[0], in.IdentityBindingInput)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(b, b.Name, "made")
	})
	in.flags(c, s)
	s.identityFlags(c, true)
	return c
}

func identityBindingListCommand(st streams) *cobra.Command {
	var service, host, identifier string
	c, s := command(st, &cobra.Command{
		Use:   "list [--service S --host H [--identifier DN]]",
		Short: "List the identity bindings, of one host or of all",
		Long: "List lists identity bindings, oldest first. With --identifier it finds the one that\n" +
			"somebody has on a host, however the name is spelled.\n\n" + identityHelp,
		Example: `  bindery identity-binding list
  bindery identity-binding list --service ams-prod --host msg.example.org --identifier /C=GR/O=Example/CN=robot`,
		Args: exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		if (service == "") != (host == "") || (identifier != "" && service == "") {
			return usagef("--service and --host go together, and --identifier with both")
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		items := face.Bindings(ctx)
		if service != "" {
			items = face.BindingsOf(ctx, service, host, identifier)
		}
		return printPages(s, items,
			[]string{"NAME", "AUTH TYPE", "IDENTIFIER", "UNIQUE KEY", "HOST", "SERVICE UUID", "LAST AUTH"},
			func(b client.IdentityBinding) []string {
				return []string{b.Name, string(b.AuthType), b.Identifier, b.UniqueKey, b.Host, b.ServiceUUID, showTime(b.LastAuth)}
			},
			func(b client.IdentityBinding) any { return b })
	})
	serviceFlag(c, s, &service, "only this service type's")
	c.Flags().StringVar(&host, "host", "", "only those on this host")
	c.Flags().StringVar(&identifier, "identifier", "", "only the one that this means")
	s.identityFlags(c, true)
	return c
}

func identityBindingShowCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "show NAME",
		Short:   "Show an identity binding",
		Long:    "Show shows an identity binding.\n\n" + identityHelp,
		Example: "  bindery identity-binding show robot",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		b, err := face.Binding(ctx, args[0])
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printObject(b,
			[2]string{"name", b.Name}, [2]string{"uuid", b.UUID}, [2]string{"service uuid", b.ServiceUUID}, [2]string{"host", b.Host},
			[2]string{"auth type", string(b.AuthType)}, [2]string{"identifier", b.Identifier}, [2]string{"issuer", b.Issuer},
			[2]string{"unique key", b.UniqueKey}, [2]string{"created", showTime(b.Created)}, [2]string{"updated", showTime(b.Updated)},
			[2]string{"last auth", showTime(b.LastAuth)})
	})
	s.identityFlags(c, true)
	s.completeIdentity(c, identityBindingNames)
	return c
}

func identityBindingUpdateCommand(st streams) *cobra.Command {
	var in bindingInput
	c, s := command(st, &cobra.Command{
		Use:   "update NAME",
		Short: "Change an identity binding",
		Long: "Update changes what is named and leaves the rest.\n\n" +
			identifierHelp + "\n\n" + identityHelp,
		Example: "  bindery identity-binding update robot --unique-key 77aa01",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if err := in.read(); err != nil {
			return err
		}
		if in.service == "" && in.IdentityBindingInput == (client.IdentityBindingInput{}) {
			return usagef("say what to change, for example with --unique-key")
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		if in.ServiceUUID, err = serviceUUID(ctx, face, in.service); err != nil {
			return s.explainIdentity(err)
		}
		b, err := face.UpdateBinding(ctx, args[0], in.IdentityBindingInput)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(b, b.Name, "updated")
	})
	textFlag(c, &in.Name, "name", "its new name")
	in.flags(c, s)
	s.identityFlags(c, true)
	s.completeIdentity(c, identityBindingNames)
	return c
}

func identityBindingDeleteCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "delete NAME",
		Short:   "Remove an identity binding: that identity gets no token any more",
		Long:    "Delete removes an identity binding.\n\n" + identityHelp,
		Example: "  bindery identity-binding delete robot",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		if err := face.DeleteBinding(ctx, args[0]); err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(removed{Name: args[0], Deleted: true}, args[0], "gone")
	})
	s.identityFlags(c, true)
	s.completeIdentity(c, identityBindingNames)
	return c
}
