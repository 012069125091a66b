package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"bindery"
)

// semver is the expression that semver.org suggests.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// A planner checks the catalog: ids and exclusive servers are looked at across plans.
type planner struct {
	*checker
	servers map[string]string // kind by name
	ids     map[string]string // path by id
	users   map[string][]use  // plans by server
}

type use struct {
	path, plan string
	exclusive  bool
}

func (c *checker) offerings(list []Offering, servers []Server, needed bool) *bindery.Catalog {
	pl := &planner{checker: c, servers: map[string]string{}, ids: map[string]string{}, users: map[string][]use{}}
	for _, s := range servers {
		pl.servers[s.Name] = s.Kind
	}
	if len(list) == 0 && needed {
		c.addf("catalog", "is missing: the face osb would have nothing to offer")
	}
	names := map[string]bool{}
	cat := &bindery.Catalog{}
	for i := range list {
		p := at("catalog", i)
		pl.name(p+".name", list[i].Name, names)
		cat.Offerings = append(cat.Offerings, pl.offering(p, &list[i]))
	}
	pl.exclusive()
	return cat
}

func (c *planner) offering(p string, o *Offering) *bindery.Offering {
	c.id(p+".id", o.ID)
	if o.Description == "" {
		c.addf(p+".description", "is missing")
	}
	for i, r := range o.Requires {
		c.oneOf(at(p+".requires", i), r, "syslog_drain", "route_forwarding", "volume_mount")
	}
	for i, t := range o.Tags {
		if t == "" {
			c.addf(at(p+".tags", i), "is empty")
		}
	}
	out := &bindery.Offering{
		ID: o.ID, Name: o.Name, Description: o.Description, Tags: o.Tags, Requires: o.Requires,
		Bindable: o.Bindable == nil || *o.Bindable, PlanUpdateable: o.PlanUpdateable,
		AllowContextUpdates: o.AllowContextUpdates, Metadata: o.Metadata.Raw(),
		DashboardURL: o.DashboardURL, RequiresApp: o.RequiresApp,
	}
	c.dashboard(p, o, out)
	if len(o.Plans) == 0 {
		c.addf(p+".plans", "is missing: there must be at least one")
	}
	names := map[string]bool{}
	for i := range o.Plans {
		pp := at(p+".plans", i)
		c.name(pp+".name", o.Plans[i].Name, names)
		plan := c.plan(pp, o.Name, &o.Plans[i])
		out.Plans = append(out.Plans, plan)
		if o.Tags == nil {
			for _, t := range c.kinds[plan.Kind].Tags {
				if !slices.Contains(out.Tags, t) {
					out.Tags = append(out.Tags, t)
				}
			}
		}
	}
	return out
}

func (c *planner) dashboard(p string, o *Offering, out *bindery.Offering) {
	if d := o.DashboardClient; d != nil {
		if d.ID == "" {
			c.addf(p+".dashboard_client.id", "is missing")
		}
		if !d.Secret.Set() {
			c.addf(p+".dashboard_client.secret", "is missing")
		}
		if d.RedirectURI != "" {
			c.url(p+".dashboard_client.redirect_uri", d.RedirectURI)
		}
		out.DashboardClient = &bindery.DashboardClient{ID: d.ID, Secret: d.Secret.Secret(), RedirectURI: d.RedirectURI}
	}
	if o.DashboardURL != "" {
		filled := strings.NewReplacer("{instance_id}", "i", "{plan}", "p", "{offering}", "o").Replace(o.DashboardURL)
		if strings.ContainsAny(filled, "{}") {
			c.addf(p+".dashboard_url", "only {instance_id}, {plan} and {offering} are replaced")
			return
		}
		c.url(p+".dashboard_url", filled)
	}
}

