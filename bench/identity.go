package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver"
	"bindery/seal"
	"bindery/store"
)

// onlyIdentity is the -only of the identity face.
const onlyIdentity = "identity"

// The service types of the benchmark: one whose tokens are asked for each time,
// and one whose tokens are kept.
const (
	sampleType  = "sample"
	keptType    = "kept"
	sampleHost  = "localhost"
	identityKey = "the-key-of-the-benchmark"
)

// What it is compared with.
const (
	bareGet   = "a bare TLS server with one GET"
	bareFixed = "a bare TLS server with a fixed answer"
)

// identityClients are the numbers of clients, unless others were asked for.
var identityClients = []int{1, 16, 64}

// workloads is how many clients there can be, each with a certificate and a binding of its own.
const workloads = 64

// An identityBench is what both sides of the comparison use.
type identityBench struct {
	*bench
	ca     devserver.CertFiles // of a server; its CAFile is everybody's
	roots  *x509.CertPool
	certs  []tls.Certificate
	names  []string // their distinguished names
	sample *devserver.Sample
}

// compareIdentity compares authentications by certificate with a bare TLS server
// that does the same for one fixed service.
func (b *bench) compareIdentity(ctx context.Context) error {
	i, err := b.newIdentityBench(ctx)
	if err != nil {
		return err
	}
	bare, err := i.startBare(ctx)
	if err != nil {
		return err
	}
	sqlite, err := i.serve(ctx, "identity", "", smallRows)
	if err != nil {
		return err
	}
	postgres, err := i.serveOnPostgres(ctx)
	if err != nil {
		return err
	}
	clients := identityClients
	if b.clientsGiven {
		clients = b.clients
	}
	for _, n := range clients {
		if n > workloads {
			return fmt.Errorf("the identity face is measured with at most %d clients", workloads)
		}
		for _, c := range []struct {
			what, with string
			own, its   *tokens
		}{
			{"Token by certificate", bareGet, i.tokens(sqlite, sampleType, false), i.bare(bare, "/get", false)},
			{"Token by certificate on new connections", bareGet, i.tokens(sqlite, sampleType, true), i.bare(bare, "/get", true)},
			{"Token by certificate with PostgreSQL", bareGet, i.tokens(postgres, sampleType, false), i.bare(bare, "/get", false)},
			{"Token by certificate from memory", bareFixed, i.tokens(sqlite, keptType, false), i.bare(bare, "/fixed", false)},
		} {
			own, its, err := b.pairsOf(ctx, c.own, c.its, n)
			if err != nil {
				return fmt.Errorf("%s, %d clients: %w", c.what, n, err)
			}
			b.table.rows = append(b.table.rows, row{what: c.what, clients: n, with: c.with, own: own, its: its})
		}
	}
	return errors.Join(sqlite.stop(), postgres.stop())
}

func (b *bench) newIdentityBench(ctx context.Context) (*identityBench, error) {
	pki, err := devserver.OpenPKI(filepath.Join(b.dir, "pki"), time.Now)
	if err != nil {
		return nil, err
	}
	i := &identityBench{bench: b, roots: x509.NewCertPool()}
	if i.ca, err = pki.Server(); err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(i.ca.CAFile)
	if err != nil {
		return nil, err
	}
	i.roots.AppendCertsFromPEM(pem)
	for n := range workloads {
		files, err := pki.Client("workload-" + strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			return nil, err
		}
		i.certs = append(i.certs, pair)
		i.names = append(i.names, "CN=workload-"+strconv.Itoa(n))
	}
	i.sample, err = devserver.StartSample(ctx, devserver.SampleOptions{Cert: i.ca, Key: bindery.NewSecret(identityKey)})
	if err == nil {
		b.closers = append(b.closers, i.sample.Close)
	}
	return i, err
}

var identityConfiguration = template.Must(template.New("").Parse(`store:
  url: {{.Store}}
{{- if .Password}}
  password: {file: store-password}
{{- end}}
seal:
  key: {file: seal-key}
log:
  level: warn
listeners:
  - address: 127.0.0.1:0
    faces: [authn]
    tls: {cert_file: {{.Cert.CertFile}}, key_file: {{.Cert.KeyFile}}}
metrics:
  address: 127.0.0.1:0
identity:
  keys: [{name: bench, key: {file: identity-key}}]
  certificates:
    trust_files: [{{.Cert.CAFile}}]
  types:
    - {name: sample, path: "/v1/users:byUUID/{{"{{identifier}}"}}?key={{"{{access_key}}"}}", field: token, ca_file: {{.Cert.CAFile}}}
    - {name: kept, path: "/v1/users:byUUID/{{"{{identifier}}"}}?key={{"{{access_key}}"}}", field: token, ca_file: {{.Cert.CAFile}}, cache_tokens: 1h}
`))

