package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/google/uuid"

	"bindery"
	"bindery/config"
	"bindery/devserver"
	"bindery/seal"
)

// A devDir is the directory of `bindery dev`, held by one process at a time.
type devDir struct {
	path string
	lock *os.File
	// IDs are the offerings' and plans' ids, made once: "redis", "redis/shared".
	ids map[string]string
}

func openDevDir(path string) (*devDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &devDir{path: path}
	// The kernel lets go of the lock when the process dies, however that happens.
	d.lock, err = os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(d.lock.Name())
		return nil, errors.Join(fmt.Errorf("%s is in use by another bindery dev (process %s)", path, bytes.TrimSpace(pid)), d.lock.Close())
	}
	pid := fmt.Sprintf("%d\n", os.Getpid())
	if err := errors.Join(d.lock.Truncate(int64(len(pid))), writeAt(d.lock, pid), d.readIDs()); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func (d *devDir) unlock() { _ = d.lock.Close() }

func (d *devDir) file(name string) string { return filepath.Join(d.path, name) }

// readIDs reads the catalog's ids, and makes those that are missing.
func (d *devDir) readIDs() error {
	d.ids = map[string]string{}
	b, err := os.ReadFile(d.file("ids.json"))
	if err == nil {
		err = json.Unmarshal(b, &d.ids)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", d.file("ids.json"), err)
	}
	for _, k := range devKinds {
		names := []string{k.Name}
		for _, p := range k.Plans {
			names = append(names, k.Name+"/"+p.Name)
		}
		for _, name := range names {
			if d.ids[name] == "" {
				d.ids[name] = uuid.NewString()
			}
		}
	}
	b, err = json.MarshalIndent(d.ids, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(d.file("ids.json"), string(b)+"\n")
}

// secret returns the secret that is kept under this name; make makes it once.
func (d *devDir) secret(name string, make func() string) (bindery.Secret, error) {
	path := d.file(filepath.Join("secrets", name))
	b, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		return bindery.NewSecret(string(bytes.TrimSpace(b))), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return bindery.Secret{}, err
	}
	v := make()
	return bindery.NewSecret(v), d.keep(name, bindery.NewSecret(v))
}

