package storetest

import (
	"context"
	"time"

	"bindery"
)

// The tables of the identity face of a [Faulty] store.

type faultyServiceTypes struct {
	bindery.ServiceTypes
	fault func(table, method string) error
}

func (x faultyServiceTypes) Add(ctx context.Context, s bindery.ServiceType) error {
	return tell(x.fault, "service types", "Add", func() error { return x.ServiceTypes.Add(ctx, s) })
}

func (x faultyServiceTypes) Get(ctx context.Context, row int64) (bindery.ServiceType, error) {
	return ask(x.fault, "service types", "Get", func() (bindery.ServiceType, error) { return x.ServiceTypes.Get(ctx, row) })
}

func (x faultyServiceTypes) ByName(ctx context.Context, name string) (bindery.ServiceType, error) {
	return ask(x.fault, "service types", "ByName", func() (bindery.ServiceType, error) { return x.ServiceTypes.ByName(ctx, name) })
}

func (x faultyServiceTypes) ByUUID(ctx context.Context, uuid string) (bindery.ServiceType, error) {
	return ask(x.fault, "service types", "ByUUID", func() (bindery.ServiceType, error) { return x.ServiceTypes.ByUUID(ctx, uuid) })
}

func (x faultyServiceTypes) Save(ctx context.Context, s bindery.ServiceType) error {
	return tell(x.fault, "service types", "Save", func() error { return x.ServiceTypes.Save(ctx, s) })
}

func (x faultyServiceTypes) Remove(ctx context.Context, row int64) error {
	return tell(x.fault, "service types", "Remove", func() error { return x.ServiceTypes.Remove(ctx, row) })
}

func (x faultyServiceTypes) Purge(ctx context.Context, limit int) (int, error) {
	return ask(x.fault, "service types", "Purge", func() (int, error) { return x.ServiceTypes.Purge(ctx, limit) })
}

func (x faultyServiceTypes) List(ctx context.Context, p bindery.Page) ([]bindery.ServiceType, error) {
	return ask(x.fault, "service types", "List", func() ([]bindery.ServiceType, error) { return x.ServiceTypes.List(ctx, p) })
}

type faultyAuthMethods struct {
	bindery.AuthMethods
	fault func(table, method string) error
}

func (x faultyAuthMethods) Add(ctx context.Context, m bindery.AuthMethod) error {
	return tell(x.fault, "auth methods", "Add", func() error { return x.AuthMethods.Add(ctx, m) })
}

func (x faultyAuthMethods) ByHost(ctx context.Context, serviceRow int64, host string) (bindery.AuthMethod, error) {
	return ask(x.fault, "auth methods", "ByHost", func() (bindery.AuthMethod, error) { return x.AuthMethods.ByHost(ctx, serviceRow, host) })
}

func (x faultyAuthMethods) Save(ctx context.Context, m bindery.AuthMethod) error {
	return tell(x.fault, "auth methods", "Save", func() error { return x.AuthMethods.Save(ctx, m) })
}

func (x faultyAuthMethods) Remove(ctx context.Context, row int64) error {
	return tell(x.fault, "auth methods", "Remove", func() error { return x.AuthMethods.Remove(ctx, row) })
}

func (x faultyAuthMethods) List(ctx context.Context, services []int64, p bindery.Page) ([]bindery.AuthMethod, error) {
	return ask(x.fault, "auth methods", "List", func() ([]bindery.AuthMethod, error) { return x.AuthMethods.List(ctx, services, p) })
}

type faultyIdentityBindings struct {
	bindery.IdentityBindings
	fault func(table, method string) error
}

func (x faultyIdentityBindings) Add(ctx context.Context, b bindery.IdentityBinding) error {
	return tell(x.fault, "identity bindings", "Add", func() error { return x.IdentityBindings.Add(ctx, b) })
}

func (x faultyIdentityBindings) ByName(ctx context.Context, name string) (bindery.IdentityBinding, error) {
	return ask(x.fault, "identity bindings", "ByName", func() (bindery.IdentityBinding, error) { return x.IdentityBindings.ByName(ctx, name) })
}

func (x faultyIdentityBindings) Save(ctx context.Context, b bindery.IdentityBinding) error {
	return tell(x.fault, "identity bindings", "Save", func() error { return x.IdentityBindings.Save(ctx, b) })
}

func (x faultyIdentityBindings) Remove(ctx context.Context, row int64) error {
	return tell(x.fault, "identity bindings", "Remove", func() error { return x.IdentityBindings.Remove(ctx, row) })
}

func (x faultyIdentityBindings) List(ctx context.Context, f bindery.IdentityBindingFilter, p bindery.Page) ([]bindery.IdentityBinding, error) {
	return ask(x.fault, "identity bindings", "List", func() ([]bindery.IdentityBinding, error) { return x.IdentityBindings.List(ctx, f, p) })
}

type faultyAuthentications struct {
	bindery.Authentications
	fault func(table, method string) error
}

func (x faultyAuthentications) Record(ctx context.Context, seen []bindery.Authentication) error {
	return tell(x.fault, "authentications", "Record", func() error { return x.Authentications.Record(ctx, seen) })
}

func (x faultyAuthentications) List(ctx context.Context, bindingRow int64, p bindery.Page) ([]bindery.Authentication, error) {
	return ask(x.fault, "authentications", "List", func() ([]bindery.Authentication, error) { return x.Authentications.List(ctx, bindingRow, p) })
}

func (x faultyAuthentications) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return ask(x.fault, "authentications", "Prune", func() (int, error) { return x.Authentications.Prune(ctx, before, limit) })
}
