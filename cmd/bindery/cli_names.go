package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bindery"
	"bindery/client"
)

// How what people type becomes the ids that a broker knows. Nothing is kept on
// this side, so it must be the same wherever and whenever it is typed.
const (
	idsByName = "name" // instance NAME, binding INSTANCE~NAME
	idsRaw    = "raw"  // as typed
	idsGUID   = "guid" // a version 5 UUID of the name
)

const idsHelp = `Names. What you type as an instance's name is the id that the broker knows it by.
A binding's id is INSTANCE~NAME, since ids of bindings must differ between
instances too. A name with a ~ in it, and a GUID, is an id already and is used
as it is. --ids raw takes every name as an id; --ids guid makes a GUID of every
name (always the same one) for brokers that insist on GUIDs. No state is kept
on this machine, so everybody who types a name means the same thing.`

var (
	safeName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,200}$`)
	guid     = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	// idSpace is the name space of the GUIDs of idsGUID. It must never change.
	idSpace = uuid.MustParse("7d6a2b1e-54f0-5d0f-9a3c-0c1f5b0f6f2e")
)

func checkName(name string) error {
	if !safeName.MatchString(name) || name == "." || name == ".." {
		return usagef("%q cannot be a name: use letters, digits, '.', '-', '_' and at most 200 of them\n"+
			"(--ids raw takes any id as it is)", name)
	}
	return nil
}

// instanceID is the id of the instance that somebody typed.
func (s *session) instanceID(name string) (string, error) {
	if s.ids == idsRaw {
		return name, nil
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	if s.ids == idsGUID && !guid.MatchString(name) {
		return uuid.NewSHA1(idSpace, []byte("instance:"+name)).String(), nil
	}
	return name, nil
}

// bindingID is the id of the binding that somebody typed.
func (s *session) bindingID(instance, name string) (string, error) {
	if s.ids == idsRaw {
		return name, nil
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	switch {
	case guid.MatchString(name), strings.Contains(name, "~"):
		return name, nil
	case s.ids == idsGUID:
		return uuid.NewSHA1(idSpace, []byte("binding:"+instance+"~"+name)).String(), nil
	}
	return instance + "~" + name, nil
}

// bindingName is what to type for a binding's id.
func bindingName(instanceID, id string) string {
	if name, ok := strings.CutPrefix(id, instanceID+"~"); ok && name != "" && !strings.Contains(name, "~") {
		return name
	}
	return id
}

// A choice is a service and a plan of a catalog, or the ids of such.
type choice struct {
	service client.Service
	plan    client.Plan
}

// choose finds the service and the plan that are meant: by name, else by id,
// else the only one there is.
func choose(c client.Catalog, service, plan string) (choice, error) {
	s, err := pick("service", "--service", service, c.Services,
		func(s client.Service) (string, string) { return s.Name, s.ID })
	if err != nil {
		return choice{}, err
	}
	p, err := pick("plan of "+s.Name, "--plan", plan, s.Plans,
		func(p client.Plan) (string, string) { return p.Name, p.ID })
	return choice{s, p}, err
}

func pick[T any](what, flag, want string, from []T, names func(T) (name, id string)) (T, error) {
	var none T
	var all, matches []string
	var found []T
	for _, x := range from {
		name, id := names(x)
		all = append(all, client.Printable(name))
		if want == "" || name == want {
			found, matches = append(found, x), append(matches, fmt.Sprintf("%s (%s)", client.Printable(name), client.Printable(id)))
		}
	}
	if len(found) == 0 {
		if i := slices.IndexFunc(from, func(x T) bool { _, id := names(x); return id == want }); i >= 0 {
			return from[i], nil
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(from) == 0:
		return none, bindery.Errorf(bindery.CodeNotFound, "the broker offers no %s", what)
	case len(found) == 0:
		return none, bindery.Errorf(bindery.CodeNotFound, "there is no %s called %q; there are: %s", what, want, strings.Join(all, ", "))
	case want == "":
		return none, usagef("say which %s with %s: %s", what, flag, strings.Join(all, ", "))
	}
	return none, usagef("more than one %s is called %q; say which by its id with %s: %s", what, want, flag, strings.Join(matches, ", "))
}

// identify finds the service and plan ids that a broker wants to hear with an
// instance: those that were typed, else those that the broker or its admin API tells.
func (s *session) identify(ctx context.Context, name, id string, t target) (serviceID, planID string, err error) {
	osb, err := s.osb()
	if err != nil {
		return "", "", err
	}
	if t.service != "" || t.plan != "" {
		c, err := s.catalog(ctx)
		if err != nil {
			return "", "", err
		}
		what, err := choose(c, t.service, t.plan)
		return what.service.ID, what.plan.ID, err
	}
	in, fetchErr := osb.Instance(ctx, id)
	if fetchErr == nil && in.ServiceID != "" && in.PlanID != "" {
		return in.ServiceID, in.PlanID, nil
	}
	if !mayExist(fetchErr) {
		return "", "", fmt.Errorf("instance %s: %w", name, s.explain(fetchErr))
	}
	if serviceID, planID, ok := s.identifyByAdmin(ctx, id); ok {
		return serviceID, planID, nil
	}
	// A catalog with one service and one plan leaves no doubt.
	if c, err := s.catalog(ctx); err == nil && len(c.Services) == 1 && len(c.Services[0].Plans) == 1 {
		return c.Services[0].ID, c.Services[0].Plans[0].ID, nil
	}
	return "", "", hintf(fmt.Errorf("instance %s: %w", name, errNotTold.Because(fetchErr)),
		"It may not exist, may still be in the making, or this broker cannot fetch instances.\n"+
			"If you know that it exists, say what it is: --service NAME --plan NAME.")
}

var errNotTold = bindery.Errorf(bindery.CodeNotFound, "the broker does not tell what it is an instance of")

// mayExist reports whether a refused fetch leaves open what the instance is:
// brokers that cannot fetch instances refuse as they like.
func mayExist(err error) bool {
	if err == nil {
		return true
	}
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status < 400 || e.Status >= 500 {
		return false
	}
	return e.Code() != bindery.CodeUnauthorized && e.Code() != bindery.CodeForbidden
}
