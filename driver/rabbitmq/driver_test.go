package rabbitmq_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/rabbitmq"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// callTimeout is long for a call and short for a test of a hung server.
const callTimeout = 3 * time.Second

// configured is what the configuration says of a test's server.
func configured(r *devserver.RabbitMQ, installation string) bindery.Server {
	return bindery.Server{
		Name: "r", Kind: "rabbitmq", Installation: installation,
		Address: r.Addr, Username: r.User, Password: r.Password, Timeout: callTimeout,
		Public: bindery.PublicAddress{Host: r.Host, Port: r.Port},
	}
}

func openDriver(t testing.TB, s bindery.Server) bindery.Driver {
	t.Helper()
	return drivertest.Open(t, rabbitmq.Kind, s)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// promise describes a server to the suite. Adjust may change the configuration.
func promise(t *testing.T, r *devserver.RabbitMQ, adjust func(*bindery.Server)) drivertest.Server {
	openAt := func(t testing.TB, installation, address string) bindery.Driver {
		s := configured(r, installation)
		s.Address = address
		if adjust != nil {
			adjust(&s)
		}
		return openDriver(t, s)
	}
	return drivertest.Server{
		Address: r.Addr,
		OpenAt:  openAt,
		Open: func(t testing.TB, installation string) bindery.Driver {
			return openAt(t, installation, r.Addr)
		},
		Kind:          rabbitmq.Kind,
		Timeout:       callTimeout,
		Login:         login,
		IsAuthFailure: isAuthFailure,
		Trespass: func(ctx context.Context, mine, theirs bindery.Credential, key string) error {
			return trespass(ctx, r, mine, theirs, key)
		},
		Settings:          json.RawMessage(`{"max_connections":100,"max_queues":1000,"binding_max_connections":50,"binding_max_channels":100}`),
		BindingParameters: json.RawMessage(`{"access":"read-write"}`),
		ReadOnly:          json.RawMessage(`{"access":"read-only"}`),
		Aliases:           rabbitmq.Kind.Aliases,
		Kill:              r.Kill,
		Restart:           r.Restart,
		Pause:             r.Pause,
		Resume:            r.Resume,
	}
}

func TestDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t,
		func(t *testing.T) drivertest.Server { return promise(t, servertest.SharedRabbitMQ(t), nil) },
		func(t *testing.T) drivertest.Server { return promise(t, ownServer(t), nil) })
}

// starting bounds how many brokers run beside each other: each wants a processor
// for seconds when it starts.
var starting = make(chan struct{}, 3)

func ownServer(t testing.TB, options ...func(*devserver.RabbitMQOptions)) *devserver.RabbitMQ {
	t.Helper()
	starting <- struct{}{}
	t.Cleanup(func() { <-starting })
	return servertest.RabbitMQ(t, options...)
}

// isAuthFailure reports whether the broker itself refused user or password.
func isAuthFailure(err error) bool {
	said, ok := errors.AsType[*amqp.Error](err)
	return ok && said.Server && said.Code == amqp.AccessRefused && strings.Contains(said.Reason, "Login was refused")
}

// A session is an application's connection. What is written under a key is the
// message in a queue of that name.
type session struct {
	conn *amqp.Connection
}

// connect logs in with a credential's uri alone, as most clients do.
func connect(c bindery.Credential, vhost string) (*amqp.Connection, error) {
	uri, _ := c.Object["uri"].(string)
	config := amqp.Config{
		Vhost: vhost, Heartbeat: 10 * time.Second, Locale: "en_US",
		Dial: func(network, addr string) (net.Conn, error) { return net.DialTimeout(network, addr, 5*time.Second) },
	}
	if pem, ok := c.Object["ca.crt"].(string); ok {
		config.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12, ServerName: c.Object["host"].(string)}
		config.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(pem))
	}
	// The library does not tell a refused password from a broken connection, so the
	// broker is asked first in a way to which it says what it refuses.
	parsed, err := amqp.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	raw, err := config.Dial("tcp", net.JoinHostPort(parsed.Host, strconv.Itoa(parsed.Port)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = raw.Close() }() // nothing is left to be sent
	if config.TLSClientConfig != nil {
		raw = tls.Client(raw, config.TLSClientConfig)
	}
	if code, text, err := rabbitmq.Greet(raw, parsed.Username, bindery.NewSecret(parsed.Password)); code != 0 || err != nil {
		return nil, errors.Join(err, &amqp.Error{Code: int(code), Reason: text, Server: err == nil})
	}
	return amqp.DialConfig(uri, config)
}

func login(_ context.Context, c bindery.Credential) (drivertest.Session, error) {
	conn, err := connect(c, "")
	if err != nil {
		return nil, err
	}
	return &session{conn}, nil
}

