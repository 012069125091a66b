package exchange

import (
	"context"
	"encoding/json"
	"errors"

	"bindery"
)

// A Caller is who administers: an admin key's name and what it may do.
type Caller struct {
	Name string
	// ReadOnly keys change nothing and see no secrets.
	ReadOnly bool
	// Services are the names of the service types that the key is limited to; nil: all.
	Services []string
	// RequestID goes into the audit. May be empty.
	RequestID string
}

// A Service is the identity face's whole work, safe for many callers at once.
type Service struct{}

var errTodo = errors.New("not built yet")

// What a caller sends of each object: nil is a field that was left out.
type (
	// ServiceTypeInput is a service type to be, or the changes of one.
	ServiceTypeInput struct {
		Name       *string
		Hosts      *[]string
		AuthTypes  *[]string
		AuthMethod *string
		Type       *string // not changeable; ignored in a change
	}
	// AuthMethodInput is an auth method to be, or the changes of one.
	AuthMethodInput struct {
		ServiceUUID *string // ignored at creation
		Host        *string
		Port        *int
		AccessKey   *string
		Headers     *map[string]string
	}
	// BindingInput is an identity binding to be, or the changes of one.
	BindingInput struct {
		Name        *string // ignored at creation
		ServiceUUID *string
		Host        *string
		AuthType    *string
		Identifier  *string
		UniqueKey   *string
		Issuer      *string
	}
)

// Errors of all methods: CodeInvalid with the texts of the face's table (422
// there), CodeForbidden where the caller may not, CodeNotFound, CodeConflict,
// CodeUnavailable.

// CreateServiceType makes a service type.
func (s *Service) CreateServiceType(ctx context.Context, by Caller, in ServiceTypeInput) (bindery.ServiceType, error) {
	return bindery.ServiceType{}, errTodo
}

// ServiceType finds one by its name.
func (s *Service) ServiceType(ctx context.Context, by Caller, name string) (bindery.ServiceType, error) {
	return bindery.ServiceType{}, errTodo
}

// UpdateServiceType changes what in names.
func (s *Service) UpdateServiceType(ctx context.Context, by Caller, name string, in ServiceTypeInput) (bindery.ServiceType, error) {
	return bindery.ServiceType{}, errTodo
}

// DeleteServiceType removes one with its auth methods and bindings.
func (s *Service) DeleteServiceType(ctx context.Context, by Caller, name string) error {
	return errTodo
}

// ServiceTypes returns a page of those that the caller may see.
func (s *Service) ServiceTypes(ctx context.Context, by Caller, p bindery.Page) ([]bindery.ServiceType, error) {
	return nil, errTodo
}

// CreateAuthMethod makes the auth method of a host, which in names.
func (s *Service) CreateAuthMethod(ctx context.Context, by Caller, service string, in AuthMethodInput) (bindery.AuthMethod, error) {
	return bindery.AuthMethod{}, errTodo
}

// AuthMethod finds the one of a host.
func (s *Service) AuthMethod(ctx context.Context, by Caller, service, host string) (bindery.AuthMethod, error) {
	return bindery.AuthMethod{}, errTodo
}

// UpdateAuthMethod changes what in names.
func (s *Service) UpdateAuthMethod(ctx context.Context, by Caller, service, host string, in AuthMethodInput) (bindery.AuthMethod, error) {
	return bindery.AuthMethod{}, errTodo
}

// DeleteAuthMethod removes the one of a host.
func (s *Service) DeleteAuthMethod(ctx context.Context, by Caller, service, host string) error {
	return errTodo
}

// AuthMethods returns a page of those that the caller may see.
func (s *Service) AuthMethods(ctx context.Context, by Caller, p bindery.Page) ([]bindery.AuthMethod, error) {
	return nil, errTodo
}

// CreateBinding makes a binding. own is the identity that the caller itself
// proved by certificate, whose name is taken where in has no identifier; nil for none.
func (s *Service) CreateBinding(ctx context.Context, by Caller, name string, in BindingInput, own *bindery.Identity) (bindery.IdentityBinding, error) {
	return bindery.IdentityBinding{}, errTodo
}

// Binding finds one by its name.
func (s *Service) Binding(ctx context.Context, by Caller, name string) (bindery.IdentityBinding, error) {
	return bindery.IdentityBinding{}, errTodo
}

// UpdateBinding changes what in names.
func (s *Service) UpdateBinding(ctx context.Context, by Caller, name string, in BindingInput) (bindery.IdentityBinding, error) {
	return bindery.IdentityBinding{}, errTodo
}

// DeleteBinding removes one.
func (s *Service) DeleteBinding(ctx context.Context, by Caller, name string) error { return errTodo }

// Bindings returns a page of those that the caller may see.
func (s *Service) Bindings(ctx context.Context, by Caller, p bindery.Page) ([]bindery.IdentityBinding, error) {
	return nil, errTodo
}

// BindingsOf returns a page of those of a service type on a host; with an
// identifier, those that it means, in any spelling. CodeNotFound where the service type or host is unknown.
func (s *Service) BindingsOf(ctx context.Context, by Caller, service, host, identifier string, p bindery.Page) ([]bindery.IdentityBinding, error) {
	return nil, errTodo
}

// Token returns the token that is bound to a proven identity, as JSON. Errors:
// CodeNotFound and CodeInvalid in the face's order and words, CodeUpstream,
// CodeTimeout; never with a cause from inside.
func (s *Service) Token(ctx context.Context, id bindery.Identity, service, host string) (json.RawMessage, error) {
	return nil, errTodo
}