func (c *planner) plan(p, offering string, in *Plan) *bindery.Plan {
	c.id(p+".id", in.ID)
	if in.Description == "" {
		c.addf(p+".description", "is missing")
	}
	out := &bindery.Plan{
		ID: in.ID, Name: in.Name, Description: in.Description, Free: in.Free == nil || *in.Free,
		Bindable: in.Bindable, PlanUpdateable: in.PlanUpdateable,
		BindingRotatable: in.BindingRotatable == nil || *in.BindingRotatable,
		Metadata:         in.Metadata.Raw(), MaximumPolling: in.MaximumPollingDuration,
		Retired: in.Retired, AsyncRequired: in.AsyncRequired, Servers: in.Servers,
		Settings: in.Settings.Raw(), CredentialAliases: in.CredentialAliases,
		Quota: bindery.Quota(in.Quota),
	}
	if m := in.MaintenanceInfo; m != nil {
		out.MaintenanceVersion, out.MaintenanceNote = m.Version, m.Description
		if !semver.MatchString(m.Version) {
			c.addf(p+".maintenance_info.version", "must be a semantic version, for example 1.2.0")
		}
	}
	if d := in.MaximumPollingDuration; d < 0 || d%time.Second != 0 {
		c.addf(p+".maximum_polling_duration", "must be whole seconds")
	}
	if in.Quota.Instances < 0 {
		c.addf(p+".quota.instances", "must not be negative")
	}
	if in.Quota.BindingsPerInstance < 0 {
		c.addf(p+".quota.bindings_per_instance", "must not be negative")
	}
	out.Lifetime = c.lifetime(p+".binding_lifetime", in.BindingLifetime)
	out.Kind = c.planServers(p, in)
	kind, known := c.kinds[out.Kind]
	if known {
		c.planKind(p, in, out, kind)
	}
	for i, s := range in.Servers {
		if !slices.Contains(in.Servers[:i], s) {
			c.users[s] = append(c.users[s], use{path: at(p+".servers", i), plan: offering + "/" + in.Name, exclusive: out.Exclusive})
		}
	}
	c.schemas(p, in, out, kind)
	return out
}

// planServers returns the kind of a plan's servers.
func (c *planner) planServers(p string, in *Plan) (kind string) {
	if len(in.Servers) == 0 {
		c.addf(p+".servers", "is missing: there must be at least one")
	}
	for i, name := range in.Servers {
		k, known := c.servers[name]
		switch {
		case !known:
			c.addf(at(p+".servers", i), "there is no server %.63q", name)
		case slices.Contains(in.Servers[:i], name):
			c.addf(at(p+".servers", i), "%q is given twice", name)
		case kind != "" && k != kind:
			c.addf(at(p+".servers", i), "%s is of kind %s, others of this plan are of kind %s", name, k, kind)
		default:
			kind = k
		}
	}
	return kind
}

func (c *planner) planKind(p string, in *Plan, out *bindery.Plan, kind bindery.Kind) {
	if kind.CheckPlan != nil {
		if err := kind.CheckPlan(out.Settings); err != nil {
			c.addf(p+".settings", "%v", err)
			return
		}
	}
	out.Exclusive = kind.Exclusive != nil && kind.Exclusive(out.Settings)
	if kind.Shared {
		out.BindingRotatable = false
		if in.BindingRotatable != nil && *in.BindingRotatable {
			c.addf(p+".binding_rotatable", "cannot be true: all bindings of kind %s have the same credential", out.Kind)
		}
	}
	out.Revocation = bindery.RevocationProven
	if kind.Revocation != nil {
		out.Revocation = kind.Revocation(out.Settings)
	}
	for i, a := range in.CredentialAliases {
		if !slices.Contains(kind.Aliases, a) {
			c.addf(at(p+".credential_aliases", i), "%.63q is none of those that %s knows: %s", a, out.Kind, strings.Join(kind.Aliases, ", "))
		}
	}
	var err error
	if out.Metadata, err = described(out.Metadata, kind, out); err != nil {
		c.addf(p+".metadata", "%v", err)
	}
}

// exclusive checks that a plan that gives instances a server to themselves
// shares none with another plan.
func (c *planner) exclusive() {
	for server, users := range c.users {
		for i, u := range users {
			for j, other := range users {
				// Of two exclusive plans only the second is told.
				if i != j && u.exclusive && (!other.exclusive || j < i) {
					c.addf(u.path, "the plan gives an instance a server to itself, and plan %s uses %s too", other.plan, server)
					break
				}
			}
		}
	}
}

