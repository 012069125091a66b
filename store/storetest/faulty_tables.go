package storetest

import (
	"context"
	"time"

	"bindery"
)

// The tables of a [Faulty] store: each method asks before it delegates.

type faultyInstances struct {
	bindery.Instances
	fault func(table, method string) error
}

func (x faultyInstances) Add(ctx context.Context, i bindery.Instance) error {
	return tell(x.fault, "instances", "Add", func() error { return x.Instances.Add(ctx, i) })
}

func (x faultyInstances) Get(ctx context.Context, row int64) (bindery.Instance, error) {
	return ask(x.fault, "instances", "Get", func() (bindery.Instance, error) { return x.Instances.Get(ctx, row) })
}

func (x faultyInstances) Find(ctx context.Context, platform, id string) (bindery.Instance, error) {
	return ask(x.fault, "instances", "Find", func() (bindery.Instance, error) { return x.Instances.Find(ctx, platform, id) })
}

func (x faultyInstances) Save(ctx context.Context, i bindery.Instance, from bindery.State) error {
	return tell(x.fault, "instances", "Save", func() error { return x.Instances.Save(ctx, i, from) })
}

func (x faultyInstances) Count(ctx context.Context, platform, planID string, limit int) (int, error) {
	return ask(x.fault, "instances", "Count", func() (int, error) { return x.Instances.Count(ctx, platform, planID, limit) })
}

func (x faultyInstances) OnServer(ctx context.Context, server string) (bool, error) {
	return ask(x.fault, "instances", "OnServer", func() (bool, error) { return x.Instances.OnServer(ctx, server) })
}

func (x faultyInstances) InUse(ctx context.Context) ([]bindery.PlanUse, error) {
	return ask(x.fault, "instances", "InUse", func() ([]bindery.PlanUse, error) { return x.Instances.InUse(ctx) })
}

func (x faultyInstances) List(ctx context.Context, f bindery.InstanceFilter, p bindery.Page) ([]bindery.Instance, error) {
	return ask(x.fault, "instances", "List", func() ([]bindery.Instance, error) { return x.Instances.List(ctx, f, p) })
}

type faultyBindings struct {
	bindery.Bindings
	fault func(table, method string) error
}

func (x faultyBindings) Add(ctx context.Context, b bindery.Binding) error {
	return tell(x.fault, "bindings", "Add", func() error { return x.Bindings.Add(ctx, b) })
}

func (x faultyBindings) Get(ctx context.Context, row int64) (bindery.Binding, error) {
	return ask(x.fault, "bindings", "Get", func() (bindery.Binding, error) { return x.Bindings.Get(ctx, row) })
}

func (x faultyBindings) Find(ctx context.Context, platform, instanceID, id string) (bindery.Binding, error) {
	return ask(x.fault, "bindings", "Find", func() (bindery.Binding, error) { return x.Bindings.Find(ctx, platform, instanceID, id) })
}

func (x faultyBindings) Save(ctx context.Context, b bindery.Binding, from bindery.State) error {
	return tell(x.fault, "bindings", "Save", func() error { return x.Bindings.Save(ctx, b, from) })
}

func (x faultyBindings) Count(ctx context.Context, instanceRow int64, limit int) (int, error) {
	return ask(x.fault, "bindings", "Count", func() (int, error) { return x.Bindings.Count(ctx, instanceRow, limit) })
}

func (x faultyBindings) List(ctx context.Context, f bindery.BindingFilter, p bindery.Page) ([]bindery.Binding, error) {
	return ask(x.fault, "bindings", "List", func() ([]bindery.Binding, error) { return x.Bindings.List(ctx, f, p) })
}

func (x faultyBindings) Expiring(ctx context.Context, before time.Time, limit int) ([]bindery.Binding, error) {
	return ask(x.fault, "bindings", "Expiring", func() ([]bindery.Binding, error) { return x.Bindings.Expiring(ctx, before, limit) })
}

func (x faultyBindings) NextExpiry(ctx context.Context) (at time.Time, ok bool, err error) {
	if err := x.fault("bindings", "NextExpiry"); err != nil {
		return time.Time{}, false, err
	}
	return x.Bindings.NextExpiry(ctx)
}

type faultyAccounts struct {
	bindery.Accounts
	fault func(table, method string) error
}

func (x faultyAccounts) Add(ctx context.Context, a bindery.Account) error {
	return tell(x.fault, "accounts", "Add", func() error { return x.Accounts.Add(ctx, a) })
}

func (x faultyAccounts) Get(ctx context.Context, row int64) (bindery.Account, error) {
	return ask(x.fault, "accounts", "Get", func() (bindery.Account, error) { return x.Accounts.Get(ctx, row) })
}

func (x faultyAccounts) OfBinding(ctx context.Context, bindingRow int64) ([]bindery.Account, error) {
	return ask(x.fault, "accounts", "OfBinding", func() ([]bindery.Account, error) { return x.Accounts.OfBinding(ctx, bindingRow) })
}

