package bindery

import (
	"encoding/json"
	"time"
)

// An AccountState is where an account is in its life.
type AccountState string

// The states of an account.
const (
	// AccountWanted: recorded, and possibly made.
	AccountWanted AccountState = "wanted"
	// AccountLive: the backend confirmed it.
	AccountLive AccountState = "live"
	// AccountRemoving: it must go, and may still let somebody in.
	AccountRemoving AccountState = "removing"
	// AccountUnproven: the backend confirmed that it is gone; that a login is refused
	// has not been shown yet.
	AccountUnproven AccountState = "unproven"
	// AccountStuck: it was to be dead, and lets somebody in, or nobody can say.
	AccountStuck AccountState = "stuck"
	// AccountGone: the backend confirmed that it is gone. The name is a
	// tombstone: where it reappears, reconcile removes it.
	AccountGone AccountState = "gone"
)

// An Account is what Bindery makes on a backend for a binding: a user, a role,
// a certificate. Its record exists before the backend hears of it.
type Account struct {
	Row         int64 // never used twice
	BindingRow  int64
	InstanceRow int64
	Kind        string
	Server      string
	Name        string // see [Name]
	// Material is what the driver's Prepare made: a JSON object with the
	// password, key pair or whatever the kind needs. Erased when the account is gone.
	Material Secret
	// Details are facts, not secrets, that the backend told: a JSON object, for
	// example a role's oid. Nil until the account is live.
	Details json.RawMessage
	// Expires is when it must be dead; zero: it does not expire.
	Expires          time.Time
	State            AccountState
	Created, Updated time.Time
	// Tries is how often Ensure may have been called before for what it is called for
	// now, by any process. The engine knows it while it works; it is not stored.
	Tries int
	// Recorded says that the driver wrote its part in the transaction that recorded the account
	// (see [Recorder]) and was not called for it since. The engine knows it while it works; it is not stored.
	Recorded bool
	// Proof says how its end was confirmed; empty while it is not gone.
	Proof string
	// Proven is when it was shown that its credential is refused; zero: it was not.
	Proven time.Time
	// Retry is when to try again to prove that it is dead (zero: at once), and Attempts
	// how often that was tried. Stores keep Retry only while it is unproven or stuck.
	Retry    time.Time
	Attempts int
}

// Pending reports whether it still has to be proven that an account in this state is dead.
func (s AccountState) Pending() bool { return s == AccountUnproven || s == AccountStuck }

// A Backlog is how many accounts of a server are in one of the states that are [AccountState.Pending].
type Backlog struct {
	Server string
	State  AccountState
	Count  int
}
