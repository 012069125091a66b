package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bindery"
)

// base is a whole, valid configuration. Tests replace pieces of it.
const base = `store: {url: sqlite:data.db}
seal: {key: {env: KEY}}
listeners:
  - {address: 127.0.0.1:0, faces: [osb, admin]}
metrics: {address: 127.0.0.1:0}
platforms:
  - name: one
    credentials:
      - {username: u1, password: {env: PW}}
      - {username: u1, password: {file: pw}}
  - name: two
    credentials: [{username: u2, password: {env: PW}}]
admin:
  tokens: [{name: ops, token: {env: TOKEN}}]
servers:
  - {name: a, kind: box, address: 127.0.0.1:1001, username: root, password: {env: PW}}
  - {name: b, kind: box, address: 127.0.0.1:1002}
  - {name: c, kind: jar, address: 127.0.0.1:1001}
# What there is.
catalog:
  - id: o-1
    name: boxes
    description: Boxes
    plans:
      - {id: p-1, name: small, description: Small, servers: [a]}
      - {id: p-2, name: own, description: Own, servers: [b], settings: {exclusive: true}}
  - id: o-2
    name: jars
    description: Jars
    plans:
      - {id: p-3, name: small, description: Small, servers: [c]}
`

// kinds are two kinds of server; settings of one may hold "exclusive" only, and all
// bindings of the other have the same credential.
func kinds() map[string]bindery.Kind {
	known := func(settings json.RawMessage) error {
		var v map[string]bool
		if err := json.Unmarshal(settings, &v); settings != nil && err != nil {
			return errors.New("settings: not yes or no")
		}
		for k := range v {
			if k != "exclusive" {
				return errors.New("settings: unknown key " + k)
			}
		}
		return nil
	}
	box := bindery.Kind{
		CheckServer: known, CheckPlan: known,
		Exclusive: func(s json.RawMessage) bool { return bytes.Contains(s, []byte("true")) },
		Schemas: func(json.RawMessage) (a, b, c json.RawMessage) {
			return json.RawMessage(`{"$schema":"` + draft4 + `","type":"object","properties":{"size":{"type":"integer","maximum":9}},"additionalProperties":false}`), nil, nil
		},
		Aliases: []string{"old"}, Tags: []string{"box", "square"},
	}
	return map[string]bindery.Kind{"box": box, "jar": {Shared: true}}
}

var variables = map[string]string{"KEY": "k", "PW": "password-1", "TOKEN": "0123456789abcdef", "EMPTY": "", "BELL": "a\ab"}

func load(t testing.TB, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pw", "password-2\r\n")
	write("newline", "\n")
	write("large", strings.Repeat("x", maxSecret+1))
	return parse(filepath.Join(dir, "c.yaml"), []byte(text), kinds(), func(n string) (string, bool) {
		v, ok := variables[n]
		return v, ok
	})
}

func TestValid(t *testing.T) {
	t.Parallel()
	c, err := load(t, base)
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
	if got, want := c.Store.URL, "sqlite:"+filepath.Join(c.Dir(), "data.db"); got != want {
		t.Errorf("store: got %s, want %s", got, want)
	}
	if got := c.Platforms[0].Credentials[1].Password.Secret().Reveal(); got != "password-2" {
		t.Errorf("password: got %q", got)
	}
	if got := c.Limits; got.SyncBudget != 5*time.Second || got.RequestWait != 55*time.Second || got.MaxBodyBytes != 1<<20 {
		t.Errorf("limits: got %+v", got)
	}
	o, p := c.BackendCatalog().Plan("o-1", "p-2")
	if o == nil || p == nil {
		t.Fatal("plan p-2 is missing")
	}
	if !o.Bindable || !p.Free || !p.BindingRotatable || !p.Exclusive || p.Kind != "box" || p.Schemas.InstanceCreate == nil {
		t.Errorf("plan: got %+v of %+v", p, o)
	}
	if _, p := c.BackendCatalog().Plan("o-2", "p-3"); p.BindingRotatable {
		t.Error("bindings that all have the same credential can be rotated")
	}
	if diff := cmp.Diff([]string{"box", "square"}, o.Tags); diff != "" {
		t.Errorf("tags: %s", diff)
	}
	s := c.BackendServers("abc123")[0]
	if s.Installation != "abc123" || s.Username != "root" || s.Password.Reveal() != "password-1" || s.TLS != nil ||
		s.Public != (bindery.PublicAddress{}) || s.Timeout != 30*time.Second {
		t.Errorf("server: got %+v", s)
	}
}

