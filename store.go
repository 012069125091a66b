package bindery

import (
	"context"
	"time"
)

// A Store keeps everything that Bindery must not forget.
//
// Update and View give f a transaction, which ends when f returns: committed
// when f returns nil (after which nothing loses it, power loss included),
// undone otherwise, and the error is f's. f contains only store calls and
// changes of its own variables, and may be run again from its start. Two
// transactions never see each other half done, and no outcome is possible that
// some order of whole transactions could not have had (no write skew).
//
// Errors of a store's own making: CodeNotFound, CodeConflict, CodeBusy as the
// tables say, CodeUnavailable where the database does not answer.
type Store interface {
	Update(ctx context.Context, f func(Tx) error) error
	View(ctx context.Context, f func(Tx) error) error
	// NewID returns an id that was never returned before by this store, in any
	// process. Ids grow within a process, with gaps. It seldom does I/O.
	NewID(ctx context.Context) (int64, error)
	// Resolve reads what one authentication needs, in one consistent look: the service
	// type by name, whether host is among its hosts (Method and Binding stay empty where not),
	// the auth method of the host, and the binding of the identity: by its exact key,
	// else by its old form. Nothing missing is an error.
	Resolve(ctx context.Context, service, host string, auth AuthType, keys IdentityKeys) (Resolution, error)
	// Sole reports whether no other process can write this store while it is open.
	Sole() bool
	// Installation is this store's own id, made when the store was: 6
	// characters out of [a-z0-9]. Two stores have different ones.
	Installation() string
	// Ping answers whether the database can be written.
	Ping(ctx context.Context) error
	Close() error
}

// A Tx reaches the tables within one transaction.
type Tx interface {
	Instances() Instances
	Bindings() Bindings
	Accounts() Accounts
	Operations() Operations
	Events() Events
	Processes() Processes
	ServiceTypes() ServiceTypes
	AuthMethods() AuthMethods
	IdentityBindings() IdentityBindings
	Authentications() Authentications
	Stock() Stock
	Authorities() Authorities
	Certificates() Certificates
}

// A Page asks for at most Limit rows whose Row is greater than After, in order
// of Row. Zero Limit: 100; the most is 1000.
type Page struct {
	After int64
	Limit int
}

// Instances is the table of instances. Removed ones stay as tombstones.
type Instances interface {
	// Add records a new one. CodeConflict where a live (not removed) instance of the
	// platform has the id.
	Add(ctx context.Context, i Instance) error
	// Get returns the instance in this row. CodeNotFound.
	Get(ctx context.Context, row int64) (Instance, error)
	// Find returns the platform's live instance with the id, else the newest removed one. CodeNotFound.
	Find(ctx context.Context, platform, id string) (Instance, error)
	// Save writes every field of i where the row's state is still from. CodeBusy otherwise.
	Save(ctx context.Context, i Instance, from State) error
	// Count counts the platform's live instances of a plan, up to limit.
	Count(ctx context.Context, platform, planID string, limit int) (int, error)
	// OnServer reports whether a live instance is on the server.
	OnServer(ctx context.Context, server string) (bool, error)
	// InUse returns the distinct combinations of offering, plan and server that live
	// instances have. Its cost grows with the number of combinations, not of instances.
	InUse(ctx context.Context) ([]PlanUse, error)
	// List pages through all of them, or through one platform's; removed ones only where asked.
	List(ctx context.Context, f InstanceFilter, p Page) ([]Instance, error)
}

// PlanUse is a combination that some live instance has.
type PlanUse struct{ OfferingID, PlanID, Kind, Server string }

// InstanceFilter narrows a list; zero fields do not.
type InstanceFilter struct {
	Platform, PlanID, Server string
	Removed                  bool // removed ones too
}

// Bindings is the table of service bindings. Removed ones stay as tombstones.
type Bindings interface {
	// Add records a new one. CodeConflict where a live binding of the platform,
	// of this or another instance, has the id.
	Add(ctx context.Context, b Binding) error
	Get(ctx context.Context, row int64) (Binding, error)
	// Find returns the live binding with these ids, else the newest removed one. CodeNotFound.
	Find(ctx context.Context, platform, instanceID, id string) (Binding, error)
	// Save writes every field of b where the row's state is still from. CodeBusy otherwise.
	Save(ctx context.Context, b Binding, from State) error
	// Count counts the live bindings of an instance, up to limit.
	Count(ctx context.Context, instanceRow int64, limit int) (int, error)
	// Expiring returns up to limit bindings that expire before then, those that expire first first: what is
	// ready, and what was saved again as removing, since its removal was given up, unless an operation is in progress on it.
	// Those wait that are of an instance with an operation of its own in progress: they must not hold up others.
	Expiring(ctx context.Context, before time.Time, limit int) ([]Binding, error)
	// NextExpiry is when the next of those expires, its instance at work or not; ok is false where none does.
	NextExpiry(ctx context.Context) (at time.Time, ok bool, err error)
	List(ctx context.Context, f BindingFilter, p Page) ([]Binding, error)
}

