package given_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/drivertest"
	"bindery/driver/given"
)

// The service that the sets are for: a Redis whose users somebody else made.
func users(t *testing.T, names ...string) (*devserver.Redis, []map[string]any) {
	t.Helper()
	r := servertest.SharedRedis(t)
	admin := goredis.NewClient(&goredis.Options{Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), Protocol: 2})
	t.Cleanup(func() { _ = admin.Close() })
	var out []map[string]any
	for _, name := range names {
		user := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + "-" + name
		if err := admin.Do(t.Context(), "ACL", "SETUSER", user, "on", ">pw-"+user, "~*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
		out = append(out, map[string]any{"address": r.Addr, "username": user, "password": "pw-" + user})
	}
	return r, out
}

type session struct {
	c      *goredis.Client
	prefix string
}

func login(ctx context.Context, c bindery.Credential) (drivertest.Session, error) {
	user := c.Object["username"].(string)
	s := session{prefix: user, c: goredis.NewClient(&goredis.Options{
		Addr: c.Object["address"].(string), Username: user, Password: c.Object["password"].(string), Protocol: 2, MaxRetries: -1,
	})}
	return s, s.Alive(ctx)
}

func (s session) Write(ctx context.Context, key, value string) error {
	return s.c.Set(ctx, s.prefix+key, value, 0).Err()
}

func (s session) Read(ctx context.Context, key string) (string, error) {
	v, err := s.c.Get(ctx, s.prefix+key).Result()
	if errors.Is(err, goredis.Nil) {
		err = drivertest.ErrMissing
	}
	return v, err
}

func (s session) Alive(ctx context.Context) error { return s.c.Ping(ctx).Err() }
func (s session) Close() error                    { return s.c.Close() }

func encode(t testing.TB, v any) bindery.Secret {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return bindery.NewSecret(string(raw))
}

const described = `{"credentials_schema":{"$schema":"http://json-schema.org/draft-04/schema#","type":"object",
	"required":["address","username","password"],"additionalProperties":false,
	"properties":{"address":{"type":"string"},"username":{"type":"string"},"password":{"type":"string"}}}}`

