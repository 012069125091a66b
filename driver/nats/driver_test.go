package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/natsd"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/nats"
)

func TestMain(m *testing.M) {
	natsd.Main()
	servertest.Main(m)
}

// callTimeout is long for a call and short for a test of a hung server.
const callTimeout = 2 * time.Second

// streamPlan lets an instance store something, which is how the suite sees its data.
var streamPlan = json.RawMessage(`{"jetstream":{"max_memory":1048576}}`)

// configured is what the configuration says of a test's server.
func configured(n *devserver.NATS, installation string) bindery.Server {
	return bindery.Server{
		Name: "n", Kind: "nats", Installation: installation, Address: n.Addr, Timeout: callTimeout,
		Secrets: map[string]bindery.Secret{"operator_seed": n.OperatorSeed, "system_creds": n.SystemCreds},
	}
}

func openDriver(t testing.TB, s bindery.Server) bindery.Driver {
	t.Helper()
	return drivertest.Open(t, nats.Kind, s)
}

// promise describes a server to the suite.
func promise(n *devserver.NATS) drivertest.Server {
	openAt := func(t testing.TB, installation, address string) bindery.Driver {
		s := configured(n, installation)
		s.Address, s.Public = address, bindery.PublicAddress{Host: n.Host, Port: n.Port}
		return openDriver(t, s)
	}
	return drivertest.Server{
		Address: n.Addr,
		OpenAt:  openAt,
		Open: func(t testing.TB, installation string) bindery.Driver {
			return openAt(t, installation, n.Addr)
		},
		Kind:              nats.Kind,
		Timeout:           callTimeout,
		Login:             login,
		IsAuthFailure:     func(err error) bool { return errors.Is(err, natsgo.ErrAuthorization) },
		Trespass:          trespass,
		Settings:          streamPlan,
		BindingParameters: json.RawMessage(`{"access":"read-write"}`),
		ReadOnly:          json.RawMessage(`{"access":"read-only"}`),
		Kill:              n.Kill,
		Restart:           n.Restart,
		Pause:             n.Pause,
		Resume:            n.Resume,
	}
}

func TestDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t,
		func(t *testing.T) drivertest.Server { return promise(servertest.SharedNATS(t)) },
		func(t *testing.T) drivertest.Server { return promise(servertest.NATS(t)) })
}

// A session is an application's connection.
type session struct {
	nc *natsgo.Conn
	js jetstream.JetStream
}

// connect logs in with what the credential object says. It never logs in again.
func connect(c bindery.Credential, options ...natsgo.Option) (*session, error) {
	uri, _ := c.Object["uri"].(string)
	creds, _ := c.Object["creds"].(string)
	options = append(options, natsgo.UserCredentialBytes([]byte(creds)), natsgo.NoReconnect())
	nc, err := natsgo.Connect(uri, options...)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &session{nc, js}, nil
}

func login(_ context.Context, c bindery.Credential) (drivertest.Session, error) {
	s, err := connect(c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

const bucket = "b"

func (s *session) Write(ctx context.Context, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout) // what is forbidden is not answered
	defer cancel()
	kv, err := s.js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: bucket, Storage: jetstream.MemoryStorage, MaxBytes: 1 << 16,
		})
	}
	if err != nil {
		return err
	}
	_, err = kv.PutString(ctx, fmt.Sprintf("%x", key), value)
	return err
}

func (s *session) Read(ctx context.Context, key string) (string, error) {
	kv, err := s.js.KeyValue(ctx, bucket)
	if err != nil {
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return "", drivertest.ErrMissing
		}
		return "", err
	}
	v, err := kv.Get(ctx, fmt.Sprintf("%x", key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", drivertest.ErrMissing
	}
	if err != nil {
		return "", err
	}
	return string(v.Value()), nil
}

func (s *session) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.nc.FlushWithContext(ctx)
}

func (s *session) Close() error {
	s.nc.Close()
	return nil
}

var errKeptOut = errors.New("kept out")

// trespass reads the key where the other's would be, listens to everything while the
// other writes, and tries to be a user of the other's account.
func trespass(ctx context.Context, mine, theirs bindery.Credential, key string) error {
	me, err := connect(mine)
	if err != nil {
		return err
	}
	defer me.nc.Close()
	other, err := connect(theirs)
	if err != nil {
		return err
	}
	defer other.nc.Close()
	want, err := other.Read(ctx, key)
	if err != nil {
		return err
	}
	if got, err := me.Read(ctx, key); err == nil && got == want {
		return nil
	}
	heard, err := me.nc.SubscribeSync(">")
	if err != nil {
		return err
	}
	if err := me.Alive(ctx); err != nil { // the server has the subscription
		return err
	}
	for _, subject := range []string{"app.x", "$KV.b.x"} {
		if err := other.nc.Publish(subject, []byte(want)); err != nil {
			return err
		}
	}
	if err := errors.Join(other.Alive(ctx), me.Alive(ctx)); err != nil {
		return err
	}
	if n, _, err := heard.Pending(); err != nil || n > 0 {
		return err
	}
	token, _ := theirs.Object["jwt"].(string)
	seed, _ := mine.Object["nkey_seed"].(string)
	uri, _ := mine.Object["uri"].(string)
	nc, err := natsgo.Connect(uri, natsgo.UserJWTAndSeed(token, seed), natsgo.NoReconnect())
	if err == nil {
		nc.Close()
		return nil
	}
	return errKeptOut
}
