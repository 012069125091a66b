// Package config reads the one configuration file of Bindery: strict YAML in
// which an unknown key is an error, every problem is reported at once with its
// line, and a secret is never written down but referred to.
//
// Reading has no effect but reading: `bindery config check` is the same code as
// start-up and reload.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bindery"
)

// maxFile bounds the configuration file.
const maxFile = 4 << 20

// Config is a configuration file that was read, checked and completed with
// defaults. The doc tags are what `bindery config schema` publishes.
type Config struct {
	Store     Store      `yaml:"store" doc:"Where Bindery keeps everything that it must not forget."`
	Seal      Seal       `yaml:"seal" doc:"The keys that seal secrets in the store."`
	Listeners []Listener `yaml:"listeners" doc:"Addresses that answer requests."`
	Metrics   Metrics    `yaml:"metrics" doc:"A listener of its own for Prometheus metrics and profiles. Left out: none."`
	Log       Log        `yaml:"log" doc:"The log, JSON lines on standard error."`
	Platforms []Platform `yaml:"platforms" doc:"Who may use the Open Service Broker API. A platform sees its own instances only."`
	Admin     Admin      `yaml:"admin" doc:"Who may use the admin API."`
	Identity  Identity   `yaml:"identity" doc:"The identity face: service types, auth methods and identity bindings."`
	Limits    Limits     `yaml:"limits" doc:"Bounds on requests and on work."`
	Retention Retention  `yaml:"retention" doc:"How long finished things are kept."`
	Reconcile Reconcile  `yaml:"reconcile" doc:"The comparison of what the servers have with what the store says."`
	Options   Options    `yaml:"options" doc:"Choices where platforms disagree."`
	Servers   []Server   `yaml:"servers" doc:"The backend servers on which instances and accounts are made."`
	Catalog   []Offering `yaml:"catalog" doc:"What platforms may ask for; needed where a listener serves osb."`

	path     string
	catalog  *bindery.Catalog
	servers  []bindery.Server // without the installation
	warnings []string
}

// Store says where everything is kept.
type Store struct {
	URL      string `yaml:"url" doc:"sqlite:FILE, or postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full without a password. A relative FILE begins at the configuration file's folder. Changing it takes a restart."`
	Password Ref    `yaml:"password" doc:"The PostgreSQL password."`
}

// Seal names the sealing keys.
type Seal struct {
	Key      Ref   `yaml:"key" doc:"The key that seals: 32 bytes, base64, as bindery seal new-key prints one. Changing it takes a restart."`
	Previous []Ref `yaml:"previous" doc:"Older keys that still open what they sealed, until bindery seal rotate has run."`
}

// Listener is one address and what it serves.
type Listener struct {
	Address  string   `yaml:"address" doc:"host:port; port 0 picks one. Changing it takes a restart."`
	Faces    []string `yaml:"faces" doc:"What it serves: osb (the Open Service Broker API), authn (the identity face), admin and pki (certificates, revocation lists and OCSP of kind mtls, for everybody). Every listener answers /livez, /readyz and /openapi.json." enum:"osb,authn,admin,pki"`
	TLS      *TLS     `yaml:"tls" doc:"Left out: plain HTTP."`
	Insecure bool     `yaml:"insecure" doc:"Allows plain HTTP on an address that is not loopback, where something in front does TLS. A listener of the face pki alone needs none."`
}

// TLS is a listener's certificate. The files are read again at a reload.
type TLS struct {
	CertFile     string `yaml:"cert_file" doc:"PEM: the certificate, then its chain."`
	KeyFile      string `yaml:"key_file" doc:"PEM: its private key."`
	ClientCAFile string `yaml:"client_ca_file" doc:"PEM: when given, only clients with a certificate of one of these CAs may connect."`
}

// Metrics is the listener for operators' machines.
type Metrics struct {
	Address string `yaml:"address" doc:"host:port; port 0 picks one. Changing it takes a restart."`
	Pprof   *bool  `yaml:"pprof" doc:"Serve profiles under /debug/pprof/. Default: on a loopback address only."`
}

