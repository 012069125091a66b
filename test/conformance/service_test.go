package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"bindery/test/poll"
)

// A service is one of those that every rule is held against.
type service struct {
	kind string
	id   string // of the offering with everything
	// Valid parameters of a binding, the same written otherwise, and others.
	bindParameters, bindParametersAgain, bindParametersOther string
	// The same of an instance; empty where it takes none.
	parameters, parametersAgain, parametersOther string
	login                                        func(ctx context.Context, credentials map[string]any) (session, error)
	accounts                                     func(t *testing.T, l *lane) int
}

// A session is an open login.
type session interface {
	use(ctx context.Context) error
	close()
}

// errRefused is a login that the server refused for its name or password.
var errRefused = errors.New("authentication refused")

var services = []*service{
	{
		kind: redisKind, id: "of-redis",
		bindParameters: `{"access":"read-only"}`, bindParametersAgain: ` { "access" : "read\u002donly" } `, bindParametersOther: `{"access":"read-write"}`,
		login: redisLogin, accounts: redisAccounts,
	},
	{
		kind: postgresKind, id: "of-postgresql",
		bindParameters:      `{"access":"read-only","connection_limit":4}`,
		bindParametersAgain: ` { "connection_limit" : 4.0, "access" : "read\u002donly" } `,
		bindParametersOther: `{"access":"read-only","connection_limit":5}`,
		parameters:          `{"extensions":["pg_trgm"]}`,
		parametersAgain:     ` { "extensions" : [ "pg\u005ftrgm" ] } `,
		parametersOther:     `{"extensions":["pg_trgm","citext"]}`,
		login:               postgresLogin, accounts: postgresAccounts,
	},
}

// plan is the id of a plan of the full catalog.
func (s *service) plan(name string) string { return s.kind + "-" + name }

