package devserver_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bindery/devserver"
	"bindery/devserver/servertest"
)

func TestSetupScriptIsTheOperators(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../driver/postgres/setup.sql")
	must(t, err)
	if string(b) != devserver.SetupScript {
		t.Fatal("devserver/postgres-setup.sql is not driver/postgres/setup.sql: run go generate ./devserver")
	}
}

// As an operator runs it: with psql, with its own variables, more than once.
func TestSetupScriptRunsInPsql(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		servertest.Check(t, errors.Join(err, devserver.ErrMissing))
	}
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		p := servertest.Postgres(t, v) // another test drops a database meanwhile, which the script would notice
		for range 2 {
			cmd := exec.CommandContext(t.Context(), psql, "-X", "-q", "-h", p.Host, "-p", strings.TrimPrefix(p.Addr, p.Host+":"),
				"-U", p.Superuser, "-d", "postgres", "-v", `user=o'bri"en`, "-v", `password=pass'"word`, "-f", "../driver/postgres/setup.sql")
			cmd.Env = append(os.Environ(), "PGPASSWORD="+p.SuperPassword.Reveal())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		config, err := pgx.ParseConfig(p.URL("postgres").Reveal())
		must(t, err)
		config.User, config.Password = `o'bri"en`, `pass'"word`
		conn, err := pgx.ConnectConfig(t.Context(), config)
		must(t, err)
		must(t, conn.Close(t.Context()))
	})
}

// What Bindery's role has to be able to do, in the way the driver does it, and
// what it must not.
func TestBinderysRoleHasTheRightsItNeeds(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		ctx := t.Context()
		p := servertest.SharedPostgres(t, v)
		membership := ""
		if p.Version >= 16 {
			membership = " WITH SET TRUE, INHERIT TRUE"
		}
		bindery := connectTo(t, p.URL("postgres").Reveal())
		exec := func(statements ...string) {
			t.Helper()
			for _, s := range statements {
				if _, err := bindery.Exec(ctx, s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
		}
		exec(
			`CREATE ROLE instance`,
			`GRANT instance TO bindery`+membership,
			`CREATE DATABASE instance OWNER instance`,
			`REVOKE CONNECT ON DATABASE instance FROM PUBLIC`,
			`CREATE ROLE app LOGIN PASSWORD 'secret'`,
			`GRANT instance TO app`,
			`ALTER ROLE app SET role = 'instance'`,
		)
		login := func(database string) (*pgx.Conn, error) {
			config, err := pgx.ParseConfig(p.URL(database).Reveal())
			must(t, err)
			config.User, config.Password = "app", "secret"
			return pgx.ConnectConfig(ctx, config)
		}
		for _, database := range []string{"postgres", "template1"} {
			if conn, err := login(database); err == nil {
				_ = conn.Close(ctx)
				t.Errorf("a binding may connect to %s", database)
			}
		}
		app, err := login("instance")
		must(t, err)
		defer func() { _ = app.Close(context.Background()) }()
		var owner string
		_, err = app.Exec(ctx, `CREATE TABLE made ()`)
		must(t, err)
		must(t, app.QueryRow(ctx, `SELECT tableowner FROM pg_tables WHERE tablename = 'made'`).Scan(&owner))
		if owner != "instance" {
			t.Errorf("the table belongs to %s", owner)
		}

		inside := connectTo(t, p.URL("instance").Reveal())
		_, err = inside.Exec(ctx, `SET ROLE instance`)
		must(t, err)
		must(t, inside.Close(ctx))

		exec(`DROP ROLE app`)
		var ended bool
		must(t, bindery.QueryRow(ctx, `SELECT pg_terminate_backend($1)`, app.PgConn().PID()).Scan(&ended))
		if !ended {
			t.Error("the session was not ended")
		}
		for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); {
			_, err = app.Exec(ctx, `SELECT 1`) // it ends soon; a call that waits for it is new in 14
		}
		if err == nil {
			t.Error("the session of a dropped role goes on")
		}
		exec(`DROP DATABASE instance`, `DROP ROLE instance`)

		statements := []string{
			`CREATE ROLE boss SUPERUSER`,
			`SELECT * FROM pg_authid`,
			`COPY (SELECT 1) TO PROGRAM 'true'`,
			`ALTER ROLE postgres PASSWORD 'mine'`,
		}
		if p.Version >= 15 { // before, everybody may
			statements = append(statements, `CREATE TABLE public.mine ()`)
		}
		for _, forbidden := range statements {
			_, err := bindery.Exec(ctx, forbidden)
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
				t.Errorf("%s: got %v, want that the privilege is missing", forbidden, err)
			}
		}
	})
}

