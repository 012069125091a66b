package nats_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/nats"
)

// TestSetupScript: the script beside the driver is the one that devserver's user is
// made by, and the requests that its subjects allow are all that the driver sends.
func TestSetupScript(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("setup.sh")
	must(t, err)
	copied, err := os.ReadFile(filepath.Join("..", "..", "devserver", "nats-setup.sh"))
	must(t, err)
	if string(script) != string(copied) {
		t.Error("devserver has another script: run go generate ./devserver")
	}
	allowed := map[string][]string{}
	for _, m := range regexp.MustCompile(`--allow-(pub|sub) '([^']+)'`).FindAllStringSubmatch(string(script), -1) {
		allowed[m[1]] = append(allowed[m[1]], m[2])
	}
	n := servertest.SharedNATS(t)
	token, err := jwt.ParseDecoratedJWT([]byte(n.SystemCreds.Reveal()))
	must(t, err)
	claims, err := jwt.DecodeUserClaims(token)
	must(t, err)
	if len(allowed["pub"]) == 0 || !slices.Equal(allowed["pub"], claims.Pub.Allow) || !slices.Equal(allowed["sub"], claims.Sub.Allow) {
		t.Errorf("the user may publish %q and subscribe to %q, the script says %q", claims.Pub.Allow, claims.Sub.Allow, allowed)
	}
}

// systemUser makes a user of the system account without one of the subjects.
func systemUser(t testing.TB, n *devserver.NATS, without string) bindery.Secret {
	t.Helper()
	state, err := os.ReadFile(filepath.Join(n.Dir(), "state.json"))
	must(t, err)
	var seeds struct {
		System string `json:"system_seed"`
	}
	must(t, json.Unmarshal(state, &seeds))
	system, err := nkeys.FromSeed([]byte(seeds.System))
	must(t, err)
	token, err := jwt.ParseDecoratedJWT([]byte(n.SystemCreds.Reveal()))
	must(t, err)
	claims, err := jwt.DecodeUserClaims(token)
	must(t, err)
	user, err := nkeys.CreateUser()
	must(t, err)
	key, err := user.PublicKey()
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	least := jwt.NewUserClaims(key)
	least.Pub.Allow = slices.DeleteFunc(slices.Clone(claims.Pub.Allow), func(s string) bool { return s == without })
	least.Sub.Allow = claims.Sub.Allow
	token, err = least.Encode(system)
	must(t, err)
	creds, err := jwt.FormatUserConfig(token, seed)
	must(t, err)
	return bindery.NewSecret(string(creds))
}

func TestPing(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	ping := func(adjust func(*bindery.Server)) error {
		s := configured(n, "pinged")
		adjust(&s)
		return openDriver(t, s).(bindery.Pinger).Ping(t.Context())
	}
	must(t, ping(func(*bindery.Server) {}))
	other, err := nkeys.CreateOperator()
	must(t, err)
	seed, err := other.Seed()
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := l.Addr().String()
	must(t, l.Close())
	tests := map[string]struct {
		adjust func(*bindery.Server)
		says   string
	}{
		"another operator":    {func(s *bindery.Server) { s.Secrets["operator_seed"] = bindery.NewSecret(string(seed)) }, "not trusted"},
		"nobody's server":     {func(s *bindery.Server) { s.Address = closed }, "refused"},
		"a server that hangs": {func(s *bindery.Server) { s.Address = mute(t); s.Timeout = 100 * time.Millisecond }, "127.0.0.1"},
	}
	// Each right that is taken away is missed, and named for the operator.
	for _, right := range []string{
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.CLAIMS.PACK", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
		"$SYS.REQ.ACCOUNT.*.CONNZ", "$SYS.REQ.SERVER.*.KICK", "$SYS.REQ.SERVER.*.STATSZ", "$JS.API.ACCOUNT.PURGE.*",
	} {
		creds := systemUser(t, n, right)
		tests["without "+right] = struct {
			adjust func(*bindery.Server)
			says   string
		}{func(s *bindery.Server) { s.Secrets["system_creds"] = creds }, "Permissions Violation"}
	}
	for name, test := range tests {
		err := ping(test.adjust)
		if bindery.CodeOf(err) != bindery.CodeUnavailable || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: got %v, want %s that says %q", name, err, bindery.CodeUnavailable, test.says)
		}
		if err != nil && strings.Contains(bindery.MessageOf(err), test.says) {
			t.Errorf("%s: the caller is told %q", name, bindery.MessageOf(err))
		}
	}
}

// TestAnotherOperator: what its seed signs would take an instance away from its users.
func TestAnotherOperator(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	s := configured(n, "others")
	d := openDriver(t, s)
	spec := instance(t, d, "others", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	other, err := nkeys.CreateOperator()
	must(t, err)
	seed, err := other.Seed()
	must(t, err)
	s.Secrets["operator_seed"] = bindery.NewSecret(string(seed))
	wrong := openDriver(t, s)
	if _, err := wrong.Ensure(t.Context(), spec, a); bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("ensure: got %v, want %s", err, bindery.CodeUnavailable)
	}
	if err := wrong.Revoke(t.Context(), spec, a); bindery.CodeOf(err) != bindery.CodeUnavailable {
		t.Errorf("revoke: got %v, want %s", err, bindery.CodeUnavailable)
	}
	connected(t, c)
	must(t, d.Revoke(t.Context(), spec, a))
}

