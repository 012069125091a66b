package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

const credentialsHelp = `Credentials go to standard output and nowhere else. -o env prints them as lines
for a shell (eval "$(bindery credentials … -o env)"), --key prints one value.`

// binding turns what was typed into a thing.
func (s *session) binding(instance, name, does string) (thing, error) {
	t := thing{instance: instance, binding: name, does: does}
	var err error
	if t.instanceID, err = s.instanceID(instance); err != nil {
		return t, err
	}
	t.bindingID, err = s.bindingID(t.instanceID, name)
	return t, err
}

func keyFlag(c *cobra.Command, key *string) {
	c.Flags().StringVar(key, "key", "", "print only this value of the credentials, for example uri")
}

func bindCommand(st streams) *cobra.Command {
	var what target
	var with parameters
	var w waiting
	var app, key string
	c, s := command(st, &cobra.Command{
		Use:   "bind INSTANCE NAME",
		Short: "Make a binding and print its credentials",
		Long: "Bind makes a credential of an instance and prints it. The same command again\nprints the same credential.\n\n" +
			credentialsHelp + "\n\n" + idsHelp + "\n\n" + parametersHelp,
		Example: `  bindery bind orders web
  bindery bind ledger report -p access=read-only
  psql "$(bindery bind ledger report -p access=read-only --key uri)"`,
		Args: exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		t, err := s.binding(args[0], args[1], "binding")
		if err != nil {
			return err
		}
		r := client.BindRequest{}
		if r.Parameters, err = with.read(s); err != nil {
			return err
		}
		if t.serviceID, t.planID, err = s.identify(ctx, args[0], t.instanceID, what); err != nil {
			return err
		}
		r.ServiceID, r.PlanID = t.serviceID, t.planID
		if app != "" {
			if r.BindResource, err = json.Marshal(map[string]string{"app_guid": app}); err != nil {
				return err
			}
		}
		return s.bind(ctx, w, t, r, key)
	}, "env")
	with.flags(c)
	c.Flags().StringVar(&app, "app", "", "GUID of the application, for services that need one")
	keyFlag(c, &key)
	w.flags(c)
	what.flags(c, s, notKnown)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}

// bind is the part that bind and rotate share.
func (s *session) bind(ctx context.Context, w waiting, t thing, r client.BindRequest, key string) error {
	var b client.Binding
	if err := s.ask(t, func(osb *client.OSB) (err error) {
		b, err = osb.Bind(ctx, t.instanceID, t.bindingID, r)
		return err
	}); err != nil {
		if code := bindery.CodeOf(err); code == bindery.CodeRequiresApp {
			return hintf(err, "Name the application with --app.")
		} else if code == bindery.CodeConflict {
			return hintf(err, "Another binding has this name, or this one was made differently: choose another name,\n"+
				"or remove it first: bindery unbind %s %s", t.instance, t.binding)
		}
		return err
	}
	if b.InProgress() {
		if !w.wanted() {
			return s.printOutcome(outcome{thing: t, State: bindery.OpInProgress, Operation: b.Operation}, "being made")
		}
		if err := s.finish(ctx, w, t, b.Operation); err != nil {
			return err
		}
		osb, err := s.osb()
		if err != nil {
			return err
		}
		if b, err = osb.Binding(ctx, t.instanceID, t.bindingID); err != nil {
			return hintf(fmt.Errorf("%s is made, and its credentials cannot be fetched: %w", t, err),
				"Try again with: bindery credentials %s %s", t.instance, t.binding)
		}
	} else if b.Status == 200 {
		s.note("%s was there already", t)
	}
	return s.printCredentials(t, b, key)
}

func credentialsCommand(st streams) *cobra.Command {
	var key string
	c, s := command(st, &cobra.Command{
		Use:   "credentials INSTANCE BINDING",
		Short: "Print the credentials of a binding",
		Long:  "Credentials fetches a binding and prints its credentials.\n\n" + credentialsHelp + "\n\n" + idsHelp,
		Example: `  bindery credentials orders web
  bindery credentials orders web --key password
  eval "$(bindery credentials orders web -o env)"`,
		Args: exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		t, err := s.binding(args[0], args[1], "fetching")
		if err != nil {
			return err
		}
		var b client.Binding
		err = s.ask(t, func(osb *client.OSB) (err error) {
			b, err = osb.Binding(ctx, t.instanceID, t.bindingID)
			return err
		})
		if exitCode(err) == exitNotFound {
			return hintf(err, "It may not exist, may still be in the making (bindery wait %s %s),\n"+
				"or this broker shows credentials only once.", t.instance, t.binding)
		}
		if err != nil {
			return err
		}
		return s.printCredentials(t, b, key)
	}, "env")
	keyFlag(c, &key)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}

