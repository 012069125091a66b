package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

const materialHelp = `Secrets. --access-key-file takes a service's access key from a file,
--headers-file a JSON object of headers; - is standard input. A new auth method
takes BINDERY_ACCESS_KEY or BINDERY_HEADERS where neither is given. A secret is
never an argument, since everybody on the machine can see those.`

// shownSecret stands for a secret that is not shown; an update takes it for "unchanged".
const shownSecret = "***"

func authMethodCommand(st streams) *cobra.Command {
	return nounCommand("auth-method", "Administer how Bindery proves itself to those services",
		authMethodCreateCommand(st), authMethodListCommand(st), authMethodShowCommand(st),
		authMethodUpdateCommand(st), authMethodDeleteCommand(st))
}

// A methodInput is what the flags of a new auth method or a change of one gave.
type methodInput struct {
	client.AuthMethodInput
	keyFile, headersFile string
}

func (in *methodInput) flags(c *cobra.Command) {
	numberFlag(c, &in.Port, "port", "the port of the service there")
	c.Flags().StringVar(&in.keyFile, "access-key-file", "", "file with the access key, - is standard input")
	c.Flags().StringVar(&in.headersFile, "headers-file", "", "file with a JSON object of headers, - is standard input")
}

// read reads the secrets: where there is no file, from the environment, if that may be.
func (in *methodInput) read(s *session, environment bool) error {
	if in.keyFile != "" && in.headersFile != "" {
		return usagef("--access-key-file and --headers-file exclude each other")
	}
	key, headers, from := "", "", in.headersFile
	switch {
	case in.keyFile != "":
		secret, err := s.secretFile(in.keyFile)
		if err != nil {
			return err
		}
		key = secret.Reveal()
	case in.headersFile != "":
		secret, err := s.secretFile(in.headersFile)
		if err != nil {
			return err
		}
		headers = secret.Reveal()
	case environment:
		if key = s.Env("BINDERY_ACCESS_KEY"); key == "" {
			headers, from = s.Env("BINDERY_HEADERS"), "BINDERY_HEADERS"
		}
	}
	if key != "" {
		secret := bindery.NewSecret(key)
		in.AccessKey = &secret
	}
	if headers == "" {
		return nil
	}
	var object map[string]string
	if json.Unmarshal([]byte(headers), &object) != nil || object == nil { // whose error might quote a header
		return usagef("%s is not one JSON object of strings", from)
	}
	in.Headers = map[string]bindery.Secret{}
	for name, value := range object {
		in.Headers[name] = bindery.NewSecret(value)
	}
	return nil
}

func authMethodCreateCommand(st streams) *cobra.Command {
	var in methodInput
	c, s := command(st, &cobra.Command{
		Use:   "create SERVICE-TYPE HOST --port PORT",
		Short: "Make the auth method of a host",
		Long: "Create says how Bindery calls a service on one of its hosts: the port, and the access\n" +
			"key or the headers that let it in.\n\n" + materialHelp + "\n\n" + identityHelp,
		Example: `  bindery auth-method create ams-prod msg.example.org --port 443 --access-key-file key
  pass show portal | bindery auth-method create portal a.example.org --port 8443 --headers-file -`,
		Args: exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		if in.Port == nil {
			return usagef("say on which port the service is with --port")
		}
		if err := in.read(s, true); err != nil {
			return err
		}
		if in.AccessKey == nil && in.Headers == nil {
			return usagef("how does Bindery prove itself there? Use --access-key-file or --headers-file")
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		in.Host = &args[1]
		m, err := face.CreateAuthMethod(ctx, args[0], in.AuthMethodInput)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(showMethod(m, false), args[0]+" on "+m.Host, "made")
	})
	in.flags(c)
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames, hostNames)
	return c
}