// keyIsThere refuses a directory whose store has lost its key: a new one would
// open nothing, and hide what is missing. Of a store elsewhere, the configuration
// tells that there was a start before.
func (d *devDir) keyIsThere(elsewhere bool) error {
	kept := "bindery.db"
	if elsewhere {
		kept = "bindery.yaml"
	}
	if _, err := os.Stat(d.file(kept)); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	key, err := os.ReadFile(d.file("secrets/seal-key"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(bytes.TrimSpace(key)) == 0 {
		return fmt.Errorf("%s is missing or empty, without which the store cannot be opened: put it back, or remove %s to begin anew",
			d.file("secrets/seal-key"), d.path)
	}
	return nil
}

// keep writes a secret that somebody else made.
func (d *devDir) keep(name string, s bindery.Secret) error {
	if err := os.MkdirAll(d.file("secrets"), 0o700); err != nil {
		return err
	}
	return writeSecret(d.file(filepath.Join("secrets", name)), s.Reveal()+"\n")
}

// writeSecret replaces a file at once, readable to its owner only.
func writeSecret(name, content string) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // made with 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// devConfig is what the template below is filled with.
type devConfig struct {
	Store         string
	StorePassword bool
	HTTP, HTTPS   string
	TLS           devserver.CertFiles
	ID            map[string]string
	Servers       []devBackend
	Offerings     []devKind
	ClientCA      string
}

var devTemplate = template.Must(template.New("").Funcs(template.FuncMap{"q": quoteYAML}).Parse(`# Written by bindery dev at every start. To go on with a copy of it: bindery serve -c FILE
store:
  url: {{q .Store}}
{{- if .StorePassword}}
  password: {file: secrets/store}
{{- end}}
seal:
  key: {file: secrets/seal-key}
listeners:
  - address: {{q .HTTP}}
    faces: [osb, authn, admin, pki]
    {{- if .Insecure}}
    insecure: true
    {{- end}}
  - address: {{q .HTTPS}}
    faces: [osb, authn, admin]
    tls:
      cert_file: {{q .TLS.CertFile}}
      key_file: {{q .TLS.KeyFile}}
metrics:
  address: 127.0.0.1:0
platforms:
  - name: dev
    credentials:
      - username: dev
        password: {file: secrets/osb-password}
admin:
  tokens:
    - name: dev
      token: {file: secrets/admin-token}
identity:
  keys:
    - name: dev
      key: {file: secrets/authn-key}
  certificates:
    {{- with .ClientCA}}
    trust_dir: {{q .}}
    {{- end}}
    trust_files: [tls/ca.crt]
    cache_dir: crls
  types:
    - {name: sample, path: "/v1/users:byUUID/{{"{{identifier}}"}}?key={{"{{access_key}}"}}", field: token, ca_file: tls/upstream-ca.crt}
    - {name: ams, ca_file: tls/upstream-ca.crt}
    - {name: web-api, ca_file: tls/upstream-ca.crt}
servers:
{{- range $s := .Servers}}
  - name: {{.Name}}
    kind: {{.Kind}}
    {{- with .Address}}
    address: {{q .}}
    {{- end}}
    {{- with .Username}}
    username: {{q .}}
    password: {file: secrets/server-{{$s.Name}}}
    {{- end}}
    {{- with .Public}}
    public: {{.}}
    {{- end}}
    {{- with .Settings}}
    settings: {{.}}
    {{- end}}
    {{- with .Secrets}}
    secrets:
      {{- range $name, $_ := .}}
      - {name: {{$name}}, value: {file: secrets/server-{{$s.Name}}-{{$name}}}}
      {{- end}}
    {{- end}}
{{- end}}
catalog:
{{- range $o := .Offerings}}
  - id: {{index $.ID .Name}}
    name: {{.Name}}
    description: {{.Description}}
    metadata: {displayName: {{.Title}}}
    {{- if .Updateable}}
    plan_updateable: true
    {{- end}}
    plans:
      {{- range .Plans}}
      - id: {{index $.ID (print $o.Name "/" .Name)}}
        name: {{.Name}}
        description: {{.Description}}
        servers: [{{.Server}}]
        {{- if .Fixed}}
        binding_rotatable: false
        {{- end}}
        {{- with .Settings}}
        settings: {{.}}
        {{- end}}
      {{- end}}
{{- end}}
`))

// Insecure says that the plain listener is not on a loopback address, which the
// person who gave the address knows.
func (c devConfig) Insecure() bool {
	return !strings.HasPrefix(c.HTTP, "127.") && !strings.HasPrefix(c.HTTP, "localhost:") && !strings.HasPrefix(c.HTTP, "[::1]:")
}

// quoteYAML writes text so that YAML reads exactly that: JSON strings are YAML.
func quoteYAML(s string) (string, error) {
	b, err := json.Marshal(s)
	return string(b), err
}

// keepSecrets writes what a server's configuration refers to.
func (d *devDir) keepSecrets(b devBackend) error {
	if b.Username != "" {
		if err := d.keep("server-"+b.Name, b.Password); err != nil {
			return err
		}
	}
	for name, s := range b.Secrets {
		if err := d.keep("server-"+b.Name+"-"+name, s); err != nil {
			return err
		}
	}
	return nil
}

// keepPort replaces port 0 by a port that later starts use again: certificates say
// where their revocation list is.
func (d *devDir) keepPort(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, err
	}
	b, err := os.ReadFile(d.file("port"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	earlier, _ := strconv.Atoi(strings.TrimSpace(string(b))) // a damaged one is none
	n, err := devserver.PickPort(ctx, earlier)
	if err != nil {
		return "", err
	}
	port = strconv.Itoa(n)
	return net.JoinHostPort(host, port), writeSecret(d.file("port"), port+"\n")
}

// writeConfig writes bindery.yaml and everything that it refers to.
func (d *devDir) writeConfig(o devOptions, backends []devBackend) error {
	pki, err := devserver.OpenPKI(d.file("tls"), time.Now)
	if err != nil {
		return err
	}
	c := devConfig{HTTP: o.http, HTTPS: o.https, ID: d.ids, Servers: backends, Store: "sqlite:bindery.db"}
	if c.TLS, err = pki.Server(); err != nil {
		return err
	}
	if o.store != "" {
		url, password, err := splitStoreURL(o.store)
		if err != nil {
			return err
		}
		if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
			// On the command line a relative name begins at the working directory.
			path, err := filepath.Abs(strings.TrimPrefix(path, "//"))
			if err != nil {
				return err
			}
			url = "sqlite:" + path
		}
		c.Store, c.StorePassword = url, !password.Empty()
		if c.StorePassword {
			if err := d.keep("store", password); err != nil {
				return err
			}
		}
	}
	if err := d.keyIsThere(o.store != ""); err != nil {
		return err
	}
	for name, make := range map[string]func() string{
		"seal-key":     func() string { return seal.NewKey().Reveal() },
		"osb-password": rand.Text,
		"admin-token":  rand.Text,
		"authn-key":    rand.Text,
	} {
		if _, err := d.secret(name, make); err != nil {
			return err
		}
	}
	if o.clientCA != "" {
		if c.ClientCA, err = filepath.Abs(o.clientCA); err != nil {
			return err
		}
	}
	if err := d.writeUpstreamCAs(pki.CAFile(), o.clientCA); err != nil {
		return err
	}
	for _, b := range backends {
		if err := d.keepSecrets(b); err != nil {
			return err
		}
	}
	for _, k := range devKinds {
		if slices.ContainsFunc(backends, func(b devBackend) bool { return b.Kind == k.Name }) {
			c.Offerings = append(c.Offerings, k)
		}
	}
	c.TLS.CertFile = config.InsideDir(d.path, c.TLS.CertFile)
	c.TLS.KeyFile = config.InsideDir(d.path, c.TLS.KeyFile)
	var text bytes.Buffer
	if err := devTemplate.Execute(&text, c); err != nil {
		return err
	}
	return writeSecret(d.file("bindery.yaml"), text.String())
}
