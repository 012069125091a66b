package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// What others learned of accounts on PostgreSQL, at some cost.
func TestLessons(t *testing.T) {
	t.Parallel()
	eachLab(t, map[string]func(*lab){
		"a password ends with its binding, should Bindery be away":         passwordsEnd,
		"the cost of a binding does not depend on how many there are":      constantCost,
		"a binding acts as its group, also after DISCARD ALL":              actsAsGroup,
		"what a binding made outlives it, and its successor owns it":       successorOwns,
		"a client that left its group does not block its unbind":           leftGroup,
		"a large object of a read-only binding does not block unbind":      largeObject,
		"another tenant's grant to a binding does not block its unbind":    otherTenantsGrant,
		"another tenant's grant to a group does not block its removal":     grantToGroup,
		"a grant within an instance does not block unbind":                 neighboursGrant,
		"whom a client let in has to leave with it":                        letIn,
		"whom a client let in has to leave when it is put right":           letInPutRight,
		"whom a client let in has to leave when it is locked":              letInLocked,
		"what a client made in another tenant's database is theirs":        madeElsewhere,
		"a role that cannot be dropped is locked, and that is an error":    stuck,
		"a transaction that holds the role does not block its unbind":      holdsRole,
		"a session is found when only the drop was recorded by the server": lostAnswer,
		"an oid that is somebody else's by now is left alone":              staleOID,
		"a statement that nobody waited for does not come back":            abandoned,
		"a full database can still be administered":                        fullDatabase,
		"a role that changed itself is put right":                          changedItself,
	})
}

func constantCost(l *lab) {
	spec := l.instance(`{}`)
	size := func() string {
		c := l.super(spec.Name)
		defer c.close()
		return c.text(`SELECT (SELECT coalesce(sum(cardinality(datacl)), 0) FROM pg_database WHERE datname = current_database()) || ' ' ||
			(SELECT sum(cardinality(nspacl)) FROM pg_namespace) || ' ' || (SELECT sum(cardinality(relacl)) FROM pg_class) || ' ' ||
			(SELECT sum(cardinality(defaclacl)) FROM pg_default_acl)`)
	}
	l.client(spec, l.bind(spec, ``)).do(`CREATE TABLE t ()`)
	before := size()
	for i := range 30 {
		l.bind(spec, []string{``, `{"access":"read-only"}`}[i%2])
	}
	l.must("provision again", l.driver.Provision(l.Context(), spec))
	if after := size(); after != before {
		l.Fatalf("ACL entries of database, schemas, tables and defaults: got %s after 30 bindings, want %s", after, before)
	}
}

func actsAsGroup(l *lab) {
	spec := l.instance(`{}`)
	for parameters, group := range map[string]string{
		``: spec.Name, `{"access":"read-only"}`: spec.Name + "_ro",
	} {
		c := l.client(spec, l.bind(spec, parameters))
		for _, reset := range []string{`SELECT 1`, `DISCARD ALL`, `RESET ALL`, `RESET ROLE`, `SET SESSION AUTHORIZATION DEFAULT`} {
			c.do(reset)
			if got := c.text(`SELECT current_user`); got != group {
				l.Errorf("after %s: acts as %q, want %q", reset, got, group)
			}
		}
	}
}

