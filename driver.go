package bindery

import (
	"context"
	"encoding/json"
	"time"
)

// A Driver makes instances and accounts on one configured server. It holds no
// state that matters: everything that must survive is in the store.
//
// Every call can be repeated, in any process, after any crash, and ends when
// its context does. A call that ended with an error may still be running on the
// server; whatever is called next for the same name ends or outlasts that first
// (its session is ended, or its effect is awaited), so that a late statement
// never undoes what a later call confirmed.
//
// Errors: CodeInvalid, CodeUnsupported and CodeQuota are final, and the engine
// does not try again. Everything else (CodeUnavailable, a plain error) is tried
// again with backoff. A message never carries the server's own text; that is the cause.
type Driver interface {
	InstanceDriver
	AccountDriver
	// Inventory calls yield for every instance and account of this installation
	// that the server has, in no particular order, until yield returns an error.
	Inventory(ctx context.Context, yield func(Found) error) error
	// Close lets connections go. Calls under way may fail.
	Close() error
}

// An InstanceDriver makes and removes instances.
type InstanceDriver interface {
	// Provision makes the instance what the spec says. One that exists is brought
	// to the spec (an update of plan or parameters is the same call).
	Provision(ctx context.Context, spec InstanceSpec) error
	// Deprovision removes the instance with everything in it. A missing one is
	// success. Accounts have been revoked before.
	Deprovision(ctx context.Context, spec InstanceSpec) error
}

// An AccountDriver makes, renders and revokes accounts.
type AccountDriver interface {
	// Prepare checks the parameters of a binding and makes an account's material
	// (passwords, verifiers, keys). It does no I/O. Errors: CodeInvalid.
	Prepare(spec InstanceSpec, req AccountRequest) (Secret, error)
	// Ensure makes the account, and returns what to keep of it. An account that
	// exists gets its password, rights and limits reset, and its sessions ended.
	Ensure(ctx context.Context, spec InstanceSpec, account Account) (Ensured, error)
	// Revoke removes the account, durably, and ends its sessions. A missing
	// account is success, once nothing that was sent before can make it again.
	// Details may be missing, and spec.Name empty (an account that the store does
	// not know); then the driver looks up what it needs.
	Revoke(ctx context.Context, spec InstanceSpec, account Account) error
	// Render makes the credential object. It does no I/O.
	Render(spec InstanceSpec, account Account) (Credential, error)
}

// An InstanceSpec is what a driver is told of an instance.
type InstanceSpec struct {
	Name       string          // see [Name]
	Settings   json.RawMessage // the plan's
	Parameters json.RawMessage // the instance's, checked against the plan's schema; nil when none
	Aliases    []string        // the plan's credential aliases
}

// An AccountRequest is what Prepare is told of a binding.
type AccountRequest struct {
	Name       string          // of the account to be
	Parameters json.RawMessage // the binding's, checked against the plan's schema; nil when none
}

// Ensured is what Ensure learned of an account, to be kept with it.
type Ensured struct {
	// Details are facts, not secrets, that the backend told: a JSON object.
	Details json.RawMessage
	// Material replaces what Prepare made, where the backend itself gives out
	// secrets; empty: it stays.
	Material Secret
}

// Found is something that a server has and this installation's names claim.
type Found struct {
	Name     string
	Instance bool // an instance; otherwise an account
}

// A Changer says whether an instance can move from one plan or set of
// parameters to another. It does no I/O. Errors: CodeUnsupported. A driver
// without it can do every change by Provision.
type Changer interface {
	CanChange(from, to InstanceSpec) error
}

// A Pinger can say whether the server answers and lets Bindery administer it.
type Pinger interface {
	Ping(ctx context.Context) error
}

// A Restarter can say which run of its server answers. A server that was started
// again gives another answer than before, and may have forgotten accounts.
type Restarter interface {
	Incarnation(ctx context.Context) (string, error)
}

// A Server is a configured backend server.
type Server struct {
	Name         string
	Kind         string
	Installation string // the id that names begin with; see [NamePrefix]
	// Address is host:port by which Bindery administers the server.
	Address  string
	Username string
	Password Secret
	TLS      *ServerTLS // nil: no TLS
	// Public is what goes into credentials, apart from Address.
	Public PublicAddress
	// Timeout bounds one call of the driver; see [Driver].
	Timeout time.Duration
	// Settings are the kind's own, as a JSON object.
	Settings json.RawMessage
}

// ServerTLS says how Bindery's own connection to a server is secured.
type ServerTLS struct {
	CAFile, CertFile, KeyFile string // empty: the system's CAs; no client certificate
	ServerName                string // empty: the address's host
	// InsecureSkipVerify turns verification off; said aloud at start-up.
	InsecureSkipVerify bool
}

// PublicAddress is the address that applications use.
type PublicAddress struct {
	Host string
	Port int
	TLS  bool
	CA   string // PEM, given to applications with the credential; may be empty
}

// A Kind is one sort of backend: what driver.Kinds lists.
type Kind struct {
	// Open makes the driver of one server. It does no I/O: a server that is down
	// at start-up is found by Ping.
	Open func(Server) (Driver, error)
	// CheckServer checks a server's Settings, CheckPlan a plan's. Both read only,
	// refuse unknown keys and name every problem.
	CheckServer, CheckPlan func(settings json.RawMessage) error
	// Exclusive says whether a plan with these settings takes a server to itself.
	Exclusive func(settings json.RawMessage) bool
	// Schemas returns the draft-04 schemas of a plan's parameters, as JSON; nil for none.
	Schemas func(settings json.RawMessage) (instanceCreate, instanceUpdate, bindingCreate json.RawMessage)
	// Aliases are the names of credential alias sets that it knows.
	Aliases []string
	// Tags are the offering tags that clients look for.
	Tags []string
}