// Log is how much is logged.
type Log struct {
	Level string `yaml:"level" doc:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
}

// Platform is a caller of the Open Service Broker API.
type Platform struct {
	Name        string       `yaml:"name" doc:"Its name in the store: instances belong to it, so it must never change."`
	Credentials []Credential `yaml:"credentials" doc:"The pairs that prove it. Several are valid at once, so that a password can be changed without an outage."`
}

// Credential is one pair of HTTP basic authentication.
type Credential struct {
	Username string `yaml:"username" doc:"Of one platform only."`
	Password Ref    `yaml:"password" doc:"Its password."`
}

// Admin is who may use the admin API.
type Admin struct {
	Tokens []Token `yaml:"tokens" doc:"Bearer tokens. Several are valid at once."`
}

// Token is one bearer token and the name that the audit gives it.
type Token struct {
	Name  string `yaml:"name" doc:"Who has it."`
	Token Ref    `yaml:"token" doc:"The token; at least 16 characters."`
}

// Limits bound requests and work. Changing them takes a restart.
type Limits struct {
	MaxBodyBytes     int64         `yaml:"max_body_bytes" doc:"The largest request body." default:"1048576"`
	SyncBudget       time.Duration `yaml:"sync_budget" doc:"How long a request that could be answered 202 waits for its work first." default:"5s"`
	RequestWait      time.Duration `yaml:"request_wait" doc:"How long a request of a caller that cannot poll waits before its work is undone." default:"55s"`
	CreateDeadline   time.Duration `yaml:"create_deadline" doc:"How long a create or an update is tried before it is undone." default:"1h"`
	WorkersPerServer int           `yaml:"workers_per_server" doc:"How many operations run on one server at a time." default:"8"`
	Drain            time.Duration `yaml:"drain" doc:"How long a shutdown waits for requests and for operations that have begun. What does not end is carried on by the next start." default:"25s"`
}

// Retention is how long finished things are kept. Changing it takes a restart.
type Retention struct {
	Operations time.Duration `yaml:"operations" doc:"Finished operations: how long last_operation still answers." default:"720h"`
	Events     time.Duration `yaml:"events" doc:"Audit events." default:"8760h"`

	Authentications time.Duration `yaml:"authentications" doc:"Who authenticated at the identity face when." default:"2160h"`
}

// Reconcile is when servers are compared with the store. Changing it takes a restart.
type Reconcile struct {
	Interval time.Duration `yaml:"interval" doc:"The pause between two comparisons of a server." default:"10m"`
}

// Options are choices where platforms disagree. Changing them takes a restart.
type Options struct {
	MissingVersionStatus    int    `yaml:"missing_version_status" doc:"The answer to a request without X-Broker-API-Version: 400 or 412." default:"400" enum:"400,412"`
	DeprovisionWithBindings string `yaml:"deprovision_with_bindings" doc:"cascade removes bindings that are left; refuse answers 400 with their number." default:"cascade" enum:"cascade,refuse"`
}

// Server is one backend server.
type Server struct {
	Name     string        `yaml:"name" doc:"Its name in the store: instances stay on it, so it must not change while it is in use."`
	Kind     string        `yaml:"kind" doc:"What it is."`
	Address  string        `yaml:"address" doc:"host:port by which Bindery administers it. A kind that is its own server has none."`
	Username string        `yaml:"username" doc:"Bindery's own account there."`
	Password Ref           `yaml:"password" doc:"Its password."`
	Secrets  []NamedSecret `yaml:"secrets" doc:"What the kind needs beside the password; its page in docs/kinds names them."`
	TLS      *ServerTLS    `yaml:"tls" doc:"Bindery's own connection; {} verifies with the system's CAs. Left out: no TLS."`
	Public   Public        `yaml:"public" doc:"The address that goes into credentials, where it differs."`
	Timeout  time.Duration `yaml:"timeout" doc:"Bounds one call." default:"30s"`
	Settings Object        `yaml:"settings" doc:"The kind's own."`
}

// NamedSecret is a secret that a kind asks for by name.
type NamedSecret struct {
	Name  string `yaml:"name" doc:"As the kind calls it."`
	Value Ref    `yaml:"value" doc:"The secret."`
}

// ServerTLS is how Bindery's own connection to a server is secured.
type ServerTLS struct {
	CAFile             string `yaml:"ca_file" doc:"PEM: the CAs to trust instead of the system's."`
	CertFile           string `yaml:"cert_file" doc:"PEM: a client certificate."`
	KeyFile            string `yaml:"key_file" doc:"PEM: its private key."`
	ServerName         string `yaml:"server_name" doc:"The name in the server's certificate. Default: the address's host."`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"Accept any certificate. Said aloud at every start."`
}

// Public is the address that applications use.
type Public struct {
	Host   string `yaml:"host" doc:"Default: the address's host."`
	Port   int    `yaml:"port" doc:"Default: the address's port; RabbitMQ: 5672, or 5671 with tls."`
	TLS    *bool  `yaml:"tls" doc:"Default: whether the server has tls."`
	CAFile string `yaml:"ca_file" doc:"PEM: given to applications with the credential."`
}