func successorOwns(l *lab) {
	spec := l.instance(`{}`)
	first := l.bind(spec, ``)
	l.client(spec, first).do(`CREATE SCHEMA s CREATE TABLE t (v int)`, `CREATE SEQUENCE q`,
		`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `INSERT INTO s.t VALUES (1)`)
	second := l.bind(spec, ``)
	l.revoke(spec, first)
	c := l.client(spec, second)
	c.do(`ALTER TABLE s.t ADD COLUMN w int`, `INSERT INTO s.t VALUES (2, 2)`, `DROP SEQUENCE q`, `DROP FUNCTION f()`)
	if got := c.text(`SELECT count(*)::text FROM s.t`); got != "2" {
		l.Fatalf("rows: got %s, want 2", got)
	}
}

func leftGroup(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	c.do(`CREATE TABLE ours (v int)`, `SET ROLE NONE`, `CREATE SCHEMA mine`, `CREATE TABLE mine.t AS SELECT 1 AS v`,
		`CREATE TYPE mine.e AS ENUM ('a')`, `SELECT lo_create(0)`, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`,
		`CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `CREATE TEMPORARY TABLE tmp ()`,
		`GRANT SELECT ON mine.t TO `+spec.Name)
	l.revoke(spec, account)
	c.ended()
	other := l.client(spec, l.bind(spec, ``))
	if got := other.text(`SELECT v::text FROM mine.t`); got != "1" {
		l.Fatalf("what the client made: got %s, want 1", got)
	}
	other.do(`DROP SCHEMA mine CASCADE`)
}

func largeObject(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, `{"access":"read-only"}`)
	c := l.client(spec, account)
	c.do(`SELECT lo_create(0)`, `SET ROLE NONE`, `SELECT lo_create(0)`)
	l.must("revoke by name alone", l.driver.Revoke(l.Context(), bindery.InstanceSpec{}, bindery.Account{Name: account.Name}))
	l.revoke(spec, account)
	c.ended()
}

func otherTenantsGrant(l *lab) {
	spec, theirs := l.instance(`{}`), l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(theirs, l.bind(theirs, ``))
	to := ` TO ` + account.Name
	c.do(`CREATE TABLE t AS SELECT 1 AS v`, `GRANT ALL ON t`+to, `GRANT SELECT (v) ON t`+to, `CREATE SCHEMA s`, `GRANT USAGE ON SCHEMA s`+to,
		`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `GRANT EXECUTE ON FUNCTION f()`+to,
		`SELECT lo_create(4711)`, `GRANT SELECT ON LARGE OBJECT 4711`+to, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES`+to,
		`CREATE POLICY p ON t`+to+` USING (true)`,
		`SET ROLE NONE`, `CREATE TABLE u AS SELECT 2 AS v`, `GRANT SELECT ON u`+to)
	l.revoke(spec, account)
	c.do(`SELECT v FROM u`, `RESET ROLE`, `SELECT v FROM t`) // and nothing else was taken
}

func grantToGroup(l *lab) {
	spec, theirs := l.instance(`{}`), l.instance(`{}`)
	l.client(theirs, l.bind(theirs, ``)).do(`CREATE TABLE t ()`,
		`GRANT SELECT ON t TO `+spec.Name, `GRANT SELECT ON t TO `+spec.Name+`_ro`)
	l.must("deprovision", l.driver.Deprovision(l.Context(), spec))
	if n := l.count(`SELECT count(*) FROM pg_roles WHERE rolname LIKE $1`, spec.Name+"%"); n != 0 {
		l.Fatalf("%d roles are left", n)
	}
}

func neighboursGrant(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(spec, l.bind(spec, ``))
	c.do(`SET ROLE NONE`, `CREATE TABLE t AS SELECT 1 AS v`, `GRANT SELECT ON t TO `+account.Name)
	l.revoke(spec, account)
	c.do(`SELECT v FROM t`)
}

// noSelfGrants is the version from which on a role cannot make others members of itself.
const noSelfGrants = 15

// lets makes a role a member of another by what that other can do itself. From
// noSelfGrants on it checks that it cannot, and answers false.
func (l *lab) lets(spec bindery.InstanceSpec, host, guest bindery.Account) bool {
	l.Helper()
	c := l.client(spec, host)
	c.do(`SET ROLE NONE`)
	grant := `GRANT ` + host.Name + ` TO ` + guest.Name + ` WITH ADMIN OPTION`
	if l.p.Version >= noSelfGrants {
		c.denied(grant)
		return false
	}
	c.do(grant)
	return true
}

// A guest is another tenant's account, with a session in an instance that it was
// let into, and one where it is at home.
type guest struct {
	account    bindery.Account
	here, home *client
}

// guests are one that an account let in, and one that this one let in. Both act as
// the instance's group.
func (l *lab) guests(spec bindery.InstanceSpec, account bindery.Account) (all []guest) {
	l.Helper()
	theirs := l.instance(`{}`)
	first, second := l.bind(theirs, ``), l.bind(theirs, ``)
	if !l.lets(spec, account, first) || !l.lets(theirs, first, second) {
		return nil
	}
	for _, a := range []bindery.Account{first, second} {
		g := guest{a, l.client(spec, a), l.client(theirs, a)}
		g.here.do(`SET ROLE `+spec.Name, `CREATE TABLE `+a.Name+` ()`)
		all = append(all, g)
	}
	return all
}

// haveLeft checks that guests are out and stay out, and are at home.
func (l *lab) haveLeft(spec bindery.InstanceSpec, all []guest) {
	l.Helper()
	for _, g := range all {
		g.here.ended()
		g.home.do(`SELECT 1`)
		rendered, err := l.driver.Render(spec, g.account)
		l.must("render", err)
		if _, err := pgx.Connect(l.Context(), rendered.Object["uri"].(string)); sqlState(err) != "42501" {
			l.Errorf("a guest comes again: got %v", err)
		}
	}
}

func letIn(l *lab) {
	spec := l.instance(`{}`)
	host := l.client(spec, l.bind(spec, ``))
	for _, known := range []bindery.InstanceSpec{spec, {}} {
		account := l.bind(spec, ``)
		guests := l.guests(spec, account)
		l.revoke(known, account)
		l.haveLeft(spec, guests)
	}
	host.do(`SELECT 1`)
}

func letInPutRight(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	guests := l.guests(spec, account)
	_, err := l.driver.Ensure(l.Context(), spec, account)
	l.must("ensure", err)
	l.haveLeft(spec, guests)
	l.client(spec, account).do(`SELECT 1`)
}

func letInLocked(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	guests := l.guests(spec, account)
	operator := l.super("postgres")
	table := "t_" + account.Name
	operator.do(`CREATE TABLE `+table+` ()`, `GRANT SELECT ON `+table+` TO `+account.Name)
	l.wantCode("revoke", l.driver.Revoke(l.Context(), spec, account), bindery.CodeUnavailable)
	l.haveLeft(spec, guests)
	operator.do(`DROP TABLE ` + table)
	l.revoke(spec, account)
}

// madeElsewhere is possible for who was let in, and for who can connect everywhere
// because an operator said so.
func madeElsewhere(l *lab) {
	spec, theirs := l.instance(`{}`), l.instance(`{}`)
	account := l.bind(spec, ``)
	l.super("postgres").do(`GRANT CONNECT ON DATABASE ` + theirs.Name + ` TO ` + account.Name)
	t := l.client(theirs, l.bind(theirs, ``))
	t.do(`GRANT USAGE, CREATE ON SCHEMA public TO ` + account.Name + `, ` + spec.Name)
	c := l.client(theirs, account) // acts as its own instance's group
	c.do(`CREATE TABLE of_group AS SELECT 1 AS v`, `SET ROLE NONE`, `CREATE TABLE of_role AS SELECT 1 AS v`)
	l.super("postgres").do(`REVOKE CONNECT ON DATABASE ` + theirs.Name + ` FROM ` + account.Name)
	l.revoke(spec, account)
	c.ended()
	t.do(`DROP TABLE of_role`)
	l.must("deprovision", l.driver.Deprovision(l.Context(), spec))
	t.do(`DROP TABLE of_group`)
}

func stuck(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	operator := l.super("postgres")
	table := "t_" + account.Name
	operator.do(`CREATE TABLE `+table+` ()`, `GRANT SELECT ON `+table+` TO `+account.Name)

	err := l.driver.Revoke(l.Context(), spec, account)
	l.wantCode("revoke", err, bindery.CodeUnavailable)
	if text := bindery.MessageOf(err); strings.Contains(text, "postgres") || strings.Contains(text, account.Name) {
		l.Errorf("the caller reads %q", text)
	}
	c.ended()
	n := l.count(`SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1`, account.Name)
	if n != 0 {
		l.Errorf("the locked role is in %d groups", n)
	}
	rendered, err := l.driver.Render(spec, account)
	l.must("render", err)
	if _, err := pgx.Connect(l.Context(), rendered.Object["uri"].(string)); !isAuthFailure(err) {
		l.Errorf("login with the locked role: got %v", err)
	}

	operator.do(`DROP TABLE ` + table)
	l.revoke(spec, account)
}

func holdsRole(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	// The new table depends on the role, and the transaction locks the role for that.
	c.do(`SET ROLE NONE`, `BEGIN`, `CREATE TABLE t ()`)
	l.driver = openDriver(l, l.p, l.installation, callTimeout) // waits for locks less long
	l.revoke(spec, account)
	c.ended()
}

func lostAnswer(l *lab) {
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	other := l.client(spec, l.bind(spec, ``))
	for _, details := range []json.RawMessage{nil, account.Details} {
		_, err := l.driver.Ensure(l.Context(), spec, account)
		l.must("ensure", err)
		c := l.client(spec, account)
		l.super("postgres").do(`DROP ROLE ` + account.Name)
		account.Details = details
		if details != nil { // of the role that the last Ensure made
			account.Details = json.RawMessage(fmt.Sprintf(`{"oid":%s}`, c.text(
				`SELECT usesysid::text FROM pg_stat_activity WHERE pid = pg_backend_pid()`)))
		}
		l.revoke(spec, account)
		c.ended()
	}
	other.do(`SELECT 1`)
}

func staleOID(l *lab) {
	spec := l.instance(`{}`)
	account, other := l.bind(spec, ``), l.bind(spec, ``)
	c := l.client(spec, other)
	l.revoke(spec, account)
	account.Details = other.Details
	l.revoke(spec, account)
	c.do(`SELECT 1`)
}

func abandoned(l *lab) {
	l = newLab(l.T, servertest.Postgres(l, servertest.Version(strconv.Itoa(l.p.Version)))) // the lock stops everybody
	spec := l.instance(`{}`)
	account := bindery.Account{Name: l.name()}
	var err error
	account.Material, err = l.driver.Prepare(spec, bindery.AccountRequest{Name: account.Name})
	l.must("prepare", err)
	blocker := l.super("postgres")
	blocker.do(`BEGIN`, `LOCK TABLE pg_auth_members IN SHARE ROW EXCLUSIVE MODE`)
	ctx, cancel := context.WithCancel(l.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.driver.Ensure(ctx, spec, account)
		done <- err
	}()
	for l.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`) == 0 {
		if len(done) > 0 {
			l.Fatalf("ensure did not wait: %v", <-done)
		}
	}
	cancel()
	l.wantCode("ensure", <-done, bindery.CodeUnavailable)
	blocker.do(`ROLLBACK`)
	l.revoke(spec, account)
	for range 20 {
		if l.count(`SELECT count(*) FROM pg_roles WHERE rolname = $1`, account.Name) != 0 {
			l.Fatal("the role came back")
		}
	}
}

