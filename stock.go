package bindery

import "time"

// A StockState says who has an item of a stock.
type StockState string

// The states of an item that was taken at least once.
const (
	StockFree       StockState = "free"       // it may be taken again
	StockTaken      StockState = "taken"      // an account has it
	StockQuarantine StockState = "quarantine" // its account is gone; who had it may still know it
	// StockReturning: out of quarantine, some process asks since then whether it may be
	// given out again; see [Stocker]. Where that takes too long, the process is gone.
	StockReturning StockState = "returning"
)

// A StockItem is a credential out of a stock. Items that nobody took have no record.
type StockItem struct {
	Row        int64
	Server     string
	Name       string // of the item, unique within its server
	State      StockState
	AccountRow int64 // who has it, or had it last
	// Material is what replaced the configured credential when it came back; empty: nothing did.
	Material Secret
	Since    time.Time // in this state
}

// An Authority is a certificate authority that Bindery keeps.
type Authority struct {
	Row         int64
	Server      string
	Certificate []byte // DER
	Key         Secret // PKCS #8, PEM
	CRLNumber   int64
	Created     time.Time
}

// An IssuedCertificate is a certificate of an authority that Bindery keeps.
type IssuedCertificate struct {
	Row     int64
	Server  string
	Serial  string // hexadecimal
	Name    string // of the account
	Expires time.Time
	Revoked time.Time // zero: it was not
}
