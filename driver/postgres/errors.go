package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// SQLSTATEs that are more than a failure.
const (
	stateDuplicateObject   = "42710"
	stateDuplicateDatabase = "42P04"
	stateUniqueViolation   = "23505" // two that create the same at the same time
	stateUndefinedObject   = "42704"
	stateUndefinedDatabase = "3D000"
	stateDependentObjects  = "2BP01"
	stateObjectInUse       = "55006"
	stateLockTimeout       = "55P03"
	stateNoPrivilege       = "42501"
	stateNotSupported      = "0A000"
	stateUndefinedFile     = "58P01"
	stateInvalidParameter  = "22023"
	stateTooManyClients    = "53300"
)

// state is the SQLSTATE of a server's answer, "" for any other error.
func state(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// failed says what was being done, and what the caller may know of why not. The
// server's own text is for the operator.
func failed(doing string, err error) error {
	if _, ok := errors.AsType[*bindery.Error](err); ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	message := "the database server does not answer"
	switch code := state(err); {
	case code == "":
		_, connecting := errors.AsType[*pgconn.ConnectError](err)
		_, network := errors.AsType[net.Error](err)
		if !connecting && !network && !pgconn.Timeout(err) && !pgconn.SafeToRetry(err) &&
			!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !errors.Is(err, errBroken) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	case code == stateNoPrivilege:
		message = "the database server does not allow it"
	case code == stateTooManyClients:
		message = "the database server has no connection to spare"
	case code == stateLockTimeout, code == stateObjectInUse:
		message = "the database is busy"
	case code[:2] == "08", code[:2] == "57", code[:2] == "53", code[:2] == "58", code[:2] == "28", code[:2] == "40":
		// Connections, shutdowns, resources, I/O, Bindery's own login, conflicts.
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return bindery.Errorf(bindery.CodeUnavailable, "%s", message).Because(fmt.Errorf("%s: %w", doing, err))
}

// errBroken marks a connection that ended in the middle of a call.
var errBroken = errors.New("the connection broke")