func suite(kind bindery.Kind, secrets map[string]bindery.Secret) drivertest.Server {
	return drivertest.Server{
		Kind: kind, Timeout: time.Second, Login: login, Settings: json.RawMessage(described),
		Open: func(t testing.TB, installation string) bindery.Driver {
			t.Helper()
			d, err := kind.Open(bindery.Server{Name: "given", Installation: installation, Timeout: time.Second, Secrets: secrets})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	drivertest.RunReleased(t, func(t *testing.T) drivertest.Server {
		_, sets := users(t, "all")
		return suite(given.Static, map[string]bindery.Secret{"credential": encode(t, map[string]any{"credentials": sets[0]})})
	})
}

func TestPool(t *testing.T) {
	t.Parallel()
	drivertest.RunReleased(t, func(t *testing.T) drivertest.Server {
		_, sets := users(t, "a", "b", "c")
		return suite(given.Pool, map[string]bindery.Secret{"stock": stock(t, sets...)})
	})
}

func stock(t testing.TB, sets ...map[string]any) bindery.Secret {
	t.Helper()
	var items []map[string]any
	for i, s := range sets {
		items = append(items, map[string]any{"name": fmt.Sprintf("item-%d", i+1), "credentials": s})
	}
	return encode(t, items)
}

// What a platform's special deliveries need goes through as it was given.
func TestStaticDeliveries(t *testing.T) {
	t.Parallel()
	d, err := given.Static.Open(bindery.Server{Installation: "abc123", Secrets: map[string]bindery.Secret{
		"credential": bindery.NewSecret(`{"syslog_drain_url":"syslog-tls://logs.example:6514","route_service_url":"https://route.example",
			"volume_mounts":[{"driver":"nfs"}]}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Render(bindery.InstanceSpec{}, bindery.Account{})
	if err != nil || c.SyslogDrainURL != "syslog-tls://logs.example:6514" || c.RouteServiceURL != "https://route.example" ||
		len(c.VolumeMounts) != 1 || len(c.Object) != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestSecretsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	static, pool := given.Static.CheckSecrets, given.Pool.CheckSecrets
	tests := map[string]struct {
		check   func(bindery.Secret, map[string]bindery.Secret) error
		name    string
		content string
	}{
		"static, missing":           {static, "other", `{}`},
		"static, no JSON":           {static, "credential", secret},
		"static, two":               {static, "credential", `{"credentials":{}} {"credentials":{}}`},
		"static, and garbage":       {static, "credential", `{"credentials":{}} ` + secret},
		"static, nothing":           {static, "credential", `{}`},
		"static, unknown key":       {static, "credential", `{"credential":{"password":"` + secret + `"}}`},
		"static, key with a slash":  {static, "credential", `{"credentials":{"a/b":"` + secret + `"}}`},
		"static, drain over ftp":    {static, "credential", `{"syslog_drain_url":"ftp://` + secret + `"}`},
		"static, route in clear":    {static, "credential", `{"route_service_url":"http://` + secret + `"}`},
		"static, mount no object":   {static, "credential", `{"volume_mounts":["` + secret + `"]}`},
		"pool, no list":             {pool, "stock", `{"name":"` + secret + `"}`},
		"pool, empty":               {pool, "stock", `[]`},
		"pool, nameless":            {pool, "stock", `[{"credentials":{"password":"` + secret + `"}}]`},
		"pool, a name twice":        {pool, "stock", `[{"name":"a","credentials":{"p":"` + secret + `"}},{"name":"a","credentials":{}}]`},
		"pool, a name with a space": {pool, "stock", `[{"name":"a b","credentials":{"p":"` + secret + `"}}]`},
		"pool, an empty item":       {pool, "stock", `[{"name":"a"}]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.check(bindery.Secret{}, map[string]bindery.Secret{tt.name: bindery.NewSecret(tt.content)})
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// returned calls Return of a pool whose hook answers so.
func returned(t *testing.T, hook http.HandlerFunc) (bindery.Secret, bool, error) {
	t.Helper()
	s := httptest.NewServer(hook)
	t.Cleanup(s.Close)
	d, err := given.Pool.Open(bindery.Server{
		Installation: "abc123", Timeout: 5 * time.Second, Settings: json.RawMessage(`{"rotation_url":"` + s.URL + `"}`),
		Secrets: map[string]bindery.Secret{
			"stock":      bindery.NewSecret(`[{"name":"a","credentials":{"password":"old"}}]`),
			"hook_token": bindery.NewSecret("the-hook-token"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.(bindery.Stocker).Return(t.Context(), bindery.StockItem{Name: "a", State: bindery.StockQuarantine})
}

func TestRotationHook(t *testing.T) {
	t.Parallel()
	fresh, ok, err := returned(t, func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Item string
			Set  struct{ Credentials map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.Method != http.MethodPost ||
			r.Header.Get("Authorization") != "Bearer the-hook-token" || asked.Item != "a" || asked.Set.Credentials["password"] != "old" {
			t.Errorf("asked with %s %+v, %v", r.Method, asked, err)
		}
		_, _ = w.Write([]byte(`{"credentials":{"password":"new"}}`))
	})
	if err != nil || !ok || !fresh.Equal(bindery.NewSecret(`{"credentials":{"password":"new"}}`)) {
		t.Errorf("a fresh set: got %v, %v", ok, err)
	}
	if _, ok, err := returned(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }); err != nil || !ok {
		t.Errorf("the old set: got %v, %v", ok, err)
	}
	for name, hook := range map[string]http.HandlerFunc{
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"garbage":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"nothing":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"credentials":{"password":"` + strings.Repeat("x", 2<<20) + `"}}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, ok, err := returned(t, hook); ok || bindery.CodeOf(err) != bindery.CodeUnavailable {
				t.Errorf("got %v, %v, want an error and the item to stay where it is", ok, err)
			}
		})
	}
}

func TestNoHookLeavesItToTheOperator(t *testing.T) {
	t.Parallel()
	d, err := given.Pool.Open(bindery.Server{Installation: "abc123", Secrets: map[string]bindery.Secret{
		"stock": bindery.NewSecret(`[{"name":"a","credentials":{"password":"old"}}]`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.(bindery.Stocker).Return(t.Context(), bindery.StockItem{Name: "a"}); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}
