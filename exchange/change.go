package exchange

import (
	"context"
	"errors"
	"slices"
	"time"

	"bindery"
)

// Errors of all methods: CodeInvalid with the texts of the face's table (422
// there), CodeForbidden where the caller may not, CodeNotFound, CodeConflict,
// CodeUnavailable.

var (
	errReadOnly = bindery.Errorf(bindery.CodeForbidden, "This key may only read")
	errLimited  = bindery.Errorf(bindery.CodeForbidden, "This key is limited to other service types")

	errNoServiceType = bindery.Errorf(bindery.CodeNotFound, "Service-type was not found")
	errNoHost        = bindery.Errorf(bindery.CodeNotFound, "Host was not found")
	errNoAuthMethod  = bindery.Errorf(bindery.CodeNotFound, "Auth method was not found")
	errNoBinding     = bindery.Errorf(bindery.CodeNotFound, "Binding was not found")
)

// A change is what one transaction did.
type change struct {
	what string // for the audit
	// everything: a service type or an auth method changed, on which any lookup may stand.
	everything bool
	// keys of bindings, as they were and as they are.
	keys []bindery.IdentityKeys
}

// change runs one administrative change, f, and its audit in one transaction.
// When it returns, no lookup stands on what was before.
func (s *Service) change(ctx context.Context, by Caller, action string, f func(bindery.Tx, *change) error) error {
	now := s.o.Now()
	var c change
	// The store answers when the transaction's fate is decided, so that this also
	// covers one whose caller went away. An undone one costs a few lookups.
	defer func() { s.stamps.forget(c) }()
	return s.store.Update(ctx, func(tx bindery.Tx) error {
		c = change{}
		if err := f(tx, &c); err != nil {
			return err
		}
		return audit(ctx, tx, by, action, c.what, now)
	})
}

// audit writes that somebody did what.
func audit(ctx context.Context, tx bindery.Tx, by Caller, action, what string, now time.Time) error {
	return tx.Events().Add(ctx, bindery.Event{
		At: now, Actor: by.Name, RequestID: by.RequestID, Action: action, Result: "succeeded", Message: what,
	})
}

// found gives what a table does not have the face's words.
func found[T any](v T, err error, missing *bindery.Error) (T, error) {
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return v, missing.Because(err)
	}
	return v, err
}

// serviceType finds one for a caller, who may be limited to others: whether
// those exist is no business of theirs.
func serviceType(ctx context.Context, tx bindery.Tx, by Caller, name string) (bindery.ServiceType, error) {
	if err := by.allowed(name); err != nil {
		return bindery.ServiceType{}, err
	}
	t, err := tx.ServiceTypes().ByName(ctx, name)
	return found(t, err, errNoServiceType)
}

// serviceTypeByUUID is serviceType by the other key.
func serviceTypeByUUID(ctx context.Context, tx bindery.Tx, by Caller, uuid string) (bindery.ServiceType, error) {
	if unfit(uuid, maxName) != "" { // PostgreSQL would call it an error of ours
		return bindery.ServiceType{}, errNoServiceType
	}
	t, err := tx.ServiceTypes().ByUUID(ctx, uuid)
	if t, err = found(t, err, errNoServiceType); err != nil {
		return t, err
	}
	return t, by.allowed(t.Name)
}

// visible are the rows of the service types that a limited caller may see; all
// is true for one who may see every one.
func visible(ctx context.Context, tx bindery.Tx, by Caller) (rows []int64, all bool, err error) {
	types, all, err := visibleTypes(ctx, tx, by)
	for _, t := range types {
		rows = append(rows, t.Row)
	}
	return rows, all, err
}

func visibleTypes(ctx context.Context, tx bindery.Tx, by Caller) (types []bindery.ServiceType, all bool, err error) {
	if by.Services == nil {
		return nil, true, nil
	}
	for n, name := range by.Services {
		if slices.Contains(by.Services[:n], name) {
			continue
		}
		t, err := tx.ServiceTypes().ByName(ctx, name)
		switch {
		case bindery.CodeOf(err) == bindery.CodeNotFound:
		case err != nil:
			return nil, false, err
		default:
			types = append(types, t)
		}
	}
	return types, false, nil
}

// taken gives what collides the face's words.
func taken(err error, sentinel error, text string, args ...any) error {
	if errors.Is(err, sentinel) {
		return bindery.Errorf(bindery.CodeConflict, text, args...).Because(err)
	}
	return err
}