func connectTo(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestPostgresIsProtectedByItsPasswords(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		p := servertest.SharedPostgres(t, v)
		for _, url := range []string{
			strings.Replace(p.URL("postgres").Reveal(), p.Password.Reveal(), "wrong", 1),
			strings.Replace(p.SuperURL("postgres").Reveal(), p.SuperPassword.Reveal(), "wrong", 1),
		} {
			_, err := pgx.Connect(t.Context(), url)
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "28P01" {
				t.Errorf("got %v, want that the password is wrong", err)
			}
		}
	})
}

// A test's own directory is closed to the user that PostgreSQL runs as.
func TestDataIsElsewhereWhereItCannotBeReached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	start := func() *devserver.Postgres {
		p, err := devserver.StartPostgres(t.Context(), devserver.PostgresOptions{Dir: dir, NoFsync: true})
		servertest.Check(t, err)
		return p
	}
	p := start()
	must(t, execPostgres(t.Context(), p.SuperURL("postgres").Reveal(), "CREATE TABLE kept ()"))
	must(t, p.Stop(t.Context()))
	p = start()
	must(t, execPostgres(t.Context(), p.SuperURL("postgres").Reveal(), "SELECT FROM kept"))
	place := p.WorkDir()
	if os.Geteuid() == 0 && strings.HasPrefix(place, dir) {
		t.Errorf("the data is in %s", place)
	}
	must(t, p.Remove())
	for _, d := range []string{dir, place, filepath.Dir(place)} {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) && (d == place || d == dir) {
			t.Errorf("%s is still there (%v)", d, err)
		}
	}
}

// What a start that was interrupted at any point leaves behind is completed or made anew.
func TestInterruptedFirstStartIsRepaired(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, p *devserver.Postgres, template string){
		"before the cluster was complete": func(t *testing.T, p *devserver.Postgres, _ string) {
			must(t, os.Remove(filepath.Join(p.WorkDir(), "PG_VERSION")))
		},
		"after the set-up and before that was written down": func(t *testing.T, p *devserver.Postgres, template string) {
			file := filepath.Join(p.Dir(), "state.json")
			b, err := os.ReadFile(file)
			must(t, err)
			s := strings.Replace(string(b), "{", `{"init_password": "`+template+`",`, 1)
			must(t, os.WriteFile(file, []byte(s), 0o600))
		},
		"before the set-up": func(t *testing.T, p *devserver.Postgres, template string) {
			must(t, p.Start(t.Context()))
			must(t, execPostgres(t.Context(), p.SuperURL("postgres").Reveal(),
				"DROP OWNED BY bindery", "DROP ROLE bindery",
				"ALTER ROLE postgres PASSWORD '"+template+"'"))
			must(t, p.Stop(t.Context()))
			file := filepath.Join(p.Dir(), "state.json")
			b, err := os.ReadFile(file)
			must(t, err)
			s := strings.Replace(string(b), "{", `{"init_password": "`+template+`",`, 1)
			must(t, os.WriteFile(file, []byte(s), 0o600))
		},
	}
	for name, interrupt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := servertest.Postgres(t, servertest.Oldest)
			must(t, p.Stop(t.Context()))
			interrupt(t, p, "template")
			again, err := devserver.StartPostgres(t.Context(), devserver.PostgresOptions{Dir: p.Dir(), BinDir: p.BinDir()})
			must(t, err)
			must(t, execPostgres(t.Context(), again.URL("postgres").Reveal(), "SELECT 1"))
			must(t, execPostgres(t.Context(), again.SuperURL("postgres").Reveal(), "SELECT 1"))
			must(t, again.Stop(t.Context()))
			if secrets := stateSecrets(t, p.Dir()); len(secrets) != 2 {
				t.Errorf("the state has %d passwords, want 2", len(secrets))
			}
		})
	}
}

