package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// A described plan is what its catalog entry says of its bindings.
type describedPlan struct {
	Service           string             `json:"service"`
	Plan              string             `json:"plan"`
	Description       string             `json:"description"`
	Revocation        bindery.Revocation `json:"revocation,omitempty"`
	CredentialsSchema json.RawMessage    `json:"credentials_schema,omitempty"`
	Schemas           json.RawMessage    `json:"schemas,omitempty"` // of parameters
}

// objectSchema is what describe shows of a JSON Schema.
type objectSchema struct {
	Properties map[string]struct {
		Type        any    `json:"type"` // a text, or several
		Description string `json:"description"`
	} `json:"properties"`
	Required []string `json:"required"`
}

func describeCommand(st streams) *cobra.Command {
	c, s := command(st, &cobra.Command{
		Use:   "describe SERVICE/PLAN",
		Short: "Show what the credentials of a plan look like",
		Long: "Describe shows the keys that the credentials of a plan have, the parameters that a bind takes,\n" +
			"and what an unbind promises, as the broker's catalog says it (plan metadata credentials_schema\n" +
			"and revocation, which Bindery gives).",
		Example: "  bindery describe redis/shared\n  bindery describe postgresql/shared -o json | jq .credentials_schema",
		Args:    exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		c, err := s.catalog(ctx)
		if err != nil {
			return err
		}
		service, plan, _ := strings.Cut(args[0], "/")
		if i := slices.IndexFunc(c.Services, func(x client.Service) bool { return x.Name == service }); i >= 0 && plan == "" && len(c.Services[i].Plans) > 1 {
			var names []string
			for _, p := range c.Services[i].Plans {
				names = append(names, service+"/"+p.Name)
			}
			return usagef("say which plan: %s", client.Printable(strings.Join(names, ", ")))
		}
		what, err := choose(c, service, plan)
		if err != nil {
			return err
		}
		d := describedPlan{Service: what.service.Name, Plan: what.plan.Name, Description: what.plan.Description, Schemas: what.plan.Schemas}
		if len(what.plan.Metadata) > 0 {
			if err := json.Unmarshal(what.plan.Metadata, &d); err != nil {
				return hintf(fmt.Errorf("the metadata of %s: %w", args[0], err), "See it with: bindery catalog -o json")
			}
			d.Service, d.Plan, d.Description, d.Schemas = what.service.Name, what.plan.Name, what.plan.Description, what.plan.Schemas
		}
		if s.output == "json" {
			return s.printJSON(d)
		}
		return s.printDescribed(d)
	})
	s.flags(c)
	return c
}

// promises say in words what each kind of revocation means.
var promises = map[bindery.Revocation]string{
	bindery.RevocationProven:   "it is removed, its sessions end, and a refused login proves it",
	bindery.RevocationExpires:  "what was given out validates by itself until it expires",
	bindery.RevocationReleased: "only the binding ends; the credential lives on",
}

func (s *session) printDescribed(d describedPlan) error {
	lines := []string{fmt.Sprintf("%s/%s: %s", d.Service, d.Plan, d.Description)}
	if d.Revocation != "" {
		lines = append(lines, fmt.Sprintf("After an unbind (%s): %s.", d.Revocation, first(promises[d.Revocation], "see the broker's documentation")))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(s.Out, client.Printable(line)); err != nil {
			return err
		}
	}
	var parameters struct {
		Binding struct {
			Create struct {
				Parameters json.RawMessage `json:"parameters"`
			} `json:"create"`
		} `json:"service_binding"`
	}
	if len(d.Schemas) > 0 {
		_ = json.Unmarshal(d.Schemas, &parameters) // what cannot be read is not shown; -o json has it
	}
	if err := s.printSchema("CREDENTIAL", d.CredentialsSchema); err != nil {
		return err
	}
	if d.CredentialsSchema == nil {
		s.note("The broker does not describe the credentials of this plan.")
	}
	return s.printSchema("PARAMETER", parameters.Binding.Create.Parameters)
}

// printSchema prints the keys of an object that a schema describes.
func (s *session) printSchema(heading string, raw json.RawMessage) error {
	var o objectSchema
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &o); err != nil {
			s.note("The schema of each %s has no shape that can be shown; -o json has it.", strings.ToLower(heading))
		}
	}
	if len(o.Properties) == 0 {
		return nil
	}
	var t table
	t.add(heading, "TYPE", "ALWAYS", "MEANING")
	for _, key := range slices.Sorted(maps.Keys(o.Properties)) {
		p := o.Properties[key]
		t.add(key, strings.Trim(fmt.Sprint(p.Type), "[]"), yes(slices.Contains(o.Required, key)), p.Description)
	}
	_, _ = fmt.Fprintln(s.Out)
	return s.printTable(t)
}
