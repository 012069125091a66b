package mysql_test

import (
	"strings"
	"testing"

	"bindery"
	"bindery/devserver/servertest"
)

// stored are objects of every kind that runs with its definer's rights.
var stored = []string{
	`CREATE TABLE t (v VARCHAR(200))`,
	`INSERT INTO t VALUES ('a')`,
	`CREATE VIEW v AS SELECT v FROM t`,
	`CREATE ALGORITHM=MERGE VIEW vv AS SELECT v FROM v WHERE v <> '' WITH LOCAL CHECK OPTION`,
	`CREATE TABLE later (v INT)`,
	`CREATE VIEW dead AS SELECT v FROM later`,
	`DROP TABLE later`,
	`CREATE PROCEDURE p(x VARCHAR(200)) BEGIN INSERT INTO t VALUES (x); END`,
	"CREATE FUNCTION `f``\"'`() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM v)",
	`CREATE PROCEDURE unicode() SELECT 'ä€ 日本 "DEFINER=" \\' AS v`,
	`CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO INSERT INTO t VALUES ('e')`,
	`CREATE EVENT on_e ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE COMMENT 'kept' DO INSERT INTO t VALUES ('e')`,
	`SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'`,
	`CREATE PROCEDURE ansi() SELECT '\' AS "v"`,
	`SET SESSION sql_mode = DEFAULT`,
	`SET NAMES latin1`,
	"CREATE PROCEDURE latin() SELECT HEX('\xe4') AS v",
	`SET NAMES utf8mb4`,
	`CREATE TRIGGER first BEFORE INSERT ON t FOR EACH ROW SET NEW.v = CONCAT(NEW.v, '1')`,
	`CREATE TRIGGER IF NOT EXISTS third BEFORE INSERT ON t FOR EACH ROW SET NEW.v = CONCAT(NEW.v, '3')`,
	`CREATE TRIGGER second BEFORE INSERT ON t FOR EACH ROW PRECEDES third SET NEW.v = CONCAT(NEW.v, '2')`,
}

// packed is what MariaDB alone has.
var packed = []string{
	`SET SESSION sql_mode = 'ORACLE'`,
	`CREATE PACKAGE pack AS FUNCTION one RETURN INT; END`,
	`CREATE PACKAGE BODY pack AS FUNCTION one RETURN INT AS BEGIN RETURN (SELECT COUNT(*) FROM t); END; END`,
	`CREATE FUNCTION packed RETURN INT AS BEGIN RETURN pack.one(); END`,
	`SET SESSION sql_mode = DEFAULT`,
}

