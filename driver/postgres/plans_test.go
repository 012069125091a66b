package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

func serverLog(p *devserver.Postgres) (string, error) {
	b, err := os.ReadFile(filepath.Join(p.Dir(), "output.log"))
	return string(b), err
}

// What plans and parameters mean on a real server.
func TestPlans(t *testing.T) {
	t.Parallel()
	eachLab(t, map[string]func(*lab){
		"read-only is read-only":                               readOnlyIs,
		"a binding has no rights but those on its database":    fences,
		"extensions are created, and added later":              extensions,
		"an extension that the server does not offer is final": missingExtension,
		"a plan's limits hold, and follow the plan":            limits,
		"an application may drop the public schema":            publicDropped,
		"many instances are made at once":                      manyAtOnce,
		"a template in use is waited for":                      templateInUse,
		"what is half done is completed":                       halfDone,
	})
}

func readOnlyIs(l *lab) {
	spec := l.instance(`{}`)
	writer := l.client(spec, l.bind(spec, ``))
	writer.do(`CREATE TABLE before AS SELECT 1 AS v`, `CREATE SEQUENCE seq`)
	reader := l.client(spec, l.bind(spec, `{"access":"read-only"}`))
	writer.do(`CREATE SCHEMA s`, `CREATE TABLE s.after AS SELECT 2 AS v`, `CREATE VIEW w AS SELECT * FROM before`)
	reader.do(`SELECT * FROM before`, `SELECT * FROM s.after`, `SELECT * FROM w`, `SELECT last_value FROM seq`)
	for range 2 {
		reader.denied(`INSERT INTO before VALUES (2)`, `UPDATE before SET v = 2`, `DELETE FROM before`, `TRUNCATE before`,
			`SELECT * FROM before FOR UPDATE`, `SELECT nextval('seq')`, `SELECT setval('seq', 9)`, `CREATE TABLE x ()`, `CREATE TABLE s.x ()`,
			`CREATE TEMPORARY TABLE x ()`, `CREATE SCHEMA x`, `DROP TABLE before`, `ALTER TABLE before ADD w int`, `SET ROLE `+spec.Name,
			`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
		reader.do(`SET ROLE NONE`) // a client can leave its group, and gains nothing
	}
}

func fences(l *lab) {
	spec, theirs := l.instance(`{}`), l.instance(`{}`)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	for range 2 {
		c.denied(`CREATE ROLE x`, `CREATE DATABASE x`, `ALTER DATABASE `+spec.Name+` CONNECTION LIMIT 999`,
			`ALTER DATABASE `+spec.Name+` SET work_mem TO '1GB'`, `DROP DATABASE `+theirs.Name, `SET ROLE `+theirs.Name,
			`SET ROLE `+l.p.User, `ALTER ROLE `+account.Name+` CONNECTION LIMIT 999`, `SELECT * FROM pg_authid`,
			`SELECT pg_read_file('PG_VERSION')`, `CREATE TABLESPACE x LOCATION '/x'`, `COPY (SELECT 1) TO PROGRAM 'true'`)
		c.do(`SET ROLE NONE`)
	}
	if n := l.count(`SELECT count(*) FROM pg_database d, pg_roles r
		WHERE r.rolname IN ($1, $2, $3) AND d.datname <> $1 AND has_database_privilege(r.oid, d.oid, 'CONNECT')
		AND d.datname NOT LIKE 'bdy\_%'`, spec.Name, spec.Name+"_ro", account.Name); n != 0 {
		l.Errorf("a binding may connect to %d databases of others", n)
	}
	// A grant of CONNECT is the owner's, and the owner is not the tenant: it only warns.
	c.do(`RESET ROLE`, `GRANT CONNECT ON DATABASE `+spec.Name+` TO `+theirs.Name)
	if n := l.count(`SELECT has_database_privilege($1::name, $2::text, 'CONNECT')::int`, theirs.Name, spec.Name); n != 0 {
		l.Error("a tenant let another tenant connect")
	}
}

// trustedExtensions is the version from which on who is no superuser can create some.
const trustedExtensions = 13

func extensions(l *lab) {
	const plan = `{"extensions":["citext","hstore"],"default_extensions":["pg_trgm"]}`
	if l.p.Version < trustedExtensions {
		l = l.alone() // nobody else's template
		refused := bindery.InstanceSpec{Name: l.name(), Settings: json.RawMessage(plan)}
		l.wantCode("provision", l.driver.Provision(l.Context(), refused), bindery.CodeUnsupported)
		template := l.super("template1")
		template.do(`CREATE EXTENSION citext`, `CREATE EXTENSION pg_trgm`)
		template.close()
		l.instance(plan)
		return
	}
	spec := l.instance(plan)
	account := l.bind(spec, ``)
	c := l.client(spec, account)
	installed := func() string {
		return c.text(`SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension`)
	}
	if got, want := installed(), "pg_trgm plpgsql"; got != want {
		l.Fatalf("got %q, want %q", got, want)
	}
	more := spec
	more.Parameters = json.RawMessage(`{"extensions":["hstore"]}`)
	changer := l.driver.(bindery.Changer)
	l.must("can change", changer.CanChange(spec, more))
	l.must("provision", l.driver.Provision(l.Context(), more))
	if got, want := installed(), "hstore pg_trgm plpgsql"; got != want {
		l.Fatalf("got %q, want %q", got, want)
	}
	c.do(`CREATE TABLE t (h hstore)`, `ALTER EXTENSION hstore UPDATE`)
	l.wantCode("take it away", changer.CanChange(more, spec), bindery.CodeUnsupported)
	l.must("same", changer.CanChange(more, more))

	unknown := spec
	unknown.Parameters = json.RawMessage(`{"extensions":["dblink"]}`)
	l.wantCode("not in the plan", l.driver.Provision(l.Context(), unknown), bindery.CodeInvalid)
	l.wantCode("change to what is not in the plan", changer.CanChange(spec, unknown), bindery.CodeInvalid)
}

func missingExtension(l *lab) {
	for _, x := range []string{"no_such_extension", "file_fdw"} { // the second is for superusers only
		spec := bindery.InstanceSpec{
			Name:     l.name(),
			Settings: json.RawMessage(fmt.Sprintf(`{"default_extensions":[%q]}`, x)),
		}
		l.wantCode(x, l.driver.Provision(l.Context(), spec), bindery.CodeUnsupported)
		l.must("deprovision", l.driver.Deprovision(l.Context(), spec))
	}
}

func limits(l *lab) {
	spec := l.instance(`{"connection_limit":7,"max_connection_limit":2,"statement_timeout":"11s","lock_timeout":"5s"}`)
	_, err := l.driver.Prepare(spec, bindery.AccountRequest{Name: l.name(), Parameters: json.RawMessage(`{"connection_limit":3}`)})
	l.wantCode("more than the plan allows", err, bindery.CodeInvalid)
	account := l.bind(spec, `{"connection_limit":1}`)
	c := l.client(spec, account)
	if got := c.text(`SHOW statement_timeout`) + " " + c.text(`SHOW lock_timeout`); got != "11s 5s" {
		l.Errorf("timeouts: got %s", got)
	}
	rendered, err := l.driver.Render(spec, account)
	l.must("render", err)
	if _, err := login(l.Context(), rendered); sqlState(err) != "53300" {
		l.Errorf("a second connection: got %v", err)
	}
	limit := func() int {
		return l.count(`SELECT datconnlimit FROM pg_database WHERE datname = $1`, spec.Name)
	}
	if got := limit(); got != 7 {
		l.Errorf("limit: got %d, want 7", got)
	}
	spec.Settings = json.RawMessage(`{}`)
	l.must("provision", l.driver.Provision(l.Context(), spec))
	c.close()
	l.revoke(spec, account)
	if got := l.client(spec, l.bind(spec, ``)).text(`SHOW statement_timeout`); got != "0" {
		l.Errorf("statement_timeout after the plan has none: got %s", got)
	}
	if got := limit(); got != -1 {
		l.Errorf("limit after the plan has none: got %d", got)
	}
}

func publicDropped(l *lab) {
	spec := l.instance(`{}`)
	c := l.client(spec, l.bind(spec, ``))
	reader := l.client(spec, l.bind(spec, `{"access":"read-only"}`))
	c.do(`DROP SCHEMA public CASCADE`)
	l.must("provision", l.driver.Provision(l.Context(), spec))
	c.do(`DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`, `CREATE TABLE public.t ()`)
	reader.do(`SELECT * FROM t`)
	reader.denied(`CREATE TABLE public.x ()`)
	l.must("provision", l.driver.Provision(l.Context(), spec))
	reader.do(`SELECT * FROM t`)
}

func manyAtOnce(l *lab) {
	const n = 12
	specs, errs := make([]bindery.InstanceSpec, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		specs[i] = bindery.InstanceSpec{Name: l.name()}
		wg.Go(func() { errs[i] = l.driver.Provision(l.Context(), specs[i]) })
	}
	wg.Wait()
	l.must("provision", errors.Join(errs...))
	for i := range n {
		wg.Go(func() { errs[i] = l.driver.Deprovision(l.Context(), specs[i]) })
	}
	wg.Wait()
	l.must("deprovision", errors.Join(errs...))
}

func templateInUse(l *lab) {
	p := servertest.Postgres(l, servertest.Version(fmt.Sprint(l.p.Version))) // nobody else's template
	l = newLab(l.T, p)
	user := l.super("template1")
	spec := bindery.InstanceSpec{Name: l.name()}
	done := make(chan error, 1)
	go func() { done <- l.driver.Provision(l.Context(), spec) }()
	for !logged(l, p, `source database "template1" is being accessed`) {
		select {
		case err := <-done:
			l.Fatalf("provision ended before the template was free: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	user.close()
	l.must("provision", <-done)
}

func logged(l *lab, p *devserver.Postgres, text string) bool {
	l.Helper()
	log, err := serverLog(p)
	l.must("read the log", err)
	return strings.Contains(log, text)
}

func halfDone(l *lab) {
	// The roles are there and the database is not; then a database is there that
	// nobody may connect to yet.
	spec := l.instance(`{}`)
	admin := l.connect(l.p.URL("postgres").Reveal())
	admin.do(`DROP DATABASE ` + spec.Name)
	l.must("provision", l.driver.Provision(l.Context(), spec))
	l.must("deprovision", l.driver.Deprovision(l.Context(), spec))
	admin.do(`CREATE DATABASE ` + spec.Name + ` ALLOW_CONNECTIONS false`)
	found := map[string]bool{}
	l.must("inventory", l.driver.Inventory(l.Context(), func(f bindery.Found) error {
		found[f.Name] = f.Instance
		return nil
	}))
	if len(found) != 1 || !found[spec.Name] {
		l.Errorf("inventory: got %v, want the instance", found)
	}
	l.must("provision", l.driver.Provision(l.Context(), spec))
	c := l.client(spec, l.bind(spec, ``))
	c.do(`CREATE TABLE t ()`)
	c.close()
	// The database is gone and the groups are left: what is left is an instance.
	l.super("postgres").do(`DROP DATABASE ` + spec.Name) // which waits for the session's end
	clear(found)
	l.must("inventory", l.driver.Inventory(l.Context(), func(f bindery.Found) error {
		found[f.Name] = f.Instance
		return nil
	}))
	if !found[spec.Name] {
		l.Errorf("inventory: got %v, want the instance's groups as an instance", found)
	}
}
