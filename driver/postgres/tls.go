package postgres

import (
	"time"

	"bindery"
)

// connOptions say how Bindery's own connections are made.
type connOptions struct {
	address, user, database string
	password                bindery.Secret
	tls                     *bindery.ServerTLS
	timeout                 time.Duration
}
