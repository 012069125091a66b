package storetest

import (
	"context"
	"time"

	"bindery"
)

// Faulty returns a store that does what s does, except that fault is asked before
// every call and its error, where it has one, is returned instead. It is told the
// table and the method: "accounts" and "Save". The calls of the store itself have
// table "store" and methods "Update", "View", "NewID", "Resolve", "Ping", and "Commit": the end
// of a function given to Update, where an error undoes everything.
//
// fault may be called by many goroutines at once.
func Faulty(s bindery.Store, fault func(table, method string) error) bindery.Store {
	return faulty{Store: s, fault: fault}
}

type faulty struct {
	bindery.Store
	fault func(table, method string) error
}

func (s faulty) Update(ctx context.Context, f func(bindery.Tx) error) error {
	if err := s.fault("store", "Update"); err != nil {
		return err
	}
	return s.Store.Update(ctx, func(t bindery.Tx) error {
		if err := f(faultyTx{t, s.fault}); err != nil {
			return err
		}
		return s.fault("store", "Commit")
	})
}

func (s faulty) View(ctx context.Context, f func(bindery.Tx) error) error {
	if err := s.fault("store", "View"); err != nil {
		return err
	}
	return s.Store.View(ctx, func(t bindery.Tx) error { return f(faultyTx{t, s.fault}) })
}

func (s faulty) NewID(ctx context.Context) (int64, error) {
	if err := s.fault("store", "NewID"); err != nil {
		return 0, err
	}
	return s.Store.NewID(ctx)
}

func (s faulty) Resolve(
	ctx context.Context, service, host string, auth bindery.AuthType, keys bindery.IdentityKeys,
) (bindery.Resolution, error) {
	return ask(s.fault, "store", "Resolve", func() (bindery.Resolution, error) { return s.Store.Resolve(ctx, service, host, auth, keys) })
}

func (s faulty) Ping(ctx context.Context) error {
	if err := s.fault("store", "Ping"); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}

type faultyTx struct {
	bindery.Tx
	fault func(table, method string) error
}

func (t faultyTx) Instances() bindery.Instances { return faultyInstances{t.Tx.Instances(), t.fault} }
func (t faultyTx) Bindings() bindery.Bindings   { return faultyBindings{t.Tx.Bindings(), t.fault} }
func (t faultyTx) Accounts() bindery.Accounts   { return faultyAccounts{t.Tx.Accounts(), t.fault} }
func (t faultyTx) Operations() bindery.Operations {
	return faultyOperations{t.Tx.Operations(), t.fault}
}
func (t faultyTx) Events() bindery.Events       { return faultyEvents{t.Tx.Events(), t.fault} }
func (t faultyTx) Processes() bindery.Processes { return faultyProcesses{t.Tx.Processes(), t.fault} }

func (t faultyTx) ServiceTypes() bindery.ServiceTypes {
	return faultyServiceTypes{t.Tx.ServiceTypes(), t.fault}
}

func (t faultyTx) AuthMethods() bindery.AuthMethods {
	return faultyAuthMethods{t.Tx.AuthMethods(), t.fault}
}

func (t faultyTx) IdentityBindings() bindery.IdentityBindings {
	return faultyIdentityBindings{t.Tx.IdentityBindings(), t.fault}
}

func (t faultyTx) Authentications() bindery.Authentications {
	return faultyAuthentications{t.Tx.Authentications(), t.fault}
}

func (t faultyTx) Stock() bindery.Stock { return faultyStock{t.Tx.Stock(), t.fault} }

func (t faultyTx) Authorities() bindery.Authorities {
	return faultyAuthorities{t.Tx.Authorities(), t.fault}
}

func (t faultyTx) Certificates() bindery.Certificates {
	return faultyCertificates{t.Tx.Certificates(), t.fault}
}

// ask calls f unless there is a fault.
func ask[T any](fault func(table, method string) error, table, method string, f func() (T, error)) (T, error) {
	if err := fault(table, method); err != nil {
		var none T
		return none, err
	}
	return f()
}

// tell is ask for calls without a result.
func tell(fault func(table, method string) error, table, method string, f func() error) error {
	if err := fault(table, method); err != nil {
		return err
	}
	return f()
}

type faultyProcesses struct {
	bindery.Processes
	fault func(table, method string) error
}

func (p faultyProcesses) Beat(ctx context.Context, process int64, until time.Time) error {
	return tell(p.fault, "processes", "Beat", func() error { return p.Processes.Beat(ctx, process, until) })
}

func (p faultyProcesses) Leave(ctx context.Context, process int64) error {
	return tell(p.fault, "processes", "Leave", func() error { return p.Processes.Leave(ctx, process) })
}
