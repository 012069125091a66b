package postgres

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bindery"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		check   func(json.RawMessage) error
		raw     string
		mention []string // none: it is accepted
	}{
		"a server without settings":   {Kind.CheckServer, ``, nil},
		"a server with settings":      {Kind.CheckServer, `{"database":"admin","max_connections":3}`, nil},
		"every problem of a server":   {Kind.CheckServer, `{"database":"","max_connections":101}`, []string{"database", "max_connections"}},
		"a server's unknown key":      {Kind.CheckServer, `{"dbname":"x"}`, []string{"dbname"}},
		"a plan without settings":     {Kind.CheckPlan, ``, nil},
		"a plan with settings":        {Kind.CheckPlan, `{"extensions":["uuid-ossp"],"statement_timeout":"1m30s"}`, nil},
		"a plan's unknown key":        {Kind.CheckPlan, `{"limit":1}`, []string{"limit"}},
		"a plan that is a list":       {Kind.CheckPlan, `[]`, []string{"object"}},
		"a plan that is two values":   {Kind.CheckPlan, `{}{}`, []string{"JSON object"}},
		"a plan that is cut short":    {Kind.CheckPlan, `{"extensions":`, []string{"JSON object"}},
		"a duration that is a number": {Kind.CheckPlan, `{"statement_timeout":30}`, []string{"duration"}},
		"a limit that is a string":    {Kind.CheckPlan, `{"connection_limit":"many"}`, []string{"connection_limit"}},
		"every problem of a plan": {
			Kind.CheckPlan,
			`{"extensions":["A b"],"default_extensions":[""],"connection_limit":-1,"max_connection_limit":9999999,
				"statement_timeout":"-1s","lock_timeout":"25h","idle_in_transaction_session_timeout":"1us"}`,
			[]string{
				`"extensions"`, "default_extensions", "connection_limit", "max_connection_limit", "statement_timeout", "lock_timeout",
				"idle_in_transaction_session_timeout",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.check(json.RawMessage(test.raw))
			if (err == nil) != (test.mention == nil) {
				t.Fatalf("got %v", err)
			}
			for _, m := range test.mention {
				if !strings.Contains(err.Error(), m) {
					t.Errorf("got %v, which does not mention %s", err, m)
				}
			}
		})
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	create, update, bind := Kind.Schemas(json.RawMessage(`{"extensions":["hstore"],"max_connection_limit":5}`))
	if !slices.Equal(create, update) {
		t.Error("the schemas of create and update differ")
	}
	tests := []struct {
		schema json.RawMessage
		value  string
		good   bool
	}{
		{create, `{}`, true},
		{create, `{"extensions":["hstore"]}`, true},
		{create, `{"extensions":["dblink"]}`, false},
		{create, `{"other":1}`, false},
		{bind, `{}`, true},
		{bind, `{"access":"read-only","connection_limit":5}`, true},
		{bind, `{"access":"owner"}`, false},
		{bind, `{"connection_limit":0}`, false},
		{bind, `{"connection_limit":6}`, false},
	}
	for _, test := range tests {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(test.schema)))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("schema.json", doc); err != nil {
			t.Fatal(err)
		}
		compiled, err := c.Compile("schema.json")
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(test.value))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(value); (err == nil) != test.good {
			t.Errorf("%s: got %v, want good: %t", test.value, err, test.good)
		}
	}
	if a, b, c := Kind.Schemas(json.RawMessage(`{"bad":1}`)); a != nil || b != nil || c != nil {
		t.Error("bad settings have schemas")
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	good := bindery.Server{Installation: "abc123", Address: "db.example:5432", Username: "bindery", Password: bindery.NewSecret(`it's a "secret\ p`)}
	tests := map[string]func(*bindery.Server){
		"no port":                         func(s *bindery.Server) { s.Address = "db.example" },
		"port 0":                          func(s *bindery.Server) { s.Address = "db.example:0" },
		"port name":                       func(s *bindery.Server) { s.Address = "db.example:postgres" },
		"installation":                    func(s *bindery.Server) { s.Installation = "A_" },
		"settings":                        func(s *bindery.Server) { s.Settings = json.RawMessage(`{"x":1}`) },
		"CA file":                         func(s *bindery.Server) { s.TLS = &bindery.ServerTLS{CAFile: "/nonexistent"} },
		"half a client certificate":       func(s *bindery.Server) { s.TLS = &bindery.ServerTLS{CertFile: "/nonexistent"} },
		"a client certificate is missing": func(s *bindery.Server) { s.TLS = &bindery.ServerTLS{CertFile: "/n", KeyFile: "/n"} },
	}
	for name, spoil := range tests {
		s := good
		spoil(&s)
		if _, err := open(s); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), good.Password.Reveal()) {
			t.Errorf("%s: the error carries the password", name)
		}
	}
	if _, err := open(good); err != nil {
		t.Fatal(err)
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	account := bindery.Account{Name: "bdy_abc123_7", Material: bindery.NewSecret(`{"password":"pw","verifier":"v","access":"read-write"}`)}
	tests := map[string]struct {
		public bindery.PublicAddress
		want   map[string]any
	}{
		"plain": {
			bindery.PublicAddress{},
			map[string]any{
				"uri":       "postgresql://bdy_abc123_7:pw@admin.example:5433/bdy_abc123_5?sslmode=disable",
				"jdbc-url":  "jdbc:postgresql://admin.example:5433/bdy_abc123_5?password=pw&sslmode=disable&user=bdy_abc123_7",
				"r2dbc-url": "r2dbc:postgresql://bdy_abc123_7:pw@admin.example:5433/bdy_abc123_5?sslMode=disable",
				"host":      "admin.example", "hostname": "admin.example", "port": 5433, "database": "bdy_abc123_5", "db": "bdy_abc123_5",
				"username": "bdy_abc123_7", "user": "bdy_abc123_7", "password": "pw", "sslmode": "disable",
			},
		},
		"TLS with a CA, IPv6": {
			bindery.PublicAddress{Host: "2001:db8::1", Port: 6000, TLS: true, CA: "PEM"},
			map[string]any{
				"uri":       "postgresql://bdy_abc123_7:pw@[2001:db8::1]:6000/bdy_abc123_5?sslmode=require",
				"jdbc-url":  "jdbc:postgresql://[2001:db8::1]:6000/bdy_abc123_5?password=pw&sslmode=require&user=bdy_abc123_7",
				"r2dbc-url": "r2dbc:postgresql://bdy_abc123_7:pw@[2001:db8::1]:6000/bdy_abc123_5?sslMode=require",
				"host":      "2001:db8::1", "hostname": "2001:db8::1", "port": 6000, "database": "bdy_abc123_5", "db": "bdy_abc123_5",
				"username": "bdy_abc123_7", "user": "bdy_abc123_7", "password": "pw", "sslmode": "verify-full", "sslrootcert": "PEM",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := open(bindery.Server{Installation: "abc123", Address: "admin.example:5433", Public: test.public})
			if err != nil {
				t.Fatal(err)
			}
			spec := bindery.InstanceSpec{Name: "bdy_abc123_5"}
			c, err := d.Render(spec, account)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, c.Object); diff != "" {
				t.Error(diff)
			}
			spec.Aliases = Kind.Aliases
			c, err = d.Render(spec, account)
			if err != nil {
				t.Fatal(err)
			}
			if c.Object["jdbcUrl"] != test.want["jdbc-url"] || c.Object["Protocol"] != "postgresql" {
				t.Errorf("aliases: got %v and %v", c.Object["jdbcUrl"], c.Object["Protocol"])
			}
		})
	}
}
