package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/devserver"
)

// devOptions are the flags of `bindery dev`.
type devOptions struct {
	dir, http, https string
	services         []string
	asked            bool // the services were named, so each must start
	store, readyFile string
	clientCA         string
}

func devCommand(st streams) *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Start everything on this machine: servers, certificates, credentials, Bindery",
		Long: "Start everything on this machine, in one process: private servers for the services whose\n" +
			"programs are installed, a certificate authority, credentials, and Bindery. It is all kept in one\n" +
			"directory, and a second start with it finds everything again. For production see bindery serve.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.asked = cmd.Flags().Changed("services")
			ctx, stop := untilStopped(cmd.Context())
			defer stop()
			return runDev(ctx, st, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "./.bindery", "the directory for everything")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "address for HTTP; port 0 picks one")
	f.StringVar(&o.https, "https", "127.0.0.1:8443", "address for HTTPS; port 0 picks one")
	f.StringSliceVar(&o.services, "services", devServices, "services to start")
	f.StringVar(&o.store, "store", "", "the store's URL (default: an SQLite file in the directory)")
	f.StringVar(&o.clientCA, "client-ca", "", "a folder of authorities (*.pem, *.crt, *.0) whose client certificates are believed, too")
	f.StringVar(&o.readyFile, "ready-file", "", "a file to write when requests are answered")
	return c
}

// The services that dev knows, in the catalog's order.
const (
	devRedis    = "redis"
	devPostgres = "postgresql"
)

var devServices = []string{devRedis, devPostgres}

// A devBackend is a private server and what the configuration says of it.
type devBackend struct {
	name, kind string // of the server in the configuration
	address    string
	username   string
	password   bindery.Secret
	process    *devserver.Process
}

// stopLimit bounds how long dev waits for one of its servers to stop.
const stopLimit = 20 * time.Second

func runDev(ctx context.Context, st streams, o devOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	d, err := openDevDir(o.dir)
	if err != nil {
		return err
	}
	defer d.unlock()
	ready := []string{d.file("ready.json")}
	if o.readyFile != "" {
		name, err := filepath.Abs(o.readyFile)
		if err != nil {
			return err
		}
		ready = append(ready, name)
	}
	// What an earlier start wrote is not true any more, and is not left behind.
	removeFiles(ready)
	defer removeFiles(ready)

	backends, err := startBackends(ctx, st, d, o)
	defer func() { err = errors.Join(err, stopBackends(backends)) }()
	if err != nil {
		return err
	}
	identity, err := startDevIdentity(ctx, d, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, identity.sample.Close()) }()
	if err := d.writeConfig(o, backends); err != nil {
		return err
	}
	s, err := newService(ctx, st, d.file("bindery.yaml"))
	if err != nil {
		return err
	}
	s.engine.runs["servers"] = func(ctx context.Context) error { return supervise(ctx, s.log, backends) }
	if err := identity.seed(ctx, s.identity.service); err != nil {
		return errors.Join(err, s.close())
	}
	s.ready = func() error {
		report := d.report(s, identity)
		for _, name := range ready {
			if err := writeReady(name, report); err != nil {
				return err
			}
		}
		return banner(st, d, ready[len(ready)-1], report)
	}
	return s.Run(ctx)
}

func (o *devOptions) check() error {
	for _, name := range o.services {
		if !slices.Contains(devServices, name) {
			return usagef("--services: %q is none of %s", name, strings.Join(devServices, ", "))
		}
	}
	if len(o.services) == 0 {
		return usagef("--services names none")
	}
	for flag, address := range map[string]string{"--http": o.http, "--https": o.https} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return usagef("%s must be host:port", flag)
		}
	}
	return nil
}

// startBackends starts the servers. A missing program is said and skipped,
// unless its service was asked for by name. What it returns must be stopped,
// with an error too.
func startBackends(ctx context.Context, st streams, d *devDir, o devOptions) (all []devBackend, err error) {
	starts := map[string]func() ([]devBackend, error){
		devRedis:    func() ([]devBackend, error) { return startDevRedis(ctx, d) },
		devPostgres: func() ([]devBackend, error) { return startDevPostgres(ctx, d) },
	}
	var missing []string
	for _, name := range devServices {
		if !slices.Contains(o.services, name) {
			continue
		}
		started, err := starts[name]()
		all = append(all, started...)
		switch {
		case errors.Is(err, devserver.ErrMissing) && !o.asked:
			missing = append(missing, name)
			_, _ = fmt.Fprintf(st.Err, "bindery: going on without %s: %v (%s)\n", name, err, installHint[name])
		case errors.Is(err, devserver.ErrMissing):
			return all, fmt.Errorf("%s: %w\n%s", name, err, installHint[name])
		case err != nil:
			return all, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no program for any service (%s): %w\ninstall one, for example: apt-get install redis-server postgresql",
			strings.Join(missing, ", "), devserver.ErrMissing)
	}
	return all, nil
}

var installHint = map[string]string{
	devRedis:    "on Debian: apt-get install redis-server",
	devPostgres: "on Debian: apt-get install postgresql",
}

// startDevRedis starts two: one that instances share, one for an instance alone.
func startDevRedis(ctx context.Context, d *devDir) (all []devBackend, err error) {
	for _, name := range []string{"redis", "redis-whole"} {
		r, err := devserver.StartRedis(ctx, devserver.RedisOptions{Dir: d.file(filepath.Join("servers", name)), ACLFile: true, AppendOnly: true})
		if err != nil {
			return all, err
		}
		all = append(all, devBackend{
			name: name, kind: kindRedis, address: r.Addr, username: r.User, password: r.Password, process: r.Process,
		})
	}
	return all, nil
}

func startDevPostgres(ctx context.Context, d *devDir) ([]devBackend, error) {
	p, err := devserver.StartPostgres(ctx, devserver.PostgresOptions{Dir: d.file("servers/postgresql")})
	if err != nil {
		return nil, err
	}
	return []devBackend{{
		name: "postgresql", kind: kindPostgres, address: p.Addr, username: p.User, password: p.Password, process: p.Process,
	}}, nil
}

func stopBackends(all []devBackend) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	g := newGroup()
	for _, b := range all {
		g.run(ctx, "stop "+b.name, b.process.Stop)
	}
	g.wait(2 * stopLimit)
	return g.failure()
}

// splitStoreURL takes the password out of a store's URL: it is kept in a file.
func splitStoreURL(raw string) (rest string, password bindery.Secret, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", password, errors.New("--store is not a URL") // err would repeat it
	}
	if pw, ok := u.User.Password(); ok {
		u.User = url.User(u.User.Username())
		return u.String(), bindery.NewSecret(pw), nil
	}
	return raw, password, nil
}

func removeFiles(names []string) {
	for _, n := range names {
		_ = os.Remove(n) // there may be none
	}
}
