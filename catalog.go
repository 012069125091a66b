package bindery

import (
	"encoding/json"
	"time"
)

// A Catalog is what platforms may ask for. It is immutable: a reload makes a new one.
type Catalog struct {
	Offerings []*Offering
}

// Offering returns the offering with this id, or nil.
func (c *Catalog) Offering(id string) *Offering {
	for _, o := range c.Offerings {
		if o.ID == id {
			return o
		}
	}
	return nil
}

// Plan returns the offering and the plan with these ids. A plan of another
// offering does not count: both are nil then.
func (c *Catalog) Plan(offeringID, planID string) (*Offering, *Plan) {
	if o := c.Offering(offeringID); o != nil {
		if p := o.Plan(planID); p != nil {
			return o, p
		}
	}
	return nil, nil
}

// An Offering is one service of the catalog (OSB 2.17, "Service Offering Object").
type Offering struct {
	ID, Name, Description string
	Tags, Requires        []string
	Bindable              bool // a plan may say otherwise
	PlanUpdateable        bool // a plan may say otherwise
	AllowContextUpdates   bool
	Metadata              json.RawMessage // an object, or nil
	DashboardClient       *DashboardClient
	// DashboardURL is a template: {instance_id}, {plan}, {offering} are replaced. Empty: none.
	DashboardURL string
	// RequiresApp refuses binds that name no application (422 RequiresApp).
	RequiresApp bool
	Plans       []*Plan
}

// Plan returns the plan with this id, or nil.
func (o *Offering) Plan(id string) *Plan {
	for _, p := range o.Plans {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// A DashboardClient is the OAuth client of the Cloud Foundry profile. It is
// published in the catalog, as the specification demands.
type DashboardClient struct {
	ID          string
	Secret      Secret
	RedirectURI string
}

// A Plan is a variant of an offering: on which servers, with which settings.
type Plan struct {
	ID, Name, Description string
	Free                  bool
	Bindable              *bool // nil: the offering's
	PlanUpdateable        *bool // nil: the offering's
	BindingRotatable      bool
	Metadata              json.RawMessage // an object, or nil
	Schemas               Schemas
	MaximumPolling        time.Duration // 0: not published
	MaintenanceVersion    string        // semantic version; empty: no maintenance_info
	MaintenanceNote       string        // its description
	// Retired hides the plan from the catalog and from new instances; those that exist are served.
	Retired bool
	// AsyncRequired refuses to work for callers that cannot poll (422 AsyncRequired).
	AsyncRequired bool

	// Kind is the driver (one of driver.Kinds); Servers are names of configured
	// servers of that kind. A new instance goes to one of them and stays there.
	Kind    string
	Servers []string
	// Exclusive gives an instance a server to itself.
	Exclusive bool
	// Settings are the driver's own, as a JSON object that its CheckPlan accepted.
	Settings json.RawMessage
	// CredentialAliases name sets of additional credential keys, for example "minibroker".
	CredentialAliases []string
	// Quota bounds what one platform may have of this plan; zero fields are no bound.
	Quota Quota
	// Lifetime is how long bindings live; the zero value: until they are unbound.
	Lifetime Lifetime
	// Revocation is what the end of a binding promises; empty: [RevocationProven].
	Revocation Revocation
}

// CanBind reports whether instances of p, a plan of o, can be bound.
func (p *Plan) CanBind(o *Offering) bool {
	if p.Bindable != nil {
		return *p.Bindable
	}
	return o.Bindable
}

// CanChange reports whether instances of p, a plan of o, may move to another plan.
func (p *Plan) CanChange(o *Offering) bool {
	if p.PlanUpdateable != nil {
		return *p.PlanUpdateable
	}
	return o.PlanUpdateable
}

// A Quota bounds what one platform may have of a plan. Zero is no bound.
type Quota struct {
	Instances           int
	BindingsPerInstance int
}

// LifetimeParameter is the parameter of a binding that asks for a lifetime, as a
// duration ("90m"), where its plan allows that. No driver is told of it.
const LifetimeParameter = "lifetime"

// A Lifetime is how long the bindings of a plan live.
type Lifetime struct {
	Default time.Duration // of those that ask for none; 0: until they are unbound
	Max     time.Duration // the longest that may be asked for; 0: none can be asked for
	// RenewBefore is how long before its end a binding should have a successor; 0: a third of its lifetime.
	RenewBefore time.Duration
}

// Times are when a binding of this lifetime, made now, expires, and when a successor
// should exist. Both are zero for one that does not expire.
func (l Lifetime) Times(now time.Time, lifetime time.Duration) (expires, renewBefore time.Time) {
	if lifetime <= 0 {
		return time.Time{}, time.Time{}
	}
	before := l.RenewBefore
	if before <= 0 || before >= lifetime {
		before = lifetime / 3
	}
	// Platforms are told tenths of a second.
	expires = now.Add(lifetime).Truncate(100 * time.Millisecond)
	return expires, expires.Add(-before).Truncate(100 * time.Millisecond)
}

// Schemas are the JSON Schemas (draft-04) of a plan's parameters. A nil one
// takes no parameters to check and is left out of the catalog.
type Schemas struct {
	InstanceCreate, InstanceUpdate, BindingCreate *Schema
}

// A Schema is a JSON Schema as published, and its compiled form.
type Schema struct {
	Raw json.RawMessage
	// Check returns an [Error] with CodeInvalid that names what does not fit. It
	// never repeats a value, which may be a secret.
	Check func(parameters json.RawMessage) error
}
