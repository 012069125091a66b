package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/postgres"
)

// TestPing takes away, one by one, what the setup script gives.
func TestPing(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		l := newLab(t, servertest.Postgres(t, v))
		pinger := l.driver.(bindery.Pinger)
		l.must("ping", pinger.Ping(t.Context()))
		super := l.super("postgres")
		for _, test := range []struct{ spoil, cause, repair string }{
			{`ALTER ROLE bindery NOCREATEDB`, "CREATEDB", `ALTER ROLE bindery CREATEDB`},
			{`ALTER ROLE bindery NOCREATEROLE`, "CREATEROLE", `ALTER ROLE bindery CREATEROLE`},
			{`REVOKE pg_signal_backend FROM bindery`, "pg_signal_backend", `GRANT pg_signal_backend TO bindery`},
			{`GRANT CONNECT ON DATABASE template1 TO PUBLIC`, "PUBLIC", `REVOKE CONNECT ON DATABASE template1 FROM PUBLIC`},
			{
				`ALTER ROLE bindery PASSWORD 'else'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bindery'`,
				"password", `ALTER ROLE bindery PASSWORD '` + l.p.Password.Reveal() + `'`,
			},
		} {
			super.do(test.spoil)
			err := pinger.Ping(t.Context())
			l.wantCode(test.spoil, err, bindery.CodeUnavailable)
			if cause := errors.Unwrap(err); cause == nil || !strings.Contains(cause.Error(), test.cause) {
				t.Errorf("%s: the operator reads %v, want a mention of %s", test.spoil, err, test.cause)
			}
			if strings.Contains(err.Error(), l.p.Password.Reveal()) {
				t.Error("the error carries the password")
			}
			super.do(test.repair)
			l.must("ping after repair", pinger.Ping(t.Context()))
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	servertest.EachPostgres(t, func(t *testing.T, v servertest.Version) {
		files := certificates(t)
		l := newLab(t, servertest.Postgres(t, v, func(o *devserver.PostgresOptions) { o.TLS = &files }))
		for name, test := range map[string]struct {
			tls  bindery.ServerTLS
			good bool
		}{
			"verified":        {bindery.ServerTLS{CAFile: files.CAFile}, true},
			"the system's CA": {bindery.ServerTLS{}, false},
			"another name":    {bindery.ServerTLS{CAFile: files.CAFile, ServerName: "other.example"}, false},
			"not verified":    {bindery.ServerTLS{InsecureSkipVerify: true}, true},
		} {
			s := serverOf(l.p, l.installation, labTimeout)
			s.TLS = &test.tls
			d, err := postgres.Kind.Open(s)
			l.must("open", err)
			err = d.(bindery.Pinger).Ping(t.Context())
			if (err == nil) != test.good {
				t.Errorf("%s: got %v", name, err)
			}
			if err != nil {
				l.wantCode(name, err, bindery.CodeUnavailable)
			}
			l.must("close", d.Close())
		}
	})
}

func certificates(t *testing.T) devserver.CertFiles {
	t.Helper()
	pki, err := devserver.OpenPKI(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	files, err := pki.Server()
	if err != nil {
		t.Fatal(err)
	}
	return files
}