func (c *planner) schemas(p string, in *Plan, out *bindery.Plan, kind bindery.Kind) {
	var raw [3][]byte
	if kind.Schemas != nil {
		a, b, d := kind.Schemas(out.Settings)
		raw = [3][]byte{a, b, d}
	}
	own := []struct {
		path string
		o    Object
		to   **bindery.Schema
	}{
		{"service_instance.create", in.Schemas.Instance.Create.Parameters, &out.Schemas.InstanceCreate},
		{"service_instance.update", in.Schemas.Instance.Update.Parameters, &out.Schemas.InstanceUpdate},
		{"service_binding.create", in.Schemas.Binding.Create.Parameters, &out.Schemas.BindingCreate},
	}
	for i, s := range own {
		from := raw[i]
		if s.o.Raw() != nil {
			from = s.o.Raw()
		}
		if s.to == &out.Schemas.BindingCreate && out.Lifetime.Max > 0 {
			extended, err := withLifetime(from, out.Lifetime.Max)
			if err != nil {
				c.addf(p+".schemas."+s.path+".parameters", "%v", err)
				continue
			}
			from = extended
		}
		if from == nil {
			continue
		}
		schema, err := compileSchema(from)
		if err != nil {
			c.addf(p+".schemas."+s.path+".parameters", "%v", err)
			continue
		}
		*s.to = schema
	}
}

func (c *planner) id(p, id string) {
	other, taken := c.ids[id]
	switch {
	case id == "":
		c.addf(p, "is missing")
		return
	case len(id) > maxName || !catalogID.MatchString(id):
		c.addf(p, "must be at most %d of A-Z a-z 0-9 . _ -, beginning with a letter or digit", maxName)
	case taken:
		c.addf(p, "%q is the id of %s too", id, strings.TrimSuffix(other, ".id"))
		return
	}
	c.ids[id] = p
}

func (c *planner) name(p, name string, seen map[string]bool) {
	switch {
	case name == "":
		c.addf(p, "is missing")
		return
	case len(name) > maxName || !catalogName.MatchString(name):
		c.addf(p, "must be at most %d of A-Z a-z 0-9 . -, beginning with a letter or digit", maxName)
	case seen[name]:
		c.addf(p, "%q is given twice", name)
	}
	seen[name] = true
}

func (c *planner) url(p, s string) {
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		c.addf(p, "must be an http or https URL")
	}
}

// Keeps returns an error that names every plan and server that live instances
// have (uses) and that c no longer has, or nil.
func (c *Config) Keeps(uses []bindery.PlanUse) error {
	kinds := map[string]string{}
	for _, s := range c.servers {
		kinds[s.Name] = s.Kind
	}
	inv := &Invalid{File: c.path}
	lost := func(format string, args ...any) {
		inv.Problems = append(inv.Problems, Problem{Text: fmt.Sprintf(format, args...)})
	}
	for _, u := range uses {
		_, plan := c.catalog.Plan(u.OfferingID, u.PlanID)
		kind, ok := kinds[u.Server]
		switch {
		case plan == nil:
			lost("plan %s of offering %s has instances and is not in the catalog: bring it back, with retired: true if it is to be hidden", u.PlanID, u.OfferingID)
		case plan.Kind != u.Kind:
			lost("plan %s of offering %s has instances of kind %s and is now of kind %s", u.PlanID, u.OfferingID, u.Kind, plan.Kind)
		}
		switch {
		case !ok:
			lost("server %s has instances and is not configured", u.Server)
		case kind != u.Kind:
			lost("server %s has instances of kind %s and is now of kind %s", u.Server, u.Kind, kind)
		}
	}
	if len(inv.Problems) == 0 {
		return nil
	}
	slices.SortFunc(inv.Problems, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	inv.Problems = slices.Compact(inv.Problems)
	return inv
}
