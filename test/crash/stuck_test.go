package crash_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/client"
)

// Of every kind whose revocation is proven, one binding ends while its server refuses
// to remove the account, and another while it says that it did and keeps it. Bindery
// calls neither revoked; both are, by themselves, once their server does what it says.
func TestBrokenRevocations(t *testing.T) {
	t.Parallel()
	w := newLiars(t)
	var lied sync.Map // by service
	w.forAll(func(ctx context.Context, service string) error {
		k := &caller{world: w.world}
		if got := k.provision(ctx, service, instanceOf(service)); got != done {
			return fmt.Errorf("provision: %s: %w", got, k.last)
		}
		if err := w.endRefused(ctx, k, service); err != nil {
			return fmt.Errorf("where the server %s: %w", refusing, err)
		}
		credentials, err := w.endLiedAbout(ctx, k, service)
		if err != nil {
			return fmt.Errorf("where the server %s: %w", lying, err)
		}
		lied.Store(service, credentials)
		return nil
	})
	w.showsStuck()
	mended := time.Now()
	w.forAll(func(ctx context.Context, service string) error {
		credentials, _ := lied.Load(service)
		return w.mend(ctx, service, credentials.(client.Credentials), mended)
	})
	w.showsNothingStuck()
	w.settled(settleLimit)
	w.unremarkable()
}

// forAll does something for all services beside each other.
func (w *world) forAll(do func(ctx context.Context, service string) error) {
	w.Helper()
	errs := make(chan error, len(w.services))
	for _, service := range w.services {
		go func() {
			err := do(w.Context(), service)
			if err != nil {
				err = fmt.Errorf("%s: %w", service, err)
			}
			errs <- err
		}()
	}
	for range w.services {
		if err := <-errs; err != nil {
			w.Error(err)
		}
	}
	if w.Failed() {
		w.FailNow()
	}
}

// made makes a binding, and says what its account is called.
func (w *world) made(ctx context.Context, k *caller, service, id string) (c client.Credentials, account string, err error) {
	got, c := k.bind(ctx, service, instanceOf(service), id, "")
	if got != done {
		return c, "", fmt.Errorf("bind: %s: %w", got, k.last)
	}
	b, err := w.fate(ctx, service, id)
	if err != nil {
		return c, "", err
	}
	all, err := collect(w.admin().Accounts(ctx, service, bindery.AccountLive))
	if err != nil {
		return c, "", err
	}
	for _, a := range all {
		if a.BindingRow == b.Row {
			return c, a.Name, w.login(ctx, service, c)
		}
	}
	return c, "", errors.New("it has no account")
}

// fate is what Bindery says of a binding, be it removed or not.
func (w *world) fate(ctx context.Context, service, id string) (client.AdminBinding, error) {
	all, err := collect(w.admin().Bindings(ctx, client.BindingFilter{InstanceID: instanceOf(service), Removed: true}))
	for _, b := range all {
		if b.ID == id {
			return b, err
		}
	}
	return client.AdminBinding{}, errors.Join(fmt.Errorf("there is no binding %s", id), err)
}

// becomes waits until Bindery says of a binding that it is in a state, by way of others.
func (w *world) becomes(ctx context.Context, service, id string, state bindery.State, byWayOf ...bindery.State) error {
	var other error
	err := eventually(ctx, settleLimit, func(ctx context.Context) error {
		b, err := w.fate(ctx, service, id)
		switch {
		case err != nil:
			return err
		case b.State == state:
			return nil
		case !slices.Contains(byWayOf, b.State):
			other = fmt.Errorf("it is %s, and is to become %s", b.State, state)
			return nil
		}
		return fmt.Errorf("it is still %s", b.State)
	})
	return cmp.Or(err, other)
}

const (
	revoked  bindery.State = "revoked"
	unproven bindery.State = "unproven"
	isStuck  bindery.State = "stuck"
)

// endRefused ends a binding while its server refuses. The platform is not told that it is gone.
func (w *liars) endRefused(ctx context.Context, k *caller, service string) error {
	instance, id := instanceOf(service), "refused-"+service
	credentials, account, err := w.made(ctx, k, service, id)
	if err != nil {
		return err
	}
	if err := w.behave(ctx, service, account, refusing); err != nil {
		return err
	}
	answer, err := k.osb().Unbind(ctx, instance, id, service, planOf(service))
	if err != nil || !answer.InProgress() {
		return fmt.Errorf("the unbind is answered %d %w", answer.Status, err)
	}
	// It is tried, and tried again.
	if err := eventually(ctx, settleLimit, func(ctx context.Context) error {
		o, err := w.admin().Operation(ctx, answer.Operation)
		if err == nil && (o.Attempts < 2 || o.Problem == "") {
			err = fmt.Errorf("%d attempts, problem %q", o.Attempts, o.Problem)
		}
		return err
	}); err != nil {
		return err
	}
	p := client.Pending{InstanceID: instance, BindingID: id, Operation: answer.Operation, Removing: true}
	if last, err := k.osb().LastOperation(ctx, p); err != nil || last.State != bindery.OpInProgress {
		return fmt.Errorf("the platform is told that it is %q %w", last.State, err)
	}
	if b, err := w.fate(ctx, service, id); err != nil || b.State != bindery.StateRemoving {
		return fmt.Errorf("the binding is %s %w", b.State, err)
	}
	if err := w.login(ctx, service, credentials); err != nil {
		return fmt.Errorf("the server did remove it: %w", err)
	}
	if err := w.behave(ctx, service, account, honest); err != nil {
		return err
	}
	if err := k.follow(ctx, p); err != nil {
		return err
	}
	if err := w.becomes(ctx, service, id, revoked, unproven); err != nil {
		return err
	}
	return w.refusal(ctx, service, credentials)
}

