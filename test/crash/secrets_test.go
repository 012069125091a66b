package crash_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bindery"
	"bindery/client"
	"bindery/devserver"
	"bindery/seal"
)

// A secret is looked for in every spelling that something on its way could give it.
type secret struct {
	what      string
	spellings [][]byte
}

func newSecret(what, value string) secret {
	s := secret{what: what}
	add := func(spelling string) { s.spellings = append(s.spellings, []byte(spelling)) }
	add(value)
	if quoted, err := json.Marshal(value); err == nil {
		add(strings.Trim(string(quoted), `"`))
	}
	add(url.QueryEscape(value))
	add(url.PathEscape(value))
	add(hex.EncodeToString([]byte(value)))
	add(strings.ToUpper(hex.EncodeToString([]byte(value))))
	// In base64 a text looks different at each of three distances from the
	// beginning, as in user:password.
	for skip := range 3 {
		whole := (len(value) + skip) / 3 * 3
		padded := append(bytes.Repeat([]byte{'x'}, skip), value...)[:whole]
		text := base64.StdEncoding.EncodeToString(padded)
		if skip > 0 {
			text = text[4:] // of the bytes before too
		}
		add(text)
		add(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	}
	return s
}

// in reports whether some spelling is in the haystack.
func (s secret) in(haystack []byte) bool {
	for _, n := range s.spellings {
		if bytes.Contains(haystack, n) {
			return true
		}
	}
	return false
}

// A search looks for all secrets in all places.
type search struct {
	t       *testing.T
	secrets []secret
	places  map[string][]byte
}

func (s *search) hide(what, value string) { s.secrets = append(s.secrets, newSecret(what, value)) }

func (s *search) look(where string, in []byte) {
	s.places[where] = append(s.places[where], in...)
}

func (s *search) run() {
	s.t.Helper()
	size := 0
	for where, in := range s.places {
		size += len(in)
		for _, x := range s.secrets {
			if x.in(in) {
				s.t.Errorf("%s is in %s", x.what, where)
			}
		}
	}
	s.t.Logf("%d secrets were looked for in %d places of %d bytes", len(s.secrets), len(s.places), size)
}

func TestSecretsAreFoundInEverySpelling(t *testing.T) {
	t.Parallel()
	const value = "p+/ä 0123456789abcdef"
	s := newSecret("it", value)
	for _, text := range []string{
		value, url.QueryEscape(value), "x" + hex.EncodeToString([]byte(value)), url.UserPassword("a", value).String(),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte("u:" + value)),
		base64.StdEncoding.EncodeToString([]byte("us:" + value + "more")), base64.StdEncoding.EncodeToString([]byte("use:" + value)),
	} {
		if !s.in([]byte("before " + text + " after")) {
			t.Errorf("not found in %q", text)
		}
	}
	if s.in([]byte("p+/ä 0123456789abcdeg")) {
		t.Error("something else was found")
	}
}

// Every secret there was is looked for in everything that is kept, logged,
// measured or answered; and without the sealing key there is none.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, raced, func(s *settings) { s.Level = "debug" }, func(o *devserver.PostgresOptions) {
		o.Settings = map[string]string{"log_statement": "all", "log_min_duration_statement": "0", "log_connections": "on"}
	})
	s := &search{t: t, places: map[string][]byte{}}
	w.start()
	given := w.giveCredentials(s)
	accounts := len(s.secrets)
	for _, p := range []*devserver.Process{w.redis.Process, w.postgres.Process} {
		b, err := os.ReadFile(filepath.Join(p.Dir(), "output.log"))
		if err != nil {
			t.Fatal(err)
		}
		s.look("the server's log in "+p.Dir(), b)
	}
	if !bytes.Contains(s.places["the server's log in "+w.postgres.Dir()], []byte("ROLE")) {
		t.Error("the log of PostgreSQL has no statements; the search shows nothing")
	}
	s.run()
	clear(s.places)

	// The servers' own logs may have these: not Bindery sets them.
	key, err := os.ReadFile(w.file("key"))
	if err != nil {
		t.Fatal(err)
	}
	w.hideKey(s, "the sealing key", string(key))
	s.hide("the platform's password", w.password.Reveal())
	s.hide("the admin token", w.token.Reveal())
	s.hide("the password of the Redis administrator", w.redis.Password.Reveal())
	s.hide("the password of Bindery's role", w.postgres.Password.Reveal())
	w.provoke(s)
	w.outage(s)
	w.lookAround(s)
	w.child().kill() // the log of the database stays behind
	w.lookAtFiles(s)

	w.refuseKeys(s, strings.TrimSpace(string(key)))
	w.rotateKeys(s, strings.TrimSpace(string(key)), given)
	w.lookAround(s)
	w.stop()
	w.lookAtFiles(s)
	s.look("the log", []byte(w.out.String()))
	s.run()
	if accounts < 20 {
		t.Errorf("only %d credentials were made", accounts)
	}
}

