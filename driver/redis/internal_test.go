package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

const testInstallation = "abc123"

func testDriver(t testing.TB, adjust ...func(*bindery.Server)) *driver {
	t.Helper()
	s := bindery.Server{Installation: testInstallation, Address: "127.0.0.1:1", Timeout: 5 * time.Second}
	for _, a := range adjust {
		a(&s)
	}
	d, err := open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // never fails
	return d.(*driver)
}

func on(r *devserver.Redis) func(*bindery.Server) {
	return func(s *bindery.Server) { s.Address, s.Username, s.Password = r.Addr, r.User, r.Password }
}

func knowsAll(string) bool { return true }

// plainName is all that may reach a statement: nothing in it means anything to
// an ACL rule, a pattern, CLIENT LIST or an address, and as long as a row can be.
var plainName = regexp.MustCompile(`^bdy_abc123_[a-z0-9]{1,13}$`)

func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"", "default", "*", "bdy_abc123_1", "bdy_abc123_*", "bdy_abc123_1 +@all", "bdy_abc123_1\n", "bdy_abc123_[a]", "bdy_abc123_1?",
		"bdy_abc123_\x00", `bdy_abc123_\1`, "bdy_abc124_1", "bdy_abc123_1:", "bdy_abc123_A", "bdy_abc123_é", "bdy_abc123_", "bdy_abc123__ping",
		"bdy_abc123_1y2p0ij32e8e7", "bdy_abc123_00000000000000", // the last row, and a digit more
	} {
		f.Add(name, "secret")
	}
	d := testDriver(f)
	allowed := allow(rightsKey{}, version{7, 0, 0}, knowsAll)
	f.Fuzz(func(t *testing.T, name, password string) {
		if err := d.checkName(name); (err == nil) != plainName.MatchString(name) {
			t.Fatalf("%q: got %v", name, err)
		} else if err != nil {
			return
		}
		prefix := plan{}.prefix(name)
		for _, other := range []string{"bdy_abc123_", name + "0", name[:len(name)-1]} {
			if strings.HasPrefix(plan{}.prefix(other), prefix) {
				t.Fatalf("keys of %q are %q's too", other, name)
			}
		}
		secret := bindery.NewSecret(password)
		for _, arg := range setUser(name, secret, prefix, allowed)[3:] {
			rule, _ := arg.(string)
			switch rule[0] {
			case '~', '&':
				if rule[1:] != prefix+"*" || strings.ContainsAny(prefix, `*?[]\ `) {
					t.Fatalf("a rule reaches further than its prefix: %q", rule)
				}
			case '#':
				if len(rule) != 65 || strings.Trim(rule[1:], "0123456789abcdef") != "" {
					t.Fatalf("not a SHA-256: %q", rule)
				}
			case '+':
				if strings.Trim(rule[1:], "abcdefghijklmnopqrstuvwxyz_-|") != "" {
					t.Fatalf("not a command: %q", rule)
				}
			default:
				if !slices.Contains([]string{"reset", "resetchannels", "on"}, rule) {
					t.Fatalf("a rule of no kind: %q", rule)
				}
			}
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add("pw", "redis.example", 6379, true)
	f.Add("a@b:c/d?e#f%zz ", "::1", 1, false)
	f.Fuzz(func(t *testing.T, password, host string, port int, tls bool) {
		raw, _ := json.Marshal(sealedMaterial{Password: password, Access: bindery.ReadOnly})
		var back sealedMaterial
		_ = json.Unmarshal(raw, &back) // what is not UTF-8 is replaced
		d := testDriver(t, func(s *bindery.Server) { s.Public = bindery.PublicAddress{Host: host, Port: port, TLS: tls} })
		name := bindery.Name(testInstallation, 7)
		c, err := d.Render(bindery.InstanceSpec{Name: name, Aliases: []string{aliasMinibroker}},
			bindery.Account{Name: name, Material: bindery.NewSecret(string(raw))})
		if password == "" {
			if err == nil {
				t.Fatal("material without a password was rendered")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(c.Object["uri"].(string))
		if err != nil {
			return // a host that is none
		}
		if got, _ := u.User.Password(); got != back.Password || u.User.Username() != name {
			t.Fatalf("user information: got %q, want %q", u.User, back.Password)
		}
	})
}

func FuzzSettings(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"topology":"shared"}`, `{"topology":1,"scripts":"x","zzz":0}`, `[]`, `null`, `{"max_connections":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePlan(raw)
		if err != nil && bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Fatalf("got code %s", bindery.CodeOf(err))
		}
		if err == nil && p.Topology != topologyShared && p.Topology != topologyWhole {
			t.Fatalf("got topology %q", p.Topology)
		}
		if s, err := parseServerSettings(raw); err == nil && (s.MaxConnections < 2 || s.MaxConnections > mostConnections) {
			t.Fatalf("got %d connections", s.MaxConnections)
		}
	})
}

// FuzzAnswers: what a server says is read without harm, whatever it says.
func FuzzAnswers(f *testing.F) {
	f.Add("# Server\r\nredis_version:7.0.15\r\nrun_id:ab\r\ndb0:keys=1\r\n")
	f.Add("id=3 addr=127.0.0.1:1 name=bindery:abc123:OLD\nid=4 name=bindery:abc124:OLD\nid=x name=bindery:abc123:OLD\n")
	d := testDriver(f)
	f.Fuzz(func(t *testing.T, text string) {
		said := lines(text)
		if v, err := parseVersion(said["redis_version"]); err == nil && slices.Min(v[:]) < 0 {
			t.Fatalf("got version %v", v)
		}
		if !slices.IsSorted(databases(text)) {
			t.Fatal("the databases are not in order")
		}
		d.pool.predecessors(text)
	})
}

func TestPredecessors(t *testing.T) {
	t.Parallel()
	p := testDriver(t).pool
	list := "id=3 addr=x name=bindery:abc123:OLD\nid=4 name=bindery:abc124:OLD\nid=5 name=" + p.name +
		"\nid=6 name=\nid=7 name=bindery:abc123:\nid=8 name=xbindery:abc123:OLD\n"
	got := p.predecessors(list)
	if _, three := got[3]; !three || len(got) != 2 {
		t.Errorf("got %v, want 3 and 7", got)
	}
}

func TestSettingsNameEveryProblem(t *testing.T) {
	t.Parallel()
	err := Kind.CheckPlan(json.RawMessage(`{"topology":"huge","scripts":1,"color":"red"}`))
	for _, want := range []string{`"topology" must be shared or whole-server`, `"scripts" must be true or false`, `"color" is not known`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want also: %s", err, want)
		}
	}
	err = Kind.CheckServer(json.RawMessage(`{"max_connections":1,"x":1}`))
	if err == nil || !strings.Contains(err.Error(), `"max_connections" must be`) || !strings.Contains(err.Error(), `"x" is not known`) {
		t.Errorf("got %v, want both problems", err)
	}
	for _, good := range []string{``, `{}`, `{"topology":"whole-server","scripts":false}`} {
		if err := Kind.CheckPlan(json.RawMessage(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	create, update, bind := Kind.Schemas(nil)
	for name, raw := range map[string]json.RawMessage{"create": create, "update": update, "bind": bind} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("s.json", document); err != nil {
			t.Fatal(err)
		}
		s, err := c.Compile("s.json")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, parameters := range []string{`{}`, `{"access":"read-only"}`, `{"access":"all"}`, `{"x":1}`} {
			instance, _ := jsonschema.UnmarshalJSON(strings.NewReader(parameters))
			check := func(raw json.RawMessage) error { return bindery.Settings(nil).Read("parameters", raw) }
			if name == "bind" {
				check = func(raw json.RawMessage) error { _, err := bindery.ReadAccess(raw); return err }
			}
			if bySchema, byDriver := s.Validate(instance), check(json.RawMessage(parameters)); (bySchema == nil) != (byDriver == nil) {
				t.Errorf("%s of %s: the schema says %v, the driver %v", name, parameters, bySchema, byDriver)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]bindery.Server{
		"an installation with a pattern": {Installation: "ab*123", Address: "h:1"},
		"no installation":                {Address: "h:1"},
		"no port":                        {Installation: testInstallation, Address: "h"},
		"no host":                        {Installation: testInstallation, Address: ":1"},
		"a port of words":                {Installation: testInstallation, Address: "h:redis"},
		"an unknown setting":             {Installation: testInstallation, Address: "h:1", Settings: json.RawMessage(`{"x":1}`)},
	} {
		if _, err := open(s); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%s: got %v, want %s", name, err, bindery.CodeInvalid)
		}
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		key       rightsKey
		version   version
		with, out string
	}{
		"shared":                      {rightsKey{scripts: true}, version{7, 0, 0}, "get set sort eval script|load publish", "scan keys info script|flush function|load"},
		"shared without scripts":      {rightsKey{}, version{7, 0, 0}, "get", "eval eval_ro evalsha script|load"},
		"read-only":                   {rightsKey{readOnly: true, scripts: true}, version{7, 0, 0}, "get eval_ro subscribe", "set eval publish sort getex"},
		"an old server's scripts":     {rightsKey{scripts: true}, version{6, 2, 6}, "get", "eval eval_ro sort"},
		"a patched old server":        {rightsKey{scripts: true}, version{6, 2, 7}, "eval", "sort"},
		"an old server had alone":     {rightsKey{whole: true, scripts: true}, version{6, 2, 6}, "eval sort", "acl"},
		"a whole server":              {rightsKey{whole: true, scripts: true}, version{7, 0, 0}, "scan flushall fcall script|flush", "acl config client|kill shutdown"},
		"a whole server, without Lua": {rightsKey{whole: true}, version{7, 0, 0}, "scan flushall", "eval fcall function|load"},
		"a whole server, for reading": {rightsKey{whole: true, readOnly: true, scripts: true}, version{7, 0, 0}, "scan fcall_ro", "flushall set function|load fcall"},
	}
	for name, test := range tests {
		commands := allow(test.key, test.version, knowsAll)
		for _, c := range strings.Fields(test.with) {
			if !slices.Contains(commands, c) {
				t.Errorf("%s: %s is missing", name, c)
			}
		}
		for _, c := range strings.Fields(test.out) {
			if slices.Contains(commands, c) {
				t.Errorf("%s: %s is there", name, c)
			}
		}
	}
}

// TestRightsByTheServersOwnWord compares the lists with what the server says of
// its commands.
func TestRightsByTheServersOwnWord(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	d := testDriver(t, on(r))
	err := d.pool.call(t.Context(), func(p goredis.Pipeliner, _ *session) { p.Ping(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	flags := commandFlags(t, r)
	all := allCommands()
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("a command is listed twice")
	}
	for _, key := range []rightsKey{{readOnly: true, scripts: true}, {scripts: true}} {
		for _, c := range d.pool.facts.rights[key] {
			if key.readOnly && slices.Contains(flags[c], "write") {
				t.Errorf("read-only accounts may send %s, which writes", c)
			}
			if slices.Contains(flags[c], "admin") {
				t.Errorf("accounts may send %s, which is for administrators", c)
			}
		}
	}
}

func commandFlags(t *testing.T, r *devserver.Redis) map[string][]string {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), Protocol: 2})
	defer func() { _ = c.Close() }()
	reply, err := c.Do(t.Context(), "COMMAND").Slice()
	if err != nil {
		t.Fatal(err)
	}
	flags := make(map[string][]string)
	var read func([]any)
	read = func(commands []any) {
		for _, d := range commands {
			d, _ := d.([]any)
			name, _ := d[0].(string)
			for _, f := range d[2].([]any) {
				flags[name] = append(flags[name], fmt.Sprint(f))
			}
			if len(d) > 9 {
				sub, _ := d[9].([]any)
				read(sub)
			}
		}
	}
	read(reply)
	return flags
}

// TestRevocationsShareASave: those that come while a save runs are covered by
// the next one, all of them.
func TestRevocationsShareASave(t *testing.T) {
	t.Parallel()
	const n = 20
	r := servertest.Redis(t)
	d := testDriver(t, on(r))
	s := d.saver
	s.running = true // a save that does not end
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range n {
		wg.Go(func() {
			if d.Revoke(t.Context(), bindery.InstanceSpec{}, bindery.Account{Name: bindery.Name(testInstallation, int64(i))}) != nil {
				failed.Add(1)
			}
		})
	}
	for waiting := 0; waiting < n && t.Context().Err() == nil; runtime.Gosched() {
		s.mu.Lock()
		waiting = len(s.waiting)
		s.mu.Unlock()
	}
	saves := func() int {
		var info *goredis.StringCmd
		if err := d.pool.call(t.Context(), func(p goredis.Pipeliner, _ *session) { info = p.Info(t.Context(), "commandstats") }); err != nil {
			t.Fatal(err)
		}
		var calls int
		_, _ = fmt.Sscanf(lines(info.Val())["cmdstat_acl|save"], "calls=%d", &calls) // none: zero
		return calls
	}
	before := saves()
	s.run()
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d revocations failed", failed.Load())
	}
	if got := saves() - before; got != 1 && strings.HasPrefix(r.Version(), "7.") {
		t.Errorf("got %d saves, want 1", got)
	}
}

// TestEnsureIsSavedInTheBackground: a server that crashes later forgets little.
func TestEnsureIsSavedInTheBackground(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	d := testDriver(t, on(r))
	d.saver.soon()
	d.saver.mu.Lock()
	timer := d.saver.timer
	d.saver.mu.Unlock()
	if timer == nil {
		t.Fatal("no save is due")
	}
	d.saver.soon()
	if err := d.saver.confirm(t.Context(), bindery.Name(testInstallation, 1)); err != nil {
		t.Fatal(err)
	}
	d.saver.mu.Lock()
	defer d.saver.mu.Unlock()
	if d.saver.timer != nil {
		t.Error("a save is due although one has just been made")
	}
}

// TestSweepContinues: removing many keys takes many calls if each has little
// time, and gets to its end.
func TestSweepContinues(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	d := testDriver(t, on(r))
	instance, neighbour := bindery.Name(testInstallation, 1), bindery.Name(testInstallation, 11)
	c := goredis.NewClient(&goredis.Options{Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), Protocol: 2})
	defer func() { _ = c.Close() }()
	const keys = 30000
	for _, database := range []int{0, 3} {
		pipe := c.Pipeline()
		pipe.Do(t.Context(), "SELECT", database)
		for i := range keys {
			pipe.Set(t.Context(), fmt.Sprintf("%s:%d", instance, i), "", 0)
		}
		pipe.Set(t.Context(), neighbour+":k", "", 0)
		pipe.Do(t.Context(), "SELECT", 0)
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	spec := bindery.InstanceSpec{Name: instance}
	var calls int
	var last position
	for err := context.DeadlineExceeded; err != nil; calls++ {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err = d.Deprovision(ctx, spec)
		cancel()
		at := d.sweeps.get(instance)
		if err != nil && at.database < last.database {
			t.Fatalf("a repeat began again: %+v after %+v", at, last)
		}
		last = at
		if t.Context().Err() != nil {
			t.Fatal("it does not end")
		}
	}
	if calls == 1 {
		t.Log("one call was enough; the machine is fast")
	}
	info := lines(c.Info(t.Context(), "keyspace").Val())
	for _, database := range []string{"db0", "db3"} {
		if !strings.HasPrefix(info[database], "keys=1,") {
			t.Errorf("%s: got %q, want the neighbour's key", database, info[database])
		}
	}
}