// Offering is one service of the catalog.
type Offering struct {
	ID                  string           `yaml:"id" doc:"Unique for ever; a GUID. At most 63 of A-Z a-z 0-9 . _ -"`
	Name                string           `yaml:"name" doc:"What people type. At most 63 of A-Z a-z 0-9 . -"`
	Description         string           `yaml:"description" doc:"One sentence."`
	Tags                []string         `yaml:"tags" doc:"Default: those that clients of its kind look for."`
	Requires            []string         `yaml:"requires" doc:"Permissions that the platform must grant." enum:"syslog_drain,route_forwarding,volume_mount"`
	Bindable            *bool            `yaml:"bindable" doc:"A plan may say otherwise." default:"true"`
	PlanUpdateable      bool             `yaml:"plan_updateable" doc:"Instances may change their plan; a plan may say otherwise. (The specification's spelling.)"`
	AllowContextUpdates bool             `yaml:"allow_context_updates" doc:"The platform may send changed names and labels."`
	Metadata            Object           `yaml:"metadata" doc:"Published as it is."`
	DashboardClient     *DashboardClient `yaml:"dashboard_client" doc:"An OAuth client for Cloud Foundry. It is published in the catalog, secret included."`
	DashboardURL        string           `yaml:"dashboard_url" doc:"A template; {instance_id}, {plan} and {offering} are replaced."`
	RequiresApp         bool             `yaml:"requires_app" doc:"Refuse binds that name no application."`
	Plans               []Plan           `yaml:"plans" doc:"At least one."`
}

// DashboardClient is the OAuth client of the Cloud Foundry profile.
type DashboardClient struct {
	ID          string `yaml:"id" doc:"The client's id."`
	Secret      Ref    `yaml:"secret" doc:"The client's secret."`
	RedirectURI string `yaml:"redirect_uri" doc:"Where the client may be sent back to."`
}

// Plan is a variant of an offering.
type Plan struct {
	ID                     string           `yaml:"id" doc:"Unique for ever, among offerings too; a GUID. At most 63 of A-Z a-z 0-9 . _ -"`
	Name                   string           `yaml:"name" doc:"Unique within the offering. At most 63 of A-Z a-z 0-9 . -"`
	Description            string           `yaml:"description" doc:"One sentence."`
	Free                   *bool            `yaml:"free" doc:"It costs nothing." default:"true"`
	Bindable               *bool            `yaml:"bindable" doc:"Default: the offering's."`
	PlanUpdateable         *bool            `yaml:"plan_updateable" doc:"Default: the offering's."`
	BindingRotatable       *bool            `yaml:"binding_rotatable" doc:"A binding can succeed another. Not where all bindings have the same credential, as of kind static." default:"true"`
	Metadata               Object           `yaml:"metadata" doc:"Published as it is, beside credentials_schema (the JSON Schema of the credential object) and revocation (proven, expires or released), which the kind gives where they are not here."`
	Servers                []string         `yaml:"servers" doc:"Names of servers of one kind. A new instance goes to one of them and stays there."`
	Settings               Object           `yaml:"settings" doc:"The kind's own."`
	Schemas                Schemas          `yaml:"schemas" doc:"JSON Schemas (draft-04) of parameters, each instead of the kind's own."`
	MaximumPollingDuration time.Duration    `yaml:"maximum_polling_duration" doc:"How long a platform should poll; whole seconds."`
	MaintenanceInfo        *MaintenanceInfo `yaml:"maintenance_info" doc:"A version that platforms can upgrade instances to."`
	Retired                bool             `yaml:"retired" doc:"Hidden from the catalog and from new instances; those that exist are served."`
	AsyncRequired          bool             `yaml:"async_required" doc:"Refuse callers that cannot poll."`
	CredentialAliases      []string         `yaml:"credential_aliases" doc:"Sets of additional credential keys that the kind knows."`
	Quota                  Quota            `yaml:"quota" doc:"What one platform may have of this plan."`
	BindingLifetime        *BindingLifetime `yaml:"binding_lifetime" doc:"How long bindings live. Left out: until they are unbound."`
}

// BindingLifetime is how long the bindings of a plan live.
type BindingLifetime struct {
	Default     time.Duration `yaml:"default" doc:"The lifetime of bindings that ask for none. Left out: until they are unbound."`
	Max         time.Duration `yaml:"max" doc:"The longest lifetime that the parameter lifetime of a bind may ask for, as a duration (90m). Left out: the parameter is not taken."`
	RenewBefore time.Duration `yaml:"renew_before" doc:"How long before its end a binding should be rotated, as its metadata says. Left out, or not shorter than the lifetime: a third of it."`
}

// MaintenanceInfo is the version of a plan.
type MaintenanceInfo struct {
	Version     string `yaml:"version" doc:"A semantic version (2.0)."`
	Description string `yaml:"description" doc:"What an upgrade changes."`
}

// Schemas has the specification's shape.
type Schemas struct {
	Instance InstanceSchemas `yaml:"service_instance" doc:"Parameters of instances."`
	Binding  BindingSchemas  `yaml:"service_binding" doc:"Parameters of bindings."`
}