func liedID(service string) string { return "lied-" + service }

// endLiedAbout ends a binding while its server lies, and waits until that is found out.
func (w *liars) endLiedAbout(ctx context.Context, k *caller, service string) (client.Credentials, error) {
	instance, id := instanceOf(service), liedID(service)
	credentials, account, err := w.made(ctx, k, service, id)
	if err != nil {
		return credentials, err
	}
	if err := w.behave(ctx, service, account, lying); err != nil {
		return credentials, err
	}
	// The server confirmed it: that is what the platform is told.
	if got := k.unbind(ctx, service, instance, id); got != done {
		return credentials, fmt.Errorf("the unbind is %s: %w", got, k.last)
	}
	if err := w.becomes(ctx, service, id, isStuck, unproven); err != nil {
		return credentials, err
	}
	if err := w.login(ctx, service, credentials); err != nil {
		return credentials, fmt.Errorf("the server did not lie: %w", err)
	}
	if _, err := k.osb().Binding(ctx, instance, id); bindery.CodeOf(err) != bindery.CodeNotFound {
		return credentials, fmt.Errorf("the platform gets the binding, %w", err)
	}
	if got := k.unbind(ctx, service, instance, id); got != gone {
		return credentials, fmt.Errorf("a second unbind is %s: %w", got, k.last)
	}
	return credentials, nil
}

// mend makes a server honest, and waits until what was stuck is revoked.
func (w *liars) mend(ctx context.Context, service string, credentials client.Credentials, since time.Time) error {
	id := liedID(service)
	if err := w.behave(ctx, service, "", honest); err != nil {
		return err
	}
	if err := w.becomes(ctx, service, id, revoked, isStuck); err != nil {
		return err
	}
	if err := w.refusal(ctx, service, credentials); err != nil {
		return err
	}
	b, err := w.fate(ctx, service, id)
	if err != nil || b.Proof == "" || b.ProvenAt.Before(since) {
		return fmt.Errorf("proven at %v by %q, mended at %v %w", b.ProvenAt, b.Proof, since, err)
	}
	events, err := collect(w.admin().Events(ctx, client.EventFilter{BindingID: id, InstanceID: instanceOf(service)}))
	if err != nil {
		return err
	}
	var said []string
	for _, e := range events {
		if e.Action == "prove" {
			said = append(said, e.Result)
		}
	}
	if !slices.Equal(said, []string{string(bindery.OpFailed), string(bindery.OpSucceeded)}) {
		return fmt.Errorf("the audit says of the proofs %q", said)
	}
	return nil
}

// refusal waits until a server refuses a credential, for that reason.
func (w *world) refusal(ctx context.Context, service string, c client.Credentials) error {
	return eventually(ctx, settleLimit, func(ctx context.Context) error {
		if err := w.login(ctx, service, c); !errors.Is(err, errRefused) {
			return fmt.Errorf("the credential is not refused: %w", err)
		}
		return nil
	})
}

// showsStuck looks at everything that an operator looks at.
func (w *world) showsStuck() {
	w.Helper()
	w.keep("cli-token", w.token.Reveal())
	out, err := w.command("bindings", "--stuck", "--quiet", "-o", "json", "--admin-url", w.url(), "--token-file", w.file("cli-token"))
	if err != nil {
		w.Fatalf("bindings --stuck: %v\n%s", err, out)
	}
	var listed []client.AdminBinding
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		w.Fatalf("bindings --stuck: %v\n%s", err, out)
	}
	var got []string
	for _, b := range listed {
		if b.ID != liedID(b.ServiceID) || b.State != isStuck || !b.ProvenAt.IsZero() {
			w.Errorf("bindings --stuck has %+v", b)
		}
		got = append(got, b.ServiceID)
	}
	if diff := difference(slices.Clone(w.services), got); diff != "" {
		w.Errorf("services (-) and those of which bindings --stuck has one (+):\n%s", diff)
	}
	w.shows(func(service, revocations string, stuck float64) error {
		if stuck != 1 || !strings.Contains(revocations, "1 on "+service) {
			return fmt.Errorf("%s: %v are stuck, and /readyz says %q", service, stuck, revocations)
		}
		return nil
	})
}

// showsNothingStuck is when all is well again.
func (w *world) showsNothingStuck() {
	w.Helper()
	w.shows(func(service, revocations string, stuck float64) error {
		if stuck != 0 || revocations != "" {
			return fmt.Errorf("%s: %v are stuck, and /readyz says %q", service, stuck, revocations)
		}
		return nil
	})
}

// shows waits until metrics and /readyz say what they should of every service.
// Accounts that are stuck make Bindery no less ready.
func (w *world) shows(check func(service, revocations string, stuck float64) error) {
	w.Helper()
	err := eventually(w.Context(), settleLimit, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url()+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		status, body, err := w.send(req)
		if err != nil {
			return err
		}
		var said struct {
			Checks []struct{ Name, Status, Message string }
		}
		if err := json.Unmarshal(body, &said); err != nil || status != http.StatusOK {
			return fmt.Errorf("/readyz answers %d %s: %w", status, body, err)
		}
		found := false
		var message string
		for _, c := range said.Checks {
			if c.Name == "revocations" {
				found, message = c.Status == "ok" == (c.Message == ""), c.Message
			}
		}
		if !found {
			return fmt.Errorf("/readyz says %s", body)
		}
		for _, service := range w.services {
			stuck, err := w.metric(ctx, "bindery_accounts_stuck", `server="`+service+`"`)
			if err == nil {
				err = check(service, message, stuck)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Error(err)
	}
}