// channel runs something on a channel of its own: an error ends a channel.
func (s *session) channel(f func(*amqp.Channel) error) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return err
	}
	err = f(ch)
	if err == nil {
		return ch.Close()
	}
	_ = ch.Close() // the broker has closed it, most often
	return err
}

func (s *session) Write(ctx context.Context, key, value string) error {
	return s.channel(func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(key, true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := ch.QueuePurge(key, false); err != nil {
			return err
		}
		return publish(ctx, ch, key, value)
	})
}

// publish sends a message to a queue, through the exchange that has no name.
func publish(ctx context.Context, ch *amqp.Channel, queue, value string) error {
	return publishTo(ctx, ch, "", queue, value)
}

// publishTo sends a message to an exchange and waits until the broker has it, or
// has closed the channel.
func publishTo(ctx context.Context, ch *amqp.Channel, exchange, key, value string) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	confirmed, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(value)})
	if err != nil {
		return err
	}
	select {
	case <-confirmed.Done():
		if confirmed.Acked() {
			return nil
		}
		select {
		case err := <-closed:
			return fmt.Errorf("the channel was closed: %w", err)
		case <-time.After(time.Second):
			return errors.New("the message was not taken")
		}
	case err := <-closed:
		return fmt.Errorf("the channel was closed: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) Read(_ context.Context, key string) (value string, err error) {
	err = s.channel(func(ch *amqp.Channel) error {
		m, ok, err := ch.Get(key, false)
		said, refused := errors.AsType[*amqp.Error](err)
		if err == nil && !ok || refused && said.Code == amqp.NotFound {
			return drivertest.ErrMissing
		}
		if err != nil {
			return err
		}
		value = string(m.Body)
		return m.Nack(false, true)
	})
	return value, err
}

func (s *session) Alive(context.Context) error {
	return s.channel(func(*amqp.Channel) error { return nil })
}

func (s *session) Close() error { return s.conn.Close() }

// trespass tries what a client has to reach another vhost.
func trespass(ctx context.Context, r *devserver.RabbitMQ, mine, theirs bindery.Credential, key string) error {
	vhost := theirs.Object["vhost"].(string)
	if conn, err := connect(mine, vhost); err == nil {
		return conn.Close()
	}
	if conn, err := connect(mine, "/"); err == nil {
		return conn.Close()
	}
	for _, path := range []string{"/api/whoami", "/api/queues/" + vhost + "/" + key, "/api/connections", "/api/vhosts"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL()+path, nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth(mine.Object["username"].(string), mine.Object["password"].(string))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close() // nothing of it is needed
		if resp.StatusCode/100 == 2 {
			return nil
		}
	}
	return errors.New("refused")
}

// With TLS on both ways.
func TestDriverWithTLS(t *testing.T) {
	t.Parallel()
	pki, err := devserver.OpenPKI(t.TempDir(), time.Now)
	must(t, err)
	cert, err := pki.Server()
	must(t, err)
	ca, err := os.ReadFile(cert.CAFile)
	must(t, err)
	r := ownServer(t, func(o *devserver.RabbitMQOptions) { o.TLS = &cert })
	s := configured(r, "tls001")
	s.TLS, s.Public.TLS, s.Public.CA = &bindery.ServerTLS{CAFile: cert.CAFile}, true, string(ca)
	d := openDriver(t, s)
	spec := bindery.InstanceSpec{Name: bindery.Name("tls001", 1)}
	must(t, d.Provision(t.Context(), spec))
	a, c := account(t, d, spec, 2, `{}`)
	open, err := login(t.Context(), c)
	must(t, err)
	must(t, open.Write(t.Context(), "k", "v"))
	must(t, d.Revoke(t.Context(), spec, a))
	if open.Alive(t.Context()) == nil {
		t.Error("the session is still alive")
	}
	proof, err := d.(bindery.Prover).Prove(t.Context(), spec, a)
	must(t, err)
	if !strings.Contains(proof, "403") {
		t.Errorf("the proof is %q", proof)
	}

	s.TLS = &bindery.ServerTLS{} // the system's authorities do not know this one
	err = openDriver(t, s).Provision(t.Context(), spec)
	if bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("with a certificate of nobody's: %v", err)
	}
}

// account makes an account and its credential.
func account(t testing.TB, d bindery.Driver, spec bindery.InstanceSpec, row int64, parameters string) (bindery.Account, bindery.Credential) {
	t.Helper()
	a := bindery.Account{Name: bindery.Name(spec.Name[4:10], row)}
	var err error
	a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name, Parameters: json.RawMessage(parameters)})
	must(t, err)
	_, err = d.Ensure(t.Context(), spec, a)
	must(t, err)
	c, err := d.Render(spec, a)
	must(t, err)
	return a, c
}
