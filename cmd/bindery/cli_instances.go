package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// A target is a service and a plan, as typed.
type target struct{ service, plan string }

func (t *target) flags(c *cobra.Command, s *session, why string) {
	c.Flags().StringVar(&t.service, "service", "", "name or id of the service"+why)
	c.Flags().StringVar(&t.plan, "plan", "", "name or id of the plan"+why)
	s.completeService(c)
	s.completePlan(c, &t.service)
}

// notKnown is why a target is needed where the broker usually tells.
const notKnown = ", for brokers that do not tell"

func catalogCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:     "catalog",
		Short:   "Show what the broker offers",
		Example: "  bindery catalog\n  bindery catalog -o json",
		Args:    exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		c, err := s.catalog(ctx)
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printJSON(c)
		}
		var t table
		t.add("SERVICE", "PLAN", "BINDABLE", "ROTATABLE", "FREE", "DESCRIPTION")
		for _, service := range c.Services {
			for _, plan := range service.Plans {
				t.add(service.Name, plan.Name, yes(plan.CanBind(service)), yes(plan.BindingRotatable), yes(plan.IsFree()), plan.Description)
			}
		}
		return s.printTable(t)
	})
	s.flags(c)
	return c
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func provisionCommand(st streams) *cobra.Command {
	var what target
	var with parameters
	var w waiting
	var organization, space string
	c, s := command(st, &cobra.Command{
		Use:   "provision NAME --service SERVICE --plan PLAN",
		Short: "Make a service instance",
		Long: "Provision makes an instance of a plan, and waits until it is ready. The same\ncommand again changes nothing.\n\n" +
			idsHelp + "\n\n" + parametersHelp,
		Example: `  bindery provision orders --service redis --plan shared
  bindery provision ledger --service postgresql --plan shared -p connection_limit=20
  bindery provision ledger --service postgresql --plan shared --parameters-file ledger.json --no-wait`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		id, err := s.instanceID(args[0])
		if err != nil {
			return err
		}
		params, err := with.read(s)
		if err != nil {
			return err
		}
		offers, err := s.catalog(ctx)
		if err != nil {
			return err
		}
		chosen, err := choose(offers, what.service, what.plan)
		if err != nil {
			return err
		}
		t := thing{
			instance: args[0], instanceID: id, does: "provisioning",
			serviceID: chosen.service.ID, planID: chosen.plan.ID,
		}
		var a client.InstanceAnswer
		if err := s.ask(t, func(osb *client.OSB) (err error) {
			a, err = osb.Provision(ctx, id, client.ProvisionRequest{
				ServiceID: t.serviceID, PlanID: t.planID,
				OrganizationGUID: organization, SpaceGUID: space, Parameters: params,
			})
			return err
		}); err != nil {
			if bindery.CodeOf(err) == bindery.CodeConflict {
				return hintf(err, "Another instance has this name, or this one has other parameters: choose another name,\n"+
					"or change it with: bindery update %s", args[0])
			}
			return err
		}
		o := outcome{
			thing: t, State: bindery.OpSucceeded, Existed: a.Status == 200,
			Operation: a.Operation, DashboardURL: a.DashboardURL,
		}
		if a.InProgress() {
			if !w.wanted() {
				o.State = bindery.OpInProgress
				return s.printOutcome(o, "being provisioned")
			}
			if err := s.finish(ctx, w, t, a.Operation); err != nil {
				return err
			}
		}
		plan := client.Printable(chosen.service.Name + " " + chosen.plan.Name)
		if o.Existed {
			return s.printOutcome(o, "there already ("+plan+")")
		}
		if chosen.plan.CanBind(chosen.service) {
			s.note("get a credential with: bindery bind %s NAME", args[0])
		}
		return s.printOutcome(o, "ready ("+plan+")")
	})
	what.flags(c, s, "")
	with.flags(c)
	w.flags(c)
	c.Flags().StringVar(&organization, "organization", "bindery-cli", "organization_guid to send")
	c.Flags().StringVar(&space, "space", "bindery-cli", "space_guid to send")
	s.flags(c)
	return c
}

