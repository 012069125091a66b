package bindery

import (
	"encoding/json"
	"time"
)

// A Binding is a service binding: the link between a platform's application (or
// anything else that it names) and the credential that lets it into an instance.
type Binding struct {
	Row         int64 // never used twice
	InstanceRow int64
	Platform    string
	InstanceID  string // the platform's
	ID          string // the platform's
	OfferingID  string
	PlanID      string // of the instance when it was bound
	// AppGUID is bind_resource.app_guid or the deprecated top-level field.
	AppGUID      string
	BindResource json.RawMessage // as sent; nil when none was
	Context      json.RawMessage // as sent; nil when none was
	Parameters   Secret          // canonical JSON; empty when none were given
	// Predecessor is the id of the binding that this one was rotated from.
	Predecessor string
	// Expires is when the credential dies, RenewBefore when a successor should
	// exist; zero: it does not expire.
	Expires, RenewBefore time.Time
	State                State
	Created, Updated     time.Time
}

// A Credential is what the caller of a bind gets, rendered from an account.
type Credential struct {
	// Object is the free-form credentials object. It carries secrets in clear:
	// it goes into a reply and nowhere else.
	Object          map[string]any
	SyslogDrainURL  string
	RouteServiceURL string
	VolumeMounts    []json.RawMessage
	Endpoints       []Endpoint
}

// An Endpoint is a network address that the application needs to reach (OSB
// 2.15). Protocol is "tcp", "udp" or "all".
type Endpoint struct {
	Host     string
	Ports    []string // "443" or "9000-9010"
	Protocol string
}