// serve starts Bindery on a new store with this many identity bindings.
func (i *identityBench) serve(ctx context.Context, name, url string, rows int) (*service, error) {
	s := &service{name: name, dir: filepath.Join(i.dir, name)}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	key, plain, password := seal.NewKey(), "sqlite:bindery.db", ""
	open := "sqlite:" + filepath.Join(s.dir, "bindery.db")
	if url != "" {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		open, password = url, config.Password
		plain = fmt.Sprintf("postgres://%s@%s:%d/%s?sslmode=disable", config.User, config.Host, config.Port, config.Database)
	}
	var text strings.Builder
	err := identityConfiguration.Execute(&text, map[string]any{"Store": plain, "Password": password, "Cert": i.ca})
	if err != nil {
		return nil, err
	}
	for file, content := range map[string]string{
		"bindery.yaml": strings.Replace(text.String(), "level: warn", "level: info", 1), "seal-key": key.Reveal(),
		"identity-key": identityKey, "store-password": password,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := i.seed(ctx, open, key, rows); err != nil {
		return nil, fmt.Errorf("fill the store: %w", err)
	}
	i.say("%d identity bindings put into the store %q in %s", rows, name, time.Since(began).Round(time.Millisecond))
	if err := s.start(ctx, i.program); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.lastOutput())
	}
	i.closers = append(i.closers, s.stop)
	return s, nil
}

// serveOnPostgres is serve with a database of its own.
func (i *identityBench) serveOnPostgres(ctx context.Context) (*service, error) {
	p, fact, err := i.launchPostgres(ctx)
	if err != nil {
		return nil, err
	}
	i.closers, i.facts = append(i.closers, p.Remove), append(i.facts, "identity: "+fact)
	c, err := pgx.Connect(ctx, p.URL(p.Database).Reveal())
	if err != nil {
		return nil, err
	}
	_, err = c.Exec(ctx, "CREATE DATABASE identity_store")
	if err = errors.Join(err, c.Close(ctx)); err != nil {
		return nil, err
	}
	return i.serve(ctx, "identity-postgresql", p.URL("identity_store").Reveal(), smallRows)
}

// seed puts the service types, their auth methods and the bindings of the clients
// into a store, and others until there are this many.
func (i *identityBench) seed(ctx context.Context, url string, key seal.Key, rows int) (err error) {
	keys, err := seal.NewKeyring(key)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{URL: url, Keys: keys})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	now := time.Now()
	for _, name := range []string{sampleType, keptType} {
		service := bindery.ServiceType{
			UUID: guid(serials.Add(1)), Name: name, Hosts: []string{sampleHost}, AuthTypes: []bindery.AuthType{bindery.AuthX509},
			AuthMethod: bindery.AuthMethodAPIKey, Type: name, Revision: 1, Created: now,
		}
		method := bindery.AuthMethod{
			UUID: guid(serials.Add(1)), ServiceUUID: service.UUID, Host: sampleHost, Port: i.sample.Port, Kind: bindery.AuthMethodAPIKey,
			Material: bindery.NewSecret(`{"access_key":"` + identityKey + `"}`), Revision: 1, Created: now,
		}
		if service.Row, err = s.NewID(ctx); err != nil {
			return err
		}
		if method.Row, err = s.NewID(ctx); err != nil {
			return err
		}
		method.ServiceRow = service.Row
		err = s.Update(ctx, func(tx bindery.Tx) error {
			return errors.Join(tx.ServiceTypes().Add(ctx, service), tx.AuthMethods().Add(ctx, method))
		})
		if err != nil {
			return err
		}
		count := workloads
		if name == sampleType {
			count = max(rows, workloads)
		}
		if err := i.seedBindings(ctx, s, service, count); err != nil {
			return err
		}
	}
	return nil
}

