package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bindery"
)

// Prove implements [bindery.Prover].
func (d *driver) Prove(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) (string, error) {
	if err := d.checkName(account.Name); err != nil {
		return "", err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return "", err
	}
	ctx, end, err := d.begin(ctx, account.Name)
	if err != nil {
		return "", err
	}
	defer end()
	a, err := d.send(ctx, getUser(account.Name), http.StatusOK, http.StatusNotFound)
	if err != nil {
		return "", err
	}
	if a.status == http.StatusOK {
		return "", bindery.ErrAlive
	}
	if err := d.awaitCount(ctx); err != nil {
		return "", err
	}
	open, err := d.hasSessions(ctx, account.Name)
	if err != nil {
		return "", err
	}
	if open {
		// It may have been opened while the user was deleted; see endSessions.
		return "", errors.Join(bindery.ErrAlive, d.endSessions(ctx, account.Name))
	}
	return d.tryLogin(ctx, account.Name, m.Password)
}

// The broker's refusal of a user or a password that it does not take (403 is
// AMQP's access-refused, which alone could also be about something else).
const (
	accessRefused = 403
	refusedLogin  = "ACCESS_REFUSED - Login was refused"
)

// tryLogin logs in as an application does.
func (d *driver) tryLogin(ctx context.Context, user string, password bindery.Secret) (string, error) {
	conn, err := d.dialAMQP(ctx)
	if err != nil {
		return "", silent(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to be sent
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	said, err := greet(conn, user, password)
	switch {
	case err != nil:
		return "", silent(fmt.Errorf("log in with AMQP: %w", err))
	case said == nil:
		return "", bindery.ErrAlive
	case said.code == accessRefused && strings.HasPrefix(said.text, refusedLogin):
		return "user absent, no connection, AMQP login refused with 403 ACCESS_REFUSED", nil
	}
	return "", bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server refused").
		Because(fmt.Errorf("log in with AMQP: %d %q", said.code, said.text))
}

func (d *driver) dialAMQP(ctx context.Context) (net.Conn, error) {
	public := d.server.Public
	address := d.settings.AMQPAddress
	if address == "" {
		address = net.JoinHostPort(public.Host, strconv.Itoa(public.Port))
	}
	if !public.TLS {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", address)
	}
	// What applications are told to trust, else what Bindery trusts, else the system's.
	config, err := d.server.TLS.Config(public.Host)
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: public.Host}
	}
	if public.CA != "" {
		config.RootCAs, config.ServerName = x509.NewCertPool(), public.Host
		if !config.RootCAs.AppendCertsFromPEM([]byte(public.CA)) {
			return nil, errors.New("no certificate in the public CA")
		}
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}