func fullDatabase(l *lab) {
	spec := l.instance(`{"connection_limit":2}`)
	account, other := l.bind(spec, ``), l.bind(spec, ``)
	l.client(spec, account).do(`SET ROLE NONE`, `CREATE TABLE mine ()`)
	l.client(spec, other)
	l.must("provision", l.driver.Provision(l.Context(), spec))
	full, err := l.driver.Render(spec, other)
	l.must("render", err)
	if _, err := pgx.Connect(l.Context(), full.Object["uri"].(string)); sqlState(err) != "53300" {
		l.Errorf("a connection too many: got %v", err)
	}
	l.revoke(spec, account)
	if n := l.count(`SELECT datconnlimit FROM pg_database WHERE datname = $1`, spec.Name); n != 2 {
		l.Errorf("limit: got %d, want 2", n)
	}
}

func changedItself(l *lab) {
	spec := l.instance(`{"max_connection_limit":3}`)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	c.do(`SET ROLE NONE`, `ALTER ROLE `+account.Name+` RESET role`, `ALTER ROLE `+account.Name+` SET work_mem TO '1MB'`,
		`ALTER ROLE `+account.Name+` IN DATABASE `+spec.Name+` SET role TO none`, `ALTER ROLE `+account.Name+` PASSWORD 'else'`)
	_, err := l.driver.Ensure(l.Context(), spec, account)
	l.must("ensure", err)
	c.ended()
	c = l.client(spec, account)
	if got := c.text(`SELECT current_user`); got != spec.Name {
		l.Errorf("acts as %q, want %q", got, spec.Name)
	}
	if got := c.text(`SELECT current_setting('work_mem')`); got == "1MB" {
		l.Error("its own setting is still there")
	}
	if n := l.count(`SELECT rolconnlimit FROM pg_roles WHERE rolname = $1`, account.Name); n != 3 {
		l.Errorf("limit: got %d, want 3", n)
	}
}