// A given credential is one that a platform has.
type given struct {
	service, instance, id string
	credentials           client.Credentials
}

func (w *world) giveCredentials(s *search) []given {
	w.Helper()
	var all []given
	for _, service := range services {
		i := "secret-" + service
		w.provision(service, i)
		for n := range 10 {
			g := given{service: service, instance: i, id: fmt.Sprintf("%s-%d", i, n)}
			g.credentials = w.bind(service, i, g.id)
			s.hide("the credential of "+g.id, g.credentials.Text("password"))
			if n > 0 { // the first is rotated below
				all = append(all, g)
			}
		}
		k := &caller{world: w}
		rotated := given{service: service, instance: i, id: i + "-rotated"}
		var o outcome
		if o, rotated.credentials = k.bind(w.Context(), service, i, rotated.id, i+"-0"); o != done {
			w.Fatalf("rotate: %s %v", o, k.last)
		}
		s.hide("the credential of "+rotated.id, rotated.credentials.Text("password"))
		w.unbind(service, i, i+"-0")
		all = append(all, rotated)
		// The search would find it where it is meant to be.
		body := w.ask(http.MethodGet, "/v2/service_instances/"+i+"/service_bindings/"+rotated.id, "", nil)
		if !s.secrets[len(s.secrets)-1].in([]byte(body.text)) {
			w.Errorf("the credential is not in its own answer: %d", body.status)
		}
	}
	return all
}

func (w *world) hideKey(s *search, what, key string) {
	key = strings.TrimSpace(key)
	s.hide(what, key)
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		w.Fatal(err)
	}
	s.hide(what+", decoded", string(raw))
}

// An answer is everything of a response.
type answer struct {
	status int
	text   string
}

// ask sends a request as the platform (or, below /admin, as the administrator)
// with other headers where given; an empty value takes one away.
func (w *world) ask(method, path, body string, header map[string]string) answer {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.url()+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("crash", w.password.Reveal())
	if strings.HasPrefix(path, "/admin") {
		req.Header.Set("Authorization", "Bearer "+w.token.Reveal())
	}
	for k, v := range header {
		req.Header.Set(k, v)
		if v == "" {
			req.Header.Del(k)
		}
	}
	res, err := w.http.Do(req)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{res.StatusCode, fmt.Sprint(res.Header) + string(b)}
}

