package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/test/poll"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// instance makes an instance, and removes it at the end of the test.
func instance(t testing.TB, d bindery.Driver, installation, settings string) bindery.InstanceSpec {
	t.Helper()
	spec := bindery.InstanceSpec{Name: bindery.Name(installation, 1), Settings: json.RawMessage(settings)}
	must(t, d.Provision(t.Context(), spec))
	t.Cleanup(func() {
		if err := d.Deprovision(context.Background(), spec); err != nil {
			t.Errorf("deprovision: %v", err)
		}
	})
	return spec
}

// account makes an account and returns it with its credential.
func account(
	t testing.TB, d bindery.Driver, spec bindery.InstanceSpec, row int64, parameters string,
) (bindery.Account, bindery.Credential) {
	t.Helper()
	a := bindery.Account{Name: bindery.Name(strings.Split(spec.Name, "_")[1], row)}
	var err error
	a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name, Parameters: json.RawMessage(parameters)})
	must(t, err)
	made, err := d.Ensure(t.Context(), spec, a)
	must(t, err)
	a.Details = made.Details
	c, err := d.Render(spec, a)
	must(t, err)
	return a, c
}

func connected(t testing.TB, c bindery.Credential, options ...natsgo.Option) *session {
	t.Helper()
	s, err := connect(c, options...)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// administrator may do anything in the system account.
func administrator(t testing.TB, n *devserver.NATS) *natsgo.Conn {
	t.Helper()
	nc, err := natsgo.Connect(n.Addr, natsgo.UserCredentialBytes([]byte(n.AdminCreds.Reveal())))
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// TestRevocationCutsOff: a connected client is told to go, and its own attempts to
// come back are refused.
func TestRevocationCutsOff(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	d := openDriver(t, configured(n, "cutoff"))
	spec := instance(t, d, "cutoff", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	_, other := account(t, d, spec, 3, `{}`)
	ended := make(chan error, 1)
	s := connected(t, c, natsgo.ClosedHandler(func(nc *natsgo.Conn) { ended <- nc.LastError() }))
	stays := connected(t, other)
	creds, _ := c.Object["creds"].(string)
	refused := make(chan error, 1)
	back, err := natsgo.Connect(n.Addr, natsgo.UserCredentialBytes([]byte(creds)),
		natsgo.ReconnectWait(time.Millisecond), natsgo.MaxReconnects(-1),
		natsgo.ClosedHandler(func(nc *natsgo.Conn) { refused <- nc.LastError() }))
	must(t, err)
	t.Cleanup(back.Close)

	must(t, d.Revoke(t.Context(), spec, a))
	if s.Alive(t.Context()) == nil {
		t.Error("the session is alive")
	}
	<-ended
	// The library gives up after two refusals in a row.
	if err := <-refused; !errors.Is(err, natsgo.ErrAuthorization) {
		t.Errorf("a client that comes back: got %v, want %v", err, natsgo.ErrAuthorization)
	}
	must(t, stays.Alive(t.Context()))
}

// TestTwoProcessesTakeTurns: two processes that change one instance at the same time
// lose nothing of each other's, and neither is cut off.
func TestTwoProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t)
	s := configured(n, "twopro")
	s.Timeout = 30 * time.Second
	first, second := openDriver(t, s), openDriver(t, s)
	spec := bindery.InstanceSpec{Name: bindery.Name("twopro", 1)}
	must(t, first.Provision(t.Context(), spec))
	must(t, second.Provision(t.Context(), spec))
	clients := administrator(t, n)
	before := bindersOf(t, clients, n)

	const workers, rounds = 4, 20
	var wg sync.WaitGroup
	for p, d := range []bindery.Driver{first, second} {
		for w := range workers {
			wg.Go(func() {
				for i := range rounds {
					row := int64(1000*(p*workers+w) + i + 2)
					a := bindery.Account{Name: bindery.Name("twopro", row)}
					var err error
					if a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name}); err != nil {
						t.Error(err)
					}
					if _, err := d.Ensure(t.Context(), spec, a); err != nil {
						t.Error(err)
					}
					if i%2 == 1 {
						if err := d.Revoke(t.Context(), spec, a); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	found := map[string]bool{}
	must(t, first.Inventory(t.Context(), func(f bindery.Found) error { found[f.Name] = !f.Instance; return nil }))
	for p := range 2 * workers {
		for i := range rounds {
			name := bindery.Name("twopro", int64(1000*p+i+2))
			if found[name] != (i%2 == 0) {
				t.Errorf("%s (%d of %d): found %v", name, i, p, found[name])
			}
		}
	}
	if after := bindersOf(t, clients, n); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("connections: got %v, want %v as before", after, before)
	}
}

// bindersOf returns the ids of Bindery's own connections.
func bindersOf(t testing.TB, nc *natsgo.Conn, n *devserver.NATS) map[uint64]string {
	t.Helper()
	m, err := nc.Request("$SYS.REQ.SERVER.PING.CONNZ", []byte(`{"auth":true}`), time.Minute)
	must(t, err)
	var r struct {
		Data struct {
			Connections []struct {
				ID   uint64 `json:"cid"`
				Name string `json:"name"`
			} `json:"connections"`
		} `json:"data"`
	}
	must(t, json.Unmarshal(m.Data, &r))
	ids := map[uint64]string{}
	for _, c := range r.Data.Connections {
		if strings.HasPrefix(c.Name, "bindery:") {
			ids[c.ID] = c.Name
		}
	}
	return ids
}

// TestDeadProcessLosesItsTurn: a process that answers nobody does not keep others
// from their work, and is ended.
func TestDeadProcessLosesItsTurn(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t)
	mute, err := natsgo.Connect(n.Addr, natsgo.UserCredentialBytes([]byte(n.SystemCreds.Reveal())),
		natsgo.Name("bindery:mutely:x"), natsgo.NoReconnect())
	must(t, err)
	t.Cleanup(mute.Close)
	d := openDriver(t, configured(n, "mutely"))
	must(t, d.Provision(t.Context(), bindery.InstanceSpec{Name: bindery.Name("mutely", 1)}))
	if mute.FlushTimeout(time.Minute) == nil {
		t.Error("the other is still connected")
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	d := openDriver(t, configured(servertest.SharedNATS(t), "quotas"))
	spec := instance(t, d, "quotas", `{"max_bindings":2}`)
	first, _ := account(t, d, spec, 2, `{}`)
	account(t, d, spec, 3, `{}`)
	_, err := d.Ensure(t.Context(), spec, first) // again
	must(t, err)
	third := bindery.Account{Name: bindery.Name("quotas", 4)}
	third.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: third.Name})
	must(t, err)
	if _, err := d.Ensure(t.Context(), spec, third); bindery.CodeOf(err) != bindery.CodeQuota {
		t.Errorf("one more than there may be: got %v, want %s", err, bindery.CodeQuota)
	}
	must(t, d.Revoke(t.Context(), spec, first))
	_, err = d.Ensure(t.Context(), spec, third)
	must(t, err)
}

// TestAccountTooLarge: a server with a small max_payload takes fewer bindings, and
// goes on with those that it has.
func TestAccountTooLarge(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t, func(o *devserver.NATSOptions) { o.Settings = []string{"max_payload: 4096"} })
	d := openDriver(t, configured(n, "larger"))
	spec := instance(t, d, "larger", `{}`)
	var made []bindery.Account
	var err error
	for row := int64(2); row < 100; row++ {
		a := bindery.Account{Name: bindery.Name("larger", row)}
		a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name})
		must(t, err)
		if _, err = d.Ensure(t.Context(), spec, a); err != nil {
			break
		}
		made = append(made, a)
	}
	if bindery.CodeOf(err) != bindery.CodeQuota || len(made) < 2 {
		t.Fatalf("after %d: got %v, want %s", len(made), err, bindery.CodeQuota)
	}
	for _, a := range made {
		must(t, d.Revoke(t.Context(), spec, a))
	}
}