// Stored objects work on, under the settings and in the order of before, when
// their definer's binding goes.
func TestDefinersMove(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{}`)
	maker, other := l.bind(spec, ``), l.bind(spec, ``)
	made := l.client(spec, maker)
	l.do(made, stored...)
	if l.m.MariaDB {
		l.do(made, packed...)
	} else {
		l.do(made, `CREATE FUNCTION packed() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM t)`)
	}
	s := l.client(spec, other)
	l.do(s, `CREATE TRIGGER fourth BEFORE INSERT ON t FOR EACH ROW SET NEW.v = CONCAT(NEW.v, '4')`)
	check := func() {
		t.Helper()
		l.do(s, `DELETE FROM t`, `CALL p('x')`, `INSERT INTO vv VALUES ('y')`)
		for sql, want := range map[string]string{
			`SELECT GROUP_CONCAT(v ORDER BY v) FROM vv`: "x1234,y1234",
			"SELECT `f``\"'`()":                         "2",
			`SELECT packed()`:                           "2",
			`CALL unicode()`:                            `ä€ 日本 "DEFINER=" \`,
			`CALL ansi()`:                               `\`,
			`CALL latin()`:                              "E4",
			eventIs("e", "STATUS"):                      "DISABLED",
			eventIs("on_e", "CONCAT(STATUS, EVENT_COMMENT)"):        "ENABLEDkept",
			eventIs("on_e", "CONCAT(ON_COMPLETION, SQL_MODE = '')"): "PRESERVE0",
		} {
			if got := l.text(s, sql); got != want {
				t.Errorf("%s: got %q, want %q", sql, got, want)
			}
		}
	}
	check()

	// Somebody uses them all the time (but for the package, whose body the server
	// drops with the old declaration, and MySQL's routines, which it cannot replace).
	use := []string{`SELECT COUNT(*) FROM vv`}
	if l.m.MariaDB {
		use = append(use, `CALL p('z')`)
	}
	stop, used := make(chan struct{}), make(chan error, 1)
	user := l.client(spec, l.bind(spec, ``))
	go func() {
		for {
			select {
			case <-stop:
				used <- nil
				return
			default:
			}
			if err := user.do(t.Context(), use...); err != nil {
				used <- err
				return
			}
		}
	}()
	l.revoke(spec, maker)
	close(stop)
	if err := <-used; err != nil {
		t.Errorf("while the maker was revoked: %v", err)
	}
	check()
	if got := l.count(`SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND DEFINER = ?`, spec.Name, other.Name+"@%"); got != 1 {
		t.Errorf("the other binding is the definer of %d triggers, want 1", got)
	}
	// A view of a table that is gone stays as it is: it works for nobody.
	if got := l.text(s, `SELECT GROUP_CONCAT(TABLE_NAME) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE() AND DEFINER LIKE ?`,
		maker.Name+"@%"); got != "dead" {
		t.Errorf("views that did not move: got %q, want dead", got)
	}

	if n := l.count(`SELECT COUNT(*) FROM mysql.procs_priv WHERE Db = ?`, spec.Name); n != 0 {
		t.Errorf("%d grants on routines are left", n)
	}
	// By the name alone, too.
	l.do(s, `CREATE VIEW late AS SELECT v FROM t`)
	l.must("revoke", l.driver.Revoke(t.Context(), bindery.InstanceSpec{}, bindery.Account{Name: other.Name}))
	l.text(user, `SELECT COUNT(*) FROM late`)
}

func eventIs(name, what string) string {
	return `SELECT ` + what + ` FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE() AND EVENT_NAME = '` + name + `'`
}

// What cannot be moved keeps its account there, and nobody can log in to it.
func TestDefinerThatCannotMove(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t))
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	s := l.client(spec, account)
	l.do(s, `CREATE TABLE t (v INT)`, `CREATE VIEW v AS SELECT v FROM t`, `CREATE PROCEDURE p() SELECT 1`)
	super := l.super()
	setUser := l.either(`SET USER`, `SET_ANY_DEFINER`)
	l.do(super, `REVOKE `+setUser+` ON *.* FROM bindery`)
	l.wantCode("ping", l.driver.(bindery.Pinger).Ping(t.Context()), bindery.CodeUnavailable)
	// What a session may do on the whole server is what it began with.
	l.driver = openDriver(t, serverOf(l.m, l.installation, labTimeout))

	for range 2 {
		err := l.driver.Revoke(t.Context(), spec, account)
		l.wantCode("revoke", err, bindery.CodeUnavailable)
		if message := bindery.MessageOf(err); strings.Contains(message, "SET") {
			t.Errorf("the message carries the server's text: %s", message)
		}
	}
	if s.Alive(t.Context()) == nil {
		t.Error("the session is still alive")
	}
	if _, err := l.login(spec, account); number(err) != 4151 && number(err) != 3118 {
		t.Errorf("log in: got %v, want that the account is locked", err)
	}
	if got := l.count(`SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ?`, spec.Name); got != 1 {
		t.Error("the view is gone")
	}
	l.do(super, `GRANT `+setUser+` ON *.* TO bindery`)
	l.driver = openDriver(t, serverOf(l.m, l.installation, labTimeout))
	l.revoke(spec, account)
	l.text(l.client(spec, l.bind(spec, ``)), `SELECT COUNT(*) FROM v`)
}
