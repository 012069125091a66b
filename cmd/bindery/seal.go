package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bindery/config"
	"bindery/driver"
	"bindery/seal"
	"bindery/store"
)

func sealCommand(st streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "seal",
		Short: "Say which keys seal the store's secrets, and rotate them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use:   "new-key",
			Short: "Print a new sealing key",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(st.Out, seal.NewKey().Reveal())
				return err
			},
		},
		sealStatusCommand(st),
		sealRotateCommand(st),
	)
	return c
}

const offline = "The command opens the store itself. An SQLite file can be open in one process only: while\n" +
	"bindery serve runs on it, use the admin API instead, GET /admin/v1/seal/status and POST\n/admin/v1/seal/rotate."

func sealStatusCommand(st streams) *cobra.Command {
	return withStore(&cobra.Command{
		Use:   "status -c FILE",
		Short: "Say which key seals how many records",
	}, func(ctx context.Context, s *store.Store) error { return printSeal(ctx, st, s) })
}

func sealRotateCommand(st streams) *cobra.Command {
	return withStore(&cobra.Command{
		Use:   "rotate -c FILE",
		Short: "Seal every record anew, under the configuration's current key",
	}, func(ctx context.Context, s *store.Store) error {
		progress := func(records int) {
			if st.Terminal {
				_, _ = fmt.Fprintf(st.Err, "\r%d records ", records)
			}
		}
		if _, err := s.RotateSeal(ctx, progress); err != nil {
			return err
		}
		return printSeal(ctx, st, s)
	})
}

// withStore makes c a command that opens the store of a configuration.
func withStore(c *cobra.Command, work func(context.Context, *store.Store) error) *cobra.Command {
	var file string
	c.Args, c.Long = cobra.NoArgs, c.Short+".\n\n"+offline
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilStopped(cmd.Context())
		defer stop()
		cfg, err := config.Load(file, driver.Kinds)
		if err != nil {
			return err
		}
		s, err := openStore(ctx, cfg)
		if err != nil {
			return err
		}
		return errors.Join(work(ctx, s), s.Close())
	}
	fileFlag(c, &file)
	return c
}

func printSeal(ctx context.Context, st streams, s *store.Store) error {
	status, err := s.SealStatus(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(st.Out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "current master key\t%s\n\n", status.Master)
	_, _ = fmt.Fprintln(w, "DATA KEY\tMASTER KEY\tRECORDS\tMADE")
	for _, k := range status.Keys {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%d\t%s\n", k.ID, k.Master, k.Records, k.Created.UTC().Format(time.RFC3339))
	}
	return w.Flush()
}

func openKeys(cfg *config.Config) (*seal.Keyring, error) {
	current, err := seal.ParseKey(cfg.Seal.Key.Secret().Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: seal.key: %w", cfg.Path(), err)
	}
	previous := make([]seal.Key, 0, len(cfg.Seal.Previous))
	for i, ref := range cfg.Seal.Previous {
		k, err := seal.ParseKey(ref.Secret().Reveal())
		if err != nil {
			return nil, fmt.Errorf("%s: seal.previous[%d]: %w", cfg.Path(), i, err)
		}
		previous = append(previous, k)
	}
	return seal.NewKeyring(current, previous...)
}

func openStore(ctx context.Context, cfg *config.Config) (*store.Store, error) {
	keys, err := openKeys(cfg)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{URL: cfg.StoreURL().Reveal(), Keys: keys})
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}
