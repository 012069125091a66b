package redis_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/redis"
)

// pool returns the CA that a credential carries.
func pool(c bindery.Credential) *x509.CertPool {
	p := x509.NewCertPool()
	pem, _ := c.Object["ca.crt"].(string)
	p.AppendCertsFromPEM([]byte(pem))
	return p
}

// administrator returns a client that may do everything.
func administrator(t testing.TB, r *devserver.Redis) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), Protocol: 2})
	t.Cleanup(func() { _ = c.Close() }) // the server may have been killed
	return c
}

const leastPassword = "correct-horse-battery-staple-0123456789"

// documentedRules returns the rules that docs/kinds/redis.md gives Bindery's own
// user on this server.
func documentedRules(t testing.TB, r *devserver.Redis) []any {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "kinds", "redis.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)ACL SETUSER bindery (.*?)\n` + "```").FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no ACL SETUSER bindery")
	}
	text := strings.NewReplacer("\\\n", " ", "PASSWORD", leastPassword).Replace(string(m[1]))
	if strings.HasPrefix(r.Version(), "6.") { // as the page says
		text = strings.ReplaceAll(text, "+function|flush", "")
	}
	var rules []any
	for _, rule := range strings.Fields(text) {
		rules = append(rules, rule)
	}
	return rules
}

// leastUser makes Bindery's own user as the page says, and saves it.
func leastUser(t testing.TB, r *devserver.Redis) {
	t.Helper()
	c := administrator(t, r)
	must(t, c.Do(t.Context(), append([]any{"ACL", "SETUSER", "bindery"}, documentedRules(t, r)...)...).Err())
	must(t, c.Do(t.Context(), "ACL", "SAVE").Err())
}

func asLeastUser(s *bindery.Server) {
	s.Username, s.Password = "bindery", bindery.NewSecret(leastPassword)
}

func TestDriverWithLeastPrivileges(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) drivertest.Server {
		r := servertest.Redis(t)
		leastUser(t, r)
		return promise(t, r, asLeastUser)
	}
	drivertest.Run(t, start, start)
}

func TestDriverWithWholeServer(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	leastUser(t, r)
	settings := json.RawMessage(`{"topology":"whole-server"}`)
	if !redis.Kind.Exclusive(settings) || redis.Kind.Exclusive(nil) {
		t.Fatal("a whole server, and no other, is exclusive")
	}
	s := configured(r, "wh0le1")
	asLeastUser(&s)
	d := openDriver(t, s)
	spec := bindery.InstanceSpec{Name: bindery.Name("wh0le1", 1), Settings: settings}
	must(t, d.Provision(t.Context(), spec))
	writer, c := account(t, d, spec, 2, `{}`)
	_, ro := account(t, d, spec, 3, `{"access":"read-only"}`)
	if _, fenced := c.Object["prefix"]; fenced {
		t.Error("a whole server's credential names a prefix")
	}
	w, r1 := connected(t, c), connected(t, ro)
	for _, args := range [][]any{
		{"SET", "k", "v"},
		{"SELECT", 3},
		{"SET", "elsewhere", "v"},
		{"SCAN", 0},
		{"INFO"},
		{"KEYS", "*"},
		{"DBSIZE"},
		{"PUBLISH", "c", "x"},
		{"SWAPDB", 0, 1},
		{"SCRIPT", "FLUSH"},
		{"FLUSHDB"},
		{"SELECT", 1},
		{"EXISTS", "k"},
	} {
		must(t, w.conn.Do(t.Context(), args...).Err())
	}
	for _, args := range [][]any{
		{"ACL", "LIST"},
		{"ACL", "SETUSER", "bindery", "off"},
		{"CONFIG", "SET", "dir", "/"},
		{"SHUTDOWN"},
		{"CLIENT", "KILL", "ID", 1},
		{"CLIENT", "PAUSE", 1},
		{"REPLICAOF", "NO", "ONE"},
		{"MODULE", "LIST"},
		{"MONITOR"},
	} {
		if err := w.conn.Do(t.Context(), args...).Err(); err == nil || !refusedForRights(err) {
			t.Errorf("%v: got %v, want a refusal for lack of rights", args, err)
		}
	}
	for _, args := range [][]any{{"SET", "k", "v"}, {"FLUSHALL"}, {"SWAPDB", 0, 1}, {"FUNCTION", "FLUSH"}} {
		if err := r1.conn.Do(t.Context(), args...).Err(); err == nil || !refusedForRights(err) {
			t.Errorf("read-only %v: got %v, want a refusal for lack of rights", args, err)
		}
	}
	must(t, d.Revoke(t.Context(), spec, writer))
	must(t, d.Deprovision(t.Context(), spec))
	if n := administrator(t, r).Do(t.Context(), "INFO", "keyspace").Val(); strings.Contains(fmt.Sprint(n), "db") {
		t.Errorf("after the instance was removed: %v", n)
	}
	if err := d.(bindery.Changer).CanChange(spec, bindery.InstanceSpec{}); bindery.CodeOf(err) != bindery.CodeUnsupported {
		t.Errorf("from a whole to a shared server: got %v, want %s", err, bindery.CodeUnsupported)
	}
	must(t, d.(bindery.Changer).CanChange(spec, spec))
}

// TestDriverWithoutACLFile: a restart forgets every user; nothing has to be saved.
func TestDriverWithoutACLFile(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) drivertest.Server {
		return promise(t, servertest.Redis(t, func(o *devserver.RedisOptions) { o.ACLFile = false }), nil)
	}
	drivertest.Run(t, start, start)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	pki, err := devserver.OpenPKI(t.TempDir(), time.Now)
	must(t, err)
	files, err := pki.Server()
	must(t, err)
	r := servertest.Redis(t, func(o *devserver.RedisOptions) { o.TLS = &files })
	ca, err := os.ReadFile(files.CAFile)
	must(t, err)

	s := configured(r, "tls001")
	s.Address, s.TLS = r.TLSAddr, &bindery.ServerTLS{CAFile: files.CAFile}
	s.Public = bindery.PublicAddress{TLS: true, CA: string(ca)}
	d := openDriver(t, s)
	must(t, d.(bindery.Pinger).Ping(t.Context()))
	spec := bindery.InstanceSpec{Name: bindery.Name("tls001", 1)}
	must(t, d.Provision(t.Context(), spec))
	_, c := account(t, d, spec, 2, `{}`)
	if uri, _ := c.Object["uri"].(string); !strings.HasPrefix(uri, "rediss://") {
		t.Errorf("uri: got %q…, want rediss", uri[:min(8, len(uri))])
	}
	connected(t, c)

	s.TLS = &bindery.ServerTLS{} // not a CA of the system's
	err = openDriver(t, s).(bindery.Pinger).Ping(t.Context())
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("with the wrong CA: got %v, want a certificate error", err)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	leastUser(t, r)
	ping := func(adjust func(*bindery.Server)) error {
		s := configured(r, "ping01")
		adjust(&s)
		return openDriver(t, s).(bindery.Pinger).Ping(t.Context())
	}
	must(t, ping(asLeastUser))
	for name, adjust := range map[string]func(*bindery.Server){
		"wrong password":  func(s *bindery.Server) { s.Password = bindery.NewSecret("wrong") },
		"nobody's server": func(s *bindery.Server) { s.Address = closedPort(t) },
	} {
		if err := ping(adjust); bindery.CodeOf(err) != bindery.CodeUnavailable {
			t.Errorf("%s: got %v, want %s", name, err, bindery.CodeUnavailable)
		}
	}
	// Each right that is taken away is missed, and named for the operator.
	c := administrator(t, r)
	for _, right := range []string{
		"acl|setuser", "acl|deluser", "acl|getuser", "client|kill", "client|list", "client|setname", "client|id",
		"info", "command", "scan", "unlink", "select", "multi", "exec",
	} {
		user := "without-" + strings.ReplaceAll(right, "|", "-")
		rules := []any{"ACL", "SETUSER", user}
		for _, rule := range documentedRules(t, r) {
			if rule != "+"+right {
				rules = append(rules, rule)
			}
		}
		if err := c.Do(t.Context(), rules...).Err(); err != nil {
			t.Fatalf("make a user without %s: %v", right, err)
		}
		err := ping(func(s *bindery.Server) { s.Username, s.Password = user, bindery.NewSecret(leastPassword) })
		if bindery.CodeOf(err) != bindery.CodeUnavailable || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("without %s: got %v, want %s that says so", right, err, bindery.CodeUnavailable)
		}
	}
}

// closedPort returns an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// account makes an account and returns it with its credential.
func account(t testing.TB, d bindery.Driver, spec bindery.InstanceSpec, row int64, parameters string) (bindery.Account, bindery.Credential) {
	t.Helper()
	prefix := spec.Name[:strings.LastIndexByte(spec.Name, '_')]
	a := bindery.Account{Name: bindery.Name(strings.TrimPrefix(prefix, "bdy_"), row)}
	var err error
	a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name, Parameters: json.RawMessage(parameters)})
	must(t, err)
	made, err := d.Ensure(t.Context(), spec, a)
	a.Details = made.Details
	must(t, err)
	c, err := d.Render(spec, a)
	must(t, err)
	return a, c
}

func connected(t testing.TB, c bindery.Credential) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := connect(ctx, c)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // the server may have ended it
	return s
}

// TestRevocationIsSaved: a user that is in the server's file, whoever saved it,
// is out of it when the revocation is confirmed.
func TestRevocationIsSaved(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	d := openDriver(t, configured(r, "saved1"))
	spec := bindery.InstanceSpec{Name: bindery.Name("saved1", 1)}
	a, c := account(t, d, spec, 2, `{}`)
	must(t, administrator(t, r).Do(t.Context(), "ACL", "SAVE").Err())
	must(t, d.Revoke(t.Context(), spec, a))
	must(t, r.Restart(t.Context()))
	if _, err := connect(t.Context(), c); !isAuthFailure(err) {
		t.Errorf("login after a revocation and a sudden death: got %v, want an authentication failure", err)
	}
}

// TestClosingSaves: what was made a moment before Bindery was stopped outlives the server's sudden death.
func TestClosingSaves(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	d := openDriver(t, configured(r, "saved2"))
	_, c := account(t, d, bindery.InstanceSpec{Name: bindery.Name("saved2", 1)}, 2, `{}`)
	must(t, d.Close())
	must(t, r.Restart(t.Context()))
	connected(t, c)
}
