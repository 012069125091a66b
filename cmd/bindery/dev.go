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
	"sync"
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
	f.StringSliceVar(&o.services, "services", devServices(devKinds), "services to offer")
	f.StringVar(&o.store, "store", "", "the store's URL (default: an SQLite file in the directory)")
	f.StringVar(&o.clientCA, "client-ca", "", "a folder of authorities (*.pem, *.crt, *.0) whose client certificates are believed, too")
	f.StringVar(&o.readyFile, "ready-file", "", "a file to write when requests are answered")
	return c
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

	if o.http, err = d.keepPort(ctx, o.http); err != nil {
		return err
	}
	backends, err := startBackends(ctx, st, d, o)
	defer func() { err = errors.Join(err, stopBackends(backends)) }()
	if err != nil {
		return err
	}
	identity, err := startDevIdentity(ctx, d)
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
	known := devServices(devKinds)
	for _, name := range o.services {
		if !slices.Contains(known, name) {
			return usagef("--services: %q is none of %s", name, strings.Join(known, ", "))
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

// startBackends starts the servers, all at once. Missing programs are said and
// skipped, unless their services were asked for by name. What it returns must be
// stopped, with an error too.
func startBackends(ctx context.Context, st streams, d *devDir, o devOptions) (all []devBackend, err error) {
	started := make([][]devBackend, len(devKinds))
	failed := make([]error, len(devKinds))
	var running sync.WaitGroup
	for i, k := range devKinds {
		if slices.Contains(o.services, k.Name) {
			running.Go(func() { started[i], failed[i] = k.start(ctx, d, o) })
		}
	}
	running.Wait()
	var missing []devKind
	for i, k := range devKinds {
		all = append(all, started[i]...)
		switch {
		case errors.Is(failed[i], devserver.ErrMissing) && !o.asked:
			missing = append(missing, k)
		case errors.Is(failed[i], devserver.ErrMissing):
			err = errors.Join(err, fmt.Errorf("%s: %w\n%s", k.Name, failed[i], installHint(k)))
		case failed[i] != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", k.Name, failed[i]))
		}
	}
	if len(missing) > 0 && err == nil {
		_, _ = fmt.Fprintf(st.Err, "bindery: going on without %s: program not found (%s)\n",
			strings.Join(devServices(missing), ", "), installHint(missing...))
	}
	return all, err
}

func stopBackends(all []devBackend) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	g := newGroup()
	for _, b := range all {
		if b.process != nil {
			g.run(ctx, "stop "+b.Name, b.process.Stop)
		}
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
