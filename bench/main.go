// Command bench measures how many binds and unbinds a second Bindery makes over
// HTTP, beside the bare statements that no tool could do without, on the same
// servers in the same run.
//
//	go run ./bench                       # everything that the README quotes: about a quarter of an hour
//	go run ./bench -quick                # the same in about a minute, with less to rely on
//	go run ./bench -only redis -clients 16 -cpuprofile /tmp/profiles
//
// It starts servers of its own, each when it is needed, and the bindery program as a
// process of its own, with plain HTTP on loopback and an SQLite store. Kinds whose
// programs are not installed are left out, and it says so. Whatever
// is compared runs in turn, in short windows: a pair is one window of each, one
// after the other, and a ratio is that of a pair. What the table shows is the
// median of the pairs and, in parentheses, the least and the most. The load comes
// from the same machine and takes its share of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bindery/devserver"
	"bindery/devserver/natsd"
)

// options are the flags.
type options struct {
	only    string
	clients []int

	clientsGiven bool
	pairs        int
	duration     time.Duration
	rows         int
	quick        bool
	workers      int
	binary       string
	keep         string
	cpuprofile   string
}

func main() {
	natsd.Main() // the NATS server that is measured is this program, too
	if settings := os.Getenv(bareEnv); settings != "" {
		var s bareServer
		err := json.Unmarshal([]byte(settings), &s)
		if err == nil {
			err = s.run()
		}
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (options, error) {
	o := options{clients: []int{1, 8, 16, 32}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.only, "only", "", "one of "+strings.Join(parts, ", ")+"; empty: all")
	f.IntVar(&o.pairs, "pairs", 5, "how often each comparison is made")
	f.DurationVar(&o.duration, "duration", 1500*time.Millisecond, "how long a window is")
	f.IntVar(&o.rows, "rows", 1_000_000, "bindings in the large store")
	f.BoolVar(&o.quick, "quick", false, "three pairs of short windows, and 100,000 bindings")
	f.IntVar(&o.workers, "workers", 0, "workers for each server, and connections to it; 0: what Bindery's defaults are")
	f.StringVar(&o.binary, "bindery", "", "the program to measure; empty: it is built from this module")
	f.StringVar(&o.keep, "dir", "", "where to keep stores and logs; empty: a temporary directory, removed at the end")
	f.StringVar(&o.cpuprofile, "cpuprofile", "", "a directory for CPU profiles of Bindery while it binds and unbinds")
	f.Func("clients", "numbers of clients, separated by commas (default 1,8,16,32 for postgresql and redis, 8 for other kinds)", func(s string) error {
		o.clients, o.clientsGiven = nil, true
		for field := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 {
				return errors.New("must be whole numbers from 1")
			}
			o.clients = append(o.clients, n)
		}
		return nil
	})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["pairs"] {
			o.pairs = 3
		}
		if !given["duration"] {
			o.duration = 300 * time.Millisecond
		}
		if !given["rows"] {
			o.rows = 100_000
		}
	}
	if f.NArg() > 0 || o.pairs < 1 || o.duration <= 0 || o.rows < smallRows ||
		o.only != "" && !slices.Contains(parts, o.only) {
		return o, errors.New("see -help for what the flags take")
	}
	return o, nil
}

const (
	onlyRows         = "rows"
	onlyIdentityRows = "identity-rows"
)

// parts are what -only can name.
var parts = append(kindNames(), onlyIdentity, onlyRows, onlyIdentityRows)

// A bench is one run.
type bench struct {
	options
	progress io.Writer
	program  string
	dir      string
	started  int      // servers, so far
	facts    []string // about what the figures depend on
	table    table
	closers  []func() error
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	b := &bench{options: o, progress: progress, dir: o.keep}
	defer func() {
		for _, c := range slices.Backward(b.closers) {
			err = errors.Join(err, c())
		}
	}()
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "bindery-bench-"); err != nil {
			return err
		}
		b.closers = append(b.closers, func() error { return os.RemoveAll(b.dir) })
	} else if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if b.facts, err = b.machine(); err != nil {
		return err
	}
	if b.program, err = b.build(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	return b.table.write(out, b.facts)
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", args...)
}

// measure fills the table.
func (b *bench) measure(ctx context.Context) error {
	for _, part := range parts {
		if b.only != "" && b.only != part {
			continue
		}
		err := b.part(ctx, part)
		if errors.Is(err, devserver.ErrMissing) && b.only == "" {
			b.say("%s is left out: %v", part, err)
			b.facts = append(b.facts, fmt.Sprintf("%s is left out: %v", part, err))
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) part(ctx context.Context, part string) error {
	switch part {
	case onlyIdentity:
		return b.compareIdentity(ctx)
	case onlyRows:
		return b.compareRows(ctx)
	case onlyIdentityRows:
		i, err := b.newIdentityBench(ctx)
		if err != nil {
			return err
		}
		return i.compareIdentityRows(ctx)
	}
	return b.compareBare(ctx, part)
}

// compareBare compares a kind with the bare statements.
func (b *bench) compareBare(ctx context.Context, name string) error {
	running, err := b.start(ctx, name)
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, "beside-"+name, smallRows, running)
	if err != nil {
		return err
	}
	all := []contender{s.contender(name)}
	for _, c := range running.beside {
		all = append(all, c.contender)
	}
	for _, clients := range b.clientsOf(running.kind) {
		rounds, err := b.rounds(ctx, all, clients)
		if err != nil {
			return fmt.Errorf("%s, %d clients: %w", name, clients, err)
		}
		b.table.addBare(running, clients, rounds)
		if err := b.profile(ctx, s, name, clients); err != nil {
			return err
		}
	}
	return errors.Join(s.stop(), running.stop())
}

// compareRows compares Bindery on a small store with Bindery on a large one.
func (b *bench) compareRows(ctx context.Context) error {
	var backends []*backend
	for _, name := range parkedKinds {
		running, err := b.start(ctx, name)
		if err != nil {
			return err
		}
		backends = append(backends, running)
	}
	small, err := b.serve(ctx, "small", smallRows, backends...)
	if err != nil {
		return err
	}
	large, err := b.serve(ctx, "large", b.rows, backends...)
	if err != nil {
		return err
	}
	for _, running := range backends {
		clients := rowClients[running.name]
		rounds, err := b.rounds(ctx, []contender{large.contender(running.name), small.contender(running.name)}, clients)
		if err != nil {
			return fmt.Errorf("%s, %d bindings: %w", running.name, b.rows, err)
		}
		b.table.addRows(running.kind, clients, b.rows, rounds)
	}
	errs := []error{large.stop(), small.stop()}
	for _, running := range backends {
		errs = append(errs, running.stop())
	}
	return errors.Join(errs...)
}
