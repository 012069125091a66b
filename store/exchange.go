package store

import (
	"context"

	"bindery"
)

// Sole implements [bindery.Store].
func (s *Store) Sole() bool {
	_, sqlite := s.engine.(*sqliteStore)
	return sqlite
}

// Resolve implements [bindery.Store].
func (s *Store) Resolve(context.Context, string, string, bindery.AuthType, bindery.IdentityKeys) (bindery.Resolution, error) {
	return bindery.Resolution{}, errClosed
}

func (t *tx) ServiceTypes() bindery.ServiceTypes         { return nil }
func (t *tx) AuthMethods() bindery.AuthMethods           { return nil }
func (t *tx) IdentityBindings() bindery.IdentityBindings { return nil }
func (t *tx) Authentications() bindery.Authentications   { return nil }