// A shownMethod is an auth method as it is printed in JSON.
type shownMethod struct {
	ServiceUUID string            `json:"service_uuid"`
	Port        int               `json:"port"`
	Host        string            `json:"host"`
	Type        string            `json:"type"`
	UUID        string            `json:"uuid"`
	Created     time.Time         `json:"created_on"`
	Updated     time.Time         `json:"updated_on,omitzero"`
	AccessKey   string            `json:"access_key,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

// showMethod hides the secrets, unless somebody asked for them.
func showMethod(m client.AuthMethod, secrets bool) shownMethod {
	out := shownMethod{
		ServiceUUID: m.ServiceUUID, Port: m.Port, Host: m.Host, Type: m.Type, UUID: m.UUID, Created: m.Created, Updated: m.Updated,
	}
	show := func(t client.SecretText) string {
		if secrets {
			return t.Reveal()
		}
		return shownSecret
	}
	if !m.AccessKey.Empty() {
		out.AccessKey = show(m.AccessKey)
	}
	for name, value := range m.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[name] = show(value)
	}
	return out
}

// material is the secret, or the headers by name, in one cell.
func (m shownMethod) material() string {
	if m.Headers == nil {
		return m.AccessKey
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		lines = append(lines, name+": "+m.Headers[name])
	}
	return joined(lines)
}

func secretsFlag(c *cobra.Command, secrets *bool) {
	c.Flags().BoolVar(secrets, "show-secrets", false, "print access keys and headers in clear")
}

func authMethodListCommand(st streams) *cobra.Command {
	var secrets bool
	c, s := command(st, &cobra.Command{
		Use:     "list",
		Short:   "List the auth methods",
		Long:    "List lists the auth methods of the service types that the key may see, oldest first.\n\n" + identityHelp,
		Example: "  bindery auth-method list",
		Args:    exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		return printPages(s, face.AuthMethods(ctx),
			[]string{"SERVICE UUID", "HOST", "PORT", "TYPE", "SECRET", "CREATED"},
			func(m client.AuthMethod) []string {
				shown := showMethod(m, secrets)
				return []string{m.ServiceUUID, m.Host, strconv.Itoa(m.Port), m.Type, shown.material(), showTime(m.Created)}
			},
			func(m client.AuthMethod) any { return showMethod(m, secrets) })
	})
	secretsFlag(c, &secrets)
	s.identityFlags(c, true)
	return c
}

func authMethodShowCommand(st streams) *cobra.Command {
	var secrets bool
	c, s := command(st, &cobra.Command{
		Use:     "show SERVICE-TYPE HOST",
		Short:   "Show the auth method of a host",
		Long:    "Show shows the auth method of a service type on a host.\n\n" + identityHelp,
		Example: "  bindery auth-method show ams-prod msg.example.org",
		Args:    exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		m, err := face.AuthMethod(ctx, args[0], args[1])
		if err != nil {
			return s.explainIdentity(err)
		}
		shown := showMethod(m, secrets)
		return s.printObject(shown,
			[2]string{"host", m.Host}, [2]string{"port", strconv.Itoa(m.Port)}, [2]string{"uuid", m.UUID}, [2]string{"service uuid", m.ServiceUUID},
			[2]string{"type", m.Type}, [2]string{"secret", shown.material()},
			[2]string{"created", showTime(m.Created)}, [2]string{"updated", showTime(m.Updated)})
	})
	secretsFlag(c, &secrets)
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames, hostNames)
	return c
}

func authMethodUpdateCommand(st streams) *cobra.Command {
	var in methodInput
	var service string
	c, s := command(st, &cobra.Command{
		Use:   "update SERVICE-TYPE HOST",
		Short: "Change the auth method of a host",
		Long: "Update changes what is named and leaves the rest. --headers-file replaces all headers;\n" +
			"a value *** in it keeps the one that is there. With --service or --host the auth method\n" +
			"moves.\n\n" + materialHelp + "\n\n" + identityHelp,
		Example: "  bindery auth-method update ams-prod msg.example.org --access-key-file new-key",
		Args:    exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		if err := in.read(s, false); err != nil {
			return err
		}
		if service == "" && in.Host == nil && in.Port == nil && in.AccessKey == nil && in.Headers == nil {
			return usagef("say what to change, for example with --port")
		}
		face, err := s.face()
		if err != nil {
			return err
		}
		if in.ServiceUUID, err = serviceUUID(ctx, face, service); err != nil {
			return s.explainIdentity(err)
		}
		m, err := face.UpdateAuthMethod(ctx, args[0], args[1], in.AuthMethodInput)
		if err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(showMethod(m, false), first(service, args[0])+" on "+m.Host, "updated")
	})
	in.flags(c)
	textFlag(c, &in.Host, "host", "the host to move it to")
	serviceFlag(c, s, &service, "the service type to move it to")
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames, hostNames)
	return c
}

func serviceFlag(c *cobra.Command, s *session, service *string, usage string) {
	c.Flags().StringVar(service, "service", "", usage)
	s.completeIdentityFlag(c, "service", func(ctx context.Context, face *client.Authn) []string { return serviceTypeNames(ctx, face, nil) })
}

// serviceUUID is what a service type's name stands for; nil for no name.
func serviceUUID(ctx context.Context, face *client.Authn, name string) (*string, error) {
	if name == "" {
		return nil, nil
	}
	t, err := face.ServiceType(ctx, name)
	return &t.UUID, err
}

func authMethodDeleteCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "delete SERVICE-TYPE HOST",
		Short:   "Remove the auth method of a host",
		Long:    "Delete removes the auth method of a service type on a host: nobody gets a token there.\n\n" + identityHelp,
		Example: "  bindery auth-method delete portal a.example.org",
		Args:    exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		face, err := s.face()
		if err != nil {
			return err
		}
		if err := face.DeleteAuthMethod(ctx, args[0], args[1]); err != nil {
			return s.explainIdentity(err)
		}
		return s.printBecame(removed{Name: args[0], Host: args[1], Deleted: true}, args[0]+" on "+args[1], "gone")
	})
	s.identityFlags(c, true)
	s.completeIdentity(c, serviceTypeNames, hostNames)
	return c
}
