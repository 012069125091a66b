package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bindery"
)

// defaultTimeout bounds a call where the configuration gives no bound.
const defaultTimeout = 10 * time.Second

// Kind is the entry of driver.Kinds.
var Kind = bindery.Kind{
	Open:        open,
	CheckServer: func(settings json.RawMessage) error { _, err := parseServerSettings(settings); return err },
	CheckPlan:   func(settings json.RawMessage) error { _, err := parsePlan(settings); return err },
	Exclusive:   func(json.RawMessage) bool { return false },
	Schemas: func(json.RawMessage) (create, update, bind json.RawMessage) {
		return bindery.NoParameters(), bindery.NoParameters(), bindery.ObjectSchema(map[string]any{
			"access": bindery.AccessProperty("What the credential may do. Read-only may take messages out of queues that are there."),
		})
	},
	CredentialSchema: credentialSchema,
	Aliases:          []string{aliasSpring},
	Tags:             []string{"rabbitmq", "amqp", "messaging"},
}

// A driver is bindery.Driver for one broker.
type driver struct {
	server   bindery.Server
	settings serverSettings
	client   *client
	fence    *fence
	locks    bindery.NameLocks
}

func open(server bindery.Server) (bindery.Driver, error) {
	settings, err := parseServerSettings(server.Settings)
	if err != nil {
		return nil, err
	}
	if !bindery.IsInstallation(server.Installation) {
		return nil, bindery.Errorf(bindery.CodeInvalid, "an installation's id is six of a-z and 0-9")
	}
	if server.Timeout <= 0 {
		server.Timeout = defaultTimeout
	}
	if err := completePublic(&server); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		return nil, err
	}
	c := newClient(server, host, settings.MaxConnections)
	return &driver{server: server, settings: settings, client: c, fence: newFence(c, server)}, nil
}

// checkName refuses names that this installation did not make, so that nobody
// else's user or vhost is touched, whatever defect brought its name here.
func (d *driver) checkName(name string) error {
	if !bindery.IsName(d.server.Installation, name) {
		return fmt.Errorf("the name %q is not one of installation %s", name, d.server.Installation)
	}
	return nil
}

// instance checks a spec and returns its plan.
func (d *driver) instance(spec bindery.InstanceSpec) (plan, error) {
	if err := d.checkName(spec.Name); err != nil {
		return plan{}, err
	}
	if err := bindery.Settings(nil).Read("parameters", spec.Parameters); err != nil {
		return plan{}, err
	}
	return parsePlan(spec.Settings)
}

// begin bounds a call and keeps others for the same name out.
func (d *driver) begin(ctx context.Context, name string) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	unlock, err := d.locks.Lock(ctx, name)
	if err != nil {
		cancel()
		return nil, nil, silent(err)
	}
	return ctx, func() { unlock(); cancel() }, nil
}

// send sends a request, whose answer must have one of the statuses.
func (d *driver) send(ctx context.Context, r request, expected ...int) (answer, error) {
	a, err := d.fence.call(ctx, r)
	if err != nil {
		return answer{}, err
	}
	if !slices.Contains(expected, a.status) {
		return answer{}, refused(a)
	}
	return a, nil
}

// Provision implements [bindery.InstanceDriver].
func (d *driver) Provision(ctx context.Context, spec bindery.InstanceSpec) error {
	plan, err := d.instance(spec)
	if err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer end()
	made, err := d.send(ctx, putVhost(spec.Name), http.StatusCreated, http.StatusNoContent)
	if err == nil && made.status == http.StatusNoContent {
		err = d.repair(ctx, spec.Name)
	}
	if err != nil {
		return err
	}
	for limit, n := range map[string]int{limitConnections: plan.MaxConnections, limitQueues: plan.MaxQueues} {
		switch {
		case n > 0:
			_, err = d.send(ctx, putVhostLimit(spec.Name, limit, n), http.StatusCreated, http.StatusNoContent)
		case made.status != http.StatusCreated: // the plan of before may have had one
			_, err = d.send(ctx, deleteVhostLimit(spec.Name, limit), http.StatusNoContent)
		}
		if err != nil {
			return err
		}
	}
	return d.leaveVhost(ctx, spec.Name)
}

// repair completes a vhost that was there. A broker that is interrupted while it
// makes one (it stops when the caller hangs up) leaves one without exchanges, or
// one that is not running, and takes it for finished afterwards.
func (d *driver) repair(ctx context.Context, vhost string) error {
	exchanges, err := d.names(ctx, listExchanges(vhost))
	if err != nil {
		return err
	}
	for _, name := range predeclared {
		if slices.Contains(exchanges, name) {
			continue
		}
		// Nobody can delete these: it was never finished, and nobody has used it.
		if _, err := d.send(ctx, deleteVhost(vhost), http.StatusNoContent, http.StatusNotFound); err != nil {
			return err
		}
		_, err := d.send(ctx, putVhost(vhost), http.StatusCreated)
		return err
	}
	if err := d.awaitCount(ctx); err != nil {
		return err
	}
	a, err := d.send(ctx, getVhost(vhost), http.StatusOK)
	if err != nil {
		return err
	}
	var said struct {
		Nodes map[string]string `json:"cluster_state"`
	}
	if json.Unmarshal(a.body, &said) != nil {
		return refused(a)
	}
	for node, state := range said.Nodes {
		if state == running {
			continue
		}
		if _, err := d.send(ctx, startVhost(vhost, node), http.StatusOK, http.StatusCreated, http.StatusNoContent); err != nil {
			return err
		}
	}
	return nil
}