// BindingFilter narrows a list; zero fields do not.
type BindingFilter struct {
	Platform    string
	InstanceID  string // as its platform names it
	InstanceRow int64
	Removed     bool // removed ones too
	Stuck       bool // only those that have a stuck account
	Pending     bool // only those that have an account that is pending, stuck ones included
}

// Accounts is the table of accounts. Those that are gone stay as tombstones,
// without their material.
type Accounts interface {
	Add(ctx context.Context, a Account) error
	// Get returns the account in this row. CodeNotFound.
	Get(ctx context.Context, row int64) (Account, error)
	// OfBinding returns a binding's accounts, those that are gone included.
	OfBinding(ctx context.Context, bindingRow int64) ([]Account, error)
	// ByName returns the account with this name on the server. CodeNotFound.
	ByName(ctx context.Context, server, name string) (Account, error)
	// Save writes every field of a where the row's state is still from. CodeBusy otherwise.
	Save(ctx context.Context, a Account, from AccountState) error
	// List pages through the accounts of a server in this state.
	List(ctx context.Context, server string, state AccountState, p Page) ([]Account, error)
	// Due returns up to limit accounts of a server that are pending (see
	// [AccountState.Pending]) and whose Retry is not after now, longest due first.
	Due(ctx context.Context, server string, now time.Time, limit int) ([]Account, error)
	// NextDue is the earliest Retry of the server's pending accounts, zero for one that
	// is due at once; ok is false where none is pending.
	NextDue(ctx context.Context, server string) (due time.Time, ok bool, err error)
	// Backlog counts all pending accounts, by server and state. Its cost grows with their number.
	Backlog(ctx context.Context) ([]Backlog, error)
}