// mute is the address of a server that never says anything.
func mute(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestPingRefusesUnfitServers(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t, func(o *devserver.NATSOptions) {
		o.Settings = []string{`resolver: { type: full, dir: "./accounts" }`} // the last one counts
	})
	err := openDriver(t, configured(n, "unfits")).(bindery.Pinger).Ping(t.Context())
	if bindery.CodeOf(err) != bindery.CodeUnavailable || !strings.Contains(fmt.Sprint(err), "delete must be enabled") {
		t.Errorf("a resolver that deletes nothing: got %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	pki, err := devserver.OpenPKI(t.TempDir(), time.Now)
	must(t, err)
	files, err := pki.Server()
	must(t, err)
	ca, err := os.ReadFile(files.CAFile)
	must(t, err)
	n := servertest.NATS(t, func(o *devserver.NATSOptions) { o.TLS = &files })
	s := configured(n, "tls001")
	s.TLS = &bindery.ServerTLS{CAFile: files.CAFile}
	s.Public = bindery.PublicAddress{TLS: true, CA: string(ca)}
	d := openDriver(t, s)
	must(t, d.(bindery.Pinger).Ping(t.Context()))
	spec := instance(t, d, "tls001", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	if uri, _ := c.Object["uri"].(string); uri != "tls://"+n.Addr {
		t.Errorf("uri: got %q, want tls", uri)
	}
	given, _ := c.Object["ca.crt"].(string)
	file := filepath.Join(t.TempDir(), "ca.crt")
	must(t, os.WriteFile(file, []byte(given), 0o600))
	connected(t, c, natsgo.RootCAs(file))
	must(t, d.Revoke(t.Context(), spec, a))
	_, err = d.(bindery.Prover).Prove(t.Context(), spec, a)
	must(t, err)

	s.TLS = &bindery.ServerTLS{} // not a CA of the system's
	err = openDriver(t, s).(bindery.Pinger).Ping(t.Context())
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("with the wrong CA: got %v, want a certificate error", err)
	}
}

// TestRestart: the server keeps what it has, says that it is another run, and where it
// lost an account, that is made again.
func TestRestart(t *testing.T) {
	t.Parallel()
	n := servertest.NATS(t)
	d := openDriver(t, configured(n, "reruns"))
	run := func() string {
		t.Helper()
		id, err := d.(bindery.Restarter).Incarnation(t.Context())
		must(t, err)
		return id
	}
	spec := instance(t, d, "reruns", string(streamPlan))
	a, c := account(t, d, spec, 2, `{}`)
	first := run()
	if again := run(); again != first || first == "" {
		t.Errorf("one run has two ids: %q, %q", first, again)
	}
	must(t, n.Kill())
	must(t, n.Start(t.Context()))
	connected(t, c)
	if run() == first {
		t.Error("another run has the same id")
	}

	// As a power loss may leave it: cut off.
	must(t, n.Kill())
	written, err := filepath.Glob(filepath.Join(n.Dir(), "accounts", "*.jwt"))
	must(t, err)
	cut := 0
	for _, file := range written {
		raw, err := os.ReadFile(file)
		must(t, err)
		if claims, err := jwt.DecodeAccountClaims(string(raw)); err == nil && claims.Name == spec.Name {
			must(t, os.Truncate(file, int64(len(raw)/2)))
			cut++
		}
	}
	if cut != 1 {
		t.Fatalf("%d files have the account", cut)
	}
	must(t, n.Start(t.Context()))
	must(t, d.Inventory(t.Context(), func(f bindery.Found) error {
		t.Errorf("a broken account is listed: %v", f)
		return nil
	}))
	_, err = d.Ensure(t.Context(), spec, a)
	must(t, err)
	must(t, connected(t, c).Write(t.Context(), "k", "v")) // with its plan's limits
}

// TestRevocationThatIsUndone: a server that has the account again is found out.
func TestRevocationThatIsUndone(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	admin := administrator(t, n)
	d := openDriver(t, configured(n, "undone"))
	spec := instance(t, d, "undone", `{}`)
	a, c := account(t, d, spec, 2, `{}`)
	token, _ := c.Object["jwt"].(string)
	user, err := jwt.DecodeUserClaims(token)
	must(t, err)
	before, err := admin.Request("$SYS.REQ.ACCOUNT."+user.IssuerAccount+".CLAIMS.LOOKUP", nil, time.Minute)
	must(t, err)
	must(t, d.Revoke(t.Context(), spec, a))
	_, err = d.(bindery.Prover).Prove(t.Context(), spec, a)
	must(t, err)
	_, err = admin.Request("$SYS.REQ.CLAIMS.UPDATE", before.Data, time.Minute)
	must(t, err)
	if _, err := d.(bindery.Prover).Prove(t.Context(), spec, a); !errors.Is(err, bindery.ErrAlive) {
		t.Errorf("got %v, want %v", err, bindery.ErrAlive)
	}
	found := false
	must(t, d.Inventory(t.Context(), func(f bindery.Found) error { found = found || f.Name == a.Name; return nil }))
	if !found {
		t.Error("the inventory does not have it")
	}
}

// TestForeignAccounts: what an operator added to an account stays, and other accounts are not touched.
func TestForeignAccounts(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	admin := administrator(t, n)
	operator, err := nkeys.FromSeed([]byte(n.OperatorSeed.Reveal()))
	must(t, err)
	d := openDriver(t, configured(n, "foreig"))
	spec := instance(t, d, "foreig", `{}`)
	a, _ := account(t, d, spec, 2, `{}`)
	lookup := func() *jwt.AccountClaims {
		t.Helper()
		var made struct{ Account string }
		must(t, json.Unmarshal(a.Details, &made))
		m, err := admin.Request("$SYS.REQ.ACCOUNT."+made.Account+".CLAIMS.LOOKUP", nil, time.Minute)
		must(t, err)
		claims, err := jwt.DecodeAccountClaims(string(m.Data))
		must(t, err)
		return claims
	}
	push := func(claims *jwt.AccountClaims) {
		t.Helper()
		token, err := claims.Encode(operator)
		must(t, err)
		_, err = admin.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), time.Minute)
		must(t, err)
	}
	pair, err := nkeys.CreateAccount()
	must(t, err)
	key, err := pair.PublicKey()
	must(t, err)
	claims := lookup()
	claims.SigningKeys.Add(key)
	push(claims)
	// Another's account that bears the name of an instance of this installation.
	namesake := jwt.NewAccountClaims(key)
	namesake.Name = bindery.Name("foreig", 9)
	push(namesake)

	var found []string
	must(t, d.Inventory(t.Context(), func(f bindery.Found) error { found = append(found, f.Name); return nil }))
	slices.Sort(found)
	if want := []string{spec.Name, a.Name}; !slices.Equal(found, want) {
		t.Errorf("inventory: got %q, want %q", found, want)
	}
	must(t, d.Revoke(t.Context(), spec, a))
	if claims := lookup(); len(claims.SigningKeys) != 1 || !claims.SigningKeys.Contains(key) {
		t.Errorf("signing keys: got %v, want the one that was added", claims.SigningKeys.Keys())
	}
	must(t, d.Deprovision(t.Context(), bindery.InstanceSpec{Name: namesake.Name}))
	m, err := admin.Request("$SYS.REQ.ACCOUNT."+key+".CLAIMS.LOOKUP", nil, time.Minute)
	must(t, err)
	if len(m.Data) == 0 {
		t.Error("another's account was removed")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	for name, adjust := range map[string]func(*bindery.Server){
		"an installation with a pattern": func(s *bindery.Server) { s.Installation = "ab*123" },
		"no port":                        func(s *bindery.Server) { s.Address = "h" },
		"an unknown setting":             func(s *bindery.Server) { s.Settings = json.RawMessage(`{"x":1}`) },
		"a password":                     func(s *bindery.Server) { s.Password = bindery.NewSecret("p") },
		"an unknown secret":              func(s *bindery.Server) { s.Secrets["x"] = bindery.NewSecret("p") },
		"no operator":                    func(s *bindery.Server) { delete(s.Secrets, "operator_seed") },
		"no user":                        func(s *bindery.Server) { delete(s.Secrets, "system_creds") },
		"secrets that are exchanged": func(s *bindery.Server) {
			s.Secrets["operator_seed"], s.Secrets["system_creds"] = s.Secrets["system_creds"], s.Secrets["operator_seed"]
		},
	} {
		s := configured(n, "opened")
		adjust(&s)
		_, err := nats.Kind.Open(s)
		if bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%s: got %v, want %s", name, err, bindery.CodeInvalid)
		}
		if err != nil && (strings.Contains(err.Error(), n.OperatorSeed.Reveal()) || strings.Contains(err.Error(), "BEGIN")) {
			t.Errorf("%s: the error has a secret", name)
		}
	}
	for _, settings := range []string{
		`{"max_bindings":0}`, `{"max_bindings":2001}`, `{"max_connections":-1}`, `{"max_payload":1.5}`, `{"max_payload":null}`,
		`{"jetstream":{}}`, `{"jetstream":1}`, `{"jetstream":{"max_storage":"1GB"}}`, `{"jetstream":{"x":1}}`, `[]`,
	} {
		if err := nats.Kind.CheckPlan(json.RawMessage(settings)); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("plan %s: got %v, want %s", settings, err, bindery.CodeInvalid)
		}
	}
	with, without := bindery.InstanceSpec{Settings: streamPlan}, bindery.InstanceSpec{}
	change := openDriver(t, configured(n, "opened")).(bindery.Changer).CanChange
	if err := change(with, without); bindery.CodeOf(err) != bindery.CodeUnsupported {
		t.Errorf("from JetStream to none: got %v, want %s", err, bindery.CodeUnsupported)
	}
	must(t, change(without, with))
}
