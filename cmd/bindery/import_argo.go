package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
	"bindery/exchange"
	"bindery/identity"
	"bindery/store"
	"bindery/telemetry"
)

func importCommand(st streams) *cobra.Command {
	return nounCommand("import", "Take over the records of another service", importArgoCommand(st))
}

func importArgoCommand(st streams) *cobra.Command {
	var file string
	var o importOptions
	c, s := command(st, &cobra.Command{
		Use:   "argo-authn DIR -c FILE",
		Short: "Take over the records of an ARGO Authentication service",
		Long: `Argo-authn reads what mongoexport writes of that service's collections,
DIR/service_types.json, DIR/auth_methods.json and DIR/bindings.json, one document a
line or one array, and adds what is not here yet, as it is: UUIDs, dates, names.
Nothing that is here is changed, so that it can be ended and repeated.

Each record that is not taken is printed with the reason, and so is what should be
known of one that is; --all prints the others too. Records that should be unique and
are not are all printed; the one that the old service could find is taken, and none
where it answered 500. Exit code 1 says that a record was not taken. A damaged or missing
file is found before anything is written.

It opens the store of the configuration itself: an SQLite store must not be in use.`,
		Example: `  bindery import argo-authn export --dry-run -c bindery.yaml
  bindery import argo-authn export -c bindery.yaml`,
		Args: exactly(1, 1),
	}, func(ctx context.Context, s *session, args []string) error {
		if file == "" {
			return usagef("say into the store of which configuration with -c FILE")
		}
		service, opened, err := openExchange(ctx, s, file)
		if err != nil {
			return err
		}
		i := &argoImport{s: s, o: o, dir: args[0], to: service.Import(exchange.Caller{Name: "bindery import"}, o.dryRun)}
		return errors.Join(i.run(ctx), opened.Close())
	})
	f := c.Flags()
	f.StringVarP(&file, "config", "c", "", "the configuration whose store it is")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be done")
	f.BoolVar(&o.allowMissing, "allow-missing", false, "take what there is where a collection's file is missing")
	f.BoolVar(&o.all, "all", false, "print a line for every record")
	s.printFlags(c)
	return c
}

// openExchange opens the identity face's service on the store of a configuration.
func openExchange(ctx context.Context, s *session, file string) (*exchange.Service, *store.Store, error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, nil, err
	}
	opened, err := openStore(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	face := &service{cfg: cfg, log: telemetry.NewLog(s.Err, &level)}
	face.catalog.Store(cfg.BackendCatalog())
	tokens, err := identity.NewTokens(tokenOptions(face, cfg.Identity.OIDC))
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	service, err := exchange.New(opened, exchangeOptions(face, tokens))
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	return service, opened, nil
}

type importOptions struct{ dryRun, allowMissing, all bool }

// importedAtOnce is how many records share a transaction.
const importedAtOnce = 100

// An argoImport is one run of the command.
type argoImport struct {
	s    *session
	o    importOptions
	dir  string
	to   *exchange.Import
	seen *repeats
	bar  *progress

	files  []collection // those that are there
	totals []importTotal
	now    *importTotal
	batch  []importJob
}

// An importTotal is what became of a collection's records.
type importTotal struct {
	Collection string `json:"collection"`
	Read       int    `json:"read"`
	Added      int    `json:"added"` // or would be
	Unchanged  int    `json:"unchanged"`
	Refused    int    `json:"refused"`
	Ignored    int    `json:"ignored"`
}

// An importJob is a record on its way.
type importJob struct {
	record
	file  string
	line  int
	notes []string
}