// Each problem alone, as it is reported.
func TestProblems(t *testing.T) { //nolint:maintidx // a table
	t.Parallel()
	schema := func(s string) string {
		return strings.Replace(base, "name: small, description: Small, servers: [a]", "name: small, description: Small, servers: [a], schemas: {service_binding: {create: {parameters: "+s+"}}}", 1)
	}
	const binding = "catalog[0].plans[0].schemas.service_binding.create.parameters: "
	tests := map[string]struct {
		from, to string // a replacement in base
		text     string // or a whole file
		want     string // without the file's name
	}{
		"empty file":                  {text: "# nothing\n", want: ": the file is empty"},
		"not YAML":                    {text: "a: [", want: ":1: did not find expected node content"},
		"two documents":               {text: base + "---\na: 1\n", want: ": the file has more than one document"},
		"unknown key":                 {from: "metrics:", to: "metric:", want: `:5: unknown key "metric"`},
		"unknown key inside":          {from: "name: a,", to: "nam: a,", want: `:16: unknown key "nam"`},
		"key twice":                   {text: base + "seal: {key: {env: KEY}}\n", want: `:32: mapping key "seal" already defined at line 2`},
		"same credential, rotatable":  {from: "servers: [c]}", to: "servers: [c], binding_rotatable: true}", want: ":31: catalog[1].plans[0].binding_rotatable: cannot be true: all bindings of kind jar have the same credential"},
		"wrong type":                  {from: "metrics: {address: 127.0.0.1:0}", to: "metrics: [1]", want: ":5: must be a mapping, not a list"},
		"duration without a unit":     {from: "metrics:", to: "reconcile: {interval: 5}\nmetrics:", want: ":5: must be a duration with a unit (30s, 5m, 24h), not a number"},
		"secret in clear":             {from: "{env: KEY}", to: "hunter2-in-clear", want: ":2: must be {file: PATH} or {env: NAME}, because secrets are never written here, not text"},
		"tls left empty":              {from: "- {address: 127.0.0.1:0, faces: [osb, admin]}", to: "- address: 127.0.0.1:0\n    faces: [osb, admin]\n    tls:", want: ":6: tls: is empty: write {} or leave it out"},
		"no store":                    {from: "store: {url: sqlite:data.db}", to: "# none", want: ": store.url: is missing"},
		"other store":                 {from: "sqlite:data.db", to: "mysql://x", want: ":1: store.url: must begin with sqlite: or postgres://"},
		"store in memory":             {from: "sqlite:data.db", to: "'sqlite::memory:'", want: ":1: store.url: must be sqlite:FILE, with a file and nothing behind it"},
		"store without a database":    {from: "sqlite:data.db", to: "postgres://u@h", want: ":1: store.url: must be postgres://USER@HOST:PORT/DATABASE"},
		"password in the store's URL": {from: "sqlite:data.db", to: "postgres://u:hunter2@localhost:5432/d", want: ":1: store.url: has a password in it: put it into store.password, as {file: …} or {env: …}"},
		"password for SQLite":         {from: "sqlite:data.db", to: "sqlite:data.db, password: {env: PW}", want: ":1: store.password: is for postgres only"},
		"no sealing key":              {from: "{key: {env: KEY}}", to: "{}", want: ":2: seal.key: is missing"},
		"empty reference":             {from: "{key: {env: KEY}}", to: "{key: {}}", want: ":2: seal.key: needs file or env\n:2: seal.key: is missing"},
		"two references":              {from: "{env: KEY}", to: "{env: KEY, file: pw}", want: ":2: seal.key: has both file and env; give one"},
		"variable not set":            {from: "{env: KEY}", to: "{env: NONE}", want: ":2: seal.key: the environment variable NONE is not set"},
		"variable empty":              {from: "{env: KEY}", to: "{env: EMPTY}", want: ":2: seal.key: is empty"},
		"secret file missing":         {from: "{env: KEY}", to: "{file: none}", want: ":2: seal.key: file none: no such file or directory"},
		"secret file empty":           {from: "{env: KEY}", to: "{file: newline}", want: ":2: seal.key: is empty"},
		"secret file large":           {from: "{env: KEY}", to: "{file: large}", want: ":2: seal.key: file large: is larger than 8 MiB, too large for a secret"},
		"secret file is a folder":     {from: "{env: KEY}", to: "{file: .}", want: ":2: seal.key: file .: is a folder"},
		"previous key is the current": {from: "{key: {env: KEY}}", to: "{key: {env: KEY}, previous: [{env: KEY}]}", want: ":2: seal.previous[0]: is the same key as seal.key"},
		"no listener":                 {from: "  - {address: 127.0.0.1:0, faces: [osb, admin]}\n", to: "", want: ":3: listeners: is missing: there must be at least one"},
		"listener without address":    {from: "address: 127.0.0.1:0, faces", to: "faces", want: ":4: listeners[0].address: is missing"},
		"listener without port":       {from: "address: 127.0.0.1:0, faces", to: "address: 127.0.0.1, faces", want: ":4: listeners[0].address: must be host:port"},
		"listener in clear":           {from: "address: 127.0.0.1:0, faces", to: "address: 0.0.0.0:80, faces", want: ":4: listeners[0]: 0.0.0.0:80 is not a loopback address and has no tls; credentials would travel in clear. Give tls, or insecure: true where something in front does TLS"},
		"insecure beside tls":         {from: "faces: [osb, admin]", to: "faces: [osb, admin], insecure: true, tls: {cert_file: x, key_file: y}", want: ":4: listeners[0].insecure: makes no sense beside tls\n:4: listeners[0].tls: file DIR/x: no such file or directory"},
		"tls without files":           {from: "faces: [osb, admin]", to: "faces: [osb, admin], tls: {}", want: ":4: listeners[0].tls.cert_file: is missing\n:4: listeners[0].tls.key_file: is missing"},
		"tls that is none":            {from: "faces: [osb, admin]", to: "faces: [osb, admin], tls: {cert_file: pw, key_file: pw}", want: ":4: listeners[0].tls: certificate DIR/pw and key DIR/pw: tls: failed to find any PEM data in certificate input"},
		"address twice":               {from: "  - {address: 127.0.0.1:0, faces: [osb, admin]}", to: "  - {address: '127.0.0.1:80', faces: [osb, admin]}\n  - {address: '127.0.0.1:80', faces: [osb]}", want: ":5: listeners[1].address: is used by another listener"},
		"no faces":                    {from: ", faces: [osb, admin]}", to: "}\n  - {address: '127.0.0.1:0', faces: [osb, admin]}", want: ":4: listeners[0].faces: is missing: one or more of osb, authn, admin and pki"},
		"unknown face":                {from: "[osb, admin]", to: "[osb, authz]", want: `:4: listeners[0].faces[1]: "authz" is none of osb, authn, admin, pki`},
		"pki beside another in clear": {from: "address: 127.0.0.1:0, faces: [osb, admin]", to: "address: 0.0.0.0:80, faces: [pki, osb]", want: ":4: listeners[0]: 0.0.0.0:80 is not a loopback address and has no tls; credentials would travel in clear. Give tls, or insecure: true where something in front does TLS"},
		"face twice":                  {from: "[osb, admin]", to: "[osb, osb]", want: ":4: listeners[0].faces[1]: is given twice"},
		"face osb nowhere":            {from: "[osb, admin]", to: "[admin]", want: ":3: listeners: no listener serves the face osb or authn"},
		"metrics without address":     {from: "metrics: {address: 127.0.0.1:0}", to: "metrics: {pprof: true}", want: ":5: metrics.address: is missing"},
		"unknown level":               {from: "metrics:", to: "log: {level: loud}\nmetrics:", want: `:5: log.level: "loud" is none of debug, info, warn, error`},
		"no platform":                 {text: cut(base, "platforms:", "admin:"), want: ": platforms: is missing: nobody could use the face osb"},
		"platform without a name":     {from: "- name: two\n    cred", to: "- cred", want: ":11: platforms[1].name: is missing"},
		"platform's name":             {from: "name: two", to: "name: Two!", want: ":11: platforms[1].name: must be at most 63 of a-z 0-9 . _ -, beginning with a letter or digit"},
		"platform twice":              {from: "name: two", to: "name: one", want: `:11: platforms[1].name: "one" is given twice`},
		"platform without credential": {from: "    credentials: [{username: u2, password: {env: PW}}]\n", to: "", want: ":11: platforms[1].credentials: is missing: there must be at least one"},
		"username missing":            {from: "{username: u2, ", to: "{", want: ":12: platforms[1].credentials[0].username: is missing"},
		"username with a colon":       {from: "username: u2", to: "username: 'u:2'", want: ":12: platforms[1].credentials[0].username: has a colon or a control character in it, which basic authentication cannot carry"},
		"username of another":         {from: "username: u2", to: "username: u1", want: ":12: platforms[1].credentials[0].username: is a username of another platform too"},
		"password missing":            {from: "username: u2, password: {env: PW}", to: "username: u2", want: ":12: platforms[1].credentials[0].password: is missing"},
		"password with a bell":        {from: "username: u2, password: {env: PW}", to: "username: u2, password: {env: BELL}", want: ":12: platforms[1].credentials[0].password: has a control character in it, which basic authentication cannot carry"},
		"no admin token":              {from: "admin:\n  tokens: [{name: ops, token: {env: TOKEN}}]", to: "", want: ": admin.tokens: is missing: nobody could use the face admin"},
		"admin token missing":         {from: ", token: {env: TOKEN}", to: "", want: ":14: admin.tokens[0].token: is missing"},
		"admin token short":           {from: "{env: TOKEN}", to: "{env: PW}", want: ":14: admin.tokens[0].token: is shorter than 16 characters"},
		"body limit":                  {from: "metrics:", to: "limits: {max_body_bytes: 5}\nmetrics:", want: ":5: limits.max_body_bytes: must be from 1024 to 67108864"},
		"workers":                     {from: "metrics:", to: "limits: {workers_per_server: -1}\nmetrics:", want: ":5: limits.workers_per_server: must be from 1 to 256"},
		"budget longer than the wait": {from: "metrics:", to: "limits: {sync_budget: 2m}\nmetrics:", want: ":5: limits.sync_budget: is longer than limits.request_wait"},
		"negative duration":           {from: "metrics:", to: "retention: {events: -1h}\nmetrics:", want: ":5: retention.events: must be from 1h0m0s to 876000h0m0s"},
		"missing version's status":    {from: "metrics:", to: "options: {missing_version_status: 500}\nmetrics:", want: ":5: options.missing_version_status: must be 400 or 412"},
		"bindings at deprovision":     {from: "metrics:", to: "options: {deprovision_with_bindings: keep}\nmetrics:", want: `:5: options.deprovision_with_bindings: "keep" is none of cascade, refuse`},
		"server without a kind":       {from: "name: b, kind: box,", to: "name: b,", want: ":17: servers[1].kind: is missing: one of box, jar"},
		"server of unknown kind":      {from: "name: b, kind: box,", to: "name: b, kind: vat,", want: `:17: servers[1].kind: "vat" is none of box, jar`},
		"server twice":                {from: "name: b, kind: box", to: "name: a, kind: box", want: ":17: servers[1].name: \"a\" is given twice\n:26: catalog[0].plans[1].servers[0]: there is no server \"b\""},
		"server's address":            {from: "127.0.0.1:1002", to: "127.0.0.1:0", want: ":17: servers[1].address: has no port from 1 to 65535"},
		"server's address twice":      {from: "127.0.0.1:1002", to: "127.0.0.1:1001", want: ":17: servers[1].address: is the address of server a too"},
		"server's settings":           {from: "127.0.0.1:1002", to: "127.0.0.1:1002, settings: {x: true}", want: ":17: servers[1].settings: settings: unknown key x"},
		"settings with other keys":    {from: "127.0.0.1:1002", to: "127.0.0.1:1002, settings: {1: true}", want: ":17: keys must be text (quote those that look like numbers)"},
		"settings that are a list":    {from: "127.0.0.1:1002", to: "127.0.0.1:1002, settings: [1]", want: ":17: must be a mapping"},
		"server's timeout":            {from: "127.0.0.1:1002", to: "127.0.0.1:1002, timeout: 1ms", want: ":17: servers[1].timeout: must be from 100ms to 1h0m0s"},
		"server's CA":                 {from: "127.0.0.1:1002", to: "127.0.0.1:1002, tls: {ca_file: pw}", want: ":17: servers[1].tls.ca_file: file DIR/pw: has no PEM certificate"},
		"server's key without cert":   {from: "127.0.0.1:1002", to: "127.0.0.1:1002, tls: {key_file: pw}", want: ":17: servers[1].tls.cert_file: is missing"},
		"public host":                 {from: "127.0.0.1:1002", to: "127.0.0.1:1002, public: {host: 'http://x'}", want: ":17: servers[1].public.host: must be a host name or an address, without a port"},
		"public port":                 {from: "127.0.0.1:1002", to: "127.0.0.1:1002, public: {port: 70000}", want: ":17: servers[1].public.port: must be from 1 to 65535"},
		"public CA without TLS":       {from: "127.0.0.1:1002", to: "127.0.0.1:1002, public: {ca_file: none}", want: ":17: servers[1].public.ca_file: makes no sense without tls\n:17: servers[1].public.ca_file: file DIR/none: no such file or directory"},
		"no catalog":                  {text: base[:strings.Index(base, "catalog:")], want: ": catalog: is missing: the face osb would have nothing to offer"},
		"offering without an id":      {from: "- id: o-2\n    name", to: "- name", want: ":27: catalog[1].id: is missing"},
		"offering's id":               {from: "id: o-2", to: "id: o 2", want: ":27: catalog[1].id: must be at most 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"},
		"offering's id twice":         {from: "id: o-2", to: "id: o-1", want: `:27: catalog[1].id: "o-1" is the id of catalog[0] too`},
		"plan with an offering's id":  {from: "id: p-3", to: "id: o-1", want: `:31: catalog[1].plans[0].id: "o-1" is the id of catalog[0] too`},
		"plan's id in another":        {from: "id: p-3", to: "id: p-1", want: `:31: catalog[1].plans[0].id: "p-1" is the id of catalog[0].plans[0] too`},
		"offering's name":             {from: "name: jars", to: "name: the jars", want: ":28: catalog[1].name: must be at most 63 of A-Z a-z 0-9 . -, beginning with a letter or digit"},
		"offering's name too long":    {from: "name: jars", to: "name: " + strings.Repeat("j", 64), want: ":28: catalog[1].name: must be at most 63 of A-Z a-z 0-9 . -, beginning with a letter or digit"},
		"offering's name twice":       {from: "name: jars", to: "name: boxes", want: `:28: catalog[1].name: "boxes" is given twice`},
		"offering undescribed":        {from: "    description: Jars\n", to: "", want: ":27: catalog[1].description: is missing"},
		"requires":                    {from: "description: Jars", to: "description: Jars\n    requires: [root]", want: `:30: catalog[1].requires[0]: "root" is none of syslog_drain, route_forwarding, volume_mount`},
		"empty tag":                   {from: "description: Jars", to: "description: Jars\n    tags: ['']", want: ":30: catalog[1].tags[0]: is empty"},
		"metadata":                    {from: "description: Jars", to: "description: Jars\n    metadata: text", want: ":30: must be a mapping"},
		"dashboard's client":          {from: "description: Jars", to: "description: Jars\n    dashboard_client: {redirect_uri: x}", want: ":30: catalog[1].dashboard_client.id: is missing\n:30: catalog[1].dashboard_client.secret: is missing\n:30: catalog[1].dashboard_client.redirect_uri: must be an http or https URL"},
		"dashboard's placeholder":     {from: "description: Jars", to: "description: Jars\n    dashboard_url: 'https://d/{binding_id}'", want: ":30: catalog[1].dashboard_url: only {instance_id}, {plan} and {offering} are replaced"},
		"dashboard's URL":             {from: "description: Jars", to: "description: Jars\n    dashboard_url: '/{instance_id}'", want: ":30: catalog[1].dashboard_url: must be an http or https URL"},
		"no plans":                    {from: "      - {id: p-3, name: small, description: Small, servers: [c]}\n", to: "", want: ":30: catalog[1].plans: is missing: there must be at least one"},
		"plan's name twice":           {from: "name: own", to: "name: small", want: `:26: catalog[0].plans[1].name: "small" is given twice`},
		"plan undescribed":            {from: "description: Own, ", to: "", want: ":26: catalog[0].plans[1].description: is missing"},
		"plan without servers":        {from: ", servers: [c]", to: "", want: ":31: catalog[1].plans[0].servers: is missing: there must be at least one"},
		"plan's server unknown":       {from: "servers: [c]", to: "servers: [d]", want: `:31: catalog[1].plans[0].servers[0]: there is no server "d"`},
		"plan's server twice":         {from: "servers: [c]", to: "servers: [c, c]", want: `:31: catalog[1].plans[0].servers[1]: "c" is given twice`},
		"servers of two kinds":        {from: "servers: [c]", to: "servers: [c, a]", want: ":31: catalog[1].plans[0].servers[1]: a is of kind box, others of this plan are of kind jar"},
		"plan's settings":             {from: "servers: [a]", to: "servers: [a], settings: {y: true}", want: ":25: catalog[0].plans[0].settings: settings: unknown key y"},
		"exclusive server shared":     {from: "servers: [a]", to: "servers: [a, b]", want: ":26: catalog[0].plans[1].servers[0]: the plan gives an instance a server to itself, and plan boxes/small uses b too"},
		"exclusive server twice":      {from: "servers: [a]", to: "servers: [b], settings: {exclusive: true}", want: ":26: catalog[0].plans[1].servers[0]: the plan gives an instance a server to itself, and plan boxes/small uses b too"},
		"credential alias":            {from: "servers: [a]", to: "servers: [a], credential_aliases: [new]", want: `:25: catalog[0].plans[0].credential_aliases[0]: "new" is none of those that box knows: old`},
		"maintenance version":         {from: "servers: [c]", to: "servers: [c], maintenance_info: {version: v1}", want: ":31: catalog[1].plans[0].maintenance_info.version: must be a semantic version, for example 1.2.0"},
		"polling duration":            {from: "servers: [c]", to: "servers: [c], maximum_polling_duration: 1500ms", want: ":31: catalog[1].plans[0].maximum_polling_duration: must be whole seconds"},
		"quota":                       {from: "servers: [c]", to: "servers: [c], quota: {instances: -1}", want: ":31: catalog[1].plans[0].quota.instances: must not be negative"},
		"quota of bindings":           {from: "servers: [c]", to: "servers: [c], quota: {bindings_per_instance: -1}", want: ":31: catalog[1].plans[0].quota.bindings_per_instance: must not be negative"},
		"schema without $schema":      {text: schema("{type: object}"), want: ":25: " + binding + "the schema must have $schema: " + draft4},
		"schema not of an object":     {text: schema("{$schema: '" + draft4 + "', type: array}"), want: ":25: " + binding + "the schema must have type: object at its top"},
		"schema with an id":           {text: schema("{$schema: '" + draft4 + "', type: object, id: 'http://x'}"), want: ":25: " + binding + "the schema must not have an id, which would change what its references mean"},
		"schema from elsewhere":       {text: schema("{$schema: '" + draft4 + "', type: object, properties: {a: {$ref: 'http://x/y'}}}"), want: ":25: " + binding + "external $ref is not allowed"},
		"schema too large":            {text: schema("{$schema: '" + draft4 + "', type: object, title: '" + strings.Repeat("x", maxSchema) + "'}"), want: ":25: " + binding + "the schema has 64080 bytes, more than 64 kB"},
		"schema that is none":         {text: schema("{$schema: '" + draft4 + "', type: object, required: 5}"), want: ":25: " + binding + "the schema cannot be used: *"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := tt.text
			if text == "" {
				if !strings.Contains(base, tt.from) {
					t.Fatalf("base has no %q", tt.from)
				}
				text = strings.Replace(base, tt.from, tt.to, 1)
			}
			c, err := load(t, text)
			inv, ok := errors.AsType[*Invalid](err)
			if !ok {
				t.Fatalf("got %v, %v, want an error", c, err)
			}
			got := strings.ReplaceAll(inv.Error(), inv.File, "")
			got = strings.ReplaceAll(got, filepath.Dir(inv.File), "DIR")
			want := tt.want
			if cut, ok := strings.CutSuffix(want, "*"); ok && strings.HasPrefix(got, cut) {
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func cut(s, from, to string) string {
	return s[:strings.Index(s, from)] + s[strings.Index(s, to):]
}

func TestEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, strings.NewReplacer("sqlite:data.db", "x", "{env: KEY}", "{env: NONE}", "id: p-3", "id: p-1", "kind: jar", "kind: vat").Replace(base))
	inv, ok := errors.AsType[*Invalid](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var lines []int
	for _, p := range inv.Problems {
		lines = append(lines, p.Line)
	}
	if want := []int{1, 2, 18, 31}; !slices.Equal(lines, want) {
		t.Errorf("got lines %v, want %v:\n%v", lines, want, err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c, err := load(t, strings.NewReplacer(
		"{address: 127.0.0.1:0, faces", "{address: '0.0.0.0:8080', insecure: true, faces",
		"metrics: {address: 127.0.0.1:0}", "metrics: {address: '0.0.0.0:9', pprof: true}",
		"127.0.0.1:1002", "10.0.0.1:1002", "name: c, kind: jar,", "name: c, kind: jar, tls: {insecure_skip_verify: true},",
		"sqlite:data.db", "postgres://u@db.example:5432/d").Replace(base))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"sslmode", "0.0.0.0:8080", "profiles", "server b is administered without TLS", "insecure_skip_verify"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in:\n%s", want, all)
		}
	}
}

// What the face pki says is for everybody, in clear.
func TestPKIInClear(t *testing.T) {
	t.Parallel()
	c, err := load(t, strings.Replace(base, "listeners:\n", "listeners:\n  - {address: '0.0.0.0:8081', faces: [pki]}\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(c.Warnings(), "\n"); strings.Contains(all, "8081") {
		t.Errorf("it is warned of: %s", all)
	}
}

func TestStoreURLTakesThePassword(t *testing.T) {
	t.Parallel()
	c, err := load(t, strings.Replace(base, "sqlite:data.db", "'postgres://u@localhost:5432/d?sslmode=disable', password: {env: PW}", 1))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.StoreURL().Reveal(), "postgres://u:password-1@localhost:5432/d?sslmode=disable"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), kinds())
	if err == nil || !strings.HasSuffix(err.Error(), "none.yaml: cannot be read: no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestKeeps(t *testing.T) {
	t.Parallel()
	c, err := load(t, base)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		use  bindery.PlanUse
		want string
	}{
		"everything is there":       {bindery.PlanUse{OfferingID: "o-1", PlanID: "p-1", Kind: "box", Server: "a"}, ""},
		"on a server of the past":   {bindery.PlanUse{OfferingID: "o-1", PlanID: "p-1", Kind: "box", Server: "b"}, ""},
		"the plan is gone":          {bindery.PlanUse{OfferingID: "o-1", PlanID: "p-9", Kind: "box", Server: "a"}, "plan p-9 of offering o-1 has instances and is not in the catalog"},
		"the plan moved":            {bindery.PlanUse{OfferingID: "o-2", PlanID: "p-1", Kind: "box", Server: "a"}, "plan p-1 of offering o-2 has instances"},
		"the server is gone":        {bindery.PlanUse{OfferingID: "o-1", PlanID: "p-1", Kind: "box", Server: "z"}, "server z has instances and is not configured"},
		"the plan's kind changed":   {bindery.PlanUse{OfferingID: "o-2", PlanID: "p-3", Kind: "box", Server: "a"}, "of kind box and is now of kind jar"},
		"the server's kind changed": {bindery.PlanUse{OfferingID: "o-1", PlanID: "p-1", Kind: "box", Server: "c"}, "server c has instances of kind box and is now of kind jar"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.Keeps([]bindery.PlanUse{tt.use})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParametersAreCheckedWithoutRepeatingThem(t *testing.T) {
	t.Parallel()
	s, err := compileSchema(json.RawMessage(`{"$schema":"` + draft4 + `","type":"object","required":["a"],"additionalProperties":false,
		"properties":{"a":{"type":"string","maxLength":8,"pattern":"^[a-z]*$"},"n":{"type":"integer","minimum":1,"maximum":9},"e":{"enum":["x","y"]},
		"o":{"type":"object","properties":{"in":{"type":"boolean"}}},"f":{"type":"string","format":"email"},
		"u":{"type":"array","uniqueItems":true},"any":{"anyOf":[{"type":"integer"},{"type":"null"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ in, want string }{
		"fits":              {`{"a":"b"}`, ""},
		"left out":          {``, "parameters: needs a"},
		"not JSON":          {`{`, "parameters: not JSON"},
		"not an object":     {`"hunter2"`, "parameters: must be of type object"},
		"too long":          {`{"a":"hunter2hunter2"}`, "parameters.a: does not match the pattern ^[a-z]*$; parameters.a: must have at most 8 characters"},
		"unknown key":       {`{"a":"b","secret":"hunter2"}`, "parameters: takes no secret"},
		"enum":              {`{"a":"b","e":"hunter2"}`, `parameters.e: must be one of "x","y"`},
		"bounds":            {`{"a":"b","n":12345}`, "parameters.n: must be at most 9"},
		"type":              {`{"a":"b","n":"hunter2"}`, "parameters.n: must be of type integer"},
		"inside":            {`{"a":"b","o":{"in":"hunter2"}}`, "parameters.o.in: must be of type boolean"},
		"same item twice":   {`{"a":"b","u":["hunter2","hunter2"]}`, "parameters.u: must not have the same item twice"},
		"none of any":       {`{"a":"b","any":"hunter2"}`, "parameters.any: must be of type integer; parameters.any: must be of type null"},
		"control character": {`{"a":"b","\n\u001b":1}`, "parameters: takes no ??"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := s.Check(json.RawMessage(tt.in))
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if bindery.CodeOf(err) != bindery.CodeInvalid || bindery.MessageOf(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestExampleIsValidOnceItsFilesExist(t *testing.T) {
	t.Parallel()
	all := map[string]bindery.Kind{"redis": {}, "postgresql": {}}
	dir := t.TempDir()
	_, err := parse(filepath.Join(dir, "c.yaml"), []byte(Example()), all, os.LookupEnv)
	inv, ok := errors.AsType[*Invalid](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	for _, p := range inv.Problems {
		if !strings.Contains(p.Text, "no such file") {
			t.Errorf("line %d: %s: %s", p.Line, p.Path, p.Text)
		}
	}
}

// Every key is described.
func TestDescribe(t *testing.T) {
	t.Parallel()
	b, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		if items, ok := s["items"].(map[string]any); ok {
			walk(path, items)
		}
		properties, _ := s["properties"].(map[string]any)
		for k, v := range properties {
			p, _ := v.(map[string]any)
			if d, _ := p["description"].(string); d == "" {
				t.Errorf("%s.%s has no description", path, k)
			}
			walk(path+"."+k, p)
		}
	}
	walk("", schema)
}

func FuzzParse(f *testing.F) {
	f.Add(base)
	f.Add(Example())
	f.Add("a: &a [*a]")
	f.Add("catalog: [{plans: [{schemas: {service_binding: {create: {parameters: {$schema: x}}}}}]}]")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") {
			return // reading what somebody made up is not what is tested
		}
		c, err := parse("c.yaml", []byte(text), kinds(), func(n string) (string, bool) { v, ok := variables[n]; return v, ok })
		if (c == nil) == (err == nil) {
			t.Errorf("got %v and %v", c, err)
		}
	})
}
