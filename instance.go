package bindery

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// A State is where an instance or a binding is in its life; package comment
// bindery draws the arrows. Updating belongs to instances only.
type State string

// The states. "failed" is not one of them: a create that failed is removed by
// the engine, and what failed stands in its operation.
const (
	StateCreating State = "creating"
	StateReady    State = "ready"
	StateUpdating State = "updating"
	StateRemoving State = "removing"
	StateRemoved  State = "removed"
)

// An Instance is a service instance of one platform.
type Instance struct {
	Row      int64  // never used twice; see [Store.NewID]
	Platform string // whose it is
	ID       string // the platform's
	// Name is what the backend knows it by; see [Name].
	Name                string
	OfferingID, PlanID  string
	Kind, Server        string // the driver, and the server that it stays on
	Organization, Space string
	Parameters          Secret          // canonical JSON; empty when none were given
	Context             json.RawMessage // as sent last; nil when none was
	MaintenanceVersion  string          // of the plan when it was made or last upgraded
	DashboardURL        string
	State               State
	Created, Updated    time.Time
}

// Name is the name by which a backend knows an instance or an account: at most
// 32 characters out of [a-z0-9_]. It comes from the id of this installation
// (6 characters) and a row that is never used twice, so that two installations
// can share a server and a name is never made again.
func Name(installation string, row int64) string {
	return NamePrefix(installation) + strconv.FormatInt(row, 36)
}

// IsInstallation reports whether it is the id of an installation; see [Store].
func IsInstallation(id string) bool {
	return len(id) == 6 && !strings.ContainsFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// NamePrefix is what the names of one installation begin with, and no other's do.
func NamePrefix(installation string) string { return "bdy_" + installation + "_" }

// IsName reports whether [Name] made the name for this installation. Drivers refuse
// all others: whatever defect brings one, nothing else on a server is touched.
func IsName(installation, name string) bool {
	digits, ours := strings.CutPrefix(name, NamePrefix(installation))
	if !ours {
		return false
	}
	row, err := strconv.ParseInt(digits, 36, 64)
	return err == nil && row >= 0 && strconv.FormatInt(row, 36) == digits
}