func TestVerifierNotPasswordReachesTheLog(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		l := newLab(t, servertest.Postgres(t, v, func(o *devserver.PostgresOptions) {
			o.Settings = map[string]string{"log_statement": "all", "log_duration": "on"}
		}))
		spec := l.instance(`{}`)
		account := l.bind(spec, ``)
		_, err := l.driver.Ensure(l.Context(), spec, account)
		l.must("ensure again", err)
		l.client(spec, account).do(`SELECT 1`)
		var m struct{ Password, Verifier string }
		l.must("material", json.Unmarshal([]byte(account.Material.Reveal()), &m))
		log, err := serverLog(l.p)
		l.must("read the log", err)
		if strings.Contains(log, m.Password) {
			l.Error("the password is in the server's log")
		}
		if strings.Count(log, m.Verifier) < 2 {
			l.Error("the verifier is not in the server's log, so this test sees nothing")
		}
	})
}

// The server ends the password itself, should Bindery be away at that time.
func passwordsEnd(l *lab) {
	spec := l.instance("")
	account := l.bind(spec, "")
	account.Expires = time.Now().Add(-time.Minute)
	_, err := l.driver.Ensure(l.Context(), spec, account)
	l.must("ensure", err)
	credential, err := l.driver.Render(spec, account)
	l.must("render", err)
	if _, err := login(l.Context(), credential); !isAuthFailure(err) {
		l.Errorf("a login after the end: got %v, want an authentication failure", err)
	}
	account.Expires = time.Now().Add(time.Hour)
	_, err = l.driver.Ensure(l.Context(), spec, account)
	l.must("ensure again", err)
	s, err := login(l.Context(), credential)
	l.must("log in before the end", err)
	_ = s.Close() // it has served
}
