// Package drivertest is the promise that every driver keeps, as a test suite.
// A driver's own test starts a real server, says how a client logs in to it,
// and calls [Run]. The proof of a credential is a login; the proof that it is
// gone is a login refused for that reason.
package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"bindery"
)

// A Server is a real server, and what the suite has to know of it.
type Server struct {
	// Open opens a driver for this server, as that installation, and closes it
	// when the test ends. Opened again for the same installation, it stands for
	// the next process of a Bindery whose first one died.
	Open func(t testing.TB, installation string) bindery.Driver
	// Address is the server's host:port, and OpenAt is Open with another one in its
	// place, so that a case can put a bad network in between. Without them such
	// cases are left out.
	Address string
	OpenAt  func(t testing.TB, installation, address string) bindery.Driver
	// Timeout is the bindery.Server.Timeout that Open gives: a second or two, so
	// that the cases with a hung server end soon.
	Timeout time.Duration

	// Login logs in as an application does: with nothing but what the credential
	// object says.
	Login func(ctx context.Context, c bindery.Credential) (Session, error)
	// IsAuthFailure reports whether a login failed because the user or the
	// password is not right, and for no other reason.
	IsAuthFailure func(err error) bool
	// Trespass tries to reach a key that a session of the credential theirs wrote,
	// with the credential mine of another instance, in any way that a client has.
	// It returns nil if it got in.
	Trespass func(ctx context.Context, mine, theirs bindery.Credential, key string) error

	// Kind is the entry of driver.Kinds that Open uses.
	Kind bindery.Kind
	// Except are cases that the server's protocol cannot keep, each with the reason.
	Except map[string]string

	// Settings are a plan's. InstanceParameters and BindingParameters are the
	// worst that the plan's schemas accept: longest, most, strangest.
	Settings           json.RawMessage
	InstanceParameters json.RawMessage
	BindingParameters  json.RawMessage
	// ReadOnly are binding parameters for an account that may only read; nil if
	// the kind has none.
	ReadOnly json.RawMessage
	// Aliases are the kind's alias sets; their keys may have capitals.
	Aliases []string
	// HidesInstances says that an inventory of this kind has accounts only.
	HidesInstances bool

	// Kill ends the server at once, as kill -9 does. Restart starts it again,
	// killing it first if it runs, and returns when it accepts logins. Pause
	// stops it as SIGSTOP does: connections stay open and nothing is answered.
	// Resume lets it go on. All nil on a shared server.
	Kill    func() error
	Restart func(ctx context.Context) error
	Pause   func() error
	Resume  func() error
}

// A Session is an open connection of a logged-in client.
type Session interface {
	Write(ctx context.Context, key, value string) error
	// Read returns what was written, by this session or by another of the same
	// instance; [ErrMissing] if there is nothing.
	Read(ctx context.Context, key string) (string, error)
	// Alive returns nil while the session can use the server. It never logs in again.
	Alive(ctx context.Context) error
	Close() error
}

// ErrMissing is what [Session.Read] returns for a key that nobody wrote.
var ErrMissing = errors.New("there is no such key")

// Run runs the suite. It calls shared for cases that leave the server as it is:
// that may be one server for all of them, each case uses an installation of its
// own. It calls own for cases that stop and kill: that server is nobody else's.
// Both may be the same function.
func Run(t *testing.T, shared, own func(t *testing.T) Server) {
	run(t, shared, own, nil, func(*fixture) {})
}

// run runs the cases but those that skip names. Adapt changes a fixture before its case.
func run(t *testing.T, shared, own func(t *testing.T) Server, skip []string, adapt func(*fixture)) {
	except := shared(t).Except
	each := func(cases map[string]func(*fixture), start func(t *testing.T) Server) {
		for name, test := range cases {
			if slices.Contains(skip, name) {
				continue
			}
			if why, ok := except[name]; ok {
				t.Logf("left out, %s: %s", name, why)
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, start(t))
				adapt(f)
				test(f)
			})
		}
	}
	each(undisturbed, shared)
	each(disturbed, own)
}

// undisturbed are the cases that any number of tests can run on one server.
var undisturbed = map[string]func(*fixture){
	"an account lives and dies":                            lifeAndDeath,
	"accounts of one instance share its data":              sharedData,
	"instances are fenced from each other":                 isolation,
	"a read-only account only reads":                       readOnly,
	"every call can be made twice":                         twice,
	"every call can be made eight times at once":           atOnce,
	"ensure again resets password, rights and sessions":    resets,
	"a canceled call can be repeated":                      canceled,
	"what is missing is removed already":                   missing,
	"removed data stays removed":                           removedData,
	"the longest names and the worst parameters work":      worst,
	"an inventory is exact and others are unharmed":        inventory,
	"an account is revoked by its name alone":              nameAlone,
	"a credential can be delivered anywhere":               credential,
	"a name that is not this installation's is left alone": foreignNames,
	"parameters that mean nothing are refused":             badParameters,
	"a ping on a good server is quiet":                     ping,
	"the credential object is as its schema says":          described,
	"what was revoked is proven dead, and nothing else":    proven,
}

// disturbed are the cases that need a server of their own.
var disturbed = map[string]func(*fixture){
	"a call to a hung server ends, and its effect too":        hungEnsure,
	"a dead process's call to a hung server has no effect":    hungPredecessor,
	"a revocation that a hung server delayed can be repeated": hungRevoke,
	"a server that is down is unavailable":                    down,
	"a call that the network delays has no effect":            delayed,
	"a dead process's call that the network delays has none":  delayedPredecessor,
	"a revocation survives the server's sudden death":         suddenDeath,
	"an unreachable server proves nothing":                    provesNothing,
}
