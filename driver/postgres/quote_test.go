package postgres

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"bindery/devserver/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// strange are strings that have broken quoting before.
var strange = []string{
	"", "a", `"`, `""`, `'`, `''`, `\`, `\'`, `'\`, `\\'`, `"; DROP ROLE x; --`, `'; DROP ROLE x; --`, "a\x00b", "\x00",
	"$$", "$1", "E'", "U&'", "ä", "\u2028", "\r\n", "/*", "--", "%s", ":x", strings.Repeat(`'`, 63), strings.Repeat(`"`, 63), "\xff", "\xc0'",
}

// unquote reads back what a server reads, and reports whether all of it is one token.
func unquote(sql string, quote byte, escapes bool) (string, bool) {
	if len(sql) < 2 || sql[0] != quote {
		return "", false
	}
	var out strings.Builder
	for i := 1; i < len(sql); i++ {
		switch {
		case sql[i] == quote && i == len(sql)-1:
			return out.String(), true
		case sql[i] == quote && sql[i+1] == quote, escapes && sql[i] == '\\' && i+1 < len(sql) && sql[i+1] == '\\':
			out.WriteByte(sql[i])
			i++
		case sql[i] == quote, escapes && sql[i] == '\\':
			return "", false
		default:
			out.WriteByte(sql[i])
		}
	}
	return "", false
}

func checkQuoting(t interface {
	Helper()
	Fatalf(string, ...any)
}, s string,
) {
	t.Helper()
	want := strings.ReplaceAll(s, "\x00", "\uFFFD")
	if got, ok := unquote(ident(s), '"', false); !ok || got != want {
		t.Fatalf("ident(%q) = %s, which reads %q", s, ident(s), got)
	}
	quoted := literal(s)
	escaped := strings.TrimPrefix(quoted, " E")
	// Without a backslash the literal means the same under either setting of
	// standard_conforming_strings; with one it must say that it is escaped.
	if strings.Contains(s, `\`) != (escaped != quoted) {
		t.Fatalf("literal(%q) = %s: wrong form", s, quoted)
	}
	if got, ok := unquote(escaped, '\'', true); !ok || got != want {
		t.Fatalf("literal(%q) = %s, which reads %q", s, quoted, got)
	}
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for _, s := range strange {
		checkQuoting(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		checkQuoting(t, rapid.StringOf(rapid.SampledFrom([]rune{'a', '\'', '"', '\\', 0, ';', '-', '$', 'ß', '\n'})).Draw(t, "s"))
	})
}

// quoteServer answers what a real server reads, with standard_conforming_strings on and off.
func quoteServer(t testing.TB) []*pgconn.PgConn {
	t.Helper()
	p := servertest.SharedPostgres(t, servertest.Newest)
	var conns []*pgconn.PgConn
	for _, setting := range []string{"on", "off"} {
		config, err := pgconn.ParseConfig(p.SuperURL("postgres").Reveal())
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["standard_conforming_strings"] = setting
		config.RuntimeParams["client_encoding"] = "UTF8"
		c, err := pgconn.ConnectConfig(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = c.Close(ctx)
		})
		conns = append(conns, c)
	}
	return conns
}

// FuzzQuoting asks a real server what it reads.
func FuzzQuoting(f *testing.F) {
	for _, s := range strange {
		f.Add(s)
	}
	conns := quoteServer(f)
	f.Fuzz(func(t *testing.T, s string) {
		checkQuoting(t, s)
		want := strings.ReplaceAll(s, "\x00", "\uFFFD")
		for _, c := range conns {
			results, err := c.Exec(context.Background(), "SELECT "+literal(s)).ReadAll()
			if !utf8.ValidString(s) {
				if err == nil {
					t.Fatalf("a server took %q, which is not UTF-8", s)
				}
				continue
			}
			if err != nil || len(results) != 1 || string(results[0].Rows[0][0]) != want {
				t.Fatalf("literal(%q): got %v, %v", s, results, err)
			}
			if want == "" || len(want) > nameBytes {
				continue
			}
			results, err = c.Exec(context.Background(), "SELECT 1 AS "+ident(s)).ReadAll()
			if err != nil || len(results) != 1 || results[0].FieldDescriptions[0].Name != want {
				t.Fatalf("ident(%q): got %v, %v", s, results, err)
			}
		}
	})
}
