package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bindery"
)

// Store returns s with its transactions counted and measured.
func (m *Metrics) Store(s bindery.Store) bindery.Store {
	return &store{
		Store: s, m: m,
		update: m.storeSeconds.WithLabelValues("update"), view: m.storeSeconds.WithLabelValues("view"),
	}
}

type store struct {
	bindery.Store
	m            *Metrics
	update, view prometheus.Observer
}

func (s *store) Update(ctx context.Context, f func(bindery.Tx) error) error {
	begun := time.Now()
	err := s.Store.Update(ctx, f)
	s.update.Observe(time.Since(begun).Seconds())
	s.m.storeTransactions.WithLabelValues("update", outcome(err)).Inc()
	return err
}

func (s *store) View(ctx context.Context, f func(bindery.Tx) error) error {
	begun := time.Now()
	err := s.Store.View(ctx, f)
	s.view.Observe(time.Since(begun).Seconds())
	s.m.storeTransactions.WithLabelValues("view", outcome(err)).Inc()
	return err
}
