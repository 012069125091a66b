package osb

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"bindery"
	"bindery/api"
)

type catalogBody struct {
	Services []offeringBody `json:"services"`
}

type offeringBody struct {
	Name                 string           `json:"name"`
	ID                   string           `json:"id"`
	Description          string           `json:"description"`
	Tags                 []string         `json:"tags,omitempty"`
	Requires             []string         `json:"requires,omitempty"`
	Bindable             bool             `json:"bindable"`
	InstancesRetrievable bool             `json:"instances_retrievable"`
	BindingsRetrievable  bool             `json:"bindings_retrievable"`
	AllowContextUpdates  bool             `json:"allow_context_updates"`
	Metadata             json.RawMessage  `json:"metadata,omitempty"`
	DashboardClient      *dashboardClient `json:"dashboard_client,omitempty"`
	PlanUpdateable       bool             `json:"plan_updateable"` // the specification's spelling
	Plans                []planBody       `json:"plans"`
}

type dashboardClient struct {
	ID          string `json:"id"`
	Secret      string `json:"secret"`
	RedirectURI string `json:"redirect_uri,omitempty"`
}

type planBody struct {
	ID                     string           `json:"id"`
	Name                   string           `json:"name"`
	Description            string           `json:"description"`
	Metadata               json.RawMessage  `json:"metadata,omitempty"`
	Free                   bool             `json:"free"` // absent would mean true
	Bindable               *bool            `json:"bindable,omitempty"`
	BindingRotatable       bool             `json:"binding_rotatable"`
	PlanUpdateable         *bool            `json:"plan_updateable,omitempty"`
	Schemas                *schemasBody     `json:"schemas,omitempty"`
	MaximumPollingDuration int64            `json:"maximum_polling_duration,omitempty"`
	MaintenanceInfo        *maintenanceBody `json:"maintenance_info,omitempty"`
}

type maintenanceBody struct {
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

type schemasBody struct {
	ServiceInstance *instanceSchemas `json:"service_instance,omitempty"`
	ServiceBinding  *bindingSchemas  `json:"service_binding,omitempty"`
}

type instanceSchemas struct {
	Create *parametersSchema `json:"create,omitempty"`
	Update *parametersSchema `json:"update,omitempty"`
}

type bindingSchemas struct {
	Create *parametersSchema `json:"create,omitempty"`
}

type parametersSchema struct {
	Parameters json.RawMessage `json:"parameters"`
}

// published is a catalog as it is sent, made once and kept until the catalog is another.
type published struct {
	of       *bindery.Catalog
	body     []byte
	etag     string
	modified time.Time
}

func (h *Handler) publish() (*published, error) {
	now, kept := h.Broker.Catalog(), h.catalog.Load()
	if kept != nil && kept.of == now {
		return kept, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(render(now)); err != nil {
		return nil, bindery.Errorf(bindery.CodeInternal, "encode the catalog").Because(err)
	}
	sum := sha256.Sum256(b.Bytes())
	p := &published{
		of: now, body: b.Bytes(), modified: h.Now().UTC().Truncate(time.Second),
		etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`,
	}
	if kept != nil {
		switch {
		case kept.etag == p.etag:
			p.modified = kept.modified
		case !p.modified.After(kept.modified):
			p.modified = kept.modified.Add(time.Second) // two changes within one second are two dates
		}
	}
	h.catalog.Store(p)
	return p, nil
}

func (h *Handler) getCatalog(c *api.Call) error {
	p, err := h.publish()
	if err != nil {
		return err
	}
	header := c.Header()
	header["Etag"] = []string{p.etag}
	modified := p.modified.Format(http.TimeFormat)
	header["Last-Modified"] = []string{modified}
	header["Cache-Control"] = []string{"private, no-cache"} // it may be kept, and is asked for each time
	if unchanged(c.R.Header, p.etag, modified) {
		c.Raw(http.StatusNotModified, "", nil)
		return nil
	}
	c.Raw(http.StatusOK, "application/json", p.body)
	return nil
}

// unchanged reports whether the caller has this very catalog. A tag decides
// where there is one. A date counts only when it is ours to the second: after
// a restart on a clock that was set back, "not later" would be an old catalog.
func unchanged(header http.Header, etag, modified string) bool {
	if tags := header["If-None-Match"]; len(tags) > 0 {
		for tag := range strings.SplitSeq(strings.Join(tags, ","), ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
		return false
	}
	return header.Get("If-Modified-Since") == modified
}

// render leaves out retired plans, and offerings that have no others.
func render(cat *bindery.Catalog) catalogBody {
	out := catalogBody{Services: []offeringBody{}}
	for _, o := range cat.Offerings {
		b := offeringBody{
			Name: o.Name, ID: o.ID, Description: o.Description, Tags: o.Tags, Requires: o.Requires,
			Bindable: o.Bindable, InstancesRetrievable: true, BindingsRetrievable: true,
			AllowContextUpdates: o.AllowContextUpdates, Metadata: object(o.Metadata), PlanUpdateable: o.PlanUpdateable,
		}
		if d := o.DashboardClient; d != nil {
			b.DashboardClient = &dashboardClient{d.ID, d.Secret.Reveal(), d.RedirectURI}
		}
		for _, p := range o.Plans {
			if !p.Retired {
				b.Plans = append(b.Plans, renderPlan(p))
			}
		}
		if len(b.Plans) > 0 {
			out.Services = append(out.Services, b)
		}
	}
	return out
}

func renderPlan(p *bindery.Plan) planBody {
	b := planBody{
		ID: p.ID, Name: p.Name, Description: p.Description, Metadata: object(p.Metadata), Free: p.Free,
		Bindable: p.Bindable, BindingRotatable: p.BindingRotatable, PlanUpdateable: p.PlanUpdateable,
		MaximumPollingDuration: int64((p.MaximumPolling + time.Second - 1) / time.Second),
	}
	if p.MaintenanceVersion != "" {
		b.MaintenanceInfo = &maintenanceBody{p.MaintenanceVersion, p.MaintenanceNote}
	}
	s := p.Schemas
	if s.InstanceCreate == nil && s.InstanceUpdate == nil && s.BindingCreate == nil {
		return b
	}
	b.Schemas = &schemasBody{}
	if s.InstanceCreate != nil || s.InstanceUpdate != nil {
		b.Schemas.ServiceInstance = &instanceSchemas{parameters(s.InstanceCreate), parameters(s.InstanceUpdate)}
	}
	if s.BindingCreate != nil {
		b.Schemas.ServiceBinding = &bindingSchemas{parameters(s.BindingCreate)}
	}
	return b
}

func parameters(s *bindery.Schema) *parametersSchema {
	if s == nil {
		return nil
	}
	return &parametersSchema{s.Raw}
}

// object is raw where that says something, else nil, which is left out: platforms refuse null.
func object(raw json.RawMessage) json.RawMessage {
	if t := bytes.TrimSpace(raw); len(t) == 0 || string(t) == "null" {
		return nil
	}
	return raw
}
