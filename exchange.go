package bindery

import "time"

// An AuthMethodKind is how Bindery proves itself to a service.
type AuthMethodKind string

// The kinds of auth methods.
const (
	AuthMethodAPIKey  AuthMethodKind = "api-key" // a key within the URL
	AuthMethodHeaders AuthMethodKind = "headers" // HTTP headers
)

// A ServiceType is a service that runs on some hosts and gives out tokens.
type ServiceType struct {
	Row        int64 // never used twice
	UUID       string
	Name       string // unique
	Hosts      []string
	AuthTypes  []AuthType // how its users may prove themselves
	AuthMethod AuthMethodKind
	Type       string // which retrieval; a name from the configuration
	Revision   int64  // 1, and one more after each change
	Created    time.Time
	Updated    time.Time // zero: never
}

// An AuthMethod is how Bindery calls a service type on one of its hosts.
type AuthMethod struct {
	Row         int64
	UUID        string
	ServiceRow  int64
	ServiceUUID string // of the service type; kept nowhere but there
	Host        string // one of the service type's; unique within it
	Port        int
	Kind        AuthMethodKind
	// Material is a JSON object: {"access_key": TEXT} or {"headers": {NAME: TEXT}}.
	Material Secret
	Revision int64
	Created  time.Time
	Updated  time.Time
}

// An IdentityBinding says which user of a service type on a host somebody is.
type IdentityBinding struct {
	Row         int64
	UUID        string
	Name        string // unique
	ServiceRow  int64
	ServiceUUID string // of the service type; kept nowhere but there
	Host        string
	AuthType    AuthType
	// Identifier is the identity as somebody typed it. Keys are what it means; each
	// is unique within service type, host and auth type.
	Identifier string
	Keys       IdentityKeys
	// Issuer, a distinguished name as typed, pins the authority of the certificate;
	// IssuerKey is what it means. Empty: any trusted authority.
	Issuer, IssuerKey string
	UniqueKey         string // the user's key at the service
	Revision          int64
	Created           time.Time
	Updated           time.Time
	LastAuth          time.Time // zero: never
}

// A Resolution is everything that one authentication needs to know. What does
// not exist has Row 0; what stands after it was not looked for.
type Resolution struct {
	Service ServiceType
	Method  AuthMethod
	Binding IdentityBinding
	// ByOldForm: the binding was found by the old form of the name.
	ByOldForm bool
}

// An Authentication counts what happened to one binding within one second.
type Authentication struct {
	Row        int64 // of the record; set by the store
	BindingRow int64 // 0: no binding was found
	Outcome    AuthOutcome
	At         time.Time // a whole second
	Count      int
}

// An AuthOutcome is how an authentication ended.
type AuthOutcome string

// The outcomes of an authentication whose caller was proven.
const (
	AuthSucceeded AuthOutcome = "succeeded"
	AuthUnbound   AuthOutcome = "unbound"  // no binding for this identity
	AuthUpstream  AuthOutcome = "upstream" // the service refused, or did not answer
)