// provoke makes every kind of error, with secrets in every place where somebody
// could have put one. Names and ids are none: errors say which is not there.
func (w *world) provoke(s *search) {
	w.Helper()
	mine := func(name string) string {
		v := "provoked-" + name + "-" + seal.NewKey().Reveal()[:20]
		s.hide("what was sent as "+name, v)
		return v
	}
	const instance, binding = "/v2/service_instances/secret-redis", "/v2/service_instances/secret-redis/service_bindings/secret-redis-1"
	put := func(parameters string) string {
		return `{"service_id":"redis","plan_id":"redis-shared","organization_guid":"o","space_guid":"s","parameters":` + parameters + `}`
	}
	value := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			w.Fatal(err)
		}
		return string(b)
	}
	postgres := strings.NewReplacer("redis", "postgresql")
	for name, r := range map[string]struct {
		method, path, body string
		header             map[string]string
	}{
		"no credentials":          {http.MethodGet, "/v2/catalog", "", map[string]string{"Authorization": ""}},
		"a wrong password":        {http.MethodGet, "/v2/catalog", "", map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("crash:"+mine("a wrong password")))}},
		"a malformed one":         {http.MethodGet, "/v2/catalog", "", map[string]string{"Authorization": "Basic " + mine("a malformed header")}},
		"a wrong token":           {http.MethodGet, "/admin/v1/instances", "", map[string]string{"Authorization": "Bearer " + mine("a wrong token")}},
		"the platform at admin":   {http.MethodGet, "/admin/v1/instances", "", map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("crash:"+w.password.Reveal()))}},
		"no version":              {http.MethodGet, "/v2/catalog", "", map[string]string{"X-Broker-API-Version": ""}},
		"a wrong version":         {http.MethodGet, "/v2/catalog", "", map[string]string{"X-Broker-API-Version": mine("a version")}},
		"an unknown parameter":    {http.MethodPut, binding + "-x", put(value(map[string]string{"secret": mine("an unknown parameter")})), nil},
		"a parameter's name":      {http.MethodPut, instance + "-x", put(`{"no such parameter":1}`), nil},
		"a parameter's value":     {http.MethodPut, binding + "-x", put(value(map[string]string{"access": mine("the value of a parameter")})), nil},
		"one of PostgreSQL":       {http.MethodPut, postgres.Replace(binding) + "-x", postgres.Replace(put(value(map[string]string{"connection_limit": mine("a number")}))), nil},
		"an extension":            {http.MethodPut, postgres.Replace(instance) + "-x", postgres.Replace(put(value(map[string][]string{"extensions": {mine("an extension")}}))), nil},
		"parameters of a kind":    {http.MethodPut, instance + "-x", put(value(mine("parameters"))), nil},
		"an update's parameter":   {http.MethodPatch, instance, put(value(map[string]string{"secret": mine("an update's parameter")})), nil},
		"no JSON":                 {http.MethodPut, instance + "-x", `{"parameters": ` + mine("a broken body"), nil},
		"no object":               {http.MethodPut, instance + "-x", value(mine("a body that is no object")), nil},
		"a body of another type":  {http.MethodPut, instance + "-x", mine("a body in plain text"), map[string]string{"Content-Type": "text/plain"}},
		"a large body":            {http.MethodPut, instance + "-x", put(value(mine("a large body") + strings.Repeat("x", 2<<20))), nil},
		"an unknown service":      {http.MethodPut, instance + "-x", `{"service_id":` + value(mine("a service")) + `,"plan_id":"p","organization_guid":"o","space_guid":"s"}`, nil},
		"a conflict":              {http.MethodPut, instance, postgres.Replace(put(`{}`)), nil},
		"a binding's conflict":    {http.MethodPut, binding, `{"service_id":"redis","plan_id":"redis-shared","bind_resource":{"app_guid":` + value(mine("an app")) + `}}`, nil},
		"an unknown predecessor":  {http.MethodPut, binding + "-x", `{"predecessor_binding_id":"no-such-binding"}`, nil},
		"an unknown instance":     {http.MethodGet, instance + "-x", "", nil},
		"an unknown binding":      {http.MethodDelete, binding + "-x?service_id=redis&plan_id=redis-shared", "", nil},
		"a query":                 {http.MethodDelete, binding + "?service_id=" + url.QueryEscape(mine("a service in a query")), "", nil},
		"an unknown operation":    {http.MethodGet, instance + "/last_operation?operation=" + url.QueryEscape(mine("an operation")), "", nil},
		"a malformed query":       {http.MethodGet, instance + "/last_operation?%zz=" + url.QueryEscape(mine("a malformed query")), "", nil},
		"another method":          {http.MethodPost, instance, mine("a body for another method"), nil},
		"an unknown path":         {http.MethodGet, "/v3/x", "", nil},
		"a malformed identity":    {http.MethodPut, instance, postgres.Replace(put(`{}`)), map[string]string{"X-Broker-API-Originating-Identity": "crash " + mine("an identity")}},
		"an admin's query":        {http.MethodGet, "/admin/v1/accounts?state=" + url.QueryEscape(mine("an admin's query")), "", nil},
		"an admin's operation":    {http.MethodPost, "/admin/v1/operations/op-zzz/cancel", `{"reason":` + value(mine("a reason")) + `}`, nil},
		"a reconcile of nothing":  {http.MethodPost, "/admin/v1/reconcile", `{"service":"no-such-service"}`, nil},
		"an instance in use":      {http.MethodDelete, "/v2/service_instances/secret-redis?service_id=postgresql&plan_id=postgresql-shared", "", nil},
		"a malformed admin query": {http.MethodGet, "/admin/v1/instances?after=" + url.QueryEscape(mine("a page")), "", nil},
	} {
		a := w.ask(r.method, r.path, r.body, r.header)
		if a.status < 400 || a.status >= 500 {
			w.Errorf("%s: answered %d: %s", name, a.status, a.text)
		}
		s.look("the answer to "+name, []byte(a.text))
	}
}

