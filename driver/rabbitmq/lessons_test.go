package rabbitmq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/rabbitmq"
	"bindery/test/poll"
)

// ask sends a request to the management API and returns status and answer.
func ask(t testing.TB, r *devserver.RabbitMQ, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL()+path, strings.NewReader(body))
	must(t, err)
	req.SetBasicAuth(r.Superuser, r.SuperPassword.Reveal())
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	b, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(b)
}

// fresh opens a driver for an installation of its own on the shared broker, with an instance.
func fresh(t testing.TB, installation, settings string) (*devserver.RabbitMQ, bindery.Driver, bindery.InstanceSpec) {
	t.Helper()
	r := servertest.SharedRabbitMQ(t)
	d := openDriver(t, configured(r, installation))
	spec := bindery.InstanceSpec{Name: bindery.Name(installation, 1), Settings: json.RawMessage(settings)}
	must(t, d.Provision(t.Context(), spec))
	t.Cleanup(func() { must(t, d.Deprovision(context.Background(), spec)) })
	return r, d, spec
}

// The statistics would list a connection seconds later; many that were opened a
// moment ago are all ended when the revocation is answered.
func TestFreshConnectionsAreNotOverlooked(t *testing.T) {
	t.Parallel()
	_, d, spec := fresh(t, "less01", `{}`)
	for round := range int64(10) {
		a, c := account(t, d, spec, 10+round, `{}`)
		conns := make([]*amqp.Connection, 5)
		for i := range conns {
			conn, err := connect(c, "")
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() }) // the broker has closed it
			conns[i] = conn
		}
		must(t, d.Revoke(t.Context(), spec, a))
		for _, conn := range conns {
			if _, err := conn.Channel(); err == nil {
				t.Fatal("a connection of a revoked account still opens channels")
			}
		}
	}
}

// Logins that race with the revocation are refused, or their connections end.
func TestLoginsDuringARevocationDoNotSurviveIt(t *testing.T) {
	t.Parallel()
	_, d, spec := fresh(t, "less02", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	opened := make(chan *amqp.Connection, 10_000)
	done := make(chan struct{})
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				if conn, err := connect(c, ""); err == nil {
					opened <- conn
				}
			}
			done <- struct{}{}
		}()
	}
	for range 8 {
		conn := <-opened
		t.Cleanup(func() { _ = conn.Close() })
	}
	must(t, d.Revoke(t.Context(), spec, a))
	stop()
	for range 4 {
		<-done
	}
	close(opened)
	for conn := range opened {
		s := &session{conn}
		if err := s.Write(t.Context(), "late", "v"); err == nil {
			t.Error("a connection that was opened during the revocation still writes")
		}
		_ = conn.Close()
	}
	if _, err := d.(bindery.Prover).Prove(t.Context(), spec, a); err != nil {
		t.Errorf("prove: %v", err)
	}
}

// A client that does not answer the broker's goodbye does not hold a revocation up.
func TestSilentClientIsCutOff(t *testing.T) {
	t.Parallel()
	r, d, spec := fresh(t, "less03", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	conn, err := net.Dial("tcp", r.AMQPAddr)
	must(t, err)
	defer func() { _ = conn.Close() }()
	code, text, err := rabbitmq.Greet(conn, a.Name, bindery.NewSecret(c.Object["password"].(string)))
	if code != 0 || err != nil {
		t.Fatal(code, text, err)
	}
	// tune-ok (2047 channels, frames of 128 kB, no heartbeat) and open
	vhost := append([]byte{byte(len(spec.Name))}, spec.Name...)
	open := append(append([]byte{0, 10, 0, 40}, vhost...), 0, 0)
	frames := append([]byte{1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 7, 255, 0, 2, 0, 0, 0, 0, 0xCE},
		append(append([]byte{1, 0, 0, 0, 0, 0, byte(len(open))}, open...), 0xCE)...)
	_, err = conn.Write(frames)
	must(t, err)
	opened := make([]byte, 8)
	_, err = io.ReadFull(conn, opened) // from now on it reads nothing and says nothing
	must(t, err)
	started := time.Now()
	must(t, d.Revoke(t.Context(), spec, a))
	if took := time.Since(started); took > callTimeout {
		t.Errorf("the revocation took %s", took)
	}
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
		t.Error("the broker still waits for the client")
	}
	_, err = d.(bindery.Prover).Prove(t.Context(), spec, a)
	must(t, err)
}