func updateCommand(st streams) *cobra.Command {
	var service, plan string
	var upgrade bool
	var with parameters
	var w waiting
	c, s := command(st, &cobra.Command{
		Use:   "update NAME",
		Short: "Change an instance's plan or parameters",
		Long: "Update moves an instance to another plan, changes its parameters, or upgrades it\nto what its plan is now. What is not named stays as it is.\n\n" +
			idsHelp + "\n\n" + parametersHelp,
		Example: "  bindery update orders --plan large\n  bindery update ledger -p connection_limit=40\n  bindery update ledger --upgrade",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		id, err := s.instanceID(args[0])
		if err != nil {
			return err
		}
		r := client.UpdateRequest{}
		if r.Parameters, err = with.read(s); err != nil {
			return err
		}
		if plan == "" && r.Parameters == nil && !upgrade {
			return usagef("say what to change: --plan, -p, --parameters-file or --upgrade")
		}
		t := thing{instance: args[0], instanceID: id, does: "updating"}
		if err := s.planUpdate(ctx, &t, &r, service, plan, upgrade); err != nil {
			return err
		}
		var a client.InstanceAnswer
		if err := s.ask(t, func(osb *client.OSB) (err error) {
			a, err = osb.Update(ctx, id, r)
			return err
		}); err != nil {
			return err
		}
		o := outcome{thing: t, State: bindery.OpSucceeded, Operation: a.Operation, DashboardURL: a.DashboardURL}
		if a.InProgress() {
			if !w.wanted() {
				o.State = bindery.OpInProgress
				return s.printOutcome(o, "being updated")
			}
			if err := s.finish(ctx, w, t, a.Operation); err != nil {
				return err
			}
		}
		return s.printOutcome(o, "updated")
	})
	c.Flags().StringVar(&plan, "plan", "", "name or id of the plan to move to")
	c.Flags().BoolVar(&upgrade, "upgrade", false, "upgrade to the plan's present maintenance version")
	with.flags(c)
	w.flags(c)
	c.Flags().StringVar(&service, "service", "", "name or id of the service"+notKnown)
	s.completeService(c)
	s.completePlan(c, &service)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}

// planUpdate fills in the ids that an update sends: of the service, of the plan
// it was on, and of the plan to move to.
func (s *session) planUpdate(ctx context.Context, t *thing, r *client.UpdateRequest, service, plan string, upgrade bool) error {
	var now string
	var err error
	if service == "" {
		if r.ServiceID, now, err = s.identify(ctx, t.instance, t.instanceID, target{}); err != nil {
			return err
		}
		r.PreviousValues = &client.PreviousValues{ServiceID: r.ServiceID, PlanID: now}
	}
	t.serviceID, t.planID = r.ServiceID, now
	if service != "" || plan != "" || upgrade {
		offers, err := s.catalog(ctx)
		if err != nil {
			return err
		}
		offered, err := pick("service", "--service", first(r.ServiceID, service), offers.Services,
			func(o client.Service) (string, string) { return o.Name, o.ID })
		if err != nil {
			return err
		}
		r.ServiceID, t.serviceID = offered.ID, offered.ID
		to := first(plan, now)
		if to == "" {
			if !upgrade {
				return nil
			}
			return usagef("--upgrade needs --plan here, as the broker does not tell the instance's plan")
		}
		next, err := pick("plan of "+client.Printable(offered.Name), "--plan", to, offered.Plans,
			func(p client.Plan) (string, string) { return p.Name, p.ID })
		if err != nil {
			return err
		}
		if plan != "" {
			r.PlanID = next.ID
		}
		if upgrade {
			if next.MaintenanceInfo == nil {
				return bindery.Errorf(bindery.CodeUnsupported, "plan %s has no maintenance version to upgrade to", client.Printable(next.Name))
			}
			r.MaintenanceInfo = &client.MaintenanceInfo{Version: next.MaintenanceInfo.Version}
		}
	}
	return nil
}

func deprovisionCommand(st streams) *cobra.Command {
	var what target
	var w waiting
	c, s := command(st, &cobra.Command{
		Use:   "deprovision NAME",
		Short: "Remove an instance and everything in it",
		Long: "Deprovision removes an instance, its data, and (with Bindery, if it is not\nconfigured otherwise) the bindings that are left. An instance that is not there\nends with exit code 3.\n\n" +
			idsHelp,
		Example: "  bindery deprovision orders",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		id, err := s.instanceID(args[0])
		if err != nil {
			return err
		}
		t := thing{instance: args[0], instanceID: id, does: "deprovisioning", removing: true}
		if t.serviceID, t.planID, err = s.identify(ctx, args[0], id, what); err != nil {
			return err
		}
		return s.remove(ctx, w, t, func(osb *client.OSB) (client.Answer, error) {
			return osb.Deprovision(ctx, id, t.serviceID, t.planID)
		})
	})
	w.flags(c)
	what.flags(c, s, notKnown)
	s.flags(c)
	s.adminFlags(c)
	s.completeNames(c)
	return c
}

// remove is the part that deprovision and unbind share.
func (s *session) remove(ctx context.Context, w waiting, t thing, call func(*client.OSB) (client.Answer, error)) error {
	var a client.Answer
	err := s.ask(t, func(osb *client.OSB) (err error) {
		a, err = call(osb)
		return err
	})
	if bindery.CodeOf(err) == bindery.CodeGone {
		return bindery.Errorf(bindery.CodeGone, "%s is not there (any more)", t)
	}
	if err != nil {
		return err
	}
	o := outcome{thing: t, State: bindery.OpSucceeded, Operation: a.Operation}
	if a.InProgress() {
		if !w.wanted() {
			o.State = bindery.OpInProgress
			return s.printOutcome(o, "being removed")
		}
		if err := s.finish(ctx, w, t, a.Operation); err != nil {
			if _, failed := errors.AsType[*client.FailedError](err); failed {
				return hintf(err, "Nothing is forgotten: run the same command again.")
			}
			return err
		}
	}
	return s.printOutcome(o, "gone")
}
