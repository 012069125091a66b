package rabbitmq

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"bindery"
)

// Prepare implements [bindery.AccountDriver].
func (d *driver) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	if err := d.checkName(req.Name); err != nil {
		return bindery.Secret{}, err
	}
	if _, err := d.instance(spec); err != nil {
		return bindery.Secret{}, err
	}
	access, err := bindery.ReadAccess(req.Parameters)
	if err != nil {
		return bindery.Secret{}, err
	}
	return newMaterial(access)
}

// Ensure implements [bindery.AccountDriver]: a new account in two requests, with
// one more for each limit. Permissions come last; without them a user may log in
// to no vhost.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	plan, err := d.instance(spec)
	if err != nil {
		return bindery.Ensured{}, err
	}
	if err := d.checkName(account.Name); err != nil {
		return bindery.Ensured{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Ensured{}, err
	}
	ctx, end, err := d.begin(ctx, account.Name)
	if err != nil {
		return bindery.Ensured{}, err
	}
	defer end()
	user := putUser(account.Name, m.Password, plan.tags())
	a, err := d.send(ctx, user, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return bindery.Ensured{}, err
	}
	if a.status == http.StatusNoContent {
		if err := d.reset(ctx, account.Name, user); err != nil {
			return bindery.Ensured{}, err
		}
	}
	for limit, n := range map[string]int{limitConnections: plan.BindingMaxConnections, limitChannels: plan.BindingMaxChannels} {
		if n == 0 {
			continue
		}
		if _, err := d.send(ctx, putUserLimit(account.Name, limit, n), http.StatusCreated, http.StatusNoContent); err != nil {
			return bindery.Ensured{}, err
		}
	}
	_, err = d.send(ctx, putPermissions(spec.Name, account.Name, m.Access == bindery.ReadOnly),
		http.StatusCreated, http.StatusNoContent)
	return bindery.Ensured{}, err
}

// reset makes a user anew that was there, so that no permission, limit or session
// of before is left. Its sessions end first, while it is there with its new
// password: where a call is broken off, the next one still sees that there is
// something to reset.
func (d *driver) reset(ctx context.Context, name string, user request) error {
	if err := d.endSessions(ctx, name); err != nil {
		return err
	}
	if err := d.drop(ctx, name); err != nil {
		return err
	}
	_, err := d.send(ctx, user, http.StatusCreated, http.StatusNoContent)
	return err
}

// Revoke implements [bindery.AccountDriver].
func (d *driver) Revoke(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) error {
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, account.Name)
	if err != nil {
		return err
	}
	defer end()
	return d.drop(ctx, account.Name)
}

// drop deletes a user, and its permissions with it, and then ends its sessions.
func (d *driver) drop(ctx context.Context, name string) error {
	if _, err := d.send(ctx, deleteUser(name), http.StatusNoContent, http.StatusNotFound); err != nil {
		return err
	}
	return d.endSessions(ctx, name)
}

// listedLate is how long a connection that a client has opened may be missing on
// the list of connections: the broker writes it there by and by.
const listedLate = 100 * time.Millisecond

// endSessions closes a user's connections until there are none, and none that was
// opened before comes to be listed.
//
// A broker closes the connections of a user that is deleted by itself, but
// afterwards and unseen, and may overlook one that is being opened. The list
// that is looked at here is the one by which a broker counts connections for its
// limits, and not that of the statistics, which is seconds late.
func (d *driver) endSessions(ctx context.Context, name string) error {
	if err := d.closeListed(ctx, name); err != nil {
		return err
	}
	if err := bindery.Sleep(ctx, listedLate); err != nil {
		return silent(err)
	}
	if err := d.awaitCount(ctx); err != nil {
		return err
	}
	return d.closeListed(ctx, name)
}

// awaitCount returns when the node that answers counts itself among those that
// run. After a start it serves clients a moment before (seen with 4.0), and until
// then it lists nobody's connections, nor a vhost's nodes, nor its own listeners:
// 4.3 answers 500 when it is asked for those.
// Where a server's statistics are turned off it never lists those.
func (d *driver) awaitCount(ctx context.Context) error {
	for {
		a, err := d.send(ctx, listListeners(), http.StatusOK, http.StatusInternalServerError)
		if err != nil {
			return err
		}
		var said struct {
			Node      string                  `json:"node"`
			Listeners []struct{ Node string } `json:"listeners"`
		}
		if a.status == http.StatusOK {
			if json.Unmarshal(a.body, &said) != nil {
				return refused(a)
			}
			if said.Listeners == nil {
				return nil
			}
		}
		for _, l := range said.Listeners {
			if l.Node == said.Node {
				return nil
			}
		}
		if err := bindery.Sleep(ctx, listedLate); err != nil {
			return silent(err)
		}
	}
}

// closeListed closes what is listed, until nothing is.
func (d *driver) closeListed(ctx context.Context, name string) error {
	pause := 10 * time.Millisecond
	for {
		open, err := d.hasSessions(ctx, name)
		if err != nil || !open {
			return err
		}
		// The first time a broker says goodbye, and waits for the client to say so
		// too; the second time it hangs up. It answers 500 where a connection ends
		// by itself meanwhile, and then has not closed those after it.
		_, err = d.send(ctx, closeConnections(name), http.StatusNoContent, http.StatusInternalServerError)
		if err != nil {
			return err
		}
		if open, err = d.hasSessions(ctx, name); err != nil || !open {
			return err
		}
		if err := bindery.Sleep(ctx, pause); err != nil {
			return silent(err)
		}
		pause = min(2*pause, time.Second)
	}
}

func (d *driver) hasSessions(ctx context.Context, name string) (bool, error) {
	a, err := d.send(ctx, listConnections(name), http.StatusOK)
	if err != nil {
		return false, err
	}
	names, err := a.names()
	return len(names) > 0, err
}
