package crash_test

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	natsgo "github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"

	"bindery/client"
)

// clientEvents are all of the audit.
var clientEvents = client.EventFilter{}

// login uses a credential of any service as an application does; see [login].
func (w *world) login(ctx context.Context, service string, c client.Credentials) error {
	if w.further[service] == nil {
		return login(ctx, service, c)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	switch service {
	case "mysql":
		return loginMySQL(ctx, c)
	case "rabbitmq":
		return w.loginRabbitMQ(ctx, c)
	case "nats":
		return loginNATS(ctx, c)
	case "oauth":
		return w.loginOAuth(ctx, c)
	case "mtls":
		return w.loginMTLS(ctx, c)
	case "static":
		return keyBegins(c, "given")
	case poolService:
		return keyBegins(c, "k")
	}
	panic("no such service: " + service)
}

// keyBegins looks whether a given set is one of those that were given.
func keyBegins(c client.Credentials, prefix string) error {
	if key := c.Text("key"); !strings.HasPrefix(key, prefix) {
		return fmt.Errorf("the key is %q", key)
	}
	return nil
}

func loginMySQL(ctx context.Context, c client.Credentials) error {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", net.JoinHostPort(c.Text("host"), c.Text("port"))
	config.User, config.Passwd, config.DBName = c.Text("username"), c.Text("password"), c.Text("database")
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	conn, err := db.Conn(ctx)
	// The second is how MariaDB refuses some names of nobody.
	if said, ok := errors.AsType[*mysql.MySQLError](err); ok && (said.Number == 1045 || said.Number == 1698) {
		return errRefused
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "CREATE TEMPORARY TABLE crash (v INT)")
	return err
}

func (w *world) loginRabbitMQ(ctx context.Context, c client.Credentials) error {
	conn, err := dialAMQP(ctx, c.Text("uri"))
	if errors.Is(err, amqp.ErrCredentials) {
		// The library says this of a connection that broke, too: the broker must be well.
		r := w.further["rabbitmq"]
		if err := w.getJSON(ctx, "http://"+r.reach.Address+"/api/whoami", r.reach.Username, r.reach.Password.Reveal(), &struct{}{}); err != nil {
			return err
		}
		if conn, err = dialAMQP(ctx, c.Text("uri")); errors.Is(err, amqp.ErrCredentials) {
			return errRefused
		}
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	_, err = ch.QueueDeclare("", false, true, true, false, nil)
	return err
}

func dialAMQP(ctx context.Context, uri string) (*amqp.Connection, error) {
	return amqp.DialConfig(uri, amqp.Config{Dial: func(network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if at, ok := ctx.Deadline(); err == nil && ok {
			err = conn.SetDeadline(at)
		}
		return conn, err
	}})
}

func loginNATS(ctx context.Context, c client.Credentials) error {
	conn, err := natsgo.Connect(c.Text("uri"), natsgo.UserCredentialBytes([]byte(c.Text("creds"))), natsgo.NoReconnect())
	if errors.Is(err, natsgo.ErrAuthorization) {
		return errRefused
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Publish("crash", nil); err != nil {
		return err
	}
	return conn.FlushWithContext(ctx)
}

// loginOAuth gets a token as a client does.
func (w *world) loginOAuth(ctx context.Context, c client.Credentials) error {
	form := strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Text("token_endpoint"), form)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(c.Text("client_id"), c.Text("client_secret"))
	status, body, err := w.send(req)
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized && strings.Contains(string(body), `"invalid_client"`):
		return errRefused
	case status != http.StatusOK || !strings.Contains(string(body), `"access_token"`):
		return fmt.Errorf("the token endpoint answered %d: %s", status, body)
	}
	return nil
}

// loginMTLS looks at a certificate as a server does: issuer, time, and the
// revocation list, which Bindery itself serves, as soon as it is up.
func (w *world) loginMTLS(ctx context.Context, c client.Credentials) error {
	leaf, err := certificate(c.Text("tls.crt"))
	if err != nil {
		return err
	}
	issuer, err := certificate(c.Text("ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return errRefused
	}
	if err != nil {
		return err
	}
	var revoked *x509.RevocationList
	err = eventually(ctx, 20*time.Second, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url()+"/pki/mtls/ca.crl", http.NoBody)
		if err != nil {
			return err
		}
		status, body, err := w.send(req)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("the revocation list: %d %w", status, err)
		}
		revoked, err = x509.ParseRevocationList(body)
		return err
	})
	if err != nil {
		return err
	}
	if err := revoked.CheckSignatureFrom(issuer); err != nil {
		return err
	}
	for _, r := range revoked.RevokedCertificateEntries {
		if r.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			return errRefused
		}
	}
	return nil
}

func certificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("there is no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// send sends a request to any server and returns its answer.
func (w *world) send(req *http.Request) (status int, body []byte, err error) {
	res, err := w.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// getJSON asks a server's own API.
func (w *world) getJSON(ctx context.Context, target, user, password string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return err
	}
	req.SetBasicAuth(user, password)
	status, body, err := w.send(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answered %d: %s", target, status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}