func (i *identityBench) seedBindings(ctx context.Context, s *store.Store, service bindery.ServiceType, rows int) error {
	now := time.Now()
	for done := 0; done < rows; {
		var batch []bindery.IdentityBinding
		for range min(seedBatch, rows-done) {
			name := "CN=other-" + strconv.Itoa(done)
			if done < workloads {
				name = i.names[done]
			}
			keys, err := bindery.IdentifierKeys(bindery.AuthX509, name)
			if err != nil {
				return err
			}
			row, err := s.NewID(ctx)
			if err != nil {
				return err
			}
			batch = append(batch, bindery.IdentityBinding{
				Row: row, UUID: guid(-row), Name: service.Name + "-" + strconv.Itoa(done), ServiceRow: service.Row,
				ServiceUUID: service.UUID, Host: sampleHost, AuthType: bindery.AuthX509, Identifier: name, Keys: keys,
				UniqueKey: "user-" + strconv.Itoa(done), Revision: 1, Created: now,
			})
			done++
		}
		err := s.Update(ctx, func(tx bindery.Tx) error {
			for _, b := range batch {
				if err := tx.IdentityBindings().Add(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tokens asks for tokens: each client with its own certificate, on a connection
// that it keeps, or on a new one each time.
type tokens struct {
	i       *identityBench
	title   string
	address string
	request []byte
	fresh   bool
	conns   []*conn
}

func (i *identityBench) tokens(s *service, service string, fresh bool) *tokens {
	path := "/v1/service-types/" + service + "/hosts/" + sampleHost + ":authx509"
	return i.requests("Bindery, "+s.name+", "+service, s.address, path, fresh)
}

func (i *identityBench) bare(address, path string, fresh bool) *tokens {
	return i.requests("bare, "+path, address, path, fresh)
}

func (i *identityBench) requests(title, address, path string, fresh bool) *tokens {
	end := "\r\n"
	if fresh {
		title, end = title+", new connections", "Connection: close\r\n\r\n"
	}
	return &tokens{
		i: i, title: title, address: address, fresh: fresh,
		request: []byte(path + " HTTP/1.1\r\nHost: localhost\r\n" + end),
	}
}

func (t *tokens) name() string { return t.title }

// dial makes a connection with a whole handshake: no session is resumed.
func (t *tokens) dial(ctx context.Context, client int) (*conn, error) {
	d := tls.Dialer{Config: &tls.Config{
		RootCAs: t.i.roots, ServerName: "localhost", Certificates: []tls.Certificate{t.i.certs[client]}, MinVersion: tls.VersionTLS13,
	}}
	c, err := d.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReader(c)}, nil
}

func (t *tokens) connect(ctx context.Context, clients int) error {
	for client := range clients {
		if t.fresh {
			break
		}
		c, err := t.dial(ctx, client)
		if err != nil {
			return err
		}
		t.conns = append(t.conns, c)
	}
	return nil
}

func (t *tokens) call(ctx context.Context, client int) error {
	if !t.fresh {
		_, err := t.conns[client].call(http.MethodGet, t.request, nil, http.StatusOK)
		return err
	}
	c, err := t.dial(ctx, client)
	if err != nil {
		return err
	}
	_, err = c.call(http.MethodGet, t.request, nil, http.StatusOK)
	if secure, ok := c.Conn.(*tls.Conn); ok {
		if tcp, ok := secure.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // or the machine runs out of ports
		}
	}
	_ = c.Close() // with everything answered, or an error that says more
	return err
}

func (t *tokens) disconnect() {
	for _, c := range t.conns {
		_ = c.Close() // everything was answered
	}
	t.conns = nil
}

// pairsOf measures two by turns.
func (b *bench) pairsOf(ctx context.Context, own, its *tokens, clients int) (ownWindows, itsWindows []window, err error) {
	both := []*tokens{own, its}
	windows := make([][]window, len(both))
	for _, t := range both {
		defer t.disconnect()
		if err := t.connect(ctx, clients); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", t.name(), err)
		}
	}
	for pair := -1; pair < b.pairs; pair++ { // the first warms up
		for n := range both {
			n = (n + max(pair, 0)) % len(both)
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			t := both[n]
			w, err := load(clients, b.duration, func(client int) (bool, error) { return true, t.call(ctx, client) })
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", t.name(), err)
			}
			if pair >= 0 {
				windows[n] = append(windows[n], w)
			}
		}
	}
	for n, t := range both {
		b.say("%-52s %2d clients: %7.0f a second, CPU ms each: %s", t.name(), clients, median(ratesOf(windows[n])), cpuOf(windows[n]))
	}
	return windows[0], windows[1], nil
}

func ratesOf(windows []window) []float64 { return rateList(windows) }

func cpuOf(windows []window) string {
	return cpuEach(asRounds(windows), created)
}

func asRounds(windows []window) []round {
	out := make([]round, len(windows))
	for i, w := range windows {
		out[i].created = w
	}
	return out
}
