package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// What a shell completes comes from the broker, within two seconds or not at
// all; completion never reports an error.

func (s *session) completeService(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("service", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, service := range s.offersNow(cmd) {
			names = append(names, word(service.Name, service.Description))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

func (s *session) completePlan(c *cobra.Command, service *string) {
	_ = c.RegisterFlagCompletionFunc("plan", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, offered := range s.offersNow(cmd) {
			if *service != "" && offered.Name != *service && offered.ID != *service {
				continue
			}
			for _, plan := range offered.Plans {
				names = append(names, word(plan.Name, plan.Description))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// completeNames completes an instance, then a binding of it, where the admin
// API can be asked.
func (s *session) completeNames(c *cobra.Command) {
	binds := strings.Contains(c.Use, "BINDING")
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completing)
		defer cancel()
		switch {
		case s.check() != nil, len(args) > 1, len(args) == 1 && !binds:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case len(args) == 0:
			return s.instanceNames(ctx), cobra.ShellCompDirectiveNoFileComp
		}
		return s.bindingNames(ctx, args[0]), cobra.ShellCompDirectiveNoFileComp
	}
}

func (s *session) offersNow(cmd *cobra.Command) []client.Service {
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	if s.check() != nil {
		return nil
	}
	s.quiet = true
	c, err := s.catalog(ctx)
	if err != nil {
		return nil
	}
	return c.Services
}

// word is a completion and its description, in cobra's form.
func word(name, description string) string {
	return client.Printable(name) + "\t" + client.Printable(description)
}

const (
	// mostNames bounds what a shell is offered, mostLooked how far one name is
	// looked for: lists are not made for that.
	mostNames  = 1000
	mostLooked = 20000
)

// instanceNames lists what can be typed for an instance.
func (s *session) instanceNames(ctx context.Context) []string {
	s.quiet = true
	admin, err := s.admin()
	if err != nil {
		return nil
	}
	var names []string
	for i, err := range admin.Instances(ctx, client.InstanceFilter{}) {
		if err != nil || len(names) >= mostNames {
			break
		}
		names = append(names, word(i.ID, string(i.State)+" on "+i.Server))
	}
	return names
}

// bindingNames lists what can be typed for a binding of an instance.
func (s *session) bindingNames(ctx context.Context, instance string) []string {
	s.quiet = true
	admin, err := s.admin()
	if err != nil {
		return nil
	}
	id, err := s.instanceID(instance)
	if err != nil {
		return nil
	}
	var names []string
	for b, err := range admin.Bindings(ctx, client.BindingFilter{InstanceID: id}) {
		if err != nil || len(names) >= mostNames {
			break
		}
		names = append(names, word(bindingName(id, b.ID), string(b.State)))
	}
	return names
}

func (s *session) completeOperations(c *cobra.Command) {
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completing)
		defer cancel()
		if s.check() != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		s.quiet = true
		admin, err := s.admin()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for o, err := range admin.Operations(ctx, client.OperationFilter{State: bindery.OpInProgress}) {
			if err != nil || len(ids) >= mostNames {
				break
			}
			ids = append(ids, word(o.ID, string(o.Kind)+" "+o.InstanceID))
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// identifyByAdmin finds what an instance is where the broker does not tell: it
// may still be in the making. A name that several platforms use tells nothing.
func (s *session) identifyByAdmin(ctx context.Context, id string) (serviceID, planID string, ok bool) {
	admin, err := s.admin()
	if err != nil {
		return "", "", false
	}
	seen := 0
	for i, err := range admin.Instances(ctx, client.InstanceFilter{}) {
		if seen++; err != nil || seen > mostLooked {
			return "", "", false
		}
		if i.ID != id {
			continue
		}
		if ok && (serviceID != i.ServiceID || planID != i.PlanID) {
			return "", "", false
		}
		serviceID, planID, ok = i.ServiceID, i.PlanID, true
	}
	return serviceID, planID, ok
}
