package mysql

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/go-sql-driver/mysql"

	"bindery"
)

// Error numbers that are more than a failure.
const (
	errNoConnection    = 1040
	errDatabaseDenied  = 1044
	errDenied          = 1045
	errUnknownDatabase = 1049
	errShutdown        = 1053
	errUnknownColumn   = 1054
	errNoSuchThread    = 1094
	errUnknownTable    = 1146
	errNoSuchUser      = 1133 // nobody that could be given rights
	errLockTimeout     = 1205
	errDeadlock        = 1213
	errUserLimit       = 1226
	errNeedsPrivilege  = 1227
	errNoRoutine       = 1305
	errReadOnly        = 1290 // or another option of the server that prevents it
	errManyRows        = 1242 // refuseReadOnly's
	errInterrupted     = 1317
	errInvalidView     = 1356
	errNoUserToGrant   = 1410 // MySQL's
	errCannotUser      = 1396 // "Operation CREATE USER failed": it exists
	errTooManySessions = 1203
	errKilledMariaDB   = 1927
	errKilledMySQL     = 3169
	errDeniedWithout   = 1698 // a password, although there was one
	errReadOnlyMySQL   = 1836
	errStatementTime   = 1969
	errNoTrigger       = 1360
	errNoEvent         = 1539

	errUnknownCharacterSet = 1115
	errCollationMismatch   = 1253
	errUnknownCollation    = 1273
)

// number is that of a server's answer, 0 for any other error.
func number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// errBroken marks a connection that could not be made, or ended in the middle of a call.
var errBroken = errors.New("the connection broke")

func broken(err error) error {
	if number(err) != 0 {
		return err
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// severed reports whether a connection is of no more use after an error.
func severed(err error) bool {
	switch number(err) {
	case 0, errShutdown, errInterrupted, errKilledMariaDB, errKilledMySQL:
		return true
	}
	return false
}

// failed says what was being done, and what the caller may know of why not. The
// server's own text is for the operator.
func failed(doing string, err error) error {
	if _, ok := errors.AsType[*bindery.Error](err); ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	message := "the database server does not answer"
	switch number(err) {
	case 0:
		_, network := errors.AsType[net.Error](err)
		if !network && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) &&
			!errors.Is(err, errBroken) && !errors.Is(err, sqldriver.ErrBadConn) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	case errDenied, errDatabaseDenied, errNeedsPrivilege, errReadOnly, errReadOnlyMySQL, errManyRows:
		message = "the database server does not allow it"
	case errNoConnection, errTooManySessions, errUserLimit:
		message = "the database server has no connection to spare"
	case errLockTimeout, errDeadlock, errStatementTime:
		message = "the database is busy"
	case errShutdown, errInterrupted, errKilledMariaDB, errKilledMySQL:
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return bindery.Errorf(bindery.CodeUnavailable, "%s", message).Because(fmt.Errorf("%s: %w", doing, err))
}
