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
	// [ErrNoInventory] where the server cannot tell.
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
	// Expires is when the account must be dead; zero: it does not expire.
	Expires time.Time
	// Item is what the account got from its server's stock, of a kind that has one.
	Item StockItem
}

// Ensured is what Ensure learned of an account, to be kept with it.
type Ensured struct {
	// Details are facts, not secrets, that the backend told: a JSON object.
	Details json.RawMessage
	// Material replaces what Prepare made, where the backend itself gives out
	// secrets; empty: it stays.
	Material Secret
	// Expires is when what the backend gave out ends by itself, where that is before
	// the account's own; zero: as the account has it.
	Expires time.Time
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

// ErrNoInventory is the answer of a driver whose server cannot list accounts.
var ErrNoInventory = Errorf(CodeUnsupported, "this kind of server cannot list its accounts")

// A Prover can show that an account that was revoked is dead.
type Prover interface {
	// Prove looks for the account and its sessions on the server, and tries to use
	// its credential as an application would. The proof says in words what showed
	// that it is dead: it is absent, has no session, and a login was refused because
	// of the credential. [ErrAlive] where it still lets somebody in. Any other error:
	// nobody can say (the server is unreachable, or refuses for another reason).
	Prove(ctx context.Context, spec InstanceSpec, account Account) (proof string, err error)
}

// ErrAlive is the answer of a Prover whose account still works.
var ErrAlive = Errorf(CodeConflict, "the credential still works")

// A Stocker is a driver whose accounts are taken from a stock of credentials that
// were given to it. The engine takes one in the transaction that records the account.
type Stocker interface {
	// Stock returns the names of all items, in the order in which they are given out.
	Stock() []string
	// Return is called for what an unbind put into quarantine. ok: the item may be
	// given out again, with the material where that is not empty; otherwise an operator decides.
	Return(ctx context.Context, item StockItem) (material Secret, ok bool, err error)
}

// A Recorder is a driver whose accounts are rows of Bindery's own store. The engine lets it
// write them in the transaction that records the account, so that Ensure need not commit them.
type Recorder interface {
	// Record writes what a new account has from the beginning. It contains nothing but calls of tx,
	// and may be run again. done: Ensure finds [Account.Recorded] set; otherwise it has to write that itself.
	Record(ctx context.Context, tx Tx, account Account) (done bool, err error)
}

// A Publisher is a driver that publishes which certificates it revoked.
type Publisher interface {
	// Chain is the certificates of the authority, PEM, its own first.
	Chain(ctx context.Context) ([]byte, error)
	// CRL is the signed revocation list, DER (RFC 5280, section 5), and when it was signed.
	CRL(ctx context.Context) (der []byte, signed time.Time, err error)
	// OCSP answers a request (RFC 6960), both DER. CodeInvalid for what is no request.
	OCSP(ctx context.Context, request []byte) ([]byte, error)
}

// An Orphaner is a driver whose server gives out the names of accounts. A call whose
// answer was lost may have left one there that nobody can ask for by its name.
type Orphaner interface {
	// Orphan says what to look for on the server; empty: nothing can be left there
	// but the account itself. It is asked once Ensure or Revoke has succeeded, and of
	// an account that Revoke got only if no Ensure was confirmed before. It does no I/O.
	Orphan(account Account) string
}

// Capability finds a capability of a driver, or of the one that it wraps.
func Capability[T any](d Driver) (T, bool) {
	for {
		c, ok := d.(T)
		if ok {
			return c, true
		}
		w, ok := d.(interface{ Unwrap() Driver })
		if !ok {
			return c, false
		}
		d = w.Unwrap()
	}
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
	// Secrets are those that the kind needs beside the password, by name.
	Secrets map[string]Secret
	// Store is where a kind that is its own server (a certificate authority) keeps its tables.
	Store Store
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

// Revocation is what the end of an account promises.
type Revocation string

// The promises.
const (
	// RevocationProven: the account is gone, its sessions too, and that is shown; see [Prover].
	RevocationProven Revocation = "proven"
	// RevocationExpires: what was given out validates by itself until it expires.
	RevocationExpires Revocation = "expires"
	// RevocationReleased: the set lives on; only the binding ends.
	RevocationReleased Revocation = "released"
)

// A Kind is one sort of backend: what driver.Kinds lists.
type Kind struct {
	// Open makes the driver of one server. It does no I/O: a server that is down
	// at start-up is found by Ping.
	Open func(Server) (Driver, error)
	// CheckServer checks a server's Settings, CheckPlan a plan's. Both read only,
	// refuse unknown keys and name every problem, as [Settings] does.
	CheckServer, CheckPlan func(settings json.RawMessage) error
	// CheckSecrets checks a server's Secrets and Password, as CheckServer does; nil: it takes no Secrets.
	CheckSecrets func(password Secret, secrets map[string]Secret) error
	// Local says that there is no server to reach: address, username and tls make no sense.
	Local bool
	// Revocation is what a plan with these settings promises; nil: [RevocationProven].
	Revocation func(settings json.RawMessage) Revocation
	// Shared says that all bindings have the same credential: none can be rotated.
	Shared bool
	// CredentialSchema is the JSON Schema (draft-04) of the credential object of a
	// plan with these settings and aliases; nil: it is not described.
	CredentialSchema func(settings json.RawMessage, aliases []string) json.RawMessage
	// Exclusive says whether a plan with these settings takes a server to itself.
	Exclusive func(settings json.RawMessage) bool
	// Schemas returns the draft-04 schemas of a plan's parameters, as JSON; nil for none.
	Schemas func(settings json.RawMessage) (instanceCreate, instanceUpdate, bindingCreate json.RawMessage)
	// Aliases are the names of credential alias sets that it knows.
	Aliases []string
	// Tags are the offering tags that clients look for.
	Tags []string
}
