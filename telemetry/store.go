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
		resolve: m.storeSeconds.WithLabelValues("resolve"), resolved: m.storeTransactions.WithLabelValues("resolve", outcome(nil)),
	}
}

type store struct {
	bindery.Store
	m                     *Metrics
	update, view, resolve prometheus.Observer
	resolved              prometheus.Counter
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

func (s *store) Resolve(
	ctx context.Context, service, host string, auth bindery.AuthType, keys bindery.IdentityKeys,
) (bindery.Resolution, error) {
	begun := time.Now()
	out, err := s.Store.Resolve(ctx, service, host, auth, keys)
	s.resolve.Observe(time.Since(begun).Seconds())
	if err == nil {
		s.resolved.Inc()
	} else {
		s.m.storeTransactions.WithLabelValues("resolve", outcome(err)).Inc()
	}
	return out, err
}
