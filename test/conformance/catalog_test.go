package conformance

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	friendly = regexp.MustCompile(`^[A-Za-z0-9.-]{1,63}$`)
	semantic = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func catalogs(t *testing.T) map[string][]map[string]any {
	t.Helper()
	return map[string][]map[string]any{
		"dev":  list(dev.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200).body["services"]),
		"full": list(full.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200).body["services"]),
	}
}

func TestSection04OfferingsAndPlans(t *testing.T) {
	t.Parallel()
	for name, services := range catalogs(t) {
		if len(services) == 0 {
			t.Errorf("%s: there is no offering", name)
		}
		ids, names := map[any]bool{}, map[any]bool{}
		unique := func(what string, seen map[any]bool, v any) {
			if s, _ := v.(string); s == "" || len(s) > 63 || seen[v] {
				t.Errorf("%s: the %s %q is empty, too long, or there twice", name, what, v)
			}
			seen[v] = true
		}
		for _, o := range services {
			unique("id", ids, o["id"])
			unique("name", names, o["name"])
			if n, _ := o["name"].(string); !friendly.MatchString(n) {
				t.Errorf("%s: the name %q is hard to type", name, n)
			}
			if d, _ := o["description"].(string); d == "" || len(d) > 255 {
				t.Errorf("%s: the description of %s", name, o["name"])
			}
			if _, ok := o["bindable"].(bool); !ok {
				t.Errorf("%s: %s does not say whether it is bindable", name, o["name"])
			}
			// Both are real, for every offering.
			if o["instances_retrievable"] != true || o["bindings_retrievable"] != true {
				t.Errorf("%s: %s is not retrievable", name, o["name"])
			}
			plans := list(o["plans"])
			if len(plans) == 0 {
				t.Errorf("%s: %s has no plan", name, o["name"])
			}
			planNames := map[any]bool{}
			for _, p := range plans {
				unique("plan id", ids, p["id"])
				unique("plan name", planNames, p["name"])
				checkPlan(t, p)
			}
		}
	}
}

func checkPlan(t *testing.T, p map[string]any) {
	t.Helper()
	if n, _ := p["name"].(string); !friendly.MatchString(n) {
		t.Errorf("the plan's name %q is hard to type", n)
	}
	if d, _ := p["description"].(string); d == "" || len(d) > 255 {
		t.Errorf("the description of %s", p["id"])
	}
	if m, ok := p["maintenance_info"].(map[string]any); ok {
		if v, _ := m["version"].(string); !semantic.MatchString(v) {
			t.Errorf("%s: %q is no semantic version", p["id"], v)
		}
	}
	schemas, there := p["schemas"].(map[string]any)
	if there && len(schemas) == 0 {
		t.Errorf("%s: schemas is empty", p["id"])
	}
	for _, one := range schemas {
		for kind, place := range one.(map[string]any) {
			parameters, ok := place.(map[string]any)["parameters"].(map[string]any)
			if !ok || len(parameters) == 0 {
				t.Errorf("%s: the schema of %s is empty", p["id"], kind)
				continue
			}
			text, _ := json.Marshal(parameters)
			if parameters["$schema"] != "http://json-schema.org/draft-04/schema#" || parameters["type"] != "object" || len(text) > 64<<10 {
				t.Errorf("%s: the schema of %s: %s", p["id"], kind, text)
			}
			for _, ref := range regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
				if !strings.HasPrefix(ref[1], "#") {
					t.Errorf("%s refers to %s", p["id"], ref[1])
				}
			}
		}
	}
}

func TestSection04IdsNeverChange(t *testing.T) {
	t.Parallel()
	one, two := dev.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200), dev.do(t, http.MethodGet, "/v2/catalog", "").want(t, 200)
	if string(one.raw) != string(two.raw) || one.header.Get("ETag") != two.header.Get("ETag") {
		t.Error("two catalogs differ")
	}
}

