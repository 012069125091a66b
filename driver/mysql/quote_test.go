package mysql

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	client "github.com/go-sql-driver/mysql"

	"bindery/devserver/servertest"
)

// strange are strings that have broken quoting before.
var strange = []string{
	"", "a", `"`, "`", "``", `'`, `''`, `\`, `\'`, `'\`, `\\'`, "`; DROP USER x; --", `'; DROP USER x; --`, "a\x00b", "\x00",
	"bdy_a_1", `bdy\_a\_1`, "%", `\%`, `_`, "ä", "\u2028", "\r\n", "/*!80000 */", "--", "%s", "?", ":x", "\x1a",
	strings.Repeat(`'`, 63), strings.Repeat("`", 63), "\xff", "\xc0'",
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

func checkQuoting(t *testing.T, s string) {
	t.Helper()
	want := strings.ReplaceAll(s, "\x00", "\uFFFD")
	if got, ok := unquote(ident(s), '`', false); !ok || got != want {
		t.Fatalf("ident(%q) = %s, which reads %q", s, ident(s), got)
	}
	if got, ok := unquote(literal(s), '\'', true); !ok || got != want {
		t.Fatalf("literal(%q) = %s, which reads %q", s, literal(s), got)
	}
	if got, ok := unquote(pattern(s), '`', false); !ok || unpattern(got) != want {
		t.Fatalf("pattern(%q) = %s, which reads %q", s, pattern(s), got)
	}
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for _, s := range strange {
		checkQuoting(t, s)
	}
}

// FuzzQuoting asks a real server what it reads, in a session with Bindery's
// settings, and names also with ANSI_QUOTES.
func FuzzQuoting(f *testing.F) {
	for _, s := range strange {
		f.Add(s)
	}
	m := servertest.SharedMySQL(f)
	c := client.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", m.Addr, m.Superuser, m.SuperPassword.Reveal()
	connector, err := client.NewConnector(c)
	if err != nil {
		f.Fatal(err)
	}
	db := sql.OpenDB(connector)
	f.Cleanup(func() { _ = db.Close() }) // it only asked
	conn, err := db.Conn(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkQuoting(t, s)
		if !utf8.ValidString(s) {
			return // what that means is the character set's matter, and no name has it
		}
		want := strings.ReplaceAll(s, "\x00", "\uFFFD")
		if _, err := conn.ExecContext(context.Background(), setSession(labWait)); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := conn.QueryRowContext(context.Background(), "SELECT "+literal(s)).Scan(&got); err != nil || got != want {
			t.Fatalf("literal(%q): got %q, %v", s, got, err)
		}
		if _, err := conn.ExecContext(context.Background(), "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"); err != nil {
			t.Fatal(err)
		}
		want = "x" + want // what a column's name begins with that cannot be seen, the server cuts off
		if len(want) > 64 || strings.TrimRight(want, " ") != want || len(want) != len([]rune(want)) {
			return // no name of a column
		}
		rows, err := conn.QueryContext(context.Background(), "SELECT 1 AS "+ident("x"+s))
		if err != nil {
			t.Fatalf("ident(%q): %v", s, err)
		}
		defer func() { _ = rows.Close() }() // its end is of no interest
		if names, err := rows.Columns(); errors.Join(err, rows.Err()) != nil || len(names) != 1 || names[0] != want {
			t.Fatalf("ident(%q): got %q, %v", s, names, err)
		}
	})
}