// TestExpiry: the server has the end as well, and cuts a session off by itself.
func TestExpiry(t *testing.T) {
	t.Parallel()
	d := openDriver(t, configured(servertest.SharedNATS(t), "expiry"))
	spec := instance(t, d, "expiry", `{}`)
	a := bindery.Account{Name: bindery.Name("expiry", 2), Expires: time.Now().Add(2 * time.Second)}
	var err error
	a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name, Expires: a.Expires})
	must(t, err)
	_, err = d.Ensure(t.Context(), spec, a)
	must(t, err)
	c, err := d.Render(spec, a)
	must(t, err)
	ended := make(chan error, 1)
	connected(t, c, natsgo.ClosedHandler(func(nc *natsgo.Conn) { ended <- nc.LastError() }))
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the session outlives its user")
	}
	if time.Now().Before(a.Expires) {
		t.Error("it ended before its time")
	}
	// Servers count whole seconds, and let a user in until the last one is over.
	poll.Until(t, "a login is refused", func() bool {
		s, err := connect(c)
		if err == nil {
			_ = s.Close() // likely ended by the server
		}
		return errors.Is(err, natsgo.ErrAuthorization)
	})
}

// TestNobodySignsForAnAccount: the identity of an account, whose public key is in every
// credential, is no key that a user could be signed with, and neither is a made-up one.
func TestNobodySignsForAnAccount(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	d := openDriver(t, configured(n, "signer"))
	spec := instance(t, d, "signer", `{}`)
	_, c := account(t, d, spec, 2, `{}`)
	token, _ := c.Object["jwt"].(string)
	claims, err := jwt.DecodeUserClaims(token)
	must(t, err)
	forger, err := nkeys.CreateAccount()
	must(t, err)
	user, err := nkeys.CreateUser()
	must(t, err)
	key, err := user.PublicKey()
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	forged := jwt.NewUserClaims(key)
	forged.IssuerAccount = claims.IssuerAccount
	token, err = forged.Encode(forger)
	must(t, err)
	if _, err := natsgo.Connect(n.Addr, natsgo.UserJWTAndSeed(token, string(seed))); !errors.Is(err, natsgo.ErrAuthorization) {
		t.Errorf("a forged user: got %v, want %v", err, natsgo.ErrAuthorization)
	}
}