// What the configuration says is what platforms read.
func TestSection04EveryFeatureIsPublished(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		offerings := map[string]map[string]any{}
		for _, o := range catalogs(t)["full"] {
			offerings[o["id"].(string)] = o
		}
		o, plans := offerings[s.id], map[string]map[string]any{}
		for _, p := range list(o["plans"]) {
			plans[p["name"].(string)] = p
		}
		client, _ := o["dashboard_client"].(map[string]any)
		tests := map[string]struct{ got, want any }{
			"plan_updateable of the offering":     {o["plan_updateable"], true},
			"plan_updateable of another":          {offerings[s.id+"-plain"]["plan_updateable"], false},
			"allow_context_updates":               {o["allow_context_updates"], true},
			"allow_context_updates of another":    {offerings[s.id+"-plain"]["allow_context_updates"], false},
			"bindable":                            {offerings[s.id+"-closed"]["bindable"], false},
			"metadata":                            {o["metadata"].(map[string]any)["displayName"], "Full"},
			"the dashboard's client":              {client["id"], "client-" + s.kind},
			"the dashboard's redirect":            {client["redirect_uri"], "https://dashboard.example.com"},
			"free by default":                     {plans["base"]["free"], true},
			"not free":                            {plans["other"]["free"], false},
			"rotatable by default":                {plans["base"]["binding_rotatable"], true},
			"not rotatable":                       {plans["unrotatable"]["binding_rotatable"], false},
			"bindable inherited":                  {plans["base"]["bindable"], nil},
			"bindable of a plan":                  {plans["nonbindable"]["bindable"], false},
			"plan_updateable of a plan":           {plans["fixed"]["plan_updateable"], false},
			"plan_updateable inherited":           {plans["base"]["plan_updateable"], nil},
			"maximum_polling_duration":            {plans["base"]["maximum_polling_duration"], 60.0},
			"maximum_polling_duration left out":   {plans["other"]["maximum_polling_duration"], nil},
			"maintenance_info":                    {jsonText(plans["maintained"]["maintenance_info"]), `{"description":"Patches","version":"1.2.0+build.5"}`},
			"maintenance_info without a note":     {jsonText(plans["maintained-other"]["maintenance_info"]), `{"version":"3.0.0-rc.1"}`},
			"maintenance_info left out":           {plans["base"]["maintenance_info"], nil},
			"metadata of a plan":                  {jsonText(plans["base"]["metadata"].(map[string]any)["costs"]), `[{"amount":{"usd":0.5},"unit":"MONTHLY"}]`},
			"a retired plan":                      {plans["retired"] == nil, true},
			"tags that clients look for":          {slices.Contains(o["tags"].([]any), any(s.kind)), true},
			"requires is left out where empty":    {o["requires"], nil},
			"the rotatable flag is the plan's":    {o["binding_rotatable"], nil},
			"what an unbind promises":             {plans["base"]["metadata"].(map[string]any)["revocation"], "proven"},
			"the credentials' schema":             {plans["base"]["metadata"].(map[string]any)["credentials_schema"].(map[string]any)["type"], "object"},
			"a lifetime can be asked for":         {strings.Contains(jsonText(schema(plans["limited"], "service_binding", "create")), `"lifetime":`), true},
			"and not of a plan without":           {strings.Contains(jsonText(schema(plans["base"], "service_binding", "create")), `"lifetime":`), false},
			"a schema of the kind for a binding":  {schema(plans["base"], "service_binding", "create") != nil, true},
			"a schema of the kind for a creation": {schema(plans["base"], "service_instance", "create") != nil, true},
		}
		for name, tt := range tests {
			if tt.got != tt.want {
				t.Errorf("%s: got %v, want %v", name, tt.got, tt.want)
			}
		}
	})
}

func schema(plan map[string]any, object, act string) any {
	o, _ := plan["schemas"].(map[string]any)
	o, _ = o[object].(map[string]any)
	return o[act]
}

// A schema that is published is enforced.
func TestSection04SchemasAreEnforced(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		plan, bad := s.plan("base"), `{"can-not":"be-good"}`
		i, id := s.instance(t, plan), newID("i")
		full.do(t, http.MethodPut, instancePath(id)+pollable, s.provisionBody(plan, "parameters", bad)).wantError(t, 400, "")
		full.do(t, http.MethodGet, instancePath(id)+"/last_operation", "").want(t, 404)
		full.do(t, http.MethodPatch, instancePath(i)+pollable, object("service_id", quote(s.id), "parameters", bad)).wantError(t, 400, "")
		for _, p := range []string{bad, `{"access":"everything"}`, `{"access":1}`, `{"access":null}`, `{"ACCESS":"read-only"}`} {
			b := newID("b")
			full.do(t, http.MethodPut, bindingPath(i, b)+pollable, s.bindBody(plan, "parameters", p)).wantError(t, 400, "")
			full.do(t, http.MethodGet, bindingPath(i, b)+"/last_operation", "").want(t, 404)
		}
		// Nothing is as good as an empty object.
		for _, p := range []string{"", "null", "{}"} {
			full.do(t, http.MethodPut, bindingPath(i, newID("b")), s.bindBody(plan, "parameters", p)).want(t, 201)
			full.do(t, http.MethodPut, instancePath(newID("i")), s.provisionBody(plan, "parameters", p)).want(t, 201)
		}
	})
}