var numbered = regexp.MustCompile(`^(.*)-([1-9][0-9]{0,8})$`)

// successor is the name of what comes after a binding: web, web-2, web-3.
func successor(name string) string {
	if m := numbered.FindStringSubmatch(name); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil {
			return m[1] + "-" + strconv.Itoa(n+1)
		}
	}
	return name + "-2"
}

func rotateCommand(st streams) *cobra.Command {
	var what target
	var w waiting
	var key string
	var all campaign
	c, s := command(st, &cobra.Command{
		Use:   "rotate INSTANCE BINDING [NEW]",
		Short: "Make a binding's successor and print its credentials; or those of all bindings",
		Long: "Rotate makes a new binding like an existing one, with a credential of its own. Both\nwork until the old one is removed with unbind. Without NEW the successor of web is\nweb-2, of web-2 web-3.\n\n" +
			campaignHelp + "\n\n" + credentialsHelp + "\n\n" + idsHelp,
		Example: `  bindery rotate orders web
  bindery unbind orders web
  bindery rotate --all --service redis --rate 10`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all.all {
				return exactly(0, 0)(cmd, args)
			}
			return exactly(2, 3)(cmd, args)
		},
	}, func(ctx context.Context, s *session, args []string) error {
		if all.all {
			return all.run(ctx, s, what, w)
		}
		if all.unbindOld || all.before != "" {
			return usagef("--unbind-old and --before go with --all")
		}
		old, err := s.binding(args[0], args[1], "rotating")
		if err != nil {
			return err
		}
		next := successor(args[1])
		switch {
		case len(args) == 3:
			next = args[2]
		case guid.MatchString(args[1]):
			return usagef("%s is a GUID: name its successor\nusage: bindery rotate INSTANCE BINDING NEW", args[1])
		}
		t, err := s.binding(args[0], next, "rotating "+args[1]+" to")
		if err != nil {
			return err
		}
		r := client.BindRequest{PredecessorBindingID: old.bindingID}
		// The predecessor says it all; brokers that read the ids nevertheless get them if they are known.
		if t.serviceID, t.planID, err = s.identify(ctx, args[0], t.instanceID, what); err == nil {
			r.ServiceID, r.PlanID = t.serviceID, t.planID
		} else if what != (target{}) || bindery.CodeOf(err) != bindery.CodeNotFound {
			return err
		}
		if err := s.bind(ctx, w, t, r, key); err != nil {
			return err
		}
		s.note("the old one still works; when nobody uses it any more: bindery unbind %s %s", args[0], args[1])
		return nil
	}, "env")
	all.flags(c)
	keyFlag(c, &key)
	w.flags(c)
	what.flags(c, s, notKnown)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}

func unbindCommand(st streams) *cobra.Command {
	var what target
	var w waiting
	c, s := command(st, &cobra.Command{
		Use:     "unbind INSTANCE BINDING",
		Short:   "Remove a binding: its credential stops working",
		Long:    "Unbind removes a binding and its credential, with the sessions that it had open.\nA binding that is not there ends with exit code 3.\n\n" + idsHelp,
		Example: "  bindery unbind orders web",
		Args:    exactly(2, 2),
	}, func(ctx context.Context, s *session, args []string) error {
		t, err := s.binding(args[0], args[1], "unbinding")
		if err != nil {
			return err
		}
		t.removing = true
		if t.serviceID, t.planID, err = s.identify(ctx, args[0], t.instanceID, what); err != nil {
			return err
		}
		return s.remove(ctx, w, t, func(osb *client.OSB) (client.Answer, error) {
			return osb.Unbind(ctx, t.instanceID, t.bindingID, t.serviceID, t.planID)
		})
	})
	w.flags(c)
	what.flags(c, s, notKnown)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}