// InstanceSchemas are the schemas of an instance's parameters.
type InstanceSchemas struct {
	Create Parameters `yaml:"create" doc:"When it is made."`
	Update Parameters `yaml:"update" doc:"When it is changed."`
}

// BindingSchemas are the schemas of a binding's parameters.
type BindingSchemas struct {
	Create Parameters `yaml:"create" doc:"When it is made."`
}

// Parameters is one schema.
type Parameters struct {
	Parameters Object `yaml:"parameters" doc:"A JSON Schema with $schema http://json-schema.org/draft-04/schema# and type object; at most 64 kB, no external $ref."`
}

// Quota bounds what one platform may have of a plan.
type Quota struct {
	Instances           int `yaml:"instances" doc:"Instances; 0 is no bound."`
	BindingsPerInstance int `yaml:"bindings_per_instance" doc:"Bindings of one instance; 0 is no bound."`
}

// Load reads the file at path, what it refers to, and checks all of it. An
// error is an [*Invalid], which holds every problem. kinds are the kinds of
// server that there are.
func Load(path string, kinds map[string]bindery.Kind) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case len(data) > maxFile:
		return nil, unreadable(path, errors.New("the file is larger than 4 MiB"))
	}
	return parse(path, data, kinds, os.LookupEnv)
}

func unreadable(path string, err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return &Invalid{File: path, Problems: []Problem{{Text: fmt.Sprintf("cannot be read: %v", err)}}}
}

// parse does what Load does with a file's contents. env looks up variables.
func parse(path string, data []byte, kinds map[string]bindery.Kind, env func(string) (string, bool)) (*Config, error) {
	cfg := &Config{path: path}
	lines, problems := decode(data, cfg)
	c := &checker{lines: lines, problems: problems, dir: filepath.Dir(path), kinds: kinds, env: env}
	// Where the shape is wrong, what is missing may only have been misspelled:
	// reporting both would be noise.
	if len(problems) == 0 {
		cfg.defaults()
		c.config(cfg)
	}
	if len(c.problems) > 0 {
		return nil, &Invalid{File: path, Problems: c.sorted()}
	}
	cfg.warnings = c.warnings
	return cfg, nil
}

// Path is the file that was read.
func (c *Config) Path() string { return c.path }

// Dir is the folder where relative file names begin.
func (c *Config) Dir() string { return filepath.Dir(c.path) }

// Warnings are what is allowed and should be known: log them at every start.
func (c *Config) Warnings() []string { return c.warnings }

// BackendCatalog returns the catalog as the domain has it.
func (c *Config) BackendCatalog() *bindery.Catalog { return c.catalog }

// BackendServers returns the servers as drivers are opened with them, for the
// installation with this id.
func (c *Config) BackendServers(installation string) []bindery.Server {
	out := make([]bindery.Server, len(c.servers))
	for i, s := range c.servers {
		s.Installation = installation
		out[i] = s
	}
	return out
}

// PprofEnabled says whether the metrics listener serves profiles.
func (c *Config) PprofEnabled() bool {
	if c.Metrics.Pprof != nil {
		return *c.Metrics.Pprof
	}
	return loopback(c.Metrics.Address)
}

// The defaults, as the doc tags above have them.
func (c *Config) defaults() {
	c.Log.Level = cmp.Or(c.Log.Level, "info")
	l := &c.Limits
	l.MaxBodyBytes = cmp.Or(l.MaxBodyBytes, 1<<20)
	l.SyncBudget = cmp.Or(l.SyncBudget, 5*time.Second)
	l.RequestWait = cmp.Or(l.RequestWait, 55*time.Second)
	l.CreateDeadline = cmp.Or(l.CreateDeadline, time.Hour)
	l.WorkersPerServer = cmp.Or(l.WorkersPerServer, 8)
	l.Drain = cmp.Or(l.Drain, 25*time.Second)
	c.Retention.Operations = cmp.Or(c.Retention.Operations, 30*24*time.Hour)
	c.Retention.Events = cmp.Or(c.Retention.Events, 365*24*time.Hour)
	c.Retention.Authentications = cmp.Or(c.Retention.Authentications, 90*24*time.Hour)
	c.Reconcile.Interval = cmp.Or(c.Reconcile.Interval, 10*time.Minute)
	c.Options.MissingVersionStatus = cmp.Or(c.Options.MissingVersionStatus, 400)
	c.Options.DeprovisionWithBindings = cmp.Or(c.Options.DeprovisionWithBindings, "cascade")
	c.Identity.defaults()
	for i := range c.Servers {
		c.Servers[i].Timeout = cmp.Or(c.Servers[i].Timeout, 30*time.Second)
	}
}