// What a broker, or somebody at it, makes after a revocation is found.
func TestAccountThatCameBackIsNotProvenDead(t *testing.T) {
	t.Parallel()
	r, d, spec := fresh(t, "less04", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	must(t, d.Revoke(t.Context(), spec, a))
	body, err := json.Marshal(map[string]string{"password": c.Object["password"].(string), "tags": ""})
	must(t, err)
	if code, said := ask(t, r, http.MethodPut, "/api/users/"+a.Name, string(body)); code != http.StatusCreated {
		t.Fatal(code, said)
	}
	_, err = d.(bindery.Prover).Prove(t.Context(), spec, a)
	if !errors.Is(err, bindery.ErrAlive) {
		t.Errorf("got %v, want %v", err, bindery.ErrAlive)
	}
	must(t, d.Revoke(t.Context(), spec, a))
}

// A broker that is interrupted while it makes a vhost takes the half for a whole.
func TestHalfMadeVhostIsCompleted(t *testing.T) {
	t.Parallel()
	_, d, _ := fresh(t, "less05", `{}`)
	for row := int64(10); row < 22; row++ {
		spec := bindery.InstanceSpec{Name: bindery.Name("less05", row)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(row-9)*3*time.Millisecond)
		_ = d.Provision(ctx, spec) // interrupted, at another point each time
		cancel()
		must(t, d.Provision(t.Context(), spec))
		_, c := account(t, d, spec, row+100, `{}`)
		s, err := login(t.Context(), c)
		must(t, err)
		must(t, s.(*session).channel(func(ch *amqp.Channel) error {
			for exchange, kind := range map[string]string{
				"amq.direct": "direct", "amq.topic": "topic", "amq.fanout": "fanout", "amq.headers": "headers",
			} {
				if err := ch.ExchangeDeclarePassive(exchange, kind, true, false, false, false, nil); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, s.Close())
		must(t, d.Deprovision(t.Context(), spec))
		must(t, d.Revoke(t.Context(), spec, bindery.Account{Name: bindery.Name("less05", row+100)}))
	}
}

// Whoever makes a vhost is given all permissions in it; Bindery gives them back.
// And what it works as is gone when it closes.
func TestNothingOfBinderysStays(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRabbitMQ(t)
	d, err := rabbitmq.Kind.Open(configured(r, "less06"))
	must(t, err)
	spec := bindery.InstanceSpec{Name: bindery.Name("less06", 1)}
	must(t, d.Provision(t.Context(), spec))
	if _, said := ask(t, r, http.MethodGet, "/api/vhosts/"+spec.Name+"/permissions", ""); said != "[]" {
		t.Errorf("permissions in a new vhost: %s", said)
	}
	if _, said := ask(t, r, http.MethodGet, "/api/users?columns=name", ""); !strings.Contains(said, rabbitmq.LoginPrefix("less06")) {
		t.Errorf("while it works: users %s", said)
	}
	must(t, d.Deprovision(t.Context(), spec))
	must(t, d.Close())
	if _, said := ask(t, r, http.MethodGet, "/api/users?columns=name", ""); strings.Contains(said, rabbitmq.LoginPrefix("less06")) {
		t.Errorf("after it closed: users %s", said)
	}
}

// Two processes of one installation cut each other off when they start, and go on.
func TestTwoProcessesOfOneInstallation(t *testing.T) {
	t.Parallel()
	r, first, spec := fresh(t, "less07", `{}`)
	for i := range int64(5) {
		second := openDriver(t, configured(r, "less07"))
		account(t, second, spec, 100+i, `{}`)
		account(t, first, spec, 200+i, `{}`)
		must(t, second.Revoke(t.Context(), spec, bindery.Account{Name: bindery.Name("less07", 200+i)}))
		must(t, first.Revoke(t.Context(), spec, bindery.Account{Name: bindery.Name("less07", 100+i)}))
	}
}

// What a plan says is what the broker enforces, and an update takes it back.
func TestLimits(t *testing.T) {
	t.Parallel()
	_, d, spec := fresh(t, "less08", `{"max_connections":3,"max_queues":2,"binding_max_connections":1,"binding_max_channels":5}`)
	queues := func(s drivertest.Session, names ...string) error {
		var errs []error
		for _, name := range names {
			errs = append(errs, s.Write(t.Context(), name, "v"))
		}
		return errors.Join(errs...)
	}
	_, c := account(t, d, spec, 2, `{}`)
	s, err := login(t.Context(), c)
	must(t, err)
	// The broker counts a connection a moment after it was opened.
	poll.Until(t, "a second connection is refused", func() bool {
		second, err := login(t.Context(), c)
		if err == nil {
			must(t, second.Close())
		}
		return err != nil
	})
	must(t, queues(s, "a", "b"))
	if queues(s, "c") == nil {
		t.Error("an instance has three queues, and may have two")
	}
	for n := 1; ; n++ {
		if _, err := s.(*session).conn.Channel(); err != nil {
			break // and the broker has closed the connection
		}
		if n > 10 {
			t.Fatal("a binding has ten channels, and may have five")
		}
	}
	spec.Settings = nil
	must(t, d.Provision(t.Context(), spec))
	_, c = account(t, d, spec, 2, `{}`) // again, without limits
	s, err = login(t.Context(), c)
	must(t, err)
	must(t, queues(s, "c", "d"))
	other, err := login(t.Context(), c)
	must(t, err)
	must(t, errors.Join(s.Close(), other.Close()))
}

// A read-only account changes nothing but what reading changes: it takes messages.
func TestReadOnlyTakesAndNoMore(t *testing.T) {
	t.Parallel()
	_, d, spec := fresh(t, "less10", `{}`)
	_, writer := account(t, d, spec, 2, `{}`)
	_, reader := account(t, d, spec, 3, `{"access":"read-only"}`)
	w, err := login(t.Context(), writer)
	must(t, err)
	must(t, w.Write(t.Context(), "q", "v"))
	s, err := login(t.Context(), reader)
	must(t, err)
	for what, try := range map[string]func(*amqp.Channel) error{
		"publish to a queue":      func(ch *amqp.Channel) error { return publish(t.Context(), ch, "q", "x") },
		"publish to an exchange":  func(ch *amqp.Channel) error { return publishTo(t.Context(), ch, "amq.topic", "k", "x") },
		"declare a queue":         func(ch *amqp.Channel) error { _, err := ch.QueueDeclare("", false, true, true, false, nil); return err },
		"declare an exchange":     func(ch *amqp.Channel) error { return ch.ExchangeDeclare("e", "fanout", false, true, false, false, nil) },
		"bind a queue":            func(ch *amqp.Channel) error { return ch.QueueBind("q", "k", "amq.direct", false, nil) },
		"delete a queue":          func(ch *amqp.Channel) error { _, err := ch.QueueDelete("q", false, false, false); return err },
		"bind exchanges together": func(ch *amqp.Channel) error { return ch.ExchangeBind("amq.fanout", "", "amq.direct", false, nil) },
	} {
		err := s.(*session).channel(try)
		if said, ok := errors.AsType[*amqp.Error](err); !ok || said.Code != amqp.AccessRefused {
			t.Errorf("%s: got %v, want that access is refused", what, err)
		}
	}
	must(t, s.(*session).channel(func(ch *amqp.Channel) error {
		m, ok, err := ch.Get("q", true)
		if err == nil && (!ok || string(m.Body) != "v") {
			err = errors.New("the message is not there")
		}
		return err
	}))
	must(t, errors.Join(s.Close(), w.Close()))
}

// A binding is nobody in the management API, unless its plan says otherwise; and
// then it may still not make policies, users or shovels.
func TestManagementIsForPlansThatAllowIt(t *testing.T) {
	t.Parallel()
	r := servertest.SharedRabbitMQ(t)
	s := configured(r, "less09")
	s.Settings = json.RawMessage(`{"management_url":"` + r.URL() + `/"}`)
	d := openDriver(t, s)
	for settings, allowed := range map[string]bool{`{}`: false, `{"management":true}`: true} {
		spec := bindery.InstanceSpec{Name: bindery.Name("less09", 1), Settings: json.RawMessage(settings)}
		must(t, d.Provision(t.Context(), spec))
		a, c := account(t, d, spec, 2, `{}`)
		status := func(method, path string) int {
			t.Helper()
			base := r.URL() + "/api/"
			if allowed {
				u, err := url.Parse(c.Object["http_api_uri"].(string))
				must(t, err)
				u.User = nil
				base = u.String()
			}
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(`{"pattern":"x","definition":{"max-length":1}}`))
			must(t, err)
			req.SetBasicAuth(a.Name, c.Object["password"].(string))
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			must(t, resp.Body.Close())
			return resp.StatusCode
		}
		if got := status(http.MethodGet, "whoami"); (got == http.StatusOK) != allowed {
			t.Errorf("with %s: whoami answers %d", settings, got)
		}
		if _, ok := c.Object["http_api_uri"]; ok != allowed {
			t.Errorf("with %s: http_api_uri is there: %v", settings, ok)
		}
		for _, path := range []string{"policies/" + spec.Name + "/p", "users/other", "vhosts/other", "parameters/shovel/" + spec.Name + "/s"} {
			if got := status(http.MethodPut, path); got/100 == 2 {
				t.Errorf("with %s: PUT %s answers %d", settings, path, got)
			}
		}
		must(t, d.Revoke(t.Context(), spec, a))
		if got := status(http.MethodGet, "whoami"); got != http.StatusUnauthorized {
			t.Errorf("with %s, revoked: whoami answers %d", settings, got)
		}
		must(t, d.Deprovision(t.Context(), spec))
	}
}

// The password is nowhere in the broker: only its salted hash is sent.
func TestPasswordHash(t *testing.T) {
	t.Parallel()
	// The example of the broker's documentation, "Passwords", this is the algorithm of:
	// salt 908DC60A, password test12.
	got := rabbitmq.Hash(bindery.NewSecret("test12"), [4]byte{0x90, 0x8D, 0xC6, 0x0A})
	if want := "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPingSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := ownServer(t)
	s := configured(r, "ping01")
	must(t, openDriver(t, s).(bindery.Pinger).Ping(t.Context()))

	wrong := s
	wrong.Password = bindery.NewSecret("wrong-password")
	check := func(what string, s bindery.Server, want string) {
		t.Helper()
		err := openDriver(t, s).(bindery.Pinger).Ping(t.Context())
		if bindery.CodeOf(err) != bindery.CodeUnavailable || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got %v, want that it says %q", what, err, want)
		}
	}
	check("a wrong password", wrong, "401")
	if code, _ := ask(t, r, http.MethodPut, "/api/users/monitor", `{"password":"m","tags":"monitoring"}`); code != http.StatusCreated {
		t.Fatal(code)
	}
	weak := s
	weak.Username, weak.Password = "monitor", bindery.NewSecret("m")
	check("a user without the tag", weak, "401")
	if code, _ := ask(t, r, http.MethodPut, "/api/users/guest", `{"password":"guest","tags":"administrator"}`); code != http.StatusCreated {
		t.Fatal(code)
	}
	check("guest", s, "guest")
}

func TestSettingsAreStrict(t *testing.T) {
	t.Parallel()
	for text, problem := range map[string]string{
		`{"max_connections":0}`:                     "max_connections",
		`{"amqp_address":"host"}`:                   "amqp_address",
		`{"management_url":"ftp://x"}`:              "management_url",
		`{"management_url":"http://u:pw@x/"}`:       "management_url",
		`{"what":1,"amqp_address":"a:b:c"}`:         "what",
		`[]`:                                        "object",
		`{"management_url":null,"amqp_address":""}`: "amqp_address",
	} {
		err := rabbitmq.Kind.CheckServer(json.RawMessage(text))
		if bindery.CodeOf(err) != bindery.CodeInvalid || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "pw") {
			t.Errorf("server settings %s: got %v", text, err)
		}
	}
	must(t, rabbitmq.Kind.CheckServer(json.RawMessage(`{"max_connections":2,"amqp_address":"[::1]:5672","management_url":"https://x/rabbit"}`)))
	for _, text := range []string{`{"max_connections":-1}`, `{"max_queues":1.5}`, `{"binding_max_channels":"1"}`, `{"management":1}`, `{"x":1}`} {
		if code := bindery.CodeOf(rabbitmq.Kind.CheckPlan(json.RawMessage(text))); code != bindery.CodeInvalid {
			t.Errorf("plan settings %s: got %q", text, code)
		}
	}
}

// FuzzQuotePath: whatever a name is, it stays one segment, and arrives as it was.
func FuzzQuotePath(f *testing.F) {
	for _, s := range []string{"/", "a/b", "..", ".", "%2F", "a?b#c", "é", "\x00", " ", "a%"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p := rabbitmq.Path("users", a, b)
		segments := strings.Split(p, "/")
		if len(segments) != 5 || slices.Contains(segments, ".") || slices.Contains(segments, "..") || strings.ContainsAny(p, "?# ") {
			t.Fatalf("%q and %q make the path %q", a, b, p)
		}
		for i, want := range []string{a, b} {
			got, err := url.PathUnescape(segments[3+i])
			if err != nil || got != want {
				t.Fatalf("%q arrives as %q, %v", want, got, err)
			}
		}
		if _, err := http.NewRequest(http.MethodGet, "http://127.0.0.1"+p, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// A fakeBroker answers with given bytes.
type fakeBroker struct{ io.Reader }

func (fakeBroker) Write(b []byte) (int, error) { return len(b), nil }

// FuzzGreet: whatever a broker answers, nothing but its own refusal is taken for one.
func FuzzGreet(f *testing.F) {
	start := "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"
	f.Add([]byte(start + "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x1e\xce"))
	f.Add([]byte(start + "\x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x32\x01\x93\x01x\xce"))
	f.Add([]byte("AMQP\x00\x00\x09\x01"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		code, text, err := rabbitmq.Greet(fakeBroker{strings.NewReader(string(answer))}, "u", bindery.NewSecret("p"))
		if err != nil && (code != 0 || text != "") {
			t.Fatal("an error and a refusal")
		}
		if err == nil && len(answer) < 24 {
			t.Fatal("less than two frames, and no error")
		}
	})
}