// Operations is the table of operations.
type Operations interface {
	// Add records one that is in progress. CodeBusy where its subject (the
	// binding, or the instance when BindingRow is 0) has one in progress.
	Add(ctx context.Context, o Operation) error
	Get(ctx context.Context, row int64) (Operation, error)
	// Active returns the one in progress on exactly this subject. CodeNotFound.
	Active(ctx context.Context, instanceRow, bindingRow int64) (Operation, error)
	// Latest returns the newest that is not internal on exactly this subject. CodeNotFound.
	Latest(ctx context.Context, instanceRow, bindingRow int64) (Operation, error)
	// ActiveOfBindings returns those in progress on bindings of the instance, at most limit.
	ActiveOfBindings(ctx context.Context, instanceRow int64, limit int) ([]Operation, error)
	// Save writes every field of o where the row is in progress with o's fence.
	// CodeBusy otherwise: somebody else finished or claimed it.
	Save(ctx context.Context, o Operation) error
	// Claim gives the owner up to limit operations in progress that are due and
	// that nobody, or no live process, owns: oldest first, with the owner set,
	// the fence raised by one and Attempts as they were. Those of the servers in except wait.
	Claim(ctx context.Context, owner int64, now time.Time, limit int, except ...string) ([]Operation, error)
	// NextDue is when the next operation that nobody owns is due; ok is false where there is none.
	NextDue(ctx context.Context) (due time.Time, ok bool, err error)
	// Hasten makes due then what nobody owns and is due later.
	Hasten(ctx context.Context, then time.Time) error
	List(ctx context.Context, f OperationFilter, p Page) ([]Operation, error)
	// Prune removes up to limit operations that finished before then, and says how many.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}

// OperationFilter narrows a list; zero fields do not.
type OperationFilter struct {
	State       OperationState
	Platform    string
	InstanceRow int64
}

// Events is the audit. It only grows, but for Prune.
type Events interface {
	Add(ctx context.Context, e Event) error
	List(ctx context.Context, f EventFilter, p Page) ([]Event, error)
	// Prune removes up to limit events from before then, and says how many.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}

// EventFilter narrows a list; zero fields do not.
type EventFilter struct {
	Platform, InstanceID, BindingID string
}

// Processes says which processes of this store are alive: whose operations
// must be left alone, and whose may be claimed.
type Processes interface {
	// Beat records that the process lives until then.
	Beat(ctx context.Context, process int64, until time.Time) error
	// Leave removes it, at shutdown.
	Leave(ctx context.Context, process int64) error
}

// ServiceTypes is the table of service types.
type ServiceTypes interface {
	// Add records a new one. [ErrNameTaken] where one has its name.
	Add(ctx context.Context, s ServiceType) error
	// Get, ByName and ByUUID return one. CodeNotFound.
	Get(ctx context.Context, row int64) (ServiceType, error)
	ByName(ctx context.Context, name string) (ServiceType, error)
	ByUUID(ctx context.Context, uuid string) (ServiceType, error)
	// Save writes every field of s but its UUID where the row's revision is one less
	// than s's. CodeBusy otherwise; [ErrNameTaken].
	Save(ctx context.Context, s ServiceType) error
	// Remove removes it. From then on its auth methods and bindings are found by
	// nothing, and their names and identifiers are free; [ServiceTypes.Purge] removes
	// the rows. CodeNotFound.
	Remove(ctx context.Context, row int64) error
	// Purge removes up to limit rows of removed service types, and says how many. It
	// stops early rather than hold others up; 0 means that nothing is left.
	Purge(ctx context.Context, limit int) (int, error)
	List(ctx context.Context, p Page) ([]ServiceType, error)
}

// AuthMethods is the table of auth methods.
type AuthMethods interface {
	// Add records a new one. CodeConflict where the service type has one for the
	// host, CodeNotFound where there is no such service type.
	Add(ctx context.Context, m AuthMethod) error
	// ByHost returns the one of a service type for a host. CodeNotFound.
	ByHost(ctx context.Context, serviceRow int64, host string) (AuthMethod, error)
	// Save is as that of service types, with the errors of Add.
	Save(ctx context.Context, m AuthMethod) error
	// Remove removes it. CodeNotFound.
	Remove(ctx context.Context, row int64) error
	// List pages through all of them, or through those of some service types.
	List(ctx context.Context, services []int64, p Page) ([]AuthMethod, error)
}

// IdentityBindings is the table of identity bindings.
type IdentityBindings interface {
	// Add records a new one. [ErrIdentifierTaken] where another one of the same
	// service type, host and auth type has one of its keys; else [ErrNameTaken].
	// CodeNotFound where there is no such service type.
	Add(ctx context.Context, b IdentityBinding) error
	// ByName returns one. CodeNotFound.
	ByName(ctx context.Context, name string) (IdentityBinding, error)
	// Save is as that of service types, with the errors of Add. It leaves LastAuth alone.
	Save(ctx context.Context, b IdentityBinding) error
	// Remove removes it. CodeNotFound. What is recorded of its authentications stays until pruned.
	Remove(ctx context.Context, row int64) error
	List(ctx context.Context, f IdentityBindingFilter, p Page) ([]IdentityBinding, error)
}

// IdentityBindingFilter narrows a list; zero fields do not.
type IdentityBindingFilter struct {
	Services []int64 // any of them
	Host     string
	Keys     IdentityKeys // those that have one of these
}

// Authentications is the record of who authenticated when.
type Authentications interface {
	// Record adds the counts to those of the same binding, outcome and second, and
	// moves LastAuth of the bindings that succeeded forward. Bindings that are gone are left out.
	Record(ctx context.Context, seen []Authentication) error
	// List pages through all of them, or through one binding's.
	List(ctx context.Context, bindingRow int64, p Page) ([]Authentication, error)
	// Prune removes up to limit records from before then, and says how many.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}

// What is taken, of a thing whose names are several.
var (
	ErrNameTaken       = Errorf(CodeConflict, "the name is taken")
	ErrIdentifierTaken = Errorf(CodeConflict, "the identifier is taken")
)

// Stock is the table of what was taken from stocks; see [Stocker].
type Stock interface {
	// Take gives the account the first of these items of the server that nobody
	// has, and that is not in quarantine. CodeQuota where there is none.
	Take(ctx context.Context, server string, items []string, accountRow int64) (StockItem, error)
	// OfAccount returns what an account took. CodeNotFound.
	OfAccount(ctx context.Context, accountRow int64) (StockItem, error)
	// ByName returns an item that was taken once. CodeNotFound.
	ByName(ctx context.Context, server, name string) (StockItem, error)
	// Save writes every field of i where the row's state is still from. CodeBusy otherwise.
	Save(ctx context.Context, i StockItem, from StockState) error
	// List pages through the items of a server that were taken once.
	List(ctx context.Context, server string, p Page) ([]StockItem, error)
}

// Authorities is the table of certificate authorities, one for each server of such a kind.
type Authorities interface {
	// Add records a new one. CodeConflict where the server has one.
	Add(ctx context.Context, a Authority) error
	// Get returns the one of a server. CodeNotFound.
	Get(ctx context.Context, server string) (Authority, error)
	// NextCRL raises the number of the authority's revocation list, and returns it.
	NextCRL(ctx context.Context, server string) (int64, error)
}

// Certificates is the table of certificates that authorities issued.
type Certificates interface {
	// Add records a new one. CodeConflict where the authority issued the serial number
	// before. A name can have several: an account that is made again gets another.
	Add(ctx context.Context, c IssuedCertificate) error
	// BySerial and ByName return one; of a name, one that was not revoked where there is such. CodeNotFound.
	BySerial(ctx context.Context, server, serial string) (IssuedCertificate, error)
	ByName(ctx context.Context, server, name string) (IssuedCertificate, error)
	// Revoke records when a name's certificates were revoked, where they were not before.
	// CodeNotFound where it has none.
	Revoke(ctx context.Context, server, name string, at time.Time) error
	// List pages through those of a server that expire after then: the revoked ones, or the others.
	List(ctx context.Context, server string, revoked bool, after time.Time, p Page) ([]IssuedCertificate, error)
	// Prune removes up to limit that expired before then, and says how many.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}