// TestReadOnlyCannotPublish: not directly, and not by a consumer that delivers to a subject.
func TestReadOnlyCannotPublish(t *testing.T) {
	t.Parallel()
	d := openDriver(t, configured(servertest.SharedNATS(t), "reader"))
	spec := instance(t, d, "reader", string(streamPlan))
	_, c := account(t, d, spec, 2, `{}`)
	writer := connected(t, c)
	_, c = account(t, d, spec, 3, `{"access":"read-only"}`)
	reader := connected(t, c, natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}))
	stream, err := writer.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "s", Subjects: []string{"in.>"}, Storage: jetstream.MemoryStorage, MaxBytes: 1 << 16,
	})
	must(t, err)
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	_, err = writer.js.Publish(t.Context(), "in.x", []byte("v"))
	must(t, err)
	heard, err := writer.nc.SubscribeSync("out.>")
	must(t, err)
	must(t, writer.Alive(t.Context()))

	// It reads through a consumer that the other made, and hears what is published.
	theirs, err := reader.js.Consumer(t.Context(), "s", consumer.CachedInfo().Name)
	must(t, err)
	m, err := theirs.Next(jetstream.FetchMaxWait(time.Minute))
	must(t, err)
	if string(m.Data()) != "v" {
		t.Errorf("read %q", m.Data())
	}
	must(t, m.DoubleAck(t.Context()))

	for _, request := range []struct{ subject, payload string }{
		{"out.x", "v"},
		{"in.y", "v"},
		{"$JS.API.CONSUMER.CREATE.s", `{"stream_name":"s","config":{"deliver_subject":"out.x","ack_policy":"none"}}`},
		{"$JS.API.CONSUMER.DURABLE.CREATE.s.d", `{"stream_name":"s","config":{"durable_name":"d","deliver_subject":"out.x"}}`},
		{"$JS.API.STREAM.PURGE.s", ``},
		{"$JS.API.STREAM.DELETE.s", ``},
		{"$JS.API.STREAM.MSG.DELETE.s", `{"seq":1}`},
		{"$JS.API.CONSUMER.DELETE.s.c", ``},
	} {
		must(t, reader.nc.PublishRequest(request.subject, "answers", []byte(request.payload)))
	}
	must(t, reader.Alive(t.Context())) // the server has seen all of them
	must(t, writer.Alive(t.Context()))
	if n, _, err := heard.Pending(); err != nil || n > 0 {
		t.Errorf("a read-only binding published %d messages, %v", n, err)
	}
	info, err := stream.Info(t.Context())
	must(t, err)
	if info.State.Msgs != 1 || info.State.Consumers != 1 {
		t.Errorf("the stream has %d messages and %d consumers, want 1 and 1", info.State.Msgs, info.State.Consumers)
	}
}

// TestLimits: a plan's limits are the server's.
func TestLimits(t *testing.T) {
	t.Parallel()
	d := openDriver(t, configured(servertest.SharedNATS(t), "limits"))
	spec := instance(t, d, "limits", `{"max_connections":1,"max_payload":10,"max_subscriptions":2}`)
	_, c := account(t, d, spec, 2, `{}`)
	s := connected(t, c)
	if _, err := connect(c); !errors.Is(err, natsgo.ErrMaxAccountConnectionsExceeded) {
		t.Errorf("a second connection: got %v, want %v", err, natsgo.ErrMaxAccountConnectionsExceeded)
	}
	if _, err := s.js.AccountInfo(t.Context()); !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		t.Errorf("streams without a limit: got %v, want %v", err, jetstream.ErrJetStreamNotEnabledForAccount)
	}
	if got := s.nc.MaxPayload(); got != 10 {
		t.Errorf("largest message: got %d, want 10", got)
	}
	// A larger plan reaches those who are connected.
	spec.Settings = json.RawMessage(`{"max_connections":2}`)
	must(t, d.Provision(t.Context(), spec))
	connected(t, c)
	must(t, s.Alive(t.Context()))
}