func TestLostPasswordsDoNotCostTheData(t *testing.T) {
	t.Parallel()
	p := servertest.Postgres(t, servertest.Oldest)
	must(t, p.Stop(t.Context()))
	must(t, os.Remove(filepath.Join(p.Dir(), "state.json")))
	_, err := devserver.StartPostgres(t.Context(), devserver.PostgresOptions{Dir: p.Dir(), BinDir: p.BinDir()})
	if err == nil || !strings.Contains(err.Error(), "passwords are lost") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.WorkDir(), "PG_VERSION")); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherVersionsDataIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := servertest.Postgres(t, servertest.Oldest)
	newer := servertest.SharedPostgres(t, servertest.Newest)
	must(t, p.Stop(t.Context()))
	_, err := devserver.StartPostgres(t.Context(), devserver.PostgresOptions{Dir: p.Dir(), BinDir: newer.BinDir()})
	if err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL") {
		t.Fatalf("got %v", err)
	}
}

func TestPostgresSpeaksTLS(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	p := servertest.Postgres(t, servertest.Oldest, func(o *devserver.PostgresOptions) { o.TLS = &server })
	config, err := pgx.ParseConfig(strings.Replace(p.URL("postgres").Reveal(), "sslmode=disable",
		"sslmode=verify-full&sslrootcert="+client.CAFile+"&sslcert="+client.CertFile+"&sslkey="+client.KeyFile, 1))
	must(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	var subject string
	must(t, conn.QueryRow(t.Context(), `SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&subject))
	if subject != "/CN=app" {
		t.Errorf("the server sees %q", subject)
	}
	must(t, conn.Close(t.Context()))
}

func TestFsyncIsOnUnlessTurnedOff(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]bool{"on": false, "off": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := servertest.Postgres(t, servertest.Oldest, func(o *devserver.PostgresOptions) {
				o.NoFsync = off
				o.Settings = map[string]string{"application_name": `it's \o/`}
			})
			conn := connectTo(t, p.SuperURL("postgres").Reveal())
			for setting, want := range map[string]string{"fsync": name, "synchronous_commit": "on", "application_name": `it's \o/`} {
				var got string
				must(t, conn.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got))
				if got != want {
					t.Errorf("%s: got %s, want %s", setting, got, want)
				}
			}
		})
	}
}

func TestFindPostgresSortsByVersion(t *testing.T) {
	t.Parallel()
	found := devserver.FindPostgres("/no/such/place")
	for i, b := range found {
		if b.BinDir == "" || b.Full == "" || b.Version == 0 {
			t.Errorf("incomplete: %+v", b)
		}
		if i > 0 && b.Version < found[i-1].Version {
			t.Errorf("not sorted: %+v", found)
		}
	}
}

func TestScriptForServer(t *testing.T) {
	t.Parallel()
	got := devserver.ForServer("-- no\n\\set x y\nALTER ROLE :\"user\" PASSWORD :'password';\nSELECT 'a'::text;\n",
		map[string]string{"user": `a"b`, "password": `it's`})
	want := "ALTER ROLE \"a\"\"b\" PASSWORD 'it''s';\nSELECT 'a'::text;\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
