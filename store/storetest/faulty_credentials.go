package storetest

import (
	"context"
	"time"

	"bindery"
)

// The tables of a [Faulty] store that some kinds of credentials need.

type faultyStock struct {
	bindery.Stock
	fault func(table, method string) error
}

func (x faultyStock) Take(ctx context.Context, server string, items []string, accountRow int64) (bindery.StockItem, error) {
	return ask(x.fault, "stock", "Take", func() (bindery.StockItem, error) { return x.Stock.Take(ctx, server, items, accountRow) })
}

func (x faultyStock) OfAccount(ctx context.Context, accountRow int64) (bindery.StockItem, error) {
	return ask(x.fault, "stock", "OfAccount", func() (bindery.StockItem, error) { return x.Stock.OfAccount(ctx, accountRow) })
}

func (x faultyStock) ByName(ctx context.Context, server, name string) (bindery.StockItem, error) {
	return ask(x.fault, "stock", "ByName", func() (bindery.StockItem, error) { return x.Stock.ByName(ctx, server, name) })
}

func (x faultyStock) Save(ctx context.Context, i bindery.StockItem, from bindery.StockState) error {
	return tell(x.fault, "stock", "Save", func() error { return x.Stock.Save(ctx, i, from) })
}

func (x faultyStock) List(ctx context.Context, server string, p bindery.Page) ([]bindery.StockItem, error) {
	return ask(x.fault, "stock", "List", func() ([]bindery.StockItem, error) { return x.Stock.List(ctx, server, p) })
}

type faultyAuthorities struct {
	bindery.Authorities
	fault func(table, method string) error
}

func (x faultyAuthorities) Add(ctx context.Context, a bindery.Authority) error {
	return tell(x.fault, "authorities", "Add", func() error { return x.Authorities.Add(ctx, a) })
}

func (x faultyAuthorities) Get(ctx context.Context, server string) (bindery.Authority, error) {
	return ask(x.fault, "authorities", "Get", func() (bindery.Authority, error) { return x.Authorities.Get(ctx, server) })
}

func (x faultyAuthorities) NextCRL(ctx context.Context, server string) (int64, error) {
	return ask(x.fault, "authorities", "NextCRL", func() (int64, error) { return x.Authorities.NextCRL(ctx, server) })
}

type faultyCertificates struct {
	bindery.Certificates
	fault func(table, method string) error
}

func (x faultyCertificates) Add(ctx context.Context, c bindery.IssuedCertificate) error {
	return tell(x.fault, "certificates", "Add", func() error { return x.Certificates.Add(ctx, c) })
}

func (x faultyCertificates) BySerial(ctx context.Context, server, serial string) (bindery.IssuedCertificate, error) {
	return ask(x.fault, "certificates", "BySerial", func() (bindery.IssuedCertificate, error) { return x.Certificates.BySerial(ctx, server, serial) })
}

func (x faultyCertificates) ByName(ctx context.Context, server, name string) (bindery.IssuedCertificate, error) {
	return ask(x.fault, "certificates", "ByName", func() (bindery.IssuedCertificate, error) { return x.Certificates.ByName(ctx, server, name) })
}

func (x faultyCertificates) Revoke(ctx context.Context, server, name string, at time.Time) error {
	return tell(x.fault, "certificates", "Revoke", func() error { return x.Certificates.Revoke(ctx, server, name, at) })
}

func (x faultyCertificates) List(ctx context.Context, server string, revoked bool, after time.Time, p bindery.Page) ([]bindery.IssuedCertificate, error) {
	return ask(x.fault, "certificates", "List", func() ([]bindery.IssuedCertificate, error) {
		return x.Certificates.List(ctx, server, revoked, after, p)
	})
}

func (x faultyCertificates) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return ask(x.fault, "certificates", "Prune", func() (int, error) { return x.Certificates.Prune(ctx, before, limit) })
}