// leaveVhost takes back the permissions that a broker gives to whoever makes a vhost.
func (d *driver) leaveVhost(ctx context.Context, vhost string) error {
	a, err := d.send(ctx, get("columns=user", "vhosts", vhost, "permissions"), http.StatusOK)
	if err != nil {
		return err
	}
	var list []struct {
		User string `json:"user"`
	}
	if json.Unmarshal(a.body, &list) != nil {
		return refused(a)
	}
	for _, p := range list {
		if !strings.HasPrefix(p.User, loginPrefix(d.server.Installation)) {
			continue
		}
		_, err := d.send(ctx, deletePermissions(vhost, p.User), http.StatusNoContent, http.StatusNotFound)
		if err != nil {
			return err
		}
	}
	return nil
}

// Deprovision implements [bindery.InstanceDriver]. With a vhost go its queues,
// exchanges, messages, policies, permissions and connections.
func (d *driver) Deprovision(ctx context.Context, spec bindery.InstanceSpec) error {
	if err := d.checkName(spec.Name); err != nil {
		return err
	}
	ctx, end, err := d.begin(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer end()
	_, err = d.send(ctx, deleteVhost(spec.Name), http.StatusNoContent, http.StatusNotFound)
	return err
}

// Inventory implements [bindery.Driver].
func (d *driver) Inventory(ctx context.Context, yield func(bindery.Found) error) error {
	accounts, err := d.names(ctx, listUsers())
	if err != nil {
		return err
	}
	instances, err := d.names(ctx, listVhosts())
	if err != nil {
		return err
	}
	for _, found := range slices.Concat(
		foundAs(accounts, false), foundAs(instances, true),
	) {
		if d.checkName(found.Name) != nil {
			continue
		}
		if err := yield(found); err != nil {
			return err
		}
	}
	return nil
}

func foundAs(names []string, instance bool) []bindery.Found {
	found := make([]bindery.Found, len(names))
	for i, name := range names {
		found[i] = bindery.Found{Name: name, Instance: instance}
	}
	return found
}

func (d *driver) names(ctx context.Context, r request) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	a, err := d.send(ctx, r, http.StatusOK)
	if err != nil {
		return nil, err
	}
	return a.names()
}

// oldest is the first version that lists and closes connections by user, without
// asking the statistics, and that this was tested with.
var oldest = [3]int{3, 10, 8}

var versionNumbers = regexp.MustCompile(`^(\d{1,5})\.(\d{1,5})\.(\d{1,5})`)

// Ping implements [bindery.Pinger]. To have sent anything as a user of its own,
// Bindery's configured user must have the tag administrator.
func (d *driver) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.server.Timeout)
	defer cancel()
	a, err := d.send(ctx, overview(), http.StatusOK)
	if err != nil {
		return err
	}
	var said struct {
		Broker     string `json:"rabbitmq_version"`
		Management string `json:"management_version"`
	}
	if json.Unmarshal(a.body, &said) != nil {
		return refused(a)
	}
	for _, v := range []string{said.Broker, said.Management} {
		if err := newEnough(v); err != nil {
			return bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server cannot be administered").Because(err)
		}
	}
	return d.refuseGuest(ctx)
}

// refuseGuest looks for the user guest of a new broker, whose password everybody
// knows: whoever has that needs no binding. Where there is none nothing is tried,
// which would fill the broker's log.
func (d *driver) refuseGuest(ctx context.Context) error {
	a, err := d.send(ctx, getUser("guest"), http.StatusOK, http.StatusNotFound)
	if err != nil || a.status == http.StatusNotFound {
		return err
	}
	a, err = d.fence.client.do(ctx, whoami(), credential{"guest", bindery.NewSecret("guest")})
	if err != nil {
		return silent(err)
	}
	if a.status == http.StatusOK {
		return bindery.Errorf(bindery.CodeUnavailable, "the RabbitMQ server cannot be administered").
			Because(errors.New("its user guest still has the well-known password; delete it"))
	}
	return nil
}

func newEnough(version string) error {
	m := versionNumbers.FindStringSubmatch(version)
	if m == nil {
		return fmt.Errorf("its version is %.40q", version)
	}
	var v [3]int
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // digits, by the expression
	}
	if slices.Compare(v[:], oldest[:]) < 0 {
		return fmt.Errorf("its version is %s, and 3.10.8 is needed", m[0])
	}
	return nil
}

// Close implements [bindery.Driver].
func (d *driver) Close() error {
	d.fence.close()
	d.client.close()
	return nil
}
