package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"

	"bindery/api"
	"bindery/api/authn"
	"bindery/config"
	"bindery/telemetry"
)

// reload reads the configuration again and puts to use what may change while
// requests are answered: all of it, or after any problem none of it.
func (s *service) reload(ctx context.Context) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	err := s.tryReload(ctx)
	s.metrics.Reload(err)
	if err == nil {
		return
	}
	attrs := []any{"config", s.file, "error", err.Error()}
	if inv, ok := errors.AsType[*config.Invalid](err); ok {
		problems := make([]string, len(inv.Problems))
		for i, p := range inv.Problems {
			problems[i] = (&config.Invalid{File: inv.File, Problems: []config.Problem{p}}).Error()
		}
		attrs = []any{"problems", problems}
	}
	s.log.Error("reload refused, everything stays as it was", attrs...)
}

func (s *service) tryReload(ctx context.Context) error {
	cfg, err := loadConfig(s.file)
	if err != nil {
		return err
	}
	if err := s.keeps(ctx, cfg); err != nil {
		return err
	}
	certificates, err := s.newCertificates(cfg)
	if err != nil {
		return err
	}
	// Credentials are checked on a set of their own, because setting cannot be undone.
	var platforms api.Platforms
	var tokens api.Tokens
	var keys authn.Keys
	if err := errors.Join(platforms.Set(platformsOf(cfg)), tokens.Set(tokensOf(cfg)), keys.Set(keysOf(cfg))); err != nil {
		return err
	}
	change, err := s.backends.prepare(s.servers(cfg))
	if err != nil {
		return err
	}

	s.backends.apply(change)
	s.catalog.Store(cfg.BackendCatalog())
	if err := errors.Join(s.platforms.Set(platformsOf(cfg)), s.tokens.Set(tokensOf(cfg)), s.keys.Set(keysOf(cfg))); err != nil {
		return err // not after the check above
	}
	for l, c := range certificates {
		l.tls.now.Store(c)
	}
	s.level.Set(telemetry.ParseLevel(cfg.Log.Level))
	for _, w := range cfg.Warnings() {
		s.log.Warn(w)
	}
	for _, key := range needRestart(s.began, cfg) {
		s.log.Warn("a change takes effect at the next start only", "key", key)
	}
	s.cfg = cfg
	s.log.Info("configuration reloaded", "config", s.file, "servers", change.log)
	// A provision that was under way may have used what has just gone.
	if err := s.keeps(ctx, cfg); err != nil {
		s.log.Error("an instance was made during the reload; bring back what it needs", "error", err.Error())
	}
	return nil
}

// newCertificates reads the TLS files of every listener that goes on.
func (s *service) newCertificates(cfg *config.Config) (map[*listener]*tls.Config, error) {
	out := map[*listener]*tls.Config{}
	for i, l := range s.listeners {
		if i >= len(cfg.Listeners) || l.tls == nil || cfg.Listeners[i].TLS == nil || cfg.Listeners[i].Address != l.address {
			continue
		}
		c, err := loadTLS(cfg.Listeners[i])
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", cfg.Listeners[i].Address, err)
		}
		out[l] = c
	}
	return out, nil
}

// needRestart names what differs and is only read at a start.
func needRestart(old, now *config.Config) []string {
	var keys []string
	differs := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			keys = append(keys, key)
		}
	}
	differs("store", old.Store, now.Store)
	differs("seal", old.Seal, now.Seal)
	differs("listeners", bare(old.Listeners), bare(now.Listeners))
	differs("metrics", old.Metrics, now.Metrics)
	differs("identity", unkeyed(old.Identity), unkeyed(now.Identity))
	differs("limits", old.Limits, now.Limits)
	differs("retention", old.Retention, now.Retention)
	differs("reconcile", old.Reconcile, now.Reconcile)
	differs("options", old.Options, now.Options)
	return keys
}

// unkeyed leaves out what a reload does change.
func unkeyed(i config.Identity) config.Identity {
	i.Keys = nil
	return i
}

// bare leaves out what a reload does change.
func bare(ls []config.Listener) []config.Listener {
	out := make([]config.Listener, len(ls))
	for i, l := range ls {
		if l.TLS != nil {
			l.TLS = &config.TLS{}
		}
		out[i] = l
	}
	return out
}
