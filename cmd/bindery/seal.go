package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"bindery/api/admin"
	"bindery/client"
	"bindery/config"
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

const sealHelp = "With -c the command opens the store itself. An SQLite file can be open in one process only:\n" +
	"while bindery serve runs on it, leave -c out, and the running service is asked.\n\n" + adminHelp

// A sealer is what does the work: a store, or the admin API of a running service.
type sealer interface {
	SealStatus(ctx context.Context) (client.SealStatus, error)
	RotateSeal(ctx context.Context) (client.SealRotation, error)
}

func sealStatusCommand(st streams) *cobra.Command {
	return sealerCommand(st, &cobra.Command{
		Use:   "status [-c FILE]",
		Short: "Say which key seals how many records",
	}, func(ctx context.Context, s *session, w sealer) error { return s.printSeal(ctx, w) })
}

func sealRotateCommand(st streams) *cobra.Command {
	return sealerCommand(st, &cobra.Command{
		Use:   "rotate [-c FILE]",
		Short: "Seal every record anew, under the configuration's current key",
	}, func(ctx context.Context, s *session, w sealer) error {
		bar := s.progress("sealing")
		done, err := w.RotateSeal(ctx)
		bar.stop()
		if err != nil {
			return s.explainAdmin(err)
		}
		s.note("%d records sealed anew, %d older data keys dropped", done.Records, done.Dropped)
		return s.printSeal(ctx, w)
	})
}

// sealerCommand makes c a command on the store of a configuration, or on a running service.
func sealerCommand(st streams, c *cobra.Command, work func(context.Context, *session, sealer) error) *cobra.Command {
	var file string
	c.Args, c.Long = exactly(0, 0), c.Short+".\n\n"+sealHelp
	c, s := command(st, c, func(ctx context.Context, s *session, _ []string) error {
		if file == "" {
			a, err := s.admin()
			if err != nil {
				return err
			}
			return work(ctx, s, a)
		}
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		opened, err := openStore(ctx, cfg)
		if err != nil {
			return err
		}
		return errors.Join(work(ctx, s, sealedStore{opened}), opened.Close())
	})
	c.Flags().StringVarP(&file, "config", "c", "", "open the store of this configuration")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	s.flags(c)
	s.adminFlags(c)
	return c
}

func (s *session) printSeal(ctx context.Context, w sealer) error {
	status, err := w.SealStatus(ctx)
	if err != nil {
		return s.explainAdmin(err)
	}
	if s.output == "json" {
		return s.printJSON(status)
	}
	var t table
	t.add("DATA KEY", "MASTER KEY", "MASTER IS CURRENT", "RECORDS", "MADE")
	for _, k := range status.Keys {
		t.add(strconv.FormatInt(k.ID, 10), k.Master, yes(k.Master == status.Master), strconv.Itoa(k.Records), showTime(k.Created))
	}
	return s.printTable(t)
}

// A sealedStore is a store as the commands see it.
type sealedStore struct{ *store.Store }

func (s sealedStore) SealStatus(ctx context.Context) (client.SealStatus, error) {
	status, err := s.Store.SealStatus(ctx)
	out := client.SealStatus{Master: status.Master}
	for _, k := range status.Keys {
		out.Keys = append(out.Keys, client.SealKey(k))
	}
	return out, err
}

func (s sealedStore) RotateSeal(ctx context.Context) (client.SealRotation, error) {
	done, err := s.Store.RotateSeal(ctx, nil)
	return client.SealRotation(done), err
}

// An adminSealer is a store as the admin face sees it.
type adminSealer struct{ *store.Store }

func (s adminSealer) SealStatus(ctx context.Context) (admin.SealStatus, error) {
	status, err := s.Store.SealStatus(ctx)
	out := admin.SealStatus{Master: status.Master}
	for _, k := range status.Keys {
		out.Keys = append(out.Keys, admin.SealKey(k))
	}
	return out, err
}

func (s adminSealer) RotateSeal(ctx context.Context) (admin.Rotated, error) {
	done, err := s.Store.RotateSeal(ctx, nil)
	return admin.Rotated(done), err
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