func (x faultyAccounts) ByName(ctx context.Context, server, name string) (bindery.Account, error) {
	return ask(x.fault, "accounts", "ByName", func() (bindery.Account, error) { return x.Accounts.ByName(ctx, server, name) })
}

func (x faultyAccounts) Save(ctx context.Context, a bindery.Account, from bindery.AccountState) error {
	return tell(x.fault, "accounts", "Save", func() error { return x.Accounts.Save(ctx, a, from) })
}

func (x faultyAccounts) List(ctx context.Context, server string, state bindery.AccountState, p bindery.Page) ([]bindery.Account, error) {
	return ask(x.fault, "accounts", "List", func() ([]bindery.Account, error) { return x.Accounts.List(ctx, server, state, p) })
}

func (x faultyAccounts) Due(ctx context.Context, server string, now time.Time, limit int) ([]bindery.Account, error) {
	return ask(x.fault, "accounts", "Due", func() ([]bindery.Account, error) { return x.Accounts.Due(ctx, server, now, limit) })
}

func (x faultyAccounts) NextDue(ctx context.Context, server string) (due time.Time, ok bool, err error) {
	if err := x.fault("accounts", "NextDue"); err != nil {
		return time.Time{}, false, err
	}
	return x.Accounts.NextDue(ctx, server)
}

func (x faultyAccounts) Backlog(ctx context.Context) ([]bindery.Backlog, error) {
	return ask(x.fault, "accounts", "Backlog", func() ([]bindery.Backlog, error) { return x.Accounts.Backlog(ctx) })
}

type faultyOperations struct {
	bindery.Operations
	fault func(table, method string) error
}

func (x faultyOperations) Add(ctx context.Context, o bindery.Operation) error {
	return tell(x.fault, "operations", "Add", func() error { return x.Operations.Add(ctx, o) })
}

func (x faultyOperations) Get(ctx context.Context, row int64) (bindery.Operation, error) {
	return ask(x.fault, "operations", "Get", func() (bindery.Operation, error) { return x.Operations.Get(ctx, row) })
}

func (x faultyOperations) Active(ctx context.Context, instanceRow, bindingRow int64) (bindery.Operation, error) {
	return ask(x.fault, "operations", "Active", func() (bindery.Operation, error) { return x.Operations.Active(ctx, instanceRow, bindingRow) })
}

func (x faultyOperations) Latest(ctx context.Context, instanceRow, bindingRow int64) (bindery.Operation, error) {
	return ask(x.fault, "operations", "Latest", func() (bindery.Operation, error) { return x.Operations.Latest(ctx, instanceRow, bindingRow) })
}

func (x faultyOperations) ActiveOfBindings(ctx context.Context, instanceRow int64, limit int) ([]bindery.Operation, error) {
	return ask(x.fault, "operations", "ActiveOfBindings", func() ([]bindery.Operation, error) { return x.Operations.ActiveOfBindings(ctx, instanceRow, limit) })
}

func (x faultyOperations) Save(ctx context.Context, o bindery.Operation) error {
	return tell(x.fault, "operations", "Save", func() error { return x.Operations.Save(ctx, o) })
}

func (x faultyOperations) Claim(ctx context.Context, owner int64, now time.Time, limit int, except ...string) ([]bindery.Operation, error) {
	return ask(x.fault, "operations", "Claim", func() ([]bindery.Operation, error) {
		return x.Operations.Claim(ctx, owner, now, limit, except...)
	})
}

func (x faultyOperations) Hasten(ctx context.Context, then time.Time) error {
	return tell(x.fault, "operations", "Hasten", func() error { return x.Operations.Hasten(ctx, then) })
}

func (x faultyOperations) List(ctx context.Context, f bindery.OperationFilter, p bindery.Page) ([]bindery.Operation, error) {
	return ask(x.fault, "operations", "List", func() ([]bindery.Operation, error) { return x.Operations.List(ctx, f, p) })
}

func (x faultyOperations) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return ask(x.fault, "operations", "Prune", func() (int, error) { return x.Operations.Prune(ctx, before, limit) })
}

func (x faultyOperations) NextDue(ctx context.Context) (due time.Time, ok bool, err error) {
	if err := x.fault("operations", "NextDue"); err != nil {
		return time.Time{}, false, err
	}
	return x.Operations.NextDue(ctx)
}

type faultyEvents struct {
	bindery.Events
	fault func(table, method string) error
}

func (x faultyEvents) Add(ctx context.Context, e bindery.Event) error {
	return tell(x.fault, "events", "Add", func() error { return x.Events.Add(ctx, e) })
}

func (x faultyEvents) List(ctx context.Context, f bindery.EventFilter, p bindery.Page) ([]bindery.Event, error) {
	return ask(x.fault, "events", "List", func() ([]bindery.Event, error) { return x.Events.List(ctx, f, p) })
}

func (x faultyEvents) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return ask(x.fault, "events", "Prune", func() (int, error) { return x.Events.Prune(ctx, before, limit) })
}
