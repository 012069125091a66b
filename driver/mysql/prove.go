package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"bindery"
)

// Prove implements [bindery.Prover].
func (d *driver) Prove(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (string, error) {
	if err := errors.Join(d.checkName(account.Name), d.checkName(spec.Name)); err != nil {
		return "", err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	for _, look := range []string{accountExists(account.Name), sessions(unknown, account.Name)} {
		results, err := d.pool.exec(ctx, look)
		if err != nil {
			return "", failed("look for an account and its sessions", err)
		}
		if len(results[0].rows) > 0 {
			return "", bindery.ErrAlive
		}
	}
	return d.tryLogin(ctx, spec.Name, account.Name, m)
}

// tryLogin logs in as an application does. A server that refuses for any reason
// but the credential (a blocked host, no connection to spare) has not looked at
// it, and one that does not know the database has taken it.
//
// MariaDB hides which accounts exist: it treats one that does not like another,
// picked by the name, and may so refuse it as one without a password, or ask for
// that one's plugin. An account of ours is never asked for any but its own.
func (d *driver) tryLogin(ctx context.Context, database, user string, m material) (string, error) {
	config, err := d.pool.options.config()
	if err != nil {
		return "", err
	}
	config.User, config.Passwd, config.DBName = user, m.Password, database
	if d.public.TLS && config.TLS == nil { // without it any login would be refused, the password unseen
		config.TLS = d.publicTLS()
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return "", err
	}
	conn, err := connector.Connect(ctx)
	if err == nil {
		_ = conn.Close() // what it was for is done
		return "", bindery.ErrAlive
	}
	switch n := number(err); n {
	case errDenied, errDeniedWithout:
		return fmt.Sprintf("account absent, no session, login refused with error %d", n), nil
	case errDatabaseDenied, errUnknownDatabase, errTooManySessions, errUserLimit:
		return "", bindery.ErrAlive
	}
	if errors.Is(err, mysql.ErrUnknownPlugin) {
		return "account absent, no session, login not let in: the server asks for a plugin that the account never had", nil
	}
	return "", failed("try a login", broken(err))
}

// publicTLS is TLS as applications have it.
func (d *driver) publicTLS() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.public.Host}
	if d.public.CA != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM([]byte(d.public.CA))
	}
	return c
}