// outage makes errors of the kind that servers make: one is down, and one does
// not take Bindery's password any more.
func (w *world) outage(s *search) {
	w.Helper()
	wrong := "wrong-" + seal.NewKey().Reveal()[:20]
	s.hide("a wrong password of Bindery's role", wrong)
	if err := w.redis.Kill(); err != nil {
		w.Fatal(err)
	}
	w.keep("postgresql", wrong)
	if err := w.child().process.Signal(syscall.SIGHUP); err != nil {
		w.Fatal(err)
	}
	err := eventually(w.Context(), time.Minute, func(ctx context.Context) error {
		n, err := w.metric(ctx, "bindery_config_reloads_total", `result="applied"`)
		if err == nil && n < 1 {
			err = errors.New("no reload yet")
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	for _, service := range services {
		path := "/v2/service_instances/secret-" + service + "/service_bindings/outage-" + service
		body := `{"service_id":"` + service + `","plan_id":"` + planOf(service) + `"}`
		if a := w.ask(http.MethodPut, path+"?accepts_incomplete=true", body, nil); a.status != http.StatusAccepted {
			w.Errorf("bind on a server that is down: %d %s", a.status, a.text)
		} else {
			s.look("the answer of an outage", []byte(a.text))
		}
		err := eventually(w.Context(), time.Minute, func(ctx context.Context) error {
			a := w.ask(http.MethodGet, path+"/last_operation", "", nil)
			s.look("last_operation of an outage", []byte(a.text))
			list, err := collect(w.admin().Operations(ctx, client.OperationFilter{State: bindery.OpInProgress}))
			if err != nil {
				return err
			}
			for _, o := range list {
				if o.BindingID == "outage-"+service && o.Problem != "" {
					return nil
				}
			}
			return errors.New("the operation has no problem yet")
		})
		if err != nil {
			w.Error(err)
		}
	}
	s.look("readyz of an outage", []byte(w.ask(http.MethodGet, "/readyz", "", nil).text))
	s.look("operations of an outage", []byte(w.ask(http.MethodGet, "/admin/v1/operations?limit=1000", "", nil).text))
	w.keep("postgresql", w.postgres.Password.Reveal())
	if err := w.child().process.Signal(syscall.SIGHUP); err != nil {
		w.Fatal(err)
	}
	if err := w.redis.Start(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.settled(settleLimit)
}

// lookAround collects everything that a running Bindery shows to anybody but
// who owns a credential.
func (w *world) lookAround(s *search) {
	w.Helper()
	for _, path := range []string{
		"/v2/catalog", "/livez", "/readyz", "/openapi.json", "/admin/v1/instances?limit=1000&removed=true",
		"/admin/v1/bindings?limit=1000&removed=true", "/admin/v1/operations?limit=1000", "/admin/v1/events?limit=1000",
		"/admin/v1/accounts?server=redis&state=live&limit=1000", "/admin/v1/accounts?server=redis&state=gone&limit=1000",
		"/admin/v1/accounts?server=postgresql&state=live&limit=1000", "/admin/v1/accounts?server=postgresql&state=gone&limit=1000",
		"/admin/v1/seal/status",
	} {
		a := w.ask(http.MethodGet, path, "", nil)
		if a.status != http.StatusOK {
			w.Errorf("%s answered %d", path, a.status)
		}
		s.look(path, []byte(a.text))
	}
	text, err := w.metrics(w.Context())
	if err != nil || !strings.Contains(text, "bindery_http_requests_total") {
		w.Errorf("metrics: %v", err)
	}
	s.look("/metrics", []byte(text))
	for _, name := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(w.child().process.Pid), name)); err == nil {
			s.look(name, b)
		}
	}
}

func (w *world) lookAtFiles(s *search) {
	w.Helper()
	files, err := filepath.Glob(w.file("bindery.db*"))
	if err != nil || len(files) < 1 {
		w.Fatalf("the database has %d files: %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			w.Fatal(err)
		}
		s.look(filepath.Base(f), b)
	}
	if !bytes.Contains(s.places["bindery.db"], []byte("secret-redis-1")) && !bytes.Contains(s.places["bindery.db-wal"], []byte("secret-redis-1")) {
		w.Error("the database has no bindings; the search shows nothing")
	}
}

// refuseKeys starts Bindery with another sealing key, and with none.
func (w *world) refuseKeys(s *search, key string) {
	w.Helper()
	other := seal.NewKey().Reveal()
	w.hideKey(s, "a wrong sealing key", other)
	for what, change := range map[string]func() error{
		"another key":  func() error { w.keep("key", other); return nil },
		"an empty key": func() error { w.keep("key", ""); return nil },
		"no key":       func() error { return os.Remove(w.file("key")) },
	} {
		if err := change(); err != nil {
			w.Fatal(err)
		}
		for _, args := range [][]string{{"serve"}, {"seal", "status"}, {"seal", "rotate"}} {
			text, err := w.command(append(args, "-c", w.file("bindery.yaml"))...)
			if err == nil {
				w.Errorf("with %s: bindery %v began", what, args)
			} else if !strings.Contains(text, "key") {
				w.Errorf("with %s: bindery %v does not say why not: %s", what, args, text)
			}
		}
	}
	w.keep("key", key)
}

// rotateKeys changes the sealing key twice: with Bindery stopped, and with
// Bindery running and used.
func (w *world) rotateKeys(s *search, first string, all []given) {
	w.Helper()
	w.keep("key-1", first)
	for _, n := range []string{"key-2", "key-3"} {
		key := seal.NewKey().Reveal()
		w.hideKey(s, "the sealing "+n, key)
		w.keep(n, key)
	}
	w.settings.Key, w.settings.Previous = "key-2", []string{"key-1"}
	w.configure()
	offline := []string{"-c", w.file("bindery.yaml"), "-q"}
	if text, err := w.command(append([]string{"seal", "rotate"}, offline...)...); err != nil {
		w.Fatalf("seal rotate, offline: %v %s", err, text)
	}
	w.sealed(len(all), offline...)
	w.settings.Previous = nil
	w.configure()
	w.start()
	w.stillOpen(all)
	w.stop()

	w.settings.Key, w.settings.Previous = "key-3", []string{"key-2"}
	w.configure()
	w.start()
	online := []string{"--admin-url", w.url(), "--token-file", w.file("token"), "-q"}
	var stop atomic.Bool
	var clients sync.WaitGroup
	for n := range 4 {
		service := services[n%len(services)]
		clients.Go(func() {
			for i := 0; !stop.Load() || i < 3; i++ {
				id := fmt.Sprintf("rotating-%d-%d", n, i)
				w.bind(service, "secret-"+service, id)
				w.unbind(service, "secret-"+service, id)
			}
		})
	}
	text, err := w.command(append([]string{"seal", "rotate"}, online...)...)
	stop.Store(true)
	clients.Wait()
	if err != nil {
		w.Fatalf("seal rotate, online: %v %s", err, text)
	}
	w.sealed(len(all), online...)
	w.stillOpen(all)
	w.stop()
	w.settings.Previous = nil
	w.configure()
	w.start()
	w.stillOpen(all)
}

// sealed checks that one master key seals everything.
func (w *world) sealed(least int, flags ...string) {
	w.Helper()
	text, err := w.command(append([]string{"seal", "status", "-o", "json"}, flags...)...)
	if err != nil {
		w.Fatalf("seal status: %v %s", err, text)
	}
	var status client.SealStatus
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		w.Fatalf("seal status: %v %s", err, text)
	}
	records, masters := 0, map[string]int{}
	for _, k := range status.Keys {
		records += k.Records
		masters[k.Master] += k.Records
	}
	for m := range maps.Keys(masters) {
		if m != status.Master {
			w.Errorf("%d records are sealed under another master key", masters[m])
		}
	}
	if records < least {
		w.Errorf("%d records are sealed, and there are %d credentials", records, least)
	}
	w.Logf("%d records under %d data keys", records, len(status.Keys))
}

// stillOpen fetches every credential again, and uses it.
func (w *world) stillOpen(all []given) {
	w.Helper()
	for _, g := range all {
		c, err := (&caller{world: w}).fetch(w.Context(), g.instance, g.id)
		if err != nil {
			w.Error(err)
			continue
		}
		if c.Text("uri") != g.credentials.Text("uri") {
			w.Errorf("%s has another credential", g.id)
		}
		w.mustLogin(g.service, c)
	}
}
