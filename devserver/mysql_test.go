package devserver_test

import (
	"context"
	"database/sql"
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

func openMySQL(t *testing.T, m *devserver.MySQL, user string, password bindery.Secret) *sql.DB {
	t.Helper()
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.Logger = "tcp", m.Addr, user, password.Reveal(), &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() }) // the server may be gone
	return db
}

// What was there survives a stop, a kill and a new process.
func TestMySQLSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := context.Background()
	first, err := devserver.StartMySQL(ctx, devserver.MySQLOptions{Dir: dir, NoFsync: true})
	servertest.Check(t, err)
	if _, err := openMySQL(t, first, first.User, first.Password).Exec("CREATE DATABASE bdy_kept"); err != nil {
		t.Errorf("Bindery's account makes a database: %v", err)
	}
	if err := first.Kill(); err != nil {
		t.Error(err)
	}
	if err := first.Start(ctx); err != nil {
		t.Errorf("start after a kill: %v", err)
	}
	if err := first.Stop(ctx); err != nil {
		t.Error(err)
	}
	second, err := devserver.StartMySQL(ctx, devserver.MySQLOptions{Dir: dir, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Remove(); err != nil {
			t.Error(err)
		}
	}()
	if second.Port != first.Port || !second.Password.Equal(first.Password) {
		t.Error("the second start has another port or password")
	}
	var name string
	if err := openMySQL(t, second, second.User, second.Password).QueryRow("SHOW DATABASES LIKE 'bdy\\_kept'").Scan(&name); err != nil {
		t.Errorf("what was made before: %v", err)
	}
	var nobody int
	if err := openMySQL(t, second, second.Superuser, second.SuperPassword).
		QueryRow("SELECT count(*) FROM mysql.user WHERE User = ''").Scan(&nobody); err != nil || nobody != 0 {
		t.Errorf("%d anonymous accounts, %v", nobody, err)
	}
}

// Operators and development servers run the same script.
func TestMySQLSetupIsTheDrivers(t *testing.T) {
	t.Parallel()
	ours, err := os.ReadFile("mysql-setup.sql")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("../driver/mysql/setup.sql")
	if err != nil {
		t.Fatal(err)
	}
	if string(ours) != string(theirs) {
		t.Error("devserver/mysql-setup.sql is not a copy of driver/mysql/setup.sql")
	}
}