// each runs a test for each service.
func each(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	t.Parallel()
	for _, s := range services {
		t.Run(s.kind, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// eachMode runs a test for each service, for a caller that cannot poll, for one that
// can, and for a plan that is asynchronous only.
func eachMode(t *testing.T, test func(t *testing.T, s *service, m mode)) {
	t.Helper()
	each(t, func(t *testing.T, s *service) {
		for _, m := range []mode{
			{name: "sync", plan: s.plan("base")},
			{name: "async", plan: s.plan("base"), incomplete: true},
			{name: "async only", plan: s.plan("async"), incomplete: true},
		} {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				test(t, s, m)
			})
		}
	})
}

// A mode is how a caller asks, and for which plan.
type mode struct {
	name, plan string
	incomplete bool
}

func (m mode) query() string {
	if m.incomplete {
		return "?accepts_incomplete=true"
	}
	return ""
}

func (m mode) removal(s *service) string {
	return fmt.Sprintf("?service_id=%s&plan_id=%s&accepts_incomplete=%t", s.id, m.plan, m.incomplete)
}

var pollable = "?accepts_incomplete=true"

// ids is the query of a DELETE.
func (s *service) ids(plan string) string { return "?service_id=" + s.id + "&plan_id=" + plan }

// provisionBody is the body of a PUT; more are further members ("parameters", `{}`).
func (s *service) provisionBody(plan string, more ...string) string {
	return object(append([]string{
		"service_id", quote(s.id), "plan_id", quote(plan), "organization_guid", `"org-1"`, "space_guid", `"space-1"`,
	}, more...)...)
}

func (s *service) bindBody(plan string, more ...string) string {
	return object(append([]string{"service_id", quote(s.id), "plan_id", quote(plan)}, more...)...)
}

// object writes a JSON object of keys and JSON values; a value of "" leaves the key out,
// and a later one replaces an earlier.
func object(pairs ...string) string {
	values, order := map[string]string{}, []string{}
	for i := 0; i < len(pairs); i += 2 {
		if _, there := values[pairs[i]]; !there {
			order = append(order, pairs[i])
		}
		values[pairs[i]] = pairs[i+1]
	}
	var members []string
	for _, k := range order {
		if values[k] != "" {
			members = append(members, quote(k)+":"+values[k])
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func quote(s string) string { return jsonText(s) }

// instance makes one and returns its id.
func (s *service) instance(t *testing.T, plan string, more ...string) string {
	t.Helper()
	id := newID("i")
	a := full.do(t, http.MethodPut, instancePath(id)+pollable, s.provisionBody(plan, more...)).want(t, 201, 202)
	finish(t, instancePath(id), a)
	return id
}

// binding makes one and returns its id and its credentials.
func (s *service) binding(t *testing.T, instance, plan string, more ...string) (id string, credentials map[string]any) {
	t.Helper()
	id = newID("b")
	a := full.do(t, http.MethodPut, bindingPath(instance, id)+pollable, s.bindBody(plan, more...)).want(t, 201, 202)
	finish(t, bindingPath(instance, id), a)
	return id, credentialsOf(t, full.do(t, http.MethodGet, bindingPath(instance, id), "").want(t, 200))
}

func credentialsOf(t *testing.T, a *answer) map[string]any {
	t.Helper()
	c := a.object("credentials")
	if len(c) == 0 {
		t.Fatalf("%d has no credentials: %s", a.status, a.shown())
	}
	if password, _ := c["password"].(string); len(password) < 16 {
		t.Errorf("the password has %d characters", len(password))
	} else {
		secrets.Store(password, true)
	}
	return c
}

// secrets are all passwords that were given out. None is ever in an error or in a log.
var secrets sync.Map

// leaks counts the secrets in a text.
func leaks(text []byte) (n int) {
	secrets.Range(func(s, _ any) bool {
		if bytes.Contains(text, []byte(s.(string))) {
			n++
		}
		return true
	})
	return n
}

// finish follows an accepted answer to its successful end; another is the end already.
func finish(t testing.TB, path string, a *answer) {
	t.Helper()
	if a.status != http.StatusAccepted {
		return
	}
	if got := end(t, path, a.text("operation")); got.text("state") != "succeeded" {
		t.Fatalf("%s: %s", path, got.shown())
	}
}

// end polls an operation to its end.
func end(t testing.TB, path, operation string) (last *answer) {
	t.Helper()
	poll.Until(t, "the end of "+operation, func() bool {
		last = full.do(t, http.MethodGet, path+"/last_operation?operation="+url.QueryEscape(operation), "").want(t, 200)
		return last.text("state") != "in progress"
	})
	return last
}

// wantLogin proves that the credentials are good, and returns an open session.
func (s *service) wantLogin(t *testing.T, credentials map[string]any) session {
	t.Helper()
	l, err := s.login(t.Context(), credentials)
	if err != nil {
		t.Fatalf("log in: %v", err)
	}
	t.Cleanup(l.close)
	return l
}

// wantRefused proves that the server does not know the credentials any more.
func (s *service) wantRefused(t *testing.T, credentials map[string]any) {
	t.Helper()
	l, err := s.login(t.Context(), credentials)
	if err == nil {
		l.close()
		t.Fatal("the credentials are still good")
	}
	if !errors.Is(err, errRefused) {
		t.Fatalf("refused for another reason: %v", err)
	}
}

// wantEnded proves that a session was ended from outside.
func wantEnded(t *testing.T, l session) {
	t.Helper()
	if err := l.use(t.Context()); err == nil {
		t.Fatal("the session goes on")
	}
}

type redisSession struct{ conn *redis.Conn }

func (s redisSession) use(ctx context.Context) error { return s.conn.Echo(ctx, "x").Err() }
func (s redisSession) close()                        { _ = s.conn.Close() }

func redisLogin(ctx context.Context, credentials map[string]any) (session, error) {
	uri, _ := credentials["uri"].(string)
	o, err := redis.ParseURL(uri)
	if err != nil {
		return nil, err
	}
	// One connection, and no second one behind the test's back.
	o.MaxRetries, o.PoolSize, o.DisableIdentity = -1, 1, true
	c := redis.NewClient(o)
	s := redisSession{c.Conn()}
	prefix, _ := credentials["prefix"].(string)
	err = s.conn.Get(ctx, prefix+"x").Err()
	if err == nil || errors.Is(err, redis.Nil) {
		return s, nil
	}
	s.close()
	if strings.HasPrefix(err.Error(), "WRONGPASS") {
		err = errors.Join(errRefused, err)
	}
	return nil, err
}

func redisAccounts(t *testing.T, l *lane) int {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: l.target, Username: l.user, Password: l.password})
	defer c.Close()
	users, err := c.Do(t.Context(), "ACL", "USERS").StringSlice()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, u := range users {
		if strings.HasPrefix(u, "bdy_") {
			n++
		}
	}
	return n
}

type postgresSession struct{ conn *pgx.Conn }

func (s postgresSession) use(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "SELECT 1")
	return err
}
func (s postgresSession) close() { _ = s.conn.Close(context.Background()) }

func postgresLogin(ctx context.Context, credentials map[string]any) (session, error) {
	uri, _ := credentials["uri"].(string)
	conn, err := pgx.Connect(ctx, uri)
	if err == nil {
		return postgresSession{conn}, nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "28P01" || pg.Code == "28000") {
		err = errors.Join(errRefused, err)
	}
	return nil, err
}

func postgresAccounts(t *testing.T, l *lane) int {
	t.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(l.user, l.password), Host: l.target, Path: "/" + l.database, RawQuery: "sslmode=disable"}
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	n := 0
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'bdy\_%'`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