func (i *argoImport) run(ctx context.Context) (err error) {
	if err := i.find(); err != nil {
		return err
	}
	i.bar = i.s.progress("importing")
	i.seen = newRepeats()
	// Before anything is written all is read, for what should be unique.
	err = i.each(ctx, "reading", func(_ collection, _ int, r record, err error) error {
		for _, k := range r.keys() {
			if err := i.seen.see(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(i.seen.counts) > 0 {
		err = i.each(ctx, "counting", func(_ collection, _ int, r record, err error) error {
			for _, k := range r.keys() {
				i.seen.count(k)
			}
			return nil
		})
	}
	if err == nil {
		err = i.takeAll(ctx)
	}
	if err == nil {
		err = i.ignore(ctx)
	}
	i.bar.stop()
	if err != nil {
		return err
	}
	return i.conclude()
}

// find looks which files there are. That none is would be a mistake in the folder's name.
func (i *argoImport) find() error {
	var missing []error
	for _, c := range collections {
		d, err := openDocuments(filepath.Join(i.dir, c.file()), c.file())
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, fmt.Errorf("there is no %s in %s", c.file(), i.dir))
			continue
		}
		if err != nil {
			return err
		}
		if err := d.close(); err != nil {
			return err
		}
		i.files = append(i.files, c)
	}
	if len(missing) == len(collections) || (len(missing) > 0 && !i.o.allowMissing) {
		return hintf(errors.Join(missing...), "Export every collection with mongoexport, or take what there is with --allow-missing.")
	}
	return nil
}

// each reads every file once, and gives each record to f, or why it is none.
func (i *argoImport) each(ctx context.Context, doing string, f func(collection, int, record, error) error) error {
	for _, c := range i.files {
		if err := i.eachOf(ctx, doing, c, f); err != nil {
			return err
		}
	}
	return nil
}

func (i *argoImport) eachOf(ctx context.Context, doing string, c collection, f func(collection, int, record, error) error) (err error) {
	d, err := openDocuments(filepath.Join(i.dir, c.file()), c.file())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, line, err := d.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n%1000 == 0 {
			i.bar.say(fmt.Sprintf("%s %s %d%%", doing, c.file(), 100*d.dec.InputOffset()/max(1, d.size)))
		}
		var r record
		doc, err := newDocument(raw)
		if err == nil {
			r, err = c.read(doc)
		}
		if err := f(c, line, r, err); err != nil {
			return err
		}
	}
}

func (i *argoImport) takeAll(ctx context.Context) error {
	for _, c := range i.files {
		i.totals = append(i.totals, importTotal{Collection: c.name})
		i.now = &i.totals[len(i.totals)-1]
		err := i.eachOf(ctx, "taking", c, func(c collection, line int, r record, err error) error { return i.one(ctx, c, line, r, err) })
		if err == nil {
			err = i.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one judges a record, and takes it beside others.
func (i *argoImport) one(ctx context.Context, c collection, line int, r record, err error) error {
	i.now.Read++
	j := importJob{record: r, file: c.file(), line: line}
	if j.label == "" {
		j.label = "a document"
	}
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		why, j.notes = r.judge(i.seen)
	}
	if why != "" {
		if err := i.flush(ctx); err != nil { // lines stay in the order of the file
			return err
		}
		i.now.Refused++
		return i.report(j, "refused", why)
	}
	alone := r.twins(i.seen)
	if alone {
		if err := i.flush(ctx); err != nil {
			return err
		}
	}
	if i.batch = append(i.batch, j); alone || len(i.batch) >= importedAtOnce {
		return i.flush(ctx)
	}
	return nil
}

// flush takes the records of the batch, and reports them.
func (i *argoImport) flush(ctx context.Context) error {
	// Those that share a name are in a batch of their own; nothing else that is shared gets here.
	i.to.Distinct = len(i.batch) > 0 && !i.batch[0].twins(i.seen)
	records := make([]*exchange.ImportRecord, len(i.batch))
	for n, j := range i.batch {
		records[n] = j.take(ctx, i.to)
	}
	for n, r := range i.to.Take(ctx, records...) {
		if err := i.became(i.batch[n], r.Got, r.Err); err != nil {
			return err
		}
	}
	i.batch = i.batch[:0]
	return nil
}

func (i *argoImport) became(j importJob, got exchange.Imported, err error) error {
	switch {
	case err != nil && !exchange.Refused(err):
		return fmt.Errorf("%s, line %d: %s: %w", j.file, j.line, j.label, err)
	case err != nil:
		i.now.Refused++
		why := bindery.MessageOf(err)
		if bindery.CodeOf(err) == bindery.CodeNotFound {
			why += ": it refers to what is not here"
		}
		return i.report(j, "refused", why)
	case got == exchange.ImportAdded:
		i.now.Added++
	default:
		i.now.Unchanged++
	}
	for _, note := range j.notes {
		if err := i.report(j, "note", note); err != nil {
			return err
		}
	}
	if i.o.all {
		return i.report(j, string(got), "")
	}
	return nil
}

// report prints a line about one record. There are no secrets in it.
func (i *argoImport) report(j importJob, outcome, why string) error {
	if i.s.Terminal && !i.s.quiet {
		_, _ = fmt.Fprint(i.s.Err, "\r\x1b[K") // the progress, which is drawn again
	}
	if i.s.output == "json" {
		return i.s.printLine(struct {
			Outcome string `json:"outcome"`
			File    string `json:"file"`
			Line    int    `json:"line"`
			Record  string `json:"record"`
			Reason  string `json:"reason,omitempty"`
		}{outcome, j.file, j.line, j.label, why})
	}
	line := fmt.Sprintf("%-9s  %s:%d  %s", outcome, j.file, j.line, client.Printable(j.label))
	if why != "" {
		line += ": " + client.Printable(why)
	}
	_, err := fmt.Fprintln(i.s.Out, line)
	return err
}

// ignore counts what is left out on purpose.
func (i *argoImport) ignore(ctx context.Context) error {
	c := collection{ignoredCollection, func(document) (record, error) { return record{}, nil }}
	i.totals = append(i.totals, importTotal{Collection: c.name})
	total := &i.totals[len(i.totals)-1]
	err := i.eachOf(ctx, "reading", c, func(collection, int, record, error) error {
		total.Read++
		total.Ignored++
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		i.totals = i.totals[:len(i.totals)-1]
		return nil
	}
	return err
}

// conclude prints the totals, and is an error where a record was not taken.
func (i *argoImport) conclude() error {
	added, refused := "ADDED", 0
	if i.o.dryRun {
		added = "WOULD BE ADDED"
	}
	var t table
	t.add("COLLECTION", "READ", added, "UNCHANGED", "REFUSED", "IGNORED")
	for _, c := range i.totals {
		t.add(c.Collection, strconv.Itoa(c.Read), strconv.Itoa(c.Added), strconv.Itoa(c.Unchanged), strconv.Itoa(c.Refused), strconv.Itoa(c.Ignored))
		refused += c.Refused
	}
	var err error
	if i.s.output == "json" {
		err = i.s.printLine(struct {
			DryRun bool          `json:"dry_run"`
			Totals []importTotal `json:"totals"`
		}{i.o.dryRun, i.totals})
	} else {
		err = i.s.printTable(t)
	}
	if err == nil && refused > 0 {
		return fmt.Errorf("%d records were refused", refused)
	}
	return err
}
